//! AVX-VNNI: `vpdpbusd` of 256 bits, for processors without AVX-512 (Alder Lake, N100).
//!
//! It multiplies 32 unsigned by 32 signed bytes and adds fours: four times the products of
//! `vpmaddwd`, from bytes that need no widening. Activations become unsigned while they are packed
//! (see [`ACTIVATION_OFFSET`](Microkernel::ACTIVATION_OFFSET)).

use core::arch::x86_64::*;

use super::detect::detected;
use super::tile_6x16::{COLUMNS, ROW_BYTES, ROWS, STEP_BYTES, finish, kernel_6x16, pair};
use super::unroll::with_rows;
use crate::convolution::tiled::{Costs, Microkernel, Tile};

kernel_6x16! {
    /// Proof that the CPU has AVX2 and AVX-VNNI.
    X86AvxVnni, ["avx2", "avxvnni"], "avx2,avxvnni",
    {
        const DEPTH: usize = 32;
        const WEIGHT_STEP: usize = 4;
        const COSTS: Costs = Costs {
            row_products: 12,
            row_step: 1,
            tile_loads: 8,
            row: 25,
            row_residual: 6,
            tile: 25,
            panel: 9,
            tap: 45,
        };
        const ACTIVATION_OFFSET: i32 = 128;
    }
    pack |from| _mm256_xor_si256(_mm256_loadu_si256(from.cast()), _mm256_set1_epi8(i8::MIN)),
    add |sum, activations, weights| _mm256_dpbusd_avx_epi32(sum, activations, weights)
}
