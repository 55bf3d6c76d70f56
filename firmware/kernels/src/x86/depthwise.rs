//! Depthwise convolutions with AVX2: `vpmaddwd` multiplies two taps of 8 channels and adds them up.
//!
//! - Weights: 16 bits, `[pair of taps][16 channels][2]`.

use core::arch::x86_64::*;

use super::detect::detected;
use super::tile_6x16::{finish, pair};
use crate::convolution::depthwise::{CHANNELS, Pixel, PixelKernel};

/// Proof that the CPU has AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86Pixels(());

// SAFETY: `new` asks for AVX2; 16 channels of each tap are read from the first channel of each block.
unsafe impl PixelKernel for X86Pixels {
    type Weight = i16;

    fn new() -> Option<Self> {
        detected!("avx2").then_some(Self(()))
    }

    fn pack(pair: [[i8; CHANNELS]; 2]) -> [i16; 2 * CHANNELS] {
        core::array::from_fn(|index| pair[index % 2][index / 2].into())
    }

    unsafe fn pixel(self, pixel: &Pixel<'_, i16>) {
        // The usual windows are unrolled.
        // SAFETY: owning a value proves that the CPU has AVX2; the rest is as stated.
        unsafe {
            match pixel.taps.len() {
                1 => unrolled::<1>(pixel),
                9 => unrolled::<9>(pixel),
                25 => unrolled::<25>(pixel),
                _ => any(pixel),
            }
        }
    }
}

/// # Safety
/// The CPU has AVX2, and what [`Pixel`] says about its fields.
#[target_feature(enable = "avx2")]
unsafe fn unrolled<const TAPS: usize>(pixel: &Pixel<'_, i16>) {
    if let Ok(taps) = <[*const i8; TAPS]>::try_from(pixel.taps) {
        // SAFETY: as stated.
        unsafe { blocks(&taps, pixel) };
    }
}

/// # Safety
/// The CPU has AVX2, and what [`Pixel`] says about its fields.
#[target_feature(enable = "avx2")]
unsafe fn any(pixel: &Pixel<'_, i16>) {
    // SAFETY: as stated.
    unsafe { blocks(pixel.taps, pixel) };
}

/// # Safety
/// The CPU has AVX2, and what [`Pixel`] says about its fields; `taps` are its taps.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn blocks(taps: &[*const i8], pixel: &Pixel<'_, i16>) {
    let mut weights = pixel.weights.cast::<__m256i>();
    for channel in pixel.blocks() {
        let tile = pixel.tile(channel);
        // SAFETY: 16 elements of bias and of each tap, 32 weights of each pair.
        unsafe {
            let mut sums = pair(tile.bias);
            for pair in taps.chunks(2) {
                let first = _mm_loadu_si128(pair[0].add(channel).cast());
                // One that is alone has zeros for weights beside it.
                let second = _mm_loadu_si128(pair[pair.len() - 1].add(channel).cast());
                let low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second));
                let high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(first, second));
                let [v, w] = [0, 1].map(|half| _mm256_loadu_si256(weights.add(half)));
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, v));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, w));
                weights = weights.add(2);
            }
            finish([sums], &tile);
        }
    }
}
