//! The driver of every tiled kernel: packing, blocking, groups, threads, ragged edges.
//!
//! A convolution is a matrix product: output pixels x depth times depth x output channels,
//! where depth runs over `[kernel y][kernel x][input channel]`. A [`Microkernel`] computes a
//! tile of `ROWS` pixels x `COLUMNS` channels over the whole depth, epilogue included.
//!
//! The rows of a tile are first packed into a *panel*, exactly in the order in which the
//! micro-kernel reads them. A block of panels stays in the second-level cache while all
//! weights pass by once: weights are what a residual network has most of, and on a small
//! board they come from DRAM.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arithmetic::accumulator_bound;
use crate::convolution::Body;
use crate::{CacheSizes, ConvolutionParameters, ConvolutionShape, KernelError, Parallel};

/// The most bytes of panels, output and residual that stay while the weights pass by; the
/// figures for x86 were taken with it.
const MAX_BLOCK_BYTES: usize = 256 << 10;
/// Parts of a layer are claimed in one `u64`.
const MAX_PARTS: usize = 64;
/// No tile has more rows: bounds the arrays on the stack.
const MAX_ROWS: usize = 16;
/// No tile has more columns.
const MAX_COLUMNS: usize = 64;
/// Where packed data starts: a cache line, and the largest vector.
const ALIGNMENT: usize = 64;

/// One tile kernel of an instruction set.
///
/// A value can only be made by [`new`](Self::new), which asks the CPU: owning one proves
/// that the CPU has the instructions.
pub(crate) trait Microkernel: Copy + Debug + Send + Sync + 'static {
    /// Output pixels of a tile.
    const ROWS: usize;
    /// Output channels of a tile.
    const COLUMNS: usize;
    /// The depth is padded to a multiple of this with zero weights.
    const DEPTH: usize;
    /// Bytes of a packed activation.
    const ACTIVATION_BYTES: usize = 1;
    /// Bytes of a packed weight.
    const WEIGHT_BYTES: usize = 1;
    /// What packing adds to an activation: 128 where the instruction multiplies unsigned
    /// bytes. The driver takes it out of the bias again.
    const ACTIVATION_OFFSET: i32 = 0;

    /// The kernel, when the running CPU has its instructions.
    fn new() -> Option<Self>;

    /// Row tiles that stay in the caches while `weights` bytes pass by, with so many threads. Each
    /// has a panel of `panel` bytes and writes and reads `touched` bytes of output and residual.
    fn block_tiles(
        caches: CacheSizes,
        threads: usize,
        panel: usize,
        touched: usize,
        _weights: usize,
    ) -> usize {
        (caches.l2_share(threads) / 2).min(MAX_BLOCK_BYTES) / (panel + touched)
    }

    /// Packs the weights of one column tile, `weight(k, column)`, for `k` below `depth` (a
    /// multiple of `DEPTH`), into `depth * COLUMNS * WEIGHT_BYTES` bytes.
    fn pack_weights(weight: &dyn Fn(usize, usize) -> i8, depth: usize, packed: &mut [u8]);

    /// Rewrites a layer's multipliers and shift into what [`tile`](Self::tile) reads. No accumulator
    /// is larger than `bound`.
    fn prepare_scale(_multiplier: &mut [i32], shift: u32, _bound: i64) -> u32 {
        shift
    }

    /// Packs `depth` (a multiple of `DEPTH`) activations of each row into
    /// `depth * ROWS * ACTIVATION_BYTES` bytes at `panel`. The panel of a longer row is the
    /// concatenation of the panels of its segments.
    ///
    /// # Safety
    /// `rows` has `ROWS` pointers, each good for reading `depth` bytes; `panel`, aligned to
    /// `DEPTH` bytes, is good for writing all of its bytes.
    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8);

    /// Computes one tile and stores it.
    ///
    /// # Safety
    /// Everything [`Tile`] says about its fields holds.
    unsafe fn tile(self, tile: &Tile);

    /// Computes `tiles` tiles of `ROWS` rows, one below the other, their panels one after the
    /// other.
    ///
    /// # Safety
    /// As [`tile`](Self::tile) for each of them.
    #[inline(always)]
    unsafe fn sweep(self, tile: &Tile, tiles: usize) {
        let mut tile = *tile;
        for _ in 0..tiles {
            // SAFETY: passed on.
            unsafe { self.tile(&tile) };
            tile.panel = tile.panel.wrapping_add(tile.depth * Self::ROWS * Self::ACTIVATION_BYTES);
            tile.output = tile.output.wrapping_add(Self::ROWS * tile.stride);
            if !tile.residual.is_null() {
                tile.residual = tile.residual.wrapping_add(Self::ROWS * tile.stride);
            }
        }
    }
}

/// What a micro-kernel needs for one tile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// A whole panel of `depth`, from `pack_rows`, whatever `rows` is.
    pub(crate) panel: *const u8,
    /// A column tile of `depth`, from `pack_weights`, 64-byte aligned.
    pub(crate) weights: *const u8,
    /// A positive multiple of `DEPTH`.
    pub(crate) depth: usize,
    /// Rows to store: 1 to `ROWS`.
    pub(crate) rows: usize,
    /// `COLUMNS` of them.
    pub(crate) bias: *const i32,
    /// `COLUMNS` of them.
    pub(crate) multiplier: *const i32,
    /// Left shift of the accumulators, mostly 0, or what `prepare_scale` made of it.
    pub(crate) shift: u32,
    /// The first of `rows` rows of `COLUMNS` elements, or null.
    pub(crate) residual: *const i8,
    /// Q8.
    pub(crate) residual_multiplier: i32,
    /// The first of `rows` rows of `COLUMNS` elements.
    pub(crate) output: *mut i8,
    /// From a row of output, and of residual, to the next.
    pub(crate) stride: usize,
}

/// A convolution packed for a micro-kernel.
#[derive(Debug)]
pub(crate) struct Tiled<M> {
    microkernel: M,
    name: &'static str,
    shape: ConvolutionShape,
    caches: CacheSizes,
    /// Output `[height, width]`.
    output: [usize; 2],
    /// Rows and columns of the image that a window covers, from its first tap to its last.
    window: [usize; 2],
    /// Groups after merging small ones.
    groups: usize,
    /// Input channels of a merged group.
    group_inputs: usize,
    /// Output channels of a merged group.
    group_outputs: usize,
    /// Depth of a merged group, padded.
    depth: usize,
    /// Column tiles of a group.
    column_tiles: usize,
    /// `[group][column tile]`, each as the micro-kernel packs it.
    weights: Lines,
    /// `[group][column tile][COLUMNS]`.
    bias: Vec<i32>,
    /// `[group][column tile][COLUMNS]`.
    multiplier: Vec<i32>,
    shift: u32,
    residual_multiplier: i32,
    padding_value: Vec<i8>,
}

impl<M: Microkernel> Tiled<M> {
    /// Packs the weights; the parameters have been validated.
    pub(crate) fn new(
        microkernel: M,
        name: &'static str,
        parameters: &ConvolutionParameters<'_>,
        caches: CacheSizes,
    ) -> Self {
        const {
            assert!(M::ROWS <= MAX_ROWS && M::COLUMNS <= MAX_COLUMNS && M::DEPTH <= ALIGNMENT);
        }
        let shape = parameters.shape.clone();
        let merged = merged_groups(&shape, M::COLUMNS);
        let groups = shape.groups / merged;
        let group_inputs = shape.group_channels() * merged;
        let group_outputs = shape.output_channels / groups;
        let taps = shape.kernel[0] * shape.kernel[1];
        let depth = (taps * group_inputs).next_multiple_of(M::DEPTH);
        let column_tiles = group_outputs.div_ceil(M::COLUMNS);

        let tile_bytes = depth * M::COLUMNS * M::WEIGHT_BYTES;
        let tiles = groups * column_tiles;
        let mut weights = Lines::new(tiles * tile_bytes.next_multiple_of(ALIGNMENT));
        let mut bias = vec![0; tiles * M::COLUMNS];
        let mut multiplier = vec![0; tiles * M::COLUMNS];
        let mut bound = 0;
        for index in 0..tiles {
            let (group, first) = (index / column_tiles, index % column_tiles * M::COLUMNS);
            let channel =
                |column| (first + column < group_outputs).then_some(group * group_outputs + first + column);
            let weight = |k: usize, column: usize| {
                let Some(output) = channel(column).filter(|_| k < taps * group_inputs) else { return 0 };
                let (tap, input) = (k / group_inputs, group * group_inputs + k % group_inputs);
                let channels = shape.group_channels();
                // Merged groups are a block-diagonal matrix.
                if input / channels == output / (shape.output_channels / shape.groups) {
                    parameters.weights[output * shape.depth() + tap * channels + input % channels]
                } else {
                    0
                }
            };
            let start = index * tile_bytes.next_multiple_of(ALIGNMENT);
            M::pack_weights(&weight, depth, &mut weights.bytes_mut()[start..start + tile_bytes]);
            for column in 0..M::COLUMNS {
                let Some(output) = channel(column) else { break };
                let row = &parameters.weights[output * shape.depth()..][..shape.depth()];
                let sum: i32 = row.iter().map(|&w| i32::from(w)).sum();
                // Wraps where the accumulator wraps as well: the result is exact.
                let offset = M::ACTIVATION_OFFSET.wrapping_mul(sum);
                bias[index * M::COLUMNS + column] = parameters.bias[output].wrapping_sub(offset);
                multiplier[index * M::COLUMNS + column] = parameters.multiplier[output];
                bound = bound.max(accumulator_bound(row.iter().copied(), parameters.bias[output]));
            }
        }
        let shift = M::prepare_scale(&mut multiplier, parameters.shift, bound);
        Self {
            microkernel,
            name,
            caches,
            output: [shape.output()[0], shape.output()[1]],
            window: [0, 1].map(|axis| shape.dilation[axis] * (shape.kernel[axis] - 1) + 1),
            groups,
            group_inputs,
            group_outputs,
            depth,
            column_tiles,
            weights,
            bias,
            multiplier,
            shift,
            residual_multiplier: parameters.residual_multiplier.unwrap_or(0),
            padding_value: parameters.padding_value.to_vec(),
            shape,
        }
    }

    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Bytes of the panel of one tile.
    fn panel_bytes(&self) -> usize {
        self.depth * M::ROWS * M::ACTIVATION_BYTES
    }

    /// Bytes of the rows that are gathered before they are packed.
    fn gather_bytes(&self) -> usize {
        if self.gathers() { M::ROWS * self.depth } else { 0 }
    }

    /// Whether the channels of a tap are no whole number of depth steps, so that rows must
    /// first be gathered into contiguous memory.
    fn gathers(&self) -> bool {
        !self.group_inputs.is_multiple_of(M::DEPTH)
    }

    /// How a layer is cut for so many threads.
    fn plan(&self, threads: usize) -> Plan {
        let rows = self.pixels().div_ceil(M::ROWS);
        let columns = self.groups * self.column_tiles;
        let threads = threads.clamp(1, MAX_PARTS);
        // The most balanced grid; with equal balance the one that packs fewest pixels twice.
        let (row_parts, column_parts) = (1..=threads)
            .map(|column_parts| (threads / column_parts, column_parts))
            .min_by_key(|&(r, c)| {
                let pixels = (rows.div_ceil(r) * M::ROWS).min(self.pixels());
                (pixels * columns.div_ceil(c), c)
            })
            .unwrap_or((1, 1));
        let (row_parts, column_parts) = (row_parts.min(rows), column_parts.min(columns));
        let most = rows.div_ceil(row_parts);
        // What a row tile touches in a column part, besides its panel: output and residual.
        let columns_bytes = self.shape.output_channels.div_ceil(column_parts);
        let touched = M::ROWS * columns_bytes * if self.residual_multiplier > 0 { 2 } else { 1 };
        let weights = columns * self.depth * M::COLUMNS * M::WEIGHT_BYTES;
        let fitting =
            M::block_tiles(self.caches, threads, self.panel_bytes(), touched, weights).clamp(1, most);
        let block = most.div_ceil(most.div_ceil(fitting));
        let part_bytes = (block * self.panel_bytes() + self.gather_bytes()).next_multiple_of(ALIGNMENT);
        Plan { rows, columns, row_parts, column_parts, block, part_bytes }
    }

    /// Computes one part.
    ///
    /// # Safety
    /// The buffers have the lengths that the shape asks for, no other part with this index
    /// runs or has run, and `scratch` is good for `plan.part_bytes` bytes, 64-byte aligned.
    unsafe fn part(&self, plan: &Plan, index: usize, buffers: &Buffers<'_>, scratch: *mut u8) {
        let share = |part: usize, parts: usize, all: usize| part * all / parts..(part + 1) * all / parts;
        let rows = share(index / plan.column_parts, plan.row_parts, plan.rows);
        let columns = share(index % plan.column_parts, plan.column_parts, plan.columns);
        let pixels = self.pixels();
        let panel_bytes = self.panel_bytes();
        let tile_bytes = (self.depth * M::COLUMNS * M::WEIGHT_BYTES).next_multiple_of(ALIGNMENT);
        // SAFETY: the gathered rows lie behind the panels, within `part_bytes`.
        let gathered = unsafe { scratch.add(plan.block * panel_bytes) }.cast::<i8>();
        let mut block_start = rows.start;
        while block_start < rows.end {
            let block = block_start..(block_start + plan.block).min(rows.end);
            block_start = block.end;
            let mut column = columns.start;
            while column < columns.end {
                let group = column / self.column_tiles;
                let group_end = ((group + 1) * self.column_tiles).min(columns.end);
                for row in block.clone() {
                    let first = row * M::ROWS;
                    let count = M::ROWS.min(pixels - first);
                    // SAFETY: a block has at most `plan.block` panels.
                    unsafe {
                        let panel = scratch.add((row - block.start) * panel_bytes);
                        self.pack_panel(buffers.input, group, first..first + count, gathered, panel);
                    }
                }
                for column in column..group_end {
                    let channel = column % self.column_tiles * M::COLUMNS;
                    let width = M::COLUMNS.min(self.group_outputs - channel);
                    let channel = group * self.group_outputs + channel;
                    let offset = block.start * M::ROWS * self.shape.output_channels + channel;
                    // SAFETY: panels, weights and constants lie within their buffers, and so do
                    // rows of `width` elements of output and residual; `store` narrows the
                    // tiles to them.
                    unsafe {
                        let tile = Tile {
                            panel: scratch,
                            weights: self.weights.as_ptr().add(column * tile_bytes),
                            depth: self.depth,
                            rows: M::ROWS,
                            bias: self.bias.as_ptr().add(column * M::COLUMNS),
                            multiplier: self.multiplier.as_ptr().add(column * M::COLUMNS),
                            shift: self.shift,
                            residual: buffers
                                .residual
                                .map_or(core::ptr::null(), |residual| residual.as_ptr().add(offset)),
                            residual_multiplier: self.residual_multiplier,
                            output: buffers.output.get().add(offset),
                            stride: self.shape.output_channels,
                        };
                        let rows = (block.len() * M::ROWS).min(pixels - block.start * M::ROWS);
                        self.store(&tile, rows, width);
                    }
                }
                column = group_end;
            }
        }
    }

    /// Runs the micro-kernel on `rows` rows, through a temporary tile where the columns are
    /// ragged.
    ///
    /// # Safety
    /// As [`Microkernel::sweep`], but there are `rows` rows of output and residual, and they
    /// have only `width` elements.
    unsafe fn store(&self, tile: &Tile, rows: usize, width: usize) {
        let (full, rest) = (rows / M::ROWS, rows % M::ROWS);
        let at = |index: usize, rows: usize| {
            let mut tile = *tile;
            tile.rows = rows;
            tile.panel = tile.panel.wrapping_add(index * self.panel_bytes());
            tile.output = tile.output.wrapping_add(index * M::ROWS * tile.stride);
            if !tile.residual.is_null() {
                tile.residual = tile.residual.wrapping_add(index * M::ROWS * tile.stride);
            }
            tile
        };
        // SAFETY: passed on; the last tile has only `rest` rows.
        unsafe {
            if width < M::COLUMNS {
                for index in 0..full {
                    self.store_ragged(&at(index, M::ROWS), width);
                }
                if rest > 0 {
                    self.store_ragged(&at(full, rest), width);
                }
            } else {
                self.microkernel.sweep(tile, full);
                if rest > 0 {
                    self.microkernel.tile(&at(full, rest));
                }
            }
        }
    }

    /// Computes one tile whose rows of output and residual have only `width` elements.
    ///
    /// # Safety
    /// As [`Microkernel::tile`] otherwise.
    #[cold]
    #[inline(never)]
    unsafe fn store_ragged(&self, tile: &Tile, width: usize) {
        let mut output = [0i8; MAX_ROWS * MAX_COLUMNS];
        let mut residual = [0i8; MAX_ROWS * MAX_COLUMNS];
        // SAFETY: `rows` rows of `width` elements are good at `stride`, and the temporary
        // tiles have room for `rows` rows of `COLUMNS`.
        unsafe {
            let mut inner = Tile { output: output.as_mut_ptr(), stride: M::COLUMNS, ..*tile };
            if !tile.residual.is_null() {
                for row in 0..tile.rows {
                    let to = residual.as_mut_ptr().add(row * M::COLUMNS);
                    to.copy_from_nonoverlapping(tile.residual.add(row * tile.stride), width);
                }
                inner.residual = residual.as_ptr();
            }
            self.microkernel.tile(&inner);
            for row in 0..tile.rows {
                let from = output.as_ptr().add(row * M::COLUMNS);
                tile.output.add(row * tile.stride).copy_from_nonoverlapping(from, width);
            }
        }
    }

    /// Packs the input of a range of output pixels.
    ///
    /// # Safety
    /// The input has its length, `panel` is good for `panel_bytes` and `gathered` for
    /// `gather_bytes`; `pixels` has 1 to `ROWS` of them.
    unsafe fn pack_panel(
        &self,
        input: &[i8],
        group: usize,
        pixels: core::ops::Range<usize>,
        gathered: *mut i8,
        panel: *mut u8,
    ) {
        let shape = &self.shape;
        let [height, width, channels] = shape.input;
        let output_width = self.output[1];
        let first_channel = group * self.group_inputs;
        let padding = self.padding_value[first_channel..].as_ptr();
        let input = input[first_channel..].as_ptr();
        let mut origins = [[0isize; 2]; MAX_ROWS];
        let (mut y, mut x) = (pixels.start / output_width, pixels.start % output_width);
        for (row, origin) in origins[..M::ROWS].iter_mut().enumerate() {
            *origin = [
                (y * shape.stride[0]) as isize - shape.padding[0] as isize,
                (x * shape.stride[1]) as isize - shape.padding[1] as isize,
            ];
            // Rows beyond the last pixel repeat it, so that every pointer is good.
            if row + 1 < pixels.len() {
                x += 1;
                if x == output_width {
                    (y, x) = (y + 1, 0);
                }
            }
        }
        let inside = |[y, x]: [isize; 2]| {
            y >= 0 && x >= 0 && y as usize + self.window[0] <= height && x as usize + self.window[1] <= width
        };
        let interior = origins[..M::ROWS].iter().all(|&origin| inside(origin));
        let tap = |origin: [isize; 2], ky: usize, kx: usize| {
            let y = (origin[0] + (ky * shape.dilation[0]) as isize) as usize;
            let x = (origin[1] + (kx * shape.dilation[1]) as isize) as usize;
            // A negative position has become a huge one.
            if y < height && x < width {
                // SAFETY: the channels of a group at a position inside the image.
                unsafe { input.add((y * width + x) * channels) }
            } else {
                padding
            }
        };
        if self.gathers() {
            let mut pointers = [gathered.cast_const(); MAX_ROWS];
            for (row, pointer) in pointers[..M::ROWS].iter_mut().enumerate() {
                // SAFETY: `gathered` has room for `ROWS` rows of `depth`.
                unsafe {
                    let start = gathered.add(row.min(pixels.len() - 1) * self.depth);
                    *pointer = start;
                    if row < pixels.len() {
                        self.gather_row(origins[row], &tap, start);
                    }
                }
            }
            // SAFETY: each row was gathered.
            unsafe { self.microkernel.pack_rows(&pointers[..M::ROWS], self.depth, panel) };
            return;
        }
        let mut bases = [input; MAX_ROWS];
        for (base, [y, x]) in bases[..M::ROWS].iter_mut().zip(origins) {
            *base = input.wrapping_offset((y * width as isize + x) * channels as isize);
        }
        let mut panel = panel;
        for ky in 0..shape.kernel[0] {
            for kx in 0..shape.kernel[1] {
                let mut pointers = [padding; MAX_ROWS];
                let (down, right) = (ky * shape.dilation[0], kx * shape.dilation[1]);
                let offset = (down * width + right) * channels;
                for ((pointer, base), [y, x]) in pointers[..M::ROWS].iter_mut().zip(bases).zip(origins) {
                    // A negative position becomes a huge one.
                    let (y, x) = (y.wrapping_add_unsigned(down), x.wrapping_add_unsigned(right));
                    if interior || ((y as usize) < height && (x as usize) < width) {
                        *pointer = base.wrapping_add(offset);
                    }
                }
                // SAFETY: each pointer is to the channels of a group, in the image or in the
                // padding, and the panels of the taps follow each other.
                unsafe {
                    self.microkernel.pack_rows(&pointers[..M::ROWS], self.group_inputs, panel);
                    panel = panel.add(self.group_inputs * M::ROWS * M::ACTIVATION_BYTES);
                }
            }
        }
    }

    /// Copies the window at `origin` to contiguous memory. What is left behind it does not
    /// matter: it meets zero weights.
    ///
    /// # Safety
    /// `row` is good for writing `depth` elements; `tap` gives pointers to the channels of a group.
    unsafe fn gather_row(
        &self,
        origin: [isize; 2],
        tap: &impl Fn([isize; 2], usize, usize) -> *const i8,
        row: *mut i8,
    ) {
        let shape = &self.shape;
        let kernel = shape.kernel;
        // Taps next to each other in the image are one run of memory.
        let contiguous = self.groups == 1
            && shape.dilation[1] == 1
            && origin[1] >= 0
            && origin[1] as usize + kernel[1] <= shape.input[1];
        let last = origin[0] + (shape.dilation[0] * (kernel[0] - 1)) as isize;
        if contiguous && origin[0] >= 0 && (last as usize) < shape.input[0] {
            let step = shape.dilation[0] * shape.input[1] * self.group_inputs;
            // SAFETY: the whole window is inside of the image.
            unsafe { copy_runs(tap(origin, 0, 0), step, row, kernel[1] * self.group_inputs, kernel[0]) };
            return;
        }
        let mut end = row;
        for ky in 0..kernel[0] {
            let y = (origin[0] + (ky * shape.dilation[0]) as isize) as usize;
            // SAFETY: a run stays within a row of the image; all copies together are the depth.
            unsafe {
                if contiguous && y < shape.input[0] {
                    let run = kernel[1] * self.group_inputs;
                    copy_run(tap(origin, ky, 0), end, run);
                    end = end.add(run);
                } else {
                    for kx in 0..kernel[1] {
                        copy_run(tap(origin, ky, kx), end, self.group_inputs);
                        end = end.add(self.group_inputs);
                    }
                }
            }
        }
    }
}

impl<M: Microkernel> Body for Tiled<M> {
    fn kernel(&self) -> &'static str {
        self.name
    }

    fn scratch_len(&self, threads: usize) -> usize {
        let plan = self.plan(threads);
        plan.parts() * plan.part_bytes + ALIGNMENT - 1
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
        let scratch = align(scratch, plan.parts() * plan.part_bytes)?;
        let scratch = Shared::new(scratch);
        let buffers = Buffers { input, residual, output: Shared::new(output) };
        run_parts(parallel, plan.parts(), &|part| {
            // SAFETY: the lengths were checked by the caller, each part runs once, writes
            // its own pixels and channels, and has its own scratch memory.
            unsafe { self.part(&plan, part, &buffers, scratch.get().add(part * plan.part_bytes)) };
        });
        Ok(())
    }
}

/// How a layer is cut into parts and blocks.
struct Plan {
    /// Row tiles.
    rows: usize,
    /// Column tiles of all groups.
    columns: usize,
    row_parts: usize,
    column_parts: usize,
    /// Row tiles of a block.
    block: usize,
    /// Scratch memory of a part.
    part_bytes: usize,
}

impl Plan {
    fn parts(&self) -> usize {
        self.row_parts * self.column_parts
    }
}

/// What the parts of a layer read and write.
struct Buffers<'a> {
    input: &'a [i8],
    residual: Option<&'a [i8]>,
    output: Shared<i8>,
}

/// A pointer that the parts of a layer share; they write to disjoint elements.
pub(crate) struct Shared<T>(*mut T);

impl<T> Shared<T> {
    /// Shares `data`.
    pub(crate) fn new(data: &mut [T]) -> Self {
        Self(data.as_mut_ptr())
    }

    /// The first element.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: only a pointer; those who use it see to it that no element is written twice.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Calls `task` with each of `0..parts` (at most 64) at most once, whatever `parallel` does.
pub(crate) fn run_parts(parallel: &dyn Parallel, parts: usize, task: &(dyn Fn(usize) + Sync)) {
    debug_assert!(parts <= MAX_PARTS);
    let claimed = AtomicU64::new(0);
    parallel.run(parts, &|part| {
        if part < parts && claimed.fetch_or(1 << part, Ordering::Relaxed) & (1 << part) == 0 {
            task(part);
        }
    });
}

/// Splits `output` into `parts` ranges of whole units and calls `task` with the index of the first unit
/// and the elements of each; `output` is a whole number of units long.
pub(crate) fn split<T: Send>(
    parallel: &dyn Parallel,
    parts: usize,
    output: &mut [T],
    unit: usize,
    task: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let units = output.len() / unit;
    let parts = parts.min(units).clamp(1, MAX_PARTS);
    let output = Shared::new(output);
    run_parts(parallel, parts, &|part| {
        let (start, end) = (part * units / parts, (part + 1) * units / parts);
        // SAFETY: the ranges of different parts do not overlap, and each part runs once.
        let range =
            unsafe { core::slice::from_raw_parts_mut(output.get().add(start * unit), (end - start) * unit) };
        task(start, range);
    });
}

/// The aligned part of scratch memory, `len` bytes.
pub(crate) fn align(scratch: &mut [u8], len: usize) -> Result<&mut [u8], KernelError> {
    let skip = scratch.as_ptr().align_offset(ALIGNMENT);
    let found = scratch.len();
    let error = KernelError::Length { what: "scratch", expected: len + ALIGNMENT - 1, found };
    scratch.get_mut(skip..skip.saturating_add(len)).ok_or(error)
}

/// Copies a short run without a call: the last 16 bytes overlap those before them.
///
/// # Safety
/// `len` bytes can be read and written, and do not overlap.
#[inline(always)]
unsafe fn copy_run(from: *const i8, to: *mut i8, len: usize) {
    // SAFETY: every access is within the first `len` bytes.
    unsafe {
        if len < 16 {
            for index in 0..len {
                to.add(index).write(from.add(index).read());
            }
            return;
        }
        let copy = |at: usize| to.add(at).cast::<[u8; 16]>().write(from.add(at).cast::<[u8; 16]>().read());
        let mut at = 0;
        while at + 16 < len {
            copy(at);
            at += 16;
        }
        copy(len - 16);
    }
}

/// Copies `count` runs of `len` bytes, `step` bytes apart, to contiguous memory.
///
/// # Safety
/// All of the runs can be read and written, and do not overlap.
#[inline(never)]
unsafe fn copy_runs(from: *const i8, step: usize, to: *mut i8, len: usize, count: usize) {
    for index in 0..count {
        // SAFETY: one of the runs.
        unsafe { copy_run(from.add(index * step), to.add(index * len), len) };
    }
}

/// How many groups are computed as one, with zeros off the diagonal: as many as fill a tile.
fn merged_groups(shape: &ConvolutionShape, columns: usize) -> usize {
    let outputs = shape.output_channels / shape.groups;
    (1..=shape.groups)
        .filter(|&n| shape.groups.is_multiple_of(n) && n * outputs <= columns)
        .max()
        .unwrap_or(1)
}

/// Bytes that start at a cache line.
#[derive(Debug)]
struct Lines(Vec<Line>);

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

impl Lines {
    fn new(len: usize) -> Self {
        Self(vec![Line([0; ALIGNMENT]); len.div_ceil(ALIGNMENT)])
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a line is 64 initialised bytes without padding.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * ALIGNMENT) }
    }
}
