//! Runs a micro-kernel over a layer: groups, parts, blocks, ragged edges.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::ops::Range;

use super::matrix::Matrix;
use super::microkernel::{MAX_COLUMNS, MAX_ROWS, Microkernel, Tile};
use super::panels::PanelPacker;
use super::plan::{LastGrid, Plan};
use super::weights::{CacheLines, pack_constants, pack_weights};
use crate::buffers::Buffers;
use crate::convolution::choose::Target;
use crate::convolution::packed::PackedConvolution;
use crate::parts::{CACHE_LINE, Residual, run_parts_with_scratch, scratch_len};
use crate::requantise::Requantisation;
use crate::{
    CacheSizes, ConvolutionParameters, ConvolutionShape, KernelError, Parallel, Strided, StridedMut,
};

/// A convolution packed for a micro-kernel.
#[derive(Debug)]
struct Tiled<M> {
    microkernel: M,
    kernel: &'static str,
    caches: CacheSizes,
    matrix: Matrix,
    packer: PanelPacker,
    weights: Arc<CacheLines>,
    requantisation: Arc<Requantisation>,
    grid: LastGrid,
}

/// Whether the running CPU has the instructions of a micro-kernel.
pub(crate) fn is_available<M: Microkernel>() -> bool {
    M::new().is_some()
}

/// Packs the weights of a layer, whose parameters are valid.
pub(crate) fn pack<M: Microkernel>(
    target: Target,
    parameters: &ConvolutionParameters<'_>,
) -> Option<Box<dyn PackedConvolution>> {
    const {
        assert!(M::ROWS <= MAX_ROWS && M::COLUMNS <= MAX_COLUMNS && M::DEPTH <= CACHE_LINE);
        assert!(M::DEPTH.is_multiple_of(M::WEIGHT_STEP) && M::COLUMNS.is_multiple_of(M::WEIGHT_COLUMNS));
    }
    debug_assert!(target.kernel.ends_with(&format!("_{}x{}", M::ROWS, M::COLUMNS)), "{}", target.kernel);
    let matrix = Matrix::new::<M>(&parameters.shape);
    Some(Box::new(Tiled {
        microkernel: M::new()?,
        kernel: target.kernel,
        caches: target.caches,
        packer: PanelPacker::new(parameters.windows(), matrix),
        weights: Arc::new(pack_weights::<M>(parameters, &matrix)),
        requantisation: Arc::new(pack_constants::<M>(parameters, &matrix)),
        matrix,
        grid: LastGrid::default(),
    }))
}

impl<M: Microkernel> Tiled<M> {
    fn plan(&self, threads: usize) -> Plan {
        let residual = self.requantisation.residual_multiplier > 0;
        Plan::new::<M>(&self.matrix, residual, threads, self.caches, &self.grid)
    }

    /// Computes one part.
    ///
    /// # Safety
    /// The buffers have the lengths that the shape asks for, no other part with this index
    /// runs or has run, and `scratch` is good for `plan.part_bytes` bytes, 64-byte aligned.
    unsafe fn part(&self, plan: &Plan, index: usize, buffers: &Buffers<'_>, scratch: *mut u8) {
        let (pixels, columns) = plan.grid.part(index);
        let mut start = pixels.start;
        while start < pixels.end {
            let block = start..(start + plan.block * M::ROWS).min(pixels.end);
            start = block.end;
            let mut column = columns.start;
            while column < columns.end {
                let group = column / self.matrix.column_tiles;
                let group_end = ((group + 1) * self.matrix.column_tiles).min(columns.end);
                // SAFETY: a block has at most `plan.block` panels, and each column of a group reads them.
                unsafe {
                    self.pack_block(plan, group, block.clone(), buffers.input, scratch);
                    for column in column..group_end {
                        self.column(column, block.clone(), buffers, scratch);
                    }
                }
                column = group_end;
            }
        }
    }

    /// Packs the panels of a block of pixels.
    ///
    /// # Safety
    /// The input has the length that the shape asks for, `scratch` is good for `plan.part_bytes`.
    #[inline(always)]
    unsafe fn pack_block(
        &self,
        plan: &Plan,
        group: usize,
        block: Range<usize>,
        input: Strided<'_>,
        scratch: *mut u8,
    ) {
        let panel_bytes = self.matrix.panel_bytes;
        for (index, first) in block.clone().step_by(M::ROWS).enumerate() {
            let pixels = first..(first + M::ROWS).min(block.end);
            // SAFETY: the gathered rows lie behind the panels of a block, within `part_bytes`.
            unsafe {
                let gathered = scratch.add(plan.block * panel_bytes).cast();
                let panel = scratch.add(index * panel_bytes);
                self.packer.pack(self.microkernel, input, group, pixels, gathered, panel);
            }
        }
    }

    /// Computes a column tile of a block of pixels.
    ///
    /// # Safety
    /// The buffers have the lengths that the shape asks for, no other thread writes these elements, and
    /// the panels of the block are packed.
    #[inline(always)]
    unsafe fn column(&self, column: usize, block: Range<usize>, buffers: &Buffers<'_>, panels: *const u8) {
        let channels = self.matrix.channels(column);
        let stride = buffers.output_stride;
        let offset = block.start * stride + channels.start;
        let (residual, residual_stride) = buffers.residual(block.start, channels.start);
        // SAFETY: panels, weights and constants lie within their buffers, and so do rows of output and
        // residual, which have `channels` elements: `store` narrows the tiles to them.
        unsafe {
            let tile = Tile {
                panel: panels,
                weights: self.weights.as_ptr().add(column * self.matrix.weight_tile_bytes),
                depth: self.matrix.depth,
                rows: M::ROWS,
                columns: if M::NARROW { channels.len() } else { M::COLUMNS },
                bias: self.requantisation.bias.as_ptr().add(column * M::COLUMNS),
                multiplier: self.requantisation.multiplier.as_ptr().add(column * M::COLUMNS),
                shift: self.requantisation.shift,
                residual,
                residual_multiplier: self.requantisation.residual_multiplier,
                output: buffers.output.get().add(offset),
                stride,
                residual_stride,
            };
            self.store(&tile, block.len(), channels.len());
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
            tile.panel = tile.panel.wrapping_add(index * self.matrix.panel_bytes);
            tile.move_down(index * M::ROWS);
            tile
        };
        // SAFETY: as stated; the last tile has only `rest` rows.
        unsafe {
            if width < M::COLUMNS && !M::NARROW {
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
                    to.copy_from_nonoverlapping(tile.residual.add(row * tile.residual_stride), width);
                }
                (inner.residual, inner.residual_stride) = (residual.as_ptr(), M::COLUMNS);
            }
            self.microkernel.tile(&inner);
            for row in 0..tile.rows {
                let from = output.as_ptr().add(row * M::COLUMNS);
                tile.output.add(row * tile.stride).copy_from_nonoverlapping(from, width);
            }
        }
    }
}

impl<M: Microkernel> PackedConvolution for Tiled<M> {
    fn kernel(&self) -> &'static str {
        self.kernel
    }

    fn row_unit(&self) -> Option<usize> {
        Some(1)
    }

    fn with_rows(&self, shape: ConvolutionShape) -> Option<Box<dyn PackedConvolution>> {
        let matrix = Matrix::new::<M>(&shape);
        Some(Box::new(Self {
            microkernel: self.microkernel,
            kernel: self.kernel,
            caches: self.caches,
            packer: PanelPacker::new(self.packer.windows.with_shape(shape), matrix),
            weights: Arc::clone(&self.weights),
            requantisation: Arc::clone(&self.requantisation),
            matrix,
            grid: LastGrid::default(),
        }))
    }

    fn adds_in_place(&self) -> bool {
        true
    }

    fn scratch_len(&self, threads: usize) -> usize {
        let plan = self.plan(threads);
        scratch_len(plan.grid.parts(), plan.part_bytes)
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
        run_parts_with_scratch(parallel, plan.grid.parts(), plan.part_bytes, scratch, &|part, scratch| {
            // SAFETY: the lengths were checked by the caller, each part runs once, writes
            // its own pixels and channels, and has its own scratch memory.
            unsafe { self.part(&plan, part, &buffers, scratch) };
        })
    }
}
