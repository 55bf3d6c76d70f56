//! AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds fours.
//!
//! The tile is 14 pixels x 32 channels: 28 accumulators, two vectors of weights and one
//! broadcast of four activations are 31 of the 32 registers. Zen 4 starts one `vpdpbusd` per
//! cycle, so 28 of them leave room for the 16 loads of a step. 14 divides the 56, 28 and
//! 14 pixels of a ResNet's rows and leaves 7 of its last 49, which is fast as well.
//! Activations become unsigned while they are packed (see
//! [`ACTIVATION_OFFSET`](Microkernel::ACTIVATION_OFFSET)).
//!
use core::arch::x86_64::*;

use super::avx512::{ORDER, PLAIN, Place, even_odd, finish, finish_plain, prepare_scale};
use super::detect::detected;
use super::unroll::{each_row, with_rows};
use crate::convolution::tiled::{Costs, Microkernel, Tile};

const ROWS: usize = 14;
const COLUMNS: usize = 32;
const DEPTH: usize = 32;
/// Bytes of the weights of four depths.
const STEP_BYTES: usize = 4 * COLUMNS;

/// How far ahead weights are fetched: some 900 cycles. The last stage of a ResNet reads its
/// weights from memory or the third-level cache, and runs 5 % faster with this.
const PREFETCH_BYTES: usize = 4096;

/// The whole tile.
const ALL: Place = Place { row: 0, column: 0 };

/// Proof that the CPU has AVX-512 with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86Vnni(());

// SAFETY: `new` asks for all features that the functions below are compiled for. They read and write
// whole rows of the tile and of the panel.
unsafe impl Microkernel for X86Vnni {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const WEIGHT_STEP: usize = 4;
    const COSTS: Costs = Costs {
        row_products: 12,
        row_step: 1,
        tile_loads: 16,
        row: 20,
        row_residual: 5,
        tile: 40,
        panel: 14,
        tap: 90,
    };
    const NARROW: bool = true;
    const COLUMN_ORDER: Option<&'static [usize]> = Some(&ORDER);
    const ACTIVATION_OFFSET: i32 = 128;

    fn new() -> Option<Self> {
        detected!("avx512f", "avx512bw", "avx512vl", "avx512vnni").then_some(Self(()))
    }

    fn prepare_scale(multiplier: &mut [i32], shift: u32, bound: &dyn Fn() -> i64) -> u32 {
        prepare_scale(multiplier, shift, bound)
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
        unsafe { pack_rows(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
        unsafe { with_rows!(compute(tile), 1 2 3 4 5 6 7 8 9 10 11 12 13) };
    }
}

/// Writes 32 bytes of each row in turn, with their sign bits inverted.
///
/// # Safety
/// The CPU has AVX-512; `rows` has `ROWS` pointers, each good for reading `depth` bytes, a
/// multiple of 32; `panel` is good for writing `ROWS` times as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pack_rows(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let rows: &[*const i8; ROWS] = rows.try_into().expect("as many rows as the tile has");
    let sign = _mm512_set1_epi8(i8::MIN);
    let mut panel = panel;
    let mut k = 0;
    while k + 2 * DEPTH <= depth {
        // SAFETY: 64 bytes of each row, two times 32 bytes of each row of the panel.
        unsafe {
            each_row!(row < ROWS, {
                let bytes = _mm512_xor_si512(_mm512_loadu_si512(rows[row].add(k).cast()), sign);
                let first = panel.add(row * DEPTH);
                _mm256_storeu_si256(first.cast(), _mm512_castsi512_si256(bytes));
                let second = first.add(ROWS * DEPTH);
                _mm256_storeu_si256(second.cast(), _mm512_extracti64x4_epi64::<1>(bytes));
            });
            panel = panel.add(2 * ROWS * DEPTH);
        }
        k += 2 * DEPTH;
    }
    if k < depth {
        let sign = _mm512_castsi512_si256(sign);
        // SAFETY: the last 32 bytes of each row.
        unsafe {
            each_row!(row < ROWS, {
                let bytes = _mm256_xor_si256(_mm256_loadu_si256(rows[row].add(k).cast()), sign);
                _mm256_storeu_si256(panel.add(row * DEPTH).cast(), bytes);
            });
        }
    }
}

/// Computes a tile of `N` rows.
///
/// # Safety
/// The CPU has AVX-512 with VNNI, and what [`Tile`] says about its fields.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn compute<const N: usize>(tile: &Tile) {
    // SAFETY: 32 biases.
    let mut rows = [unsafe { even_odd(tile.bias) }; N];
    let (mut panel, mut weights) = (tile.panel, tile.weights);
    for _ in 0..tile.depth / DEPTH {
        for step in 0..DEPTH / 4 {
            // SAFETY: `depth * 32` bytes of weights and `depth * ROWS` bytes of panel.
            unsafe {
                let weights = weights.add(step * STEP_BYTES).cast::<__m512i>();
                let (even, odd) = (_mm512_load_si512(weights), _mm512_load_si512(weights.add(1)));
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_byte_add(PREFETCH_BYTES).cast());
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_byte_add(PREFETCH_BYTES + 64).cast());
                for (index, row) in rows.iter_mut().enumerate() {
                    let four = panel.add(index * DEPTH + step * 4).cast::<i32>();
                    let four = _mm512_set1_epi32(four.read_unaligned());
                    row[0] = _mm512_dpbusd_epi32(row[0], four, even);
                    row[1] = _mm512_dpbusd_epi32(row[1], four, odd);
                }
            }
        }
        // SAFETY: to the next 32 of depth, or the end.
        unsafe {
            panel = panel.add(ROWS * DEPTH);
            weights = weights.add(DEPTH * COLUMNS);
        }
    }
    if tile.shift & PLAIN != 0 {
        // A copy: what is lent to a function would live in memory during the loop above.
        let mut memory = [[[0; 16]; 2]; N];
        // SAFETY: a vector is 16 numbers; the rest is as stated.
        unsafe {
            each_row!(row < N, {
                _mm512_storeu_si512(memory[row][0].as_mut_ptr().cast(), rows[row][0]);
                _mm512_storeu_si512(memory[row][1].as_mut_ptr().cast(), rows[row][1]);
            });
            finish_plain(&memory, tile, ALL);
        }
        return;
    }
    if tile.shift != 0 {
        let count = _mm_cvtsi32_si128(tile.shift as i32);
        each_row!(row < N, {
            rows[row][0] = _mm512_sll_epi32(rows[row][0], count);
            rows[row][1] = _mm512_sll_epi32(rows[row][1], count);
        });
    }
    // SAFETY: as stated.
    unsafe {
        if tile.residual.is_null() {
            finish::<N, false>(rows, tile, ALL);
        } else {
            finish::<N, true>(rows, tile, ALL);
        }
    }
}
