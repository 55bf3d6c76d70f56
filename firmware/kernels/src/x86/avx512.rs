//! What the kernels with AVX-512 share: the order of their channels, and the epilogue.
//!
//! Of the 64-bit products of the epilogue only the upper halves are needed, because the
//! multipliers are stored shifted left by one or more: `floor(a * 2m / 2^32)` is the Q8 number
//! `floor(a * m / 2^31)` of [`arithmetic`](crate::arithmetic). It may saturate to 16 bits before it is
//! rounded, which then is an addition and taking the upper byte.
//!
//! One accumulator of a row has the even channels, the other one the odd channels: this is
//! the order in which a vector of 32 residuals, widened to 16 bits, feeds `vpdpwssds`. Within
//! each 128-bit lane they are in the order that `vshufps` undoes when it joins upper halves.

use core::arch::asm;
use core::arch::x86_64::*;

use super::unroll::each_row;
use crate::arithmetic::{FRACTION_BITS, requantise};
use crate::convolution::tiled::Tile;

/// Channels of a row.
const COLUMNS: usize = 32;

/// The channels of a row's first accumulator; those of the second one are their successors.
const EVEN: [i32; 16] = [0, 4, 2, 6, 8, 12, 10, 14, 16, 20, 18, 22, 24, 28, 26, 30];

/// The columns of both accumulators.
pub(super) const ORDER: [usize; COLUMNS] = {
    let mut order = [0; COLUMNS];
    let mut place = 0;
    while place < COLUMNS {
        order[place] = EVEN[place % 16] as usize + place / 16;
        place += 1;
    }
    order
};

/// In `Tile::shift`: the multipliers are as they came, the rest is their shift.
pub(super) const PLAIN: u32 = 1 << 31;

/// See [`Microkernel::prepare_scale`](crate::convolution::tiled::Microkernel::prepare_scale).
pub(super) fn prepare_scale(multiplier: &mut [i32], shift: u32, bound: &dyn Fn() -> i64) -> u32 {
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

/// `COLUMNS` constants in the order of the two accumulators of a row.
///
/// # Safety
/// The CPU has AVX-512; `from` is good for reading 32 elements.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn even_odd(from: *const i32) -> [__m512i; 2] {
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

/// The upper halves of the 64-bit products of accumulators and multipliers, in each 128-bit
/// lane those of elements 0, 2, 1, 3.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply(accumulators: __m512i, multiplier: __m512i) -> __m512i {
    let even = _mm512_mul_epi32(accumulators, multiplier);
    let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(accumulators), _mm512_srli_epi64::<32>(multiplier));
    _mm512_castps_si512(_mm512_shuffle_ps::<0xDD>(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)))
}

/// The same vector, of which the compiler knows nothing: it would make two shuffles of one whose indices
/// it knows.
#[inline]
#[target_feature(enable = "avx512f")]
fn unforeseen(mut vector: __m512i) -> __m512i {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", inout(zmm_reg) vector, options(pure, nomem, nostack, preserves_flags)) };
    vector
}

/// Where the rows that [`finish`] stores lie in a tile: a tile for each of them would be copied through
/// memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// From the first row.
    pub(super) row: usize,
    /// From the first channel.
    pub(super) column: usize,
}

impl Place {
    /// From the first element of output.
    #[inline(always)]
    fn output(self, tile: &Tile) -> usize {
        self.row * tile.stride + self.column
    }

    /// From the first element of residual.
    #[inline(always)]
    fn residual(self, tile: &Tile) -> usize {
        self.row * tile.residual_stride + self.column
    }
}

/// Requantises `N` rows of 32 channels, adds the residual if there is one, and stores.
///
/// # Safety
/// The CPU has AVX-512 with VNNI, and what [`Tile`] says about its fields.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn finish<const N: usize, const RESIDUAL: bool>(
    rows: [[__m512i; 2]; N],
    tile: &Tile,
    place: Place,
) {
    // SAFETY: 32 multipliers.
    let multiplier = unsafe { even_odd(tile.multiplier.add(place.column)) };
    let (output, residuals) =
        (tile.output.wrapping_add(place.output(tile)), tile.residual.wrapping_add(place.residual(tile)));
    // A pair of residuals times these is the first or the second of them times the multiplier.
    let factor =
        [_mm512_set1_epi32(tile.residual_multiplier), _mm512_set1_epi32(tile.residual_multiplier << 16)];
    let half = _mm512_set1_epi16(1 << (FRACTION_BITS - 1));
    // From each lane with 8 numbers of two rows, alternating and the even ones first, to their order.
    let order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 2, 10, 4, 12, 6, 14, 1, 9, 3, 11, 5, 13, 7, 15));
    let lanes = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    let (order, lanes) = (unforeseen(order), unforeseen(lanes));
    let columns = (tile.columns - place.column).min(COLUMNS);
    let mask = u32::MAX >> (COLUMNS - columns);
    let mut upper = half;
    each_row!(row < N, {
        let (mut even, mut odd) =
            (multiply(rows[row][0], multiplier[0]), multiply(rows[row][1], multiplier[1]));
        if RESIDUAL {
            // SAFETY: as many elements of each row of residual as there are columns, at most 32.
            let residual = unsafe {
                let residual = residuals.add(row * tile.residual_stride);
                let residual = if columns == COLUMNS {
                    _mm256_loadu_si256(residual.cast())
                } else {
                    _mm256_maskz_loadu_epi8(mask, residual)
                };
                _mm512_cvtepi8_epi16(residual)
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
            // SAFETY: as many elements of each row of output as there are columns, at most 32.
            unsafe {
                let output = output.add((row - row % 2) * tile.stride);
                let store = |output: *mut i8, row: __m256i| {
                    if columns == COLUMNS {
                        _mm256_storeu_si256(output.cast(), row);
                    } else {
                        _mm256_mask_storeu_epi8(output, mask, row);
                    }
                };
                store(output, _mm512_castsi512_si256(both));
                if row % 2 == 1 {
                    store(output.add(tile.stride), _mm512_extracti64x4_epi64::<1>(both));
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
pub(super) unsafe fn finish_plain(rows: &[[[i32; 16]; 2]], tile: &Tile, place: Place) {
    for (index, row) in rows.iter().enumerate() {
        for (part, accumulators) in row.iter().enumerate() {
            for (even, &accumulator) in EVEN.into_iter().zip(accumulators) {
                let column = even as usize + part;
                if place.column + column >= tile.columns {
                    continue;
                }
                // SAFETY: an element of the multipliers, of each row of residual and of output.
                unsafe {
                    let at = place.residual(tile) + index * tile.residual_stride + column;
                    let residual =
                        if tile.residual.is_null() { 0 } else { i32::from(*tile.residual.add(at)) };
                    let at = place.output(tile) + index * tile.stride + column;
                    *tile.output.add(at) = requantise(
                        accumulator,
                        tile.shift & !PLAIN,
                        *tile.multiplier.add(place.column + column),
                        tile.residual_multiplier * residual,
                    );
                }
            }
        }
    }
}
