//! AVX2: `vpmaddwd` multiplies 16 pairs of 16-bit numbers and adds twos.
//!
//! `vpmaddubsw` would take twice as many bytes but saturates its sums of two products, so both
//! operands are widened to 16 bits while they are packed.

use core::arch::x86_64::*;

use super::detect::detected;
use super::tile_6x16::{COLUMNS, ROW_BYTES, ROWS, STEP_BYTES, finish, kernel_6x16, pair};
use super::unroll::with_rows;
use crate::convolution::tiled::{Costs, Microkernel, Tile};

kernel_6x16! {
    /// Proof that the CPU has AVX2.
    X86Avx2, ["avx2"], "avx2",
    {
        const DEPTH: usize = 16;
        const ACTIVATION_BYTES: usize = 2;
        const WEIGHT_BYTES: usize = 2;
        const WEIGHT_STEP: usize = 2;
        const COSTS: Costs = Costs {
            row_products: 40,
            row_step: 1,
            tile_loads: 16,
            row: 25,
            row_residual: 6,
            tile: 25,
            panel: 12,
            tap: 45,
        };
    }
    pack |from| _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())),
    add |sum, activations, weights| _mm256_add_epi32(sum, _mm256_madd_epi16(activations, weights))
}

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
