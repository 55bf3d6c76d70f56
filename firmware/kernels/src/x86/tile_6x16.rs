//! What the kernels with 256-bit vectors share: tiles of 6 pixels x 16 channels.
//!
//! 12 accumulators, two vectors of weights, one broadcast of activations and, where multiplying and
//! adding are two instructions, one vector of products are the 16 registers.
//! - Panel: `[depth / DEPTH][6 pixels][32 bytes]`.
//! - Weights: a step of each of 16 channels, 4 bytes, are two vectors.

use core::arch::x86_64::*;

use crate::arithmetic::FRACTION_BITS;
use crate::convolution::tiled::Tile;

pub(super) const ROWS: usize = 6;
pub(super) const COLUMNS: usize = 16;
/// Bytes of a row in the panel, for `DEPTH` activations.
pub(super) const ROW_BYTES: usize = 32;
/// Bytes of a row that meet a pair of vectors of weights.
pub(super) const STEP_BYTES: usize = 4;

/// Declares a kernel: its name, the features that it needs, as a list and as one literal, the constants
/// that it has besides those of the tile, how `DEPTH` activations become a vector of the panel, and how a
/// step of activations and of weights is added to an accumulator.
macro_rules! kernel_6x16 {
    (
        $(#[$doc:meta])*
        $kernel:ident, [$($feature:tt),*], $features:literal,
        { $($constants:tt)* }
        pack |$from:ident| $pack:expr,
        add |$sum:ident, $activations:ident, $weights:ident| $add:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $kernel(());

        // SAFETY: `new` asks for all features that the functions below are compiled for. They read and
        // write whole rows of the tile and of the panel, 32 bytes for each `DEPTH` activations.
        unsafe impl Microkernel for $kernel {
            const ROWS: usize = ROWS;
            const COLUMNS: usize = COLUMNS;
            $($constants)*

            fn new() -> Option<Self> {
                detected!($($feature),*).then_some(Self(()))
            }

            unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
                // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
                unsafe { pack_rows(rows, depth, panel) };
            }

            unsafe fn tile(self, tile: &Tile) {
                // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
                unsafe { with_rows!(compute(tile), 1 2 3 4 5) };
            }
        }

        const DEPTH: usize = $kernel::DEPTH;

        /// Writes `DEPTH` activations of each row in turn.
        ///
        /// # Safety
        /// The CPU has the instructions; `rows` has `ROWS` pointers, each good for reading `depth`
        /// bytes, a multiple of `DEPTH`; `panel` is good for writing 32 bytes for each `DEPTH` of them.
        #[target_feature(enable = $features)]
        unsafe fn pack_rows(rows: &[*const i8], depth: usize, panel: *mut u8) {
            let mut panel = panel.cast::<__m256i>();
            for k in (0..depth).step_by(DEPTH) {
                for row in rows {
                    // SAFETY: `DEPTH` elements of the row, the next 32 bytes of the panel.
                    unsafe {
                        let $from = row.add(k);
                        _mm256_storeu_si256(panel, $pack);
                        panel = panel.add(1);
                    }
                }
            }
        }

        /// Computes a tile of `N` rows.
        ///
        /// # Safety
        /// The CPU has the instructions, and what [`Tile`] says about its fields.
        #[target_feature(enable = $features)]
        unsafe fn compute<const N: usize>(tile: &Tile) {
            // SAFETY: 16 biases.
            let mut rows = [unsafe { pair(tile.bias) }; N];
            let (mut panel, mut weights) = (tile.panel, tile.weights.cast::<__m256i>());
            for _ in 0..tile.depth / DEPTH {
                for step in 0..ROW_BYTES / STEP_BYTES {
                    // SAFETY: a pair of vectors of weights for each step, and 32 bytes of each row.
                    unsafe {
                        let low = _mm256_load_si256(weights.add(2 * step));
                        let high = _mm256_load_si256(weights.add(2 * step + 1));
                        for (index, row) in rows.iter_mut().enumerate() {
                            let $activations = panel.add(index * ROW_BYTES + step * STEP_BYTES).cast::<i32>();
                            let $activations = _mm256_set1_epi32($activations.read_unaligned());
                            row[0] = {
                                let ($sum, $weights) = (row[0], low);
                                $add
                            };
                            row[1] = {
                                let ($sum, $weights) = (row[1], high);
                                $add
                            };
                        }
                    }
                }
                // SAFETY: to the next `DEPTH` of depth, or the end.
                unsafe {
                    panel = panel.add(ROWS * ROW_BYTES);
                    weights = weights.add(2 * (ROW_BYTES / STEP_BYTES));
                }
            }
            // SAFETY: as stated.
            unsafe { finish(rows, tile) };
        }
    };
}
pub(super) use kernel_6x16;

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
                    let residual = tile.residual.add(index * tile.residual_stride + 8 * part);
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
