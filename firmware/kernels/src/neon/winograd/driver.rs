//! Runs a layer: parts, blocks of tiles, columns, depth.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::products::multiply;
use super::scratch::{DEPTH_BLOCK, Layout, ROWS, Scratch};
use super::transforms::{input_tile, output_tile, transform_weights};
use crate::buffers::Buffers;
use crate::convolution::choose::Target;
use crate::convolution::packed::PackedConvolution;
use crate::convolution::tiled::Tile;
use crate::convolution::winograd::{
    COLUMNS, COMPONENTS, POINTS, Segment, TRANSFORM_INPUT, TRANSFORM_OUTPUT, TRANSFORM_WEIGHT, block_tiles,
    products,
};
use crate::geometry::Windows;
use crate::parts::{Axis, CACHE_LINE, Grid, MAX_PARTS, Residual, run_parts_with_scratch, scratch_len};
use crate::requantise::Requantisation;
use crate::{
    CacheSizes, ConvolutionParameters, ConvolutionShape, KernelError, Parallel, Strided, StridedMut,
};

/// A convolution whose products are taken at points.
#[derive(Debug)]
struct Winograd {
    kernel: &'static str,
    caches: CacheSizes,
    windows: Windows,
    /// Output rows of the tiles.
    vertical: Vec<Segment>,
    /// Output columns of the tiles.
    horizontal: Vec<Segment>,
    /// `[column block][input channel][3][3][16]`.
    weights: Arc<[i8]>,
    requantisation: Arc<Requantisation>,
}

/// Packs the weights; [`WINOGRAD`](crate::convolution::winograd::WINOGRAD) says that they can be.
#[allow(clippy::unnecessary_wraps, reason = "other kernels need a CPU that has their instructions")]
pub(crate) fn pack(
    target: Target,
    parameters: &ConvolutionParameters<'_>,
) -> Option<Box<dyn PackedConvolution>> {
    let [height, width, _] = parameters.shape.output();
    Some(Box::new(Winograd {
        kernel: target.kernel,
        caches: target.caches,
        windows: parameters.windows(),
        vertical: Segment::cut(height),
        horizontal: Segment::cut(width),
        weights: pack_weights(parameters).into(),
        requantisation: Arc::new(parameters.requantisation()),
    }))
}

/// `[column block][input channel][3][3][16]`.
fn pack_weights(parameters: &ConvolutionParameters<'_>) -> Vec<i8> {
    let inputs = parameters.shape.input[2];
    let mut packed = alloc::vec![0; parameters.weights.len()];
    let blocks = packed.chunks_exact_mut(inputs * 9 * COLUMNS);
    let rows = parameters.weights.chunks_exact(COLUMNS * 9 * inputs);
    for (packed, rows) in blocks.zip(rows) {
        for (place, row) in rows.chunks_exact(9 * inputs).enumerate() {
            for (tap, weights) in row.chunks_exact(inputs).enumerate() {
                let to = packed[tap * COLUMNS + place..].iter_mut().step_by(9 * COLUMNS);
                to.zip(weights).for_each(|(to, &weight)| *to = weight);
            }
        }
    }
    packed
}

impl Winograd {
    fn plan(&self, threads: usize) -> Plan {
        let shape = &self.windows.shape;
        let tiles = self.vertical.len() * self.horizontal.len();
        let (inputs, columns) = (shape.input[2], shape.output_channels / COLUMNS);
        let threads = threads.clamp(1, MAX_PARTS);
        let fitting = block_tiles(self.caches, threads, inputs);
        let whole = |len| Axis { len, unit: 1, parts: 1 };
        // Columns are cut between cache lines, so that no two threads write into one.
        let column_unit =
            if shape.output_channels.is_multiple_of(CACHE_LINE) { CACHE_LINE / COLUMNS } else { 1 };
        let grids = (1..=threads).map(|column_parts| Grid {
            rows: whole(tiles).cut(1, threads / column_parts),
            columns: whole(columns).cut(column_unit, column_parts),
        });
        // The instructions of the largest part: its inputs, its weights, its products and outputs.
        let cost = |grid: &Grid| {
            let (tiles, columns) = (grid.rows.most(), grid.columns.most());
            let weights = tiles.div_ceil(fitting) * columns * inputs * COLUMNS * TRANSFORM_WEIGHT;
            let outputs = columns * COLUMNS * (products(COMPONENTS * inputs) + TRANSFORM_OUTPUT);
            weights + tiles * (inputs * TRANSFORM_INPUT + outputs)
        };
        let grid = grids.min_by_key(cost).unwrap_or(Grid { rows: whole(tiles), columns: whole(columns) });
        let most = grid.rows.most();
        let block = most.div_ceil(most.div_ceil(fitting));
        Plan { grid, layout: Layout::new(block, inputs) }
    }

    fn tile(&self, index: usize) -> (Segment, Segment) {
        (self.vertical[index / self.horizontal.len()], self.horizontal[index % self.horizontal.len()])
    }

    /// Computes one part.
    ///
    /// # Safety
    /// The buffers have the lengths that the shape asks for, no other part with this index
    /// runs or has run, and `scratch` is good for `plan.layout.bytes`, 64-byte aligned.
    unsafe fn part(&self, plan: &Plan, index: usize, buffers: &Buffers<'_>, scratch: *mut u8) {
        let (tiles, columns) = plan.grid.part(index);
        // SAFETY: as stated.
        let scratch = unsafe { Scratch::new(&plan.layout, scratch) };
        let mut start = tiles.start;
        while start < tiles.end {
            let block = start..(start + plan.layout.tiles).min(tiles.end);
            start = block.end;
            // SAFETY: a block has at most `layout.tiles` tiles; the products of a column are complete
            // before its outputs, and no other part writes these pixels of these channels.
            unsafe {
                let counts = self.transform_inputs(block.clone(), buffers.input, scratch);
                for column in columns.clone() {
                    self.multiply_column(column, &counts, scratch);
                    for tile in block.clone() {
                        self.transform_output(column, tile, tile - block.start, buffers, scratch);
                    }
                }
            }
        }
    }

    /// Transforms the input of a block of tiles, and gives the number of slots of each component.
    ///
    /// # Safety
    /// The input has its length; a block has at most `layout.tiles` tiles.
    unsafe fn transform_inputs(
        &self,
        block: Range<usize>,
        input: Strided<'_>,
        scratch: Scratch<'_>,
    ) -> [u16; COMPONENTS] {
        let mut counts = [0u16; COMPONENTS];
        for (index, tile) in block.enumerate() {
            let (vertical, horizontal) = self.tile(tile);
            let mut own = [0u16; COMPONENTS];
            for (vertical, horizontal) in pairs(vertical, horizontal) {
                let component = vertical * POINTS + horizontal;
                own[component] = counts[component];
                counts[component] += 1;
            }
            // SAFETY: transformed input has room for each tile in each component.
            unsafe {
                scratch.slots.add(index).write(own);
                self.transform_input(input, vertical, horizontal, &own, scratch);
            }
        }
        counts
    }

    /// Multiplies the transformed input of a block with the weights of a column block.
    ///
    /// # Safety
    /// The slots of each component, `counts` of them, are transformed.
    unsafe fn multiply_column(&self, column: usize, counts: &[u16; COMPONENTS], scratch: Scratch<'_>) {
        let inputs = self.windows.shape.input[2];
        for depth in (0..inputs).step_by(DEPTH_BLOCK) {
            let channels = DEPTH_BLOCK.min(inputs - depth);
            let packed = &self.weights[(column * inputs + depth) * 9 * COLUMNS..][..channels * 9 * COLUMNS];
            // SAFETY: transformed weights have room for `DEPTH_BLOCK` channels; the product reads what
            // was transformed and writes the slots of the block.
            unsafe {
                transform_weights(packed, scratch.weights);
                for (component, &count) in counts.iter().enumerate() {
                    let count = usize::from(count);
                    for first in (0..count).step_by(ROWS) {
                        multiply(
                            ROWS.min(count - first),
                            scratch.input.add(scratch.layout.input(component, first) + depth * ROWS),
                            scratch.weights.add(component * 8 * COLUMNS),
                            channels,
                            scratch.products.add(scratch.layout.products(component, first)),
                            depth > 0,
                        );
                    }
                }
            }
        }
    }

    /// Transforms the input of one tile, all channels.
    ///
    /// # Safety
    /// The input has its length; the slots are within the scratch memory.
    unsafe fn transform_input(
        &self,
        input: Strided<'_>,
        vertical: Segment,
        horizontal: Segment,
        slots: &[u16; COMPONENTS],
        scratch: Scratch<'_>,
    ) {
        let channels = self.windows.shape.input[2];
        let mut pixels = [[core::ptr::null(); POINTS]; POINTS];
        for (row, pixels) in pixels.iter_mut().enumerate() {
            let y = self.windows.position(0, vertical.start, row);
            for (column, pixel) in pixels.iter_mut().enumerate() {
                let x = self.windows.position(1, horizontal.start, column);
                *pixel = self.windows.channels(input, [y, x], 0..channels).as_ptr();
            }
        }
        let mut targets = [[core::ptr::null_mut(); POINTS]; POINTS];
        for (vertical, horizontal) in pairs(vertical, horizontal) {
            let component = vertical * POINTS + horizontal;
            let offset = scratch.layout.input(component, usize::from(slots[component]));
            // SAFETY: within the transformed input.
            targets[vertical][horizontal] = unsafe { scratch.input.add(offset) };
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

    /// Transforms, requantises and stores the output of one tile, the `index`th of its block, 16 channels.
    ///
    /// # Safety
    /// The products of the tile are complete, the buffers have their lengths, and no other
    /// part writes these pixels of these channels.
    unsafe fn transform_output(
        &self,
        column: usize,
        tile: usize,
        index: usize,
        buffers: &Buffers<'_>,
        scratch: Scratch<'_>,
    ) {
        let (vertical, horizontal) = self.tile(tile);
        let [_, width, _] = self.windows.shape.output();
        let channel = column * COLUMNS;
        // SAFETY: written when the input of the tile was transformed.
        let slots = unsafe { &*scratch.slots.add(index) };
        let mut sources = [[core::ptr::null(); POINTS]; POINTS];
        for (vertical, horizontal) in pairs(vertical, horizontal) {
            let component = vertical * POINTS + horizontal;
            let offset = scratch.layout.products(component, usize::from(slots[component]));
            // SAFETY: within the products.
            sources[vertical][horizontal] = unsafe { scratch.products.add(offset).cast_const() };
        }
        let pixel = vertical.start * width + horizontal.start;
        let (residual, residual_stride) = buffers.residual(pixel, channel);
        // SAFETY: 16 channels of bias and multiplier, and of each pixel of the tile.
        unsafe {
            let tile = Tile {
                panel: core::ptr::null(),
                weights: core::ptr::null(),
                depth: 0,
                rows: horizontal.len,
                columns: COLUMNS,
                bias: self.requantisation.bias.as_ptr().add(channel),
                multiplier: self.requantisation.multiplier.as_ptr().add(channel),
                shift: self.requantisation.shift,
                residual,
                residual_multiplier: self.requantisation.residual_multiplier,
                output: buffers.output.get().add(pixel * buffers.output_stride + channel),
                stride: buffers.output_stride,
                residual_stride,
            };
            match (vertical.len, horizontal.len) {
                (4, 4) => output_tile::<6, 4, 6, 4>(&sources, tile, width),
                (4, 3) => output_tile::<6, 4, 5, 3>(&sources, tile, width),
                (4, _) => output_tile::<6, 4, 4, 2>(&sources, tile, width),
                (3, 4) => output_tile::<5, 3, 6, 4>(&sources, tile, width),
                (3, 3) => output_tile::<5, 3, 5, 3>(&sources, tile, width),
                (3, _) => output_tile::<5, 3, 4, 2>(&sources, tile, width),
                (_, 4) => output_tile::<4, 2, 6, 4>(&sources, tile, width),
                (_, 3) => output_tile::<4, 2, 5, 3>(&sources, tile, width),
                _ => output_tile::<4, 2, 4, 2>(&sources, tile, width),
            }
        }
    }
}

/// The points of a tile.
fn pairs(vertical: Segment, horizontal: Segment) -> impl Iterator<Item = (usize, usize)> {
    let horizontal = horizontal.points();
    vertical.points().iter().flat_map(move |&v| horizontal.iter().map(move |&h| (v, h)))
}

impl PackedConvolution for Winograd {
    fn kernel(&self) -> &'static str {
        self.kernel
    }

    fn with_rows(&self, shape: ConvolutionShape) -> Option<Box<dyn PackedConvolution>> {
        let [height, _, _] = shape.output();
        // No segment is shorter than 2.
        (height >= 2).then(|| -> Box<dyn PackedConvolution> {
            Box::new(Self {
                kernel: self.kernel,
                caches: self.caches,
                vertical: Segment::cut(height),
                horizontal: self.horizontal.clone(),
                windows: self.windows.with_shape(shape),
                weights: Arc::clone(&self.weights),
                requantisation: Arc::clone(&self.requantisation),
            })
        })
    }

    fn row_unit(&self) -> Option<usize> {
        Some(POINTS - 2)
    }

    fn adds_in_place(&self) -> bool {
        true
    }

    fn scratch_len(&self, threads: usize) -> usize {
        let plan = self.plan(threads);
        scratch_len(plan.grid.parts(), plan.layout.bytes)
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        output: StridedMut<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let plan = self.plan(parallel.threads());
        let buffers = Buffers::new(input, residual, output);
        let (parts, bytes) = (plan.grid.parts(), plan.layout.bytes);
        run_parts_with_scratch(parallel, parts, bytes, scratch, &|part, scratch| {
            // SAFETY: the lengths were checked by the caller, each part runs once, writes its
            // own pixels and channels, and has its own scratch memory.
            unsafe { self.part(&plan, part, &buffers, scratch) };
        })
    }
}

/// How a layer is cut into parts of tiles and column blocks, and each into blocks.
struct Plan {
    grid: Grid,
    layout: Layout,
}
