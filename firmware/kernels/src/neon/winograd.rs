//! Exact integer Winograd for 3x3 convolutions of stride 1 on ARMv8.0: F(4x4, 3x3), with
//! F(3, 3) and F(2, 3) at the edges.
//!
//! # Mathematics
//! After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). An output
//! segment of `m` is computed from `m + 2` inputs by multiplication at `m + 2` points: 0, 1, -1,
//! 2, -2 and infinity for `m = 4`; without -2 for 3, without 2 for 2. With `M_i` the product
//! of `x - p_j` over the other finite points and `N_i = M_i(p_i)`:
//! - the weights are evaluated: `u_i = g_0 + g_1 p_i + g_2 p_i^2`, at infinity `g_2`;
//! - the input is transformed by the coefficients of `M_i`, at infinity by those of the product
//!   over all points;
//! - the output is `y_r = sum((24 / N_i) p_i^r u_i v_i)`, plus 24 times infinity at `r = m - 1`.
//!
//! Everything is an integer: the divisions by `N_i` became the factor 24. The weights do not
//! depend on `m`, so that all tiles share them, and a tile at the edge only takes part in the
//! points that it needs. In two dimensions the result is `576 y`.
//!
//! # Exactness
//! Transformed weights stay within 49 x 127 and inputs within 100 x 128: both fit 16 bits. Sums
//! of products overflow 32 bits, and may: `576 y` is right modulo 2^32. As 9 has an inverse,
//! multiplication by it leaves `64 y` modulo 2^32, and an arithmetic shift the exact `y` when
//! `|y| < 2^25`: which [`suits`](crate::winograd::suits) checks for each channel.
//!
//! # Memory
//! Transformed weights are eight times as large as the int8 ones: on a small board their
//! traffic would cost more than the multiplications save. They are transformed as they are
//! needed instead, a cache-sized piece at a time, which costs a few percent.

use alloc::vec::Vec;
use core::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, vaddq_s16, vaddq_s32, vdupq_n_s32, vget_low_s8, vld1q_s8, vld1q_s32,
    vmlaq_n_s16, vmlaq_n_s32, vmlsq_n_s16, vmovl_high_s8, vmovl_s8, vmulq_n_s32, vshlq_n_s16, vshlq_n_s32,
    vshrq_n_s32, vst1q_s16, vst1q_s32, vsubq_s16, vsubq_s32,
};
use core::arch::asm;

use super::epilogue;
use crate::convolution::Body;
use crate::tiled::{Shared, Tile, align, run_parts};
use crate::winograd::{COLUMNS, COMPONENTS, POINTS, Segment, block_tiles};
use crate::{CacheSizes, ConvolutionParameters, ConvolutionShape, KernelError, Parallel};

/// Tiles that the matrix product takes at once.
const ROWS: usize = 6;
/// Input channels whose weights are transformed at once.
const DEPTH_BLOCK: usize = 64;
/// The inverse of 9 modulo 2^32.
const INVERSE_9: i32 = 0x38e3_8e39;
const ALIGNMENT: usize = 64;

/// A convolution whose products are taken at points.
#[derive(Debug)]
pub(crate) struct Winograd {
    shape: ConvolutionShape,
    caches: CacheSizes,
    /// Output rows of the tiles.
    vertical: Vec<Segment>,
    /// Output columns of the tiles.
    horizontal: Vec<Segment>,
    /// `[column block][input channel][3][3][16]`.
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: u32,
    residual_multiplier: i32,
    padding_value: Vec<i8>,
}

impl Winograd {
    /// Packs the weights; [`suits`](crate::winograd::suits) says that they can be.
    pub(crate) fn new(parameters: &ConvolutionParameters<'_>, caches: CacheSizes) -> Self {
        let shape = &parameters.shape;
        let [height, width, outputs] = shape.output();
        let inputs = shape.input[2];
        let (vertical, horizontal) = (Segment::cut(height), Segment::cut(width));
        let mut weights = Vec::with_capacity(parameters.weights.len());
        for block in (0..outputs).step_by(COLUMNS) {
            for input in 0..inputs {
                for tap in 0..9 {
                    let weight = |output| parameters.weights[(output * 9 + tap) * inputs + input];
                    weights.extend((block..block + COLUMNS).map(weight));
                }
            }
        }
        Self {
            vertical,
            horizontal,
            weights,
            bias: parameters.bias.to_vec(),
            multiplier: parameters.multiplier.to_vec(),
            shift: parameters.shift,
            residual_multiplier: parameters.residual_multiplier.unwrap_or(0),
            padding_value: parameters.padding_value.to_vec(),
            shape: shape.clone(),
            caches,
        }
    }

    fn plan(&self, threads: usize) -> Plan {
        let tiles = self.vertical.len() * self.horizontal.len();
        let (inputs, columns) = (self.shape.input[2], self.shape.output_channels / COLUMNS);
        let threads = threads.clamp(1, 64);
        let fitting = block_tiles(self.caches, threads, inputs);
        // The instructions of one part: its inputs, its weights, its products and outputs.
        let cost = |&(t, c): &(usize, usize)| {
            let (tiles, columns) = (tiles.div_ceil(t), columns.div_ceil(c));
            let weights = tiles.div_ceil(fitting) * columns * inputs * 12 * COLUMNS;
            tiles * inputs * 35 + weights + tiles * columns * (inputs * 158 + 1100)
        };
        let (tile_parts, column_parts) = (1..=threads)
            .map(|c| ((threads / c).min(tiles), c.min(columns)))
            .min_by_key(cost)
            .unwrap_or((1, 1));
        let most = tiles.div_ceil(tile_parts);
        let block = most.div_ceil(most.div_ceil(fitting));
        Plan { tiles, columns, tile_parts, column_parts, layout: Layout::new(block, inputs) }
    }

    fn tile(&self, index: usize) -> (Segment, Segment) {
        (self.vertical[index / self.horizontal.len()], self.horizontal[index % self.horizontal.len()])
    }

    /// Computes one part.
    ///
    /// # Safety
    /// The buffers have the lengths that the shape asks for, no other part with this index
    /// runs or has run, and `scratch` is good for `plan.layout.bytes`, 64-byte aligned.
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "`Layout` aligns every part of the scratch memory to 64 bytes"
    )]
    unsafe fn part(&self, plan: &Plan, index: usize, buffers: &Buffers<'_>, scratch: *mut u8) {
        let share = |part: usize, parts: usize, all: usize| part * all / parts..(part + 1) * all / parts;
        let tiles = share(index / plan.column_parts, plan.tile_parts, plan.tiles);
        let columns = share(index % plan.column_parts, plan.column_parts, plan.columns);
        let layout = &plan.layout;
        let inputs = self.shape.input[2];
        // SAFETY: the four parts of the scratch memory follow each other, each aligned.
        let (slots, input, weights, products) = unsafe {
            (
                scratch.cast::<[u16; COMPONENTS]>(),
                scratch.add(layout.input).cast::<i16>(),
                scratch.add(layout.weights).cast::<i16>(),
                scratch.add(layout.products).cast::<i32>(),
            )
        };
        let mut start = tiles.start;
        while start < tiles.end {
            let block = start..(start + layout.tiles).min(tiles.end);
            start = block.end;
            let mut counts = [0u16; COMPONENTS];
            for tile in block.clone() {
                let (vertical, horizontal) = self.tile(tile);
                let mut own = [0u16; COMPONENTS];
                for (vertical, horizontal) in pairs(vertical, horizontal) {
                    let component = vertical * POINTS + horizontal;
                    own[component] = counts[component];
                    counts[component] += 1;
                }
                // SAFETY: a block has at most `layout.tiles` tiles; transformed input has room
                // for each in each component.
                unsafe {
                    slots.add(tile - block.start).write(own);
                    self.transform_input(buffers.input, vertical, horizontal, &own, layout, input);
                }
            }
            for column in columns.clone() {
                for depth in (0..inputs).step_by(DEPTH_BLOCK) {
                    let channels = DEPTH_BLOCK.min(inputs - depth);
                    let packed =
                        &self.weights[(column * inputs + depth) * 9 * COLUMNS..][..channels * 9 * COLUMNS];
                    // SAFETY: transformed weights have room for `DEPTH_BLOCK` channels; the
                    // product reads what was transformed and writes the slots of the block.
                    unsafe {
                        transform_weights(packed, weights);
                        for (component, &count) in counts.iter().enumerate() {
                            let count = usize::from(count);
                            for first in (0..count).step_by(ROWS) {
                                let slot = component * layout.tiles + first;
                                multiply(
                                    ROWS.min(count - first),
                                    input.add(layout.slot(component, first) + depth * ROWS),
                                    weights.add(component * 8 * COLUMNS),
                                    channels,
                                    products.add(slot * COLUMNS),
                                    depth > 0,
                                );
                            }
                        }
                    }
                }
                for tile in block.clone() {
                    let (vertical, horizontal) = self.tile(tile);
                    // SAFETY: the products of this tile are complete; no other part writes
                    // these pixels of these channels.
                    unsafe {
                        let slots = &*slots.add(tile - block.start);
                        self.transform_output(column, vertical, horizontal, slots, layout, products, buffers);
                    }
                }
            }
        }
    }

    /// Transforms the input of one tile, all channels.
    ///
    /// # Safety
    /// The input has its length; `to` has room as `layout` says.
    unsafe fn transform_input(
        &self,
        input: &[i8],
        vertical: Segment,
        horizontal: Segment,
        slots: &[u16; COMPONENTS],
        layout: &Layout,
        to: *mut i16,
    ) {
        let [height, width, channels] = self.shape.input;
        let mut pixels = [[core::ptr::null(); POINTS]; POINTS];
        for (row, pixels) in pixels.iter_mut().enumerate() {
            // A position above or left of the image becomes a huge one.
            let y = (vertical.start + row).wrapping_sub(self.shape.padding[0]);
            for (column, pixel) in pixels.iter_mut().enumerate() {
                let x = (horizontal.start + column).wrapping_sub(self.shape.padding[1]);
                *pixel = if y < height && x < width {
                    input[(y * width + x) * channels..].as_ptr()
                } else {
                    self.padding_value.as_ptr()
                };
            }
        }
        let mut targets = [[core::ptr::null_mut(); POINTS]; POINTS];
        for (vertical, horizontal) in pairs(vertical, horizontal) {
            let component = vertical * POINTS + horizontal;
            let offset = layout.slot(component, usize::from(slots[component]));
            // SAFETY: within the transformed input.
            targets[vertical][horizontal] = unsafe { to.add(offset) };
        }
        // SAFETY: each pixel has `channels` elements, a multiple of 16, and so have the slots.
        unsafe {
            match (vertical.len, horizontal.len) {
                (4, 4) => input_tile::<6, 6>(&pixels, &targets, channels),
                (4, 3) => input_tile::<6, 5>(&pixels, &targets, channels),
                (4, _) => input_tile::<6, 4>(&pixels, &targets, channels),
                (3, 4) => input_tile::<5, 6>(&pixels, &targets, channels),
                (3, 3) => input_tile::<5, 5>(&pixels, &targets, channels),
                (3, _) => input_tile::<5, 4>(&pixels, &targets, channels),
                (_, 4) => input_tile::<4, 6>(&pixels, &targets, channels),
                (_, 3) => input_tile::<4, 5>(&pixels, &targets, channels),
                _ => input_tile::<4, 4>(&pixels, &targets, channels),
            }
        }
    }

    /// Transforms, requantises and stores the output of one tile, 16 channels.
    ///
    /// # Safety
    /// The products of the tile are complete, the buffers have their lengths, and no other
    /// part writes these pixels of these channels.
    #[allow(clippy::too_many_arguments)]
    unsafe fn transform_output(
        &self,
        column: usize,
        vertical: Segment,
        horizontal: Segment,
        slots: &[u16; COMPONENTS],
        layout: &Layout,
        products: *const i32,
        buffers: &Buffers<'_>,
    ) {
        let [_, width, channels] = self.shape.output();
        let channel = column * COLUMNS;
        let mut sources = [[core::ptr::null(); POINTS]; POINTS];
        for (vertical, horizontal) in pairs(vertical, horizontal) {
            let component = vertical * POINTS + horizontal;
            let slot = component * layout.tiles + usize::from(slots[component]);
            // SAFETY: within the products.
            sources[vertical][horizontal] = unsafe { products.add(slot * COLUMNS) };
        }
        let offset = (vertical.start * width + horizontal.start) * channels + channel;
        // SAFETY: 16 channels of bias and multiplier, and of each pixel of the tile.
        unsafe {
            let tile = Tile {
                panel: core::ptr::null(),
                weights: core::ptr::null(),
                depth: 0,
                rows: horizontal.len,
                bias: self.bias.as_ptr().add(channel),
                multiplier: self.multiplier.as_ptr().add(channel),
                shift: self.shift,
                residual: buffers
                    .residual
                    .map_or(core::ptr::null(), |residual| residual.as_ptr().add(offset)),
                residual_multiplier: self.residual_multiplier,
                output: buffers.output.get().add(offset),
                stride: channels,
            };
            let next_row = width * channels;
            match (vertical.len, horizontal.len) {
                (4, 4) => output_tile::<6, 4, 6, 4>(&sources, tile, next_row),
                (4, 3) => output_tile::<6, 4, 5, 3>(&sources, tile, next_row),
                (4, _) => output_tile::<6, 4, 4, 2>(&sources, tile, next_row),
                (3, 4) => output_tile::<5, 3, 6, 4>(&sources, tile, next_row),
                (3, 3) => output_tile::<5, 3, 5, 3>(&sources, tile, next_row),
                (3, _) => output_tile::<5, 3, 4, 2>(&sources, tile, next_row),
                (_, 4) => output_tile::<4, 2, 6, 4>(&sources, tile, next_row),
                (_, 3) => output_tile::<4, 2, 5, 3>(&sources, tile, next_row),
                _ => output_tile::<4, 2, 4, 2>(&sources, tile, next_row),
            }
        }
    }
}

/// The points of a tile.
fn pairs(vertical: Segment, horizontal: Segment) -> impl Iterator<Item = (usize, usize)> {
    let horizontal = horizontal.points();
    vertical.points().iter().flat_map(move |&v| horizontal.iter().map(move |&h| (v, h)))
}

impl Body for Winograd {
    fn kernel(&self) -> &'static str {
        crate::dispatch::NEON_MLAL_WINOGRAD
    }

    fn scratch_len(&self, threads: usize) -> usize {
        let plan = self.plan(threads);
        plan.parts() * plan.layout.bytes + ALIGNMENT - 1
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        input: &[i8],
        residual: Option<&[i8]>,
        output: &mut [i8],
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let plan = self.plan(parallel.threads());
        let scratch = Shared::new(align(scratch, plan.parts() * plan.layout.bytes)?);
        let buffers = Buffers { input, residual, output: Shared::new(output) };
        run_parts(parallel, plan.parts(), &|part| {
            // SAFETY: the lengths were checked by the caller, each part runs once, writes its
            // own pixels and channels, and has its own scratch memory.
            unsafe { self.part(&plan, part, &buffers, scratch.get().add(part * plan.layout.bytes)) };
        });
        Ok(())
    }
}

/// How a layer is cut into parts.
struct Plan {
    tiles: usize,
    /// Column blocks.
    columns: usize,
    tile_parts: usize,
    column_parts: usize,
    layout: Layout,
}

impl Plan {
    fn parts(&self) -> usize {
        self.tile_parts * self.column_parts
    }
}

/// Where things lie in the scratch memory of a part, in bytes: first, for each tile of a
/// block, its slot in each component.
struct Layout {
    /// Tiles of a block.
    tiles: usize,
    /// Elements of six slots.
    group: usize,
    /// Transformed input: `[component][tiles / 6][input channels / 8][6 tiles][8]` of i16.
    input: usize,
    /// Transformed weights: `[input channels of a block / 8][component][8][16]` of i16.
    weights: usize,
    /// Products: `[component][tile][16]` of i32.
    products: usize,
    bytes: usize,
}

impl Layout {
    fn new(tiles: usize, inputs: usize) -> Self {
        let aligned = |bytes: usize| bytes.next_multiple_of(ALIGNMENT);
        let group = inputs * ROWS;
        let input = aligned(tiles * size_of::<[u16; COMPONENTS]>());
        let weights = input + aligned(COMPONENTS * tiles.div_ceil(ROWS) * group * size_of::<i16>());
        let products = weights + COMPONENTS * DEPTH_BLOCK.min(inputs) * COLUMNS * size_of::<i16>();
        let bytes = products + COMPONENTS * tiles * COLUMNS * size_of::<i32>();
        Self { tiles, group, input, weights, products, bytes }
    }

    /// The first element of a slot of transformed input.
    fn slot(&self, component: usize, slot: usize) -> usize {
        (component * self.tiles.div_ceil(ROWS) + slot / ROWS) * self.group + slot % ROWS * 8
    }
}

/// What the parts of a layer read and write.
struct Buffers<'a> {
    input: &'a [i8],
    residual: Option<&'a [i8]>,
    output: Shared<i8>,
}

/// Transforms the input of a tile at `V` x `H` points.
///
/// # Safety
/// The first `V` x `H` pixels have `channels` elements, a multiple of 16; the targets of the
/// points are slots for as many.
unsafe fn input_tile<const V: usize, const H: usize>(
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
unsafe fn transform_weights(weights: &[i8], to: *mut i16) {
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
/// residual and output, for `A` rows of `B` pixels, `next_row` apart.
unsafe fn output_tile<const V: usize, const A: usize, const H: usize, const B: usize>(
    sources: &[[*const i32; POINTS]; POINTS],
    mut tile: Tile,
    next_row: usize,
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
            tile.output = tile.output.wrapping_add(next_row);
            if !tile.residual.is_null() {
                tile.residual = tile.residual.wrapping_add(next_row);
            }
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

/// One input channel: `$rows` are transformed inputs and four accumulators of each tile.
macro_rules! channel {
    ($lane:literal, $([$activation:tt $a:tt $b:tt $c:tt $d:tt])*) => {
        concat!(
            "ldp q6, q7, [{weights}], #32\n",
            $("smlal ", $a, ".4s, v6.4h, ", $activation, ".h[", $lane, "]\n",)*
            $("smlal2 ", $b, ".4s, v6.8h, ", $activation, ".h[", $lane, "]\n",)*
            $("smlal ", $c, ".4s, v7.4h, ", $activation, ".h[", $lane, "]\n",)*
            $("smlal2 ", $d, ".4s, v7.8h, ", $activation, ".h[", $lane, "]\n",)*
        )
    };
}

macro_rules! product {
    (
        $name:ident, $count:literal, [$($load:literal)*],
        $([$index:literal $activation:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        /// # Safety
        /// As [`multiply`].
        unsafe fn $name(input: *const i16, weights: *const i16, channels: usize, products: *mut i32, add: bool) {
            // SAFETY: as stated.
            unsafe {
                let mut rows = [[vdupq_n_s32(0); 4]; $count];
                if add {
                    for (index, vector) in rows.as_flattened_mut().iter_mut().enumerate() {
                        *vector = vld1q_s32(products.add(index * 4));
                    }
                }
                asm!(
                    "2:",
                    $($load, "\n",)*
                    channel!("0", $([$activation $a $b $c $d])*),
                    channel!("1", $([$activation $a $b $c $d])*),
                    channel!("2", $([$activation $a $b $c $d])*),
                    channel!("3", $([$activation $a $b $c $d])*),
                    channel!("4", $([$activation $a $b $c $d])*),
                    channel!("5", $([$activation $a $b $c $d])*),
                    channel!("6", $([$activation $a $b $c $d])*),
                    channel!("7", $([$activation $a $b $c $d])*),
                    "add {weights}, {weights}, {next}",
                    "subs {steps}, {steps}, #1",
                    "b.ne 2b",
                    input = inout(reg) input => _,
                    weights = inout(reg) weights => _,
                    steps = inout(reg) channels / 8 => _,
                    // From the end of one component to the next 8 channels of it.
                    next = in(reg) (COMPONENTS - 1) * 8 * COLUMNS * size_of::<i16>(),
                    $(
                        inout($a) rows[$index][0],
                        inout($b) rows[$index][1],
                        inout($c) rows[$index][2],
                        inout($d) rows[$index][3],
                    )*
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nostack, readonly),
                );
                for (index, vector) in rows.as_flattened().iter().enumerate() {
                    vst1q_s32(products.add(index * 4), *vector);
                }
            }
        }
    };
}

product!(product_6, 6, ["ldp q0, q1, [{input}], #96" "ldp q2, q3, [{input}, #-64]" "ldp q4, q5, [{input}, #-32]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]
    [4 "v4" "v24" "v25" "v26" "v27"]
    [5 "v5" "v28" "v29" "v30" "v31"]);
product!(product_5, 5, ["ldp q0, q1, [{input}], #96" "ldp q2, q3, [{input}, #-64]" "ldr q4, [{input}, #-32]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]
    [4 "v4" "v24" "v25" "v26" "v27"]);
product!(product_4, 4, ["ldp q0, q1, [{input}], #96" "ldp q2, q3, [{input}, #-64]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]);
product!(product_3, 3, ["ldp q0, q1, [{input}], #96" "ldr q2, [{input}, #-64]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]);
product!(product_2, 2, ["ldp q0, q1, [{input}], #96"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]);
product!(product_1, 1, ["ldr q0, [{input}], #96"],
    [0 "v0" "v8" "v9" "v10" "v11"]);

/// The products of `rows` tiles with 16 output channels, summed over the input channels.
///
/// # Safety
/// `input` has `channels / 8` times `[6 tiles][8]`, `weights` a component of `[8][16]` for each
/// 8 channels, and
/// `products` `rows` times 16, initialised where they are to be added to; `channels` is a
/// positive multiple of 8.
unsafe fn multiply(
    rows: usize,
    input: *const i16,
    weights: *const i16,
    channels: usize,
    products: *mut i32,
    add: bool,
) {
    // SAFETY: passed on.
    unsafe {
        match rows {
            6.. => product_6(input, weights, channels, products, add),
            5 => product_5(input, weights, channels, products, add),
            4 => product_4(input, weights, channels, products, add),
            3 => product_3(input, weights, channels, products, add),
            2 => product_2(input, weights, channels, products, add),
            _ => product_1(input, weights, channels, products, add),
        }
    }
}
