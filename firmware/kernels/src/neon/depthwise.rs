//! Depthwise convolutions for every NEON: `smull` and `smlal` multiply two taps, `saddw` adds them up.
//!
//! A product of two bytes is 16 bits wide, and weights stop at -127, so the sum of two products still fits.
//! - Weights: `[pair of taps][2][16]`.

use core::arch::aarch64::{
    int16x8_t, int32x4_t, vaddw_high_s16, vaddw_s16, vget_low_s8, vget_low_s16, vld1q_s8, vmlal_high_s8,
    vmlal_s8, vmull_high_s8, vmull_s8,
};

use super::epilogue;
use crate::convolution::depthwise::{CHANNELS, Pixel, PixelKernel};

/// The kernel for every aarch64 CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonPixels(());

// SAFETY: NEON belongs to aarch64; 16 channels of each tap are read from the first channel of each block.
unsafe impl PixelKernel for NeonPixels {
    type Weight = i8;

    fn new() -> Option<Self> {
        Some(Self(()))
    }

    fn pack([first, second]: [[i8; CHANNELS]; 2]) -> [i8; 2 * CHANNELS] {
        core::array::from_fn(|index| if index < CHANNELS { first[index] } else { second[index - CHANNELS] })
    }

    #[inline(always)]
    unsafe fn pixel(self, pixel: &Pixel<'_, i8>) {
        // The usual windows are unrolled.
        // SAFETY: as stated.
        unsafe {
            match pixel.taps.len() {
                1 => unrolled::<1>(pixel),
                9 => unrolled::<9>(pixel),
                25 => unrolled::<25>(pixel),
                _ => blocks(pixel.taps, pixel),
            }
        }
    }
}

/// # Safety
/// What [`Pixel`] says about its fields.
unsafe fn unrolled<const TAPS: usize>(pixel: &Pixel<'_, i8>) {
    if let Ok(taps) = <[*const i8; TAPS]>::try_from(pixel.taps) {
        // SAFETY: as stated.
        unsafe { blocks(&taps, pixel) };
    }
}

/// # Safety
/// What [`Pixel`] says about its fields; `taps` are its taps.
#[inline(always)]
unsafe fn blocks(taps: &[*const i8], pixel: &Pixel<'_, i8>) {
    let mut weights = pixel.weights;
    for channel in pixel.blocks() {
        let tile = pixel.tile(channel);
        // SAFETY: 16 elements of bias and of each tap, 32 weights of each pair.
        unsafe {
            let [mut sums] = epilogue::start::<1>(tile.bias);
            let load = |tap: *const i8| vld1q_s8(tap.add(channel));
            let (pairs, alone) = taps.as_chunks::<2>();
            for &[first, second] in pairs {
                let (first, second) = (load(first), load(second));
                let (v, w) = (vld1q_s8(weights), vld1q_s8(weights.add(CHANNELS)));
                let low = vmull_s8(vget_low_s8(first), vget_low_s8(v));
                let low = vmlal_s8(low, vget_low_s8(second), vget_low_s8(w));
                let high = vmlal_high_s8(vmull_high_s8(first, v), second, w);
                add(&mut sums, low, high);
                weights = weights.add(2 * CHANNELS);
            }
            if let [tap] = alone {
                let (tap, v) = (load(*tap), vld1q_s8(weights));
                let low = vmull_s8(vget_low_s8(tap), vget_low_s8(v));
                add(&mut sums, low, vmull_high_s8(tap, v));
                weights = weights.add(2 * CHANNELS);
            }
            epilogue::finish([sums], &tile);
        }
    }
}

/// Adds 16 products.
#[inline(always)]
fn add(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    // SAFETY: NEON belongs to aarch64.
    unsafe {
        sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
        sums[1] = vaddw_high_s16(sums[1], low);
        sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
        sums[3] = vaddw_high_s16(sums[3], high);
    }
}
