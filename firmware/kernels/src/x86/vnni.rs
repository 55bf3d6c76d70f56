//! AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds fours.
//!
//! The tile is 14 pixels x 32 channels: 28 accumulators, two vectors of weights and one
//! broadcast of four activations are 31 of the 32 registers. Zen 4 starts one `vpdpbusd` per
//! cycle, so 28 of them leave room for the 16 loads of a step. 14 divides the 56, 28 and
//! 14 pixels of a ResNet's rows and leaves 7 of its last 49, which is fast as well.
//! Activations become unsigned while they are packed (see
//! [`ACTIVATION_OFFSET`](Microkernel::ACTIVATION_OFFSET)).
//!
//! Of the 64-bit products of the epilogue only the upper halves are needed, because the
//! multipliers are stored shifted left by one or more: `floor(a * 2m / 2^32)` is the Q8 number
//! `floor(a * m / 2^31)` of [`arithmetic`](crate::arithmetic). It may saturate to 16 bits before it is
//! rounded, which then is an addition and taking the upper byte.
//!
//! One accumulator of a row has the even channels, the other one the odd channels: this is
//! the order in which a vector of 32 residuals, widened to 16 bits, feeds `vpdpwssds`. Within
//! each 128-bit lane they are in the order that `vshufps` undoes when it joins upper halves.

use core::arch::x86_64::*;

use super::detect::detected;
use super::unroll::{each_row, with_rows};
use crate::arithmetic::{FRACTION_BITS, requantise};
use crate::convolution::tiled::{Costs, Microkernel, Tile};

const ROWS: usize = 14;
const COLUMNS: usize = 32;
const DEPTH: usize = 32;
/// Bytes of the weights of four depths.
const STEP_BYTES: usize = 4 * COLUMNS;

/// How far ahead weights are fetched: some 900 cycles. The last stage of a ResNet reads its
/// weights from memory or the third-level cache, and runs 5 % faster with this.
const PREFETCH_BYTES: usize = 4096;

/// The channels of a row's first accumulator; those of the second one are their successors.
const EVEN: [i32; 16] = [0, 4, 2, 6, 8, 12, 10, 14, 16, 20, 18, 22, 24, 28, 26, 30];

/// The columns of both accumulators.
const ORDER: [usize; COLUMNS] = {
    let mut order = [0; COLUMNS];
    let mut place = 0;
    while place < COLUMNS {
        order[place] = EVEN[place % 16] as usize + place / 16;
        place += 1;
    }
    order
};

/// In `Tile::shift`: the multipliers are as they came, the rest is their shift.
const PLAIN: u32 = 1 << 31;

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
    const COLUMN_ORDER: Option<&'static [usize]> = Some(&ORDER);
    const ACTIVATION_OFFSET: i32 = 128;

    fn new() -> Option<Self> {
        detected!("avx512f", "avx512bw", "avx512vl", "avx512vnni").then_some(Self(()))
    }

    fn prepare_scale(multiplier: &mut [i32], shift: u32, bound: &dyn Fn() -> i64) -> u32 {
        let largest = multiplier.iter().copied().max().unwrap_or(0).max(1);
        let left = (shift + 1).min(largest.leading_zeros() - 1);
        let rest = shift + 1 - left;
        if bound() << rest > i64::from(i32::MAX) {
            return shift | PLAIN;
        }
        for multiplier in multiplier {
            *multiplier <<= left;
        }
        rest
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

/// `COLUMNS` constants in the order of the two accumulators of a row.
///
/// # Safety
/// The CPU has AVX-512; `from` is good for reading 32 elements.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn even_odd(from: *const i32) -> [__m512i; 2] {
    // SAFETY: 16 and 32 elements.
    let (even, low, high) = unsafe {
        (
            _mm512_loadu_si512(EVEN.as_ptr().cast()),
            _mm512_loadu_si512(from.cast()),
            _mm512_loadu_si512(from.add(16).cast()),
        )
    };
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    [_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high)]
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
            finish_plain(&memory, tile);
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
            finish::<N, false>(rows, tile);
        } else {
            finish::<N, true>(rows, tile);
        }
    }
}

/// The upper halves of the 64-bit products of accumulators and multipliers, in each 128-bit
/// lane those of elements 0, 2, 1, 3.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply(accumulators: __m512i, multiplier: __m512i) -> __m512i {
    let odd = _mm512_castps_si512(_mm512_movehdup_ps(_mm512_castsi512_ps(accumulators)));
    let even = _mm512_mul_epi32(accumulators, multiplier);
    let odd = _mm512_mul_epi32(odd, _mm512_srli_epi64::<32>(multiplier));
    _mm512_castps_si512(_mm512_shuffle_ps::<0xDD>(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)))
}

/// Requantises rows, adds the residual if there is one, and stores.
///
/// # Safety
/// The CPU has AVX-512 with VNNI, and what [`Tile`] says about its fields.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn finish<const N: usize, const RESIDUAL: bool>(rows: [[__m512i; 2]; N], tile: &Tile) {
    // SAFETY: 32 multipliers.
    let multiplier = unsafe { even_odd(tile.multiplier) };
    // A pair of residuals times these is the first or the second of them times the multiplier.
    let factor =
        [_mm512_set1_epi32(tile.residual_multiplier), _mm512_set1_epi32(tile.residual_multiplier << 16)];
    let half = _mm512_set1_epi16(1 << (FRACTION_BITS - 1));
    // From each lane with 8 numbers of two rows, alternating and the even ones first, to their order.
    let order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 2, 10, 4, 12, 6, 14, 1, 9, 3, 11, 5, 13, 7, 15));
    let lanes = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    let mut upper = half;
    each_row!(row < N, {
        let (mut even, mut odd) =
            (multiply(rows[row][0], multiplier[0]), multiply(rows[row][1], multiplier[1]));
        if RESIDUAL {
            // SAFETY: 32 elements of each row of residual.
            let residual = unsafe {
                let residual = tile.residual.add(row * tile.stride);
                _mm512_cvtepi8_epi16(_mm256_loadu_si256(residual.cast()))
            };
            even = _mm512_dpwssds_epi32(even, residual, factor[0]);
            odd = _mm512_dpwssds_epi32(odd, residual, factor[1]);
        }
        // The upper bytes are the result.
        let words = _mm512_adds_epi16(_mm512_packs_epi32(even, odd), half);
        let last = row + 1 == N;
        if row % 2 == 0 {
            upper = _mm512_srli_epi16::<8>(words);
        }
        if row % 2 == 1 || last {
            let both = _mm512_mask_blend_epi8(0xAAAA_AAAA_AAAA_AAAA, upper, words);
            let both = _mm512_permutexvar_epi64(lanes, _mm512_shuffle_epi8(both, order));
            // SAFETY: 32 elements of each row of output.
            unsafe {
                let output = tile.output.add((row - row % 2) * tile.stride);
                _mm256_storeu_si256(output.cast(), _mm512_castsi512_si256(both));
                if row % 2 == 1 {
                    let output = output.add(tile.stride);
                    _mm256_storeu_si256(output.cast(), _mm512_extracti64x4_epi64::<1>(both));
                }
            }
        }
    });
}

/// As [`finish`], for the rare layer with multipliers as they came.
///
/// # Safety
/// As [`finish`].
#[cold]
#[inline(never)]
unsafe fn finish_plain(rows: &[[[i32; 16]; 2]], tile: &Tile) {
    for (index, row) in rows.iter().enumerate() {
        for (part, accumulators) in row.iter().enumerate() {
            for (even, &accumulator) in EVEN.into_iter().zip(accumulators) {
                let column = even as usize + part;
                // SAFETY: an element of the multipliers, of each row of residual and of output.
                unsafe {
                    let offset = index * tile.stride + column;
                    let residual =
                        if tile.residual.is_null() { 0 } else { i32::from(*tile.residual.add(offset)) };
                    *tile.output.add(offset) = requantise(
                        accumulator,
                        tile.shift & !PLAIN,
                        *tile.multiplier.add(column),
                        tile.residual_multiplier * residual,
                    );
                }
            }
        }
    }
}
