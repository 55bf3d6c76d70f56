//! The epilogue of every NEON tile: from accumulators to stored int8.

use core::arch::aarch64::{
    int16x8_t, int32x4_t, vcombine_s8, vcombine_s16, vdupq_n_s32, vget_high_s8, vget_low_s8, vget_low_s16,
    vld1q_s8, vld1q_s32, vmlal_high_n_s16, vmlal_n_s16, vmovl_s8, vqdmulhq_s32, vqmovn_s16, vqrshrn_n_s32,
    vshlq_s32, vst1q_s8,
};

use crate::convolution::tiled::Tile;

/// The accumulators of a tile of 16 channels, starting as the bias.
///
/// # Safety
/// `bias` is good for reading 16 elements.
#[inline(always)]
pub(super) unsafe fn start<const ROWS: usize>(bias: *const i32) -> [[int32x4_t; 4]; ROWS] {
    // SAFETY: 16 elements.
    let row =
        unsafe { [vld1q_s32(bias), vld1q_s32(bias.add(4)), vld1q_s32(bias.add(8)), vld1q_s32(bias.add(12))] };
    [row; ROWS]
}

/// Requantises and stores `ROWS` rows of 16 channels.
///
/// `sqdmulh` is the multiplication, `smlal` adds the residual, `sqrshrn #8` and `sqxtn` round
/// and saturate: see [`arithmetic`](crate::arithmetic).
///
/// # Safety
/// What [`Tile`] says about its fields, with `ROWS` rows of 16 columns.
#[inline(always)]
pub(super) unsafe fn finish<const ROWS: usize>(mut rows: [[int32x4_t; 4]; ROWS], tile: &Tile) {
    // SAFETY: 16 multipliers; `ROWS` rows of 16 elements of output, and of residual if any.
    unsafe {
        if tile.shift != 0 {
            let shift = vdupq_n_s32(tile.shift as i32);
            for vector in rows.as_flattened_mut() {
                *vector = vshlq_s32(*vector, shift);
            }
        }
        let multiplier = [0, 4, 8, 12].map(|offset| vld1q_s32(tile.multiplier.add(offset)));
        for row in &mut rows {
            for (vector, multiplier) in row.iter_mut().zip(multiplier) {
                *vector = vqdmulhq_s32(*vector, multiplier);
            }
        }
        if !tile.residual.is_null() {
            let factor = tile.residual_multiplier as i16;
            for (index, row) in rows.iter_mut().enumerate() {
                let residual = vld1q_s8(tile.residual.add(index * tile.residual_stride));
                let (low, high) = (vmovl_s8(vget_low_s8(residual)), vmovl_s8(vget_high_s8(residual)));
                row[0] = vmlal_n_s16(row[0], vget_low_s16(low), factor);
                row[1] = vmlal_high_n_s16(row[1], low, factor);
                row[2] = vmlal_n_s16(row[2], vget_low_s16(high), factor);
                row[3] = vmlal_high_n_s16(row[3], high, factor);
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let (low, high) = (narrow(row[0], row[1]), narrow(row[2], row[3]));
            let bytes = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
            vst1q_s8(tile.output.add(index * tile.stride), bytes);
        }
    }
}

#[inline(always)]
fn narrow(low: int32x4_t, high: int32x4_t) -> int16x8_t {
    // SAFETY: NEON belongs to aarch64.
    unsafe { vcombine_s16(vqrshrn_n_s32::<8>(low), vqrshrn_n_s32::<8>(high)) }
}
