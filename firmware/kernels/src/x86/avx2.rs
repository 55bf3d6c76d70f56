//! AVX2: `vpmaddwd` multiplies 16 pairs of 16-bit numbers and adds twos.
//!
//! `vpmaddubsw` would take twice as many bytes but saturates its sums of two products, so both
//! operands are widened to 16 bits while they are packed. The tile is 6 pixels x 16 channels:
//! 12 accumulators, two vectors of weights, one broadcast of two activations and one
//! vector of products are the 16 registers.

use core::arch::x86_64::*;

use super::{detected, with_rows};
use crate::arithmetic::FRACTION_BITS;
use crate::tiled::{Microkernel, Tile};

const ROWS: usize = 6;
const COLUMNS: usize = 16;
const DEPTH: usize = 16;

/// Proof that the CPU has AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86Avx2(());

impl X86Avx2 {
    /// Calls `body` compiled for AVX2, as far as it is inlined.
    #[inline(always)]
    pub(crate) fn vectorise<R>(self, body: impl FnOnce() -> R) -> R {
        let Self(()) = self;
        // SAFETY: owning a value proves that the CPU has AVX2.
        unsafe { vectorise(body) }
    }
}

/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn vectorise<R>(body: impl FnOnce() -> R) -> R {
    body()
}

impl Microkernel for X86Avx2 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const ACTIVATION_BYTES: usize = 2;
    const WEIGHT_BYTES: usize = 2;

    fn new() -> Option<Self> {
        detected!("avx2").then_some(Self(()))
    }

    fn pack_weights(weight: &dyn Fn(usize, usize) -> i8, depth: usize, packed: &mut [u8]) {
        let mut packed = packed.chunks_exact_mut(2);
        for k in (0..depth).step_by(2) {
            for column in 0..COLUMNS {
                for (k, word) in (k..k + 2).zip(&mut packed) {
                    word.copy_from_slice(&i16::from(weight(k, column)).to_ne_bytes());
                }
            }
        }
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        // SAFETY: owning a value proves that the CPU has AVX2; the rest is passed on.
        unsafe { pack_rows(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: owning a value proves that the CPU has AVX2; the rest is passed on.
        unsafe { with_rows!(compute(tile), 1 2 3 4 5) };
    }
}

/// Writes 16 elements of each row in turn, widened to 16 bits.
///
/// # Safety
/// The CPU has AVX2; `rows` has `ROWS` pointers, each good for reading `depth` bytes, a
/// multiple of 16; `panel` is good for writing `2 * ROWS` times as many.
#[target_feature(enable = "avx2")]
unsafe fn pack_rows(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let mut panel = panel.cast::<__m256i>();
    for k in (0..depth).step_by(DEPTH) {
        for row in rows {
            // SAFETY: 16 elements of the row, the next 32 bytes of the panel.
            unsafe {
                let bytes = _mm_loadu_si128(row.add(k).cast());
                _mm256_storeu_si256(panel, _mm256_cvtepi8_epi16(bytes));
                panel = panel.add(1);
            }
        }
    }
}

/// Computes a tile of `N` rows.
///
/// # Safety
/// The CPU has AVX2, and what [`Tile`] says about its fields.
#[target_feature(enable = "avx2")]
unsafe fn compute<const N: usize>(tile: &Tile) {
    // SAFETY: 16 biases.
    let bias = unsafe { pair(tile.bias) };
    let mut rows = [bias; N];
    let (mut panel, mut weights) = (tile.panel.cast::<i16>(), tile.weights.cast::<__m256i>());
    for _ in 0..tile.depth / DEPTH {
        for step in 0..DEPTH / 2 {
            // SAFETY: `depth * 16` elements of weights and `depth * ROWS` of the panel.
            unsafe {
                let low = _mm256_load_si256(weights.add(2 * step));
                let high = _mm256_load_si256(weights.add(2 * step + 1));
                for (index, row) in rows.iter_mut().enumerate() {
                    let two = panel.add(index * DEPTH + 2 * step).cast::<i32>();
                    let two = _mm256_set1_epi32(two.read_unaligned());
                    row[0] = _mm256_add_epi32(row[0], _mm256_madd_epi16(two, low));
                    row[1] = _mm256_add_epi32(row[1], _mm256_madd_epi16(two, high));
                }
            }
        }
        // SAFETY: to the next 16 of depth, or the end.
        unsafe {
            panel = panel.add(ROWS * DEPTH);
            weights = weights.add(DEPTH);
        }
    }
    // SAFETY: passed on.
    unsafe { finish(rows, tile) };
}

/// Two vectors of 8 elements.
///
/// # Safety
/// The CPU has AVX2; `from` is good for reading 16 elements.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pair(from: *const i32) -> [__m256i; 2] {
    // SAFETY: 16 elements.
    unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())] }
}

/// Requantises and stores rows: the formula of [`arithmetic`](crate::arithmetic).
///
/// # Safety
/// The CPU has AVX2, and what [`Tile`] says about its fields.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn finish<const N: usize>(rows: [[__m256i; 2]; N], tile: &Tile) {
    // The 64-bit product shifted right by `31 - shift`, from both halves of its lane.
    let down = _mm_cvtsi32_si128((31 - tile.shift) as i32);
    let up = _mm_cvtsi32_si128((1 + tile.shift) as i32);
    // Far beyond saturation, even after a residual; adding to it cannot overflow.
    let limit = _mm256_set1_epi32(1 << 30);
    let lower_limit = _mm256_set1_epi32(-(1 << 30));
    let factor = _mm256_set1_epi32(tile.residual_multiplier);
    let half = _mm256_set1_epi32(1 << (FRACTION_BITS - 1));
    // SAFETY: 16 multipliers.
    let multiplier = unsafe { pair(tile.multiplier) };
    for (index, row) in rows.iter().enumerate() {
        let mut t = [half; 2];
        for part in 0..2 {
            let odd = _mm256_srli_epi64::<32>(row[part]);
            let even = _mm256_mul_epi32(row[part], multiplier[part]);
            let odd = _mm256_mul_epi32(odd, _mm256_srli_epi64::<32>(multiplier[part]));
            let product = _mm256_blend_epi32::<0xAA>(_mm256_srl_epi64(even, down), _mm256_sll_epi64(odd, up));
            let product = _mm256_max_epi32(_mm256_min_epi32(product, limit), lower_limit);
            t[part] = _mm256_add_epi32(t[part], product);
            if !tile.residual.is_null() {
                // SAFETY: 16 elements of each row of residual.
                let residual = unsafe {
                    let residual = tile.residual.add(index * tile.stride + 8 * part);
                    _mm256_cvtepi8_epi32(_mm_loadl_epi64(residual.cast()))
                };
                // The upper half of the factor is zero.
                t[part] = _mm256_add_epi32(t[part], _mm256_madd_epi16(residual, factor));
            }
            t[part] = _mm256_srai_epi32::<{ FRACTION_BITS as i32 }>(t[part]);
        }
        let [low, high] = t;
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
        let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        // SAFETY: 16 elements of each row of output.
        unsafe { _mm_storeu_si128(tile.output.add(index * tile.stride).cast(), bytes) };
    }
}
