//! Input, weights and output at the points, and back.

use core::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, vaddq_s16, vaddq_s32, vdupq_n_s32, vget_low_s8, vld1q_s8, vld1q_s32,
    vmlaq_n_s16, vmlaq_n_s32, vmlsq_n_s16, vmovl_high_s8, vmovl_s8, vmulq_n_s32, vshlq_n_s16, vshlq_n_s32,
    vshrq_n_s32, vst1q_s16, vst1q_s32, vsubq_s16, vsubq_s32,
};

use super::scratch::ROWS;
use crate::convolution::tiled::Tile;
use crate::convolution::winograd::{COLUMNS, COMPONENTS, POINTS};
use crate::neon::epilogue;

/// The inverse of 9 modulo 2^32.
const INVERSE_9: i32 = 0x38e3_8e39;

/// Transforms the input of a tile at `V` x `H` points.
///
/// # Safety
/// The first `V` x `H` pixels have `channels` elements, a multiple of 16; the targets of the
/// points are slots for as many.
pub(super) unsafe fn input_tile<const V: usize, const H: usize>(
    pixels: &[[*const i8; POINTS]; POINTS],
    targets: &[[*mut i16; POINTS]; POINTS],
    channels: usize,
) {
    let (vertical, horizontal) = (points::<V>(), points::<H>());
    for channel in (0..channels).step_by(16) {
        // SAFETY: 16 elements of each pixel, and two groups of 8 of each slot.
        unsafe {
            let zero = vmovl_s8(vget_low_s8(vld1q_s8(pixels[0][0].add(channel))));
            let mut middle = [[[zero; V]; H]; 2];
            for column in 0..H {
                let mut low = [zero; V];
                let mut high = [zero; V];
                for row in 0..V {
                    let bytes: int8x16_t = vld1q_s8(pixels[row][column].add(channel));
                    low[row] = vmovl_s8(vget_low_s8(bytes));
                    high[row] = vmovl_high_s8(bytes);
                }
                middle[0][column] = input_points(low);
                middle[1][column] = input_points(high);
            }
            for (half, middle) in middle.iter().enumerate() {
                let offset = (channel / 8 + half) * 8 * ROWS;
                for row in 0..V {
                    let line = input_points(core::array::from_fn::<_, H, _>(|column| middle[column][row]));
                    for (column, vector) in line.into_iter().enumerate() {
                        vst1q_s16(targets[vertical[row]][horizontal[column]].add(offset), vector);
                    }
                }
            }
        }
    }
}

/// The points of a segment with `N` of them.
const fn points<const N: usize>() -> [usize; N] {
    let all: [usize; POINTS] = match N {
        4 => [0, 1, 2, 5, 0, 0],
        5 => [0, 1, 2, 3, 5, 0],
        _ => [0, 1, 2, 3, 4, 5],
    };
    let mut points = [0; N];
    let mut index = 0;
    while index < N {
        points[index] = all[index];
        index += 1;
    }
    points
}

/// The input of one dimension at its points: the coefficients of `M_i`.
#[inline(always)]
fn input_points<const N: usize>(d: [int16x8_t; N]) -> [int16x8_t; N] {
    let mut v = d;
    // SAFETY: NEON belongs to aarch64.
    unsafe {
        match N {
            4 => {
                v[0] = vsubq_s16(d[2], d[0]);
                v[1] = vaddq_s16(d[2], d[1]);
                v[2] = vsubq_s16(d[2], d[1]);
                v[3] = vsubq_s16(d[3], d[1]);
            }
            5 => {
                // 2 -1 -2 1 | 0 -2 -1 1 | 0 2 -3 1 | 0 -1 0 1 | 0 2 -1 -2 1
                let difference = vsubq_s16(d[3], d[1]);
                v[0] = vmlaq_n_s16(difference, vsubq_s16(d[0], d[2]), 2);
                v[1] = vsubq_s16(vsubq_s16(difference, d[1]), d[2]);
                v[2] = vmlsq_n_s16(vmlaq_n_s16(d[3], d[1], 2), d[2], 3);
                v[3] = difference;
                v[4] = vmlsq_n_s16(vsubq_s16(d[4], d[2]), difference, 2);
            }
            _ => {
                // 4 0 -5 0 1 | 0 -4 -4 1 1 | 0 4 -4 -1 1 | 0 -2 -1 2 1 | 0 2 -1 -2 1 | 0 4 0 -5 0 1
                let even = vmlsq_n_s16(d[4], d[2], 4);
                let odd = vmlsq_n_s16(d[3], d[1], 4);
                let difference = vsubq_s16(d[4], d[2]);
                let twice = vshlq_n_s16::<1>(vsubq_s16(d[3], d[1]));
                v[0] = vaddq_s16(even, vsubq_s16(vshlq_n_s16::<2>(d[0]), d[2]));
                v[1] = vaddq_s16(even, odd);
                v[2] = vsubq_s16(even, odd);
                v[3] = vaddq_s16(difference, twice);
                v[4] = vsubq_s16(difference, twice);
                v[5] = vmlsq_n_s16(vmlaq_n_s16(d[5], d[1], 4), d[3], 5);
            }
        }
    }
    v
}

/// Transforms `[input channel][3][3][16]` of int8 to `[input channel / 8][component][8][16]`.
///
/// # Safety
/// `to` has room for all components.
pub(super) unsafe fn transform_weights(weights: &[i8], to: *mut i16) {
    for (channel, taps) in weights.chunks_exact(9 * COLUMNS).enumerate() {
        let to = to.wrapping_add((channel / 8 * COMPONENTS * 8 + channel % 8) * COLUMNS);
        for half in 0..2 {
            // SAFETY: nine times 16 weights; one row of 16 in each component.
            unsafe {
                let tap = |y: usize, x: usize| {
                    let bytes = vld1q_s8(taps.as_ptr().add((y * 3 + x) * COLUMNS));
                    if half == 0 { vmovl_s8(vget_low_s8(bytes)) } else { vmovl_high_s8(bytes) }
                };
                let middle: [[int16x8_t; POINTS]; 3] =
                    [0, 1, 2].map(|x| weight_points([tap(0, x), tap(1, x), tap(2, x)]));
                let [left, centre, right] = middle;
                for (row, ((left, centre), right)) in left.into_iter().zip(centre).zip(right).enumerate() {
                    let line = weight_points([left, centre, right]);
                    for (column, vector) in line.into_iter().enumerate() {
                        vst1q_s16(to.add((row * POINTS + column) * 8 * COLUMNS + half * 8), vector);
                    }
                }
            }
        }
    }
}

/// Three taps at all points: `g_0 + g_1 p + g_2 p^2`.
#[inline(always)]
fn weight_points(g: [int16x8_t; 3]) -> [int16x8_t; POINTS] {
    // SAFETY: NEON belongs to aarch64.
    unsafe {
        let even = vaddq_s16(g[0], g[2]);
        let four = vaddq_s16(g[0], vshlq_n_s16::<2>(g[2]));
        let two = vshlq_n_s16::<1>(g[1]);
        [g[0], vaddq_s16(even, g[1]), vsubq_s16(even, g[1]), vaddq_s16(four, two), vsubq_s16(four, two), g[2]]
    }
}

/// Transforms the products of a tile back, 16 channels, and finishes them.
///
/// # Safety
/// The sources of the points have 16 elements; what [`Tile`] says about bias, multiplier,
/// residual and output, for `A` rows of `B` pixels of an image of this width.
pub(super) unsafe fn output_tile<const V: usize, const A: usize, const H: usize, const B: usize>(
    sources: &[[*const i32; POINTS]; POINTS],
    mut tile: Tile,
    width: usize,
) {
    let (vertical, horizontal) = (points::<V>(), points::<H>());
    // SAFETY: 16 biases, sources as stated, and `A` rows of `B` pixels.
    unsafe {
        let [bias] = epilogue::start::<1>(tile.bias);
        let mut sums = [[[0i32; COLUMNS]; B]; A];
        for (quad, bias) in bias.into_iter().enumerate() {
            let middle: [[int32x4_t; A]; H] = core::array::from_fn(|column| {
                output_points::<V, A>(core::array::from_fn(|row| {
                    vld1q_s32(sources[vertical[row]][horizontal[column]].add(quad * 4))
                }))
            });
            for (row, sums) in sums.iter_mut().enumerate() {
                let line = output_points::<H, B>(core::array::from_fn(|column| middle[column][row]));
                for (vector, sums) in line.into_iter().zip(sums) {
                    let sum = vshrq_n_s32::<6>(vmulq_n_s32(vector, INVERSE_9));
                    vst1q_s32(sums.as_mut_ptr().add(quad * 4), vaddq_s32(sum, bias));
                }
            }
        }
        for row in &sums {
            let rows = core::array::from_fn::<_, B, _>(|pixel| {
                let sums = row[pixel].as_ptr();
                [vld1q_s32(sums), vld1q_s32(sums.add(4)), vld1q_s32(sums.add(8)), vld1q_s32(sums.add(12))]
            });
            epilogue::finish(rows, &tile);
            tile.move_down(width);
        }
    }
}

/// 24 times the outputs of one dimension, modulo 2^32, from the products at its points.
#[inline(always)]
fn output_points<const N: usize, const OUT: usize>(m: [int32x4_t; N]) -> [int32x4_t; OUT] {
    let mut y = [m[0]; OUT];
    // SAFETY: NEON belongs to aarch64.
    unsafe {
        let (sum, difference) = (vaddq_s32(m[1], m[2]), vsubq_s32(m[1], m[2]));
        match N {
            4 => {
                // -24 12 12 | 12 -12 24
                let zero = vmlaq_n_s32(sum, m[0], -2);
                y[0] = vmulq_n_s32(zero, 12);
                y[1] = vmulq_n_s32(vmlaq_n_s32(difference, m[3], 2), 12);
            }
            5 => {
                // 12 -12 -4 4 | -12 4 8 | -12 -4 16 24
                let one = vmlaq_n_s32(m[2], m[1], 3);
                let minus = vmlaq_n_s32(m[2], m[1], -3);
                y[0] = vshlq_n_s32::<2>(vmlaq_n_s32(vsubq_s32(m[3], one), m[0], 3));
                y[1] = vshlq_n_s32::<2>(vmlaq_n_s32(minus, m[3], 2));
                y[2] = vshlq_n_s32::<2>(vmlaq_n_s32(vsubq_s32(vshlq_n_s32::<2>(m[3]), one), m[4], 6));
            }
            _ => {
                // 6 -4 -4 1 1 | -4 4 2 -2 | -4 -4 4 4 | -4 4 8 -8 24
                let (sum_2, difference_2) = (vaddq_s32(m[3], m[4]), vsubq_s32(m[3], m[4]));
                y[0] = vmlaq_n_s32(vmlaq_n_s32(sum_2, sum, -4), m[0], 6);
                y[1] = vshlq_n_s32::<1>(vmlaq_n_s32(difference_2, difference, -2));
                y[2] = vshlq_n_s32::<2>(vsubq_s32(sum_2, sum));
                let infinity = vmlaq_n_s32(vmlaq_n_s32(difference, difference_2, -2), m[5], -6);
                y[3] = vshlq_n_s32::<2>(vsubq_s32(vdupq_n_s32(0), infinity));
            }
        }
    }
    y
}
