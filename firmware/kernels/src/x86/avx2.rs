//! AVX2: `vpmaddwd` multiplies 16 pairs of 16-bit numbers and adds twos.
//!
//! `vpmaddubsw` would take twice as many bytes but saturates its sums of two products, so both
//! operands are widened to 16 bits while they are packed.

use core::arch::x86_64::*;

use super::detect::detected;
use super::tile_6x16::{COLUMNS, ROW_BYTES, ROWS, STEP_BYTES, finish, kernel_6x16, pair};
use super::unroll::with_rows;
use crate::KernelError;
use crate::convolution::tiled::{Costs, Microkernel, Tile};
use crate::plain::Loop;

/// Products of bytes and 16-bit numbers in a vector.
const LANES: usize = 16;

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

    /// Computes a part of an output.
    #[inline(always)]
    pub(crate) fn run_loop<T>(
        self,
        body: &impl Loop<T>,
        first: usize,
        output: &mut [T],
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let Self(()) = self;
        // SAFETY: owning a value proves that the CPU has AVX2.
        unsafe { run_loop(body, first, output, scratch) }
    }

    /// The products of rows of weights, as long as `input`, with the inputs.
    #[inline(always)]
    pub(crate) fn products<const N: usize>(self, rows: [&[i8]; N], input: &[i16]) -> [i32; N] {
        let Self(()) = self;
        let rows = rows.map(|row| &row[..input.len()]);
        // SAFETY: owning a value proves that the CPU has AVX2.
        unsafe { products(rows, input) }
    }
}

/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn vectorise<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn run_loop<T>(
    body: &impl Loop<T>,
    first: usize,
    output: &mut [T],
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    body.run(first, output, scratch)
}

/// Sums of products of bytes and 16-bit numbers: `vpmaddwd` multiplies 16 pairs and adds twos. The compiler
/// does not find it by itself.
///
/// # Safety
/// The CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn products<const N: usize>(rows: [&[i8]; N], input: &[i16]) -> [i32; N] {
    let (vectors, rest) = input.as_chunks::<LANES>();
    let mut sums = [_mm256_setzero_si256(); N];
    for (index, values) in vectors.iter().enumerate() {
        // SAFETY: 16 numbers of the input, and of each row, which is as long.
        unsafe {
            let values = _mm256_loadu_si256(values.as_ptr().cast());
            for (sum, row) in sums.iter_mut().zip(rows) {
                let weights = _mm_loadu_si128(row.as_ptr().add(index * LANES).cast());
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(weights), values));
            }
        }
    }
    let start = input.len() - rest.len();
    core::array::from_fn(|row| {
        let mut lanes = [0; LANES / 2];
        // SAFETY: a vector is eight numbers.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums[row]) };
        let last = rest.iter().zip(&rows[row][start..]).map(|(&value, &w)| i32::from(value) * i32::from(w));
        lanes.into_iter().chain(last).sum()
    })
}
