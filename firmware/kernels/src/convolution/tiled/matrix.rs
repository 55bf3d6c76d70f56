//! A convolution as a matrix product.

use core::ops::Range;

use super::microkernel::Microkernel;
use crate::ConvolutionShape;
use crate::parts::CACHE_LINE;

/// The matrix product that a micro-kernel makes of a layer: one for each group, after small groups
/// have been merged into one tile with zeros off the diagonal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix {
    /// Output pixels.
    pub(super) pixels: usize,
    /// Pixels of a tile.
    pub(super) tile_rows: usize,
    /// Taps of a window.
    pub(super) taps: usize,
    /// Groups after merging small ones.
    pub(super) groups: usize,
    /// Input channels of a merged group.
    pub(super) group_inputs: usize,
    /// Output channels of a merged group.
    pub(super) group_outputs: usize,
    /// Depth of a merged group, padded.
    pub(super) depth: usize,
    /// Channels of a tile.
    pub(super) tile_columns: usize,
    /// Column tiles of a merged group.
    pub(super) column_tiles: usize,
    /// Bytes of the panel of one tile.
    pub(super) panel_bytes: usize,
    /// Bytes of the rows of a tile that are gathered before they are packed: none where the channels of
    /// a tap are a whole number of depth steps.
    pub(super) gather_bytes: usize,
    /// From the weights of a column tile to the next ones.
    pub(super) weight_tile_bytes: usize,
}

impl Matrix {
    /// The matrix product of a layer.
    pub(super) fn new<M: Microkernel>(shape: &ConvolutionShape) -> Self {
        let merged = merged_groups(shape, M::COLUMNS);
        let groups = shape.groups / merged;
        let group_inputs = shape.group_channels() * merged;
        let group_outputs = shape.output_channels / groups;
        let taps = shape.kernel[0] * shape.kernel[1];
        let depth = (taps * group_inputs).next_multiple_of(M::DEPTH);
        let gathers = !group_inputs.is_multiple_of(M::DEPTH);
        let [height, width, _] = shape.output();
        Self {
            pixels: height * width,
            tile_rows: M::ROWS,
            taps,
            groups,
            group_inputs,
            group_outputs,
            depth,
            tile_columns: M::COLUMNS,
            column_tiles: group_outputs.div_ceil(M::COLUMNS),
            panel_bytes: depth * M::ROWS * M::ACTIVATION_BYTES,
            gather_bytes: if gathers { M::ROWS * depth } else { 0 },
            weight_tile_bytes: (depth * M::COLUMNS * M::WEIGHT_BYTES).next_multiple_of(CACHE_LINE),
        }
    }

    /// Output channels of all groups.
    pub(super) fn outputs(&self) -> usize {
        self.groups * self.group_outputs
    }

    /// Column tiles of all groups.
    pub(super) fn columns(&self) -> usize {
        self.groups * self.column_tiles
    }

    /// The output channels of a column tile.
    pub(super) fn channels(&self, column: usize) -> Range<usize> {
        let (group, first) = (column / self.column_tiles, column % self.column_tiles * self.tile_columns);
        let end = (first + self.tile_columns).min(self.group_outputs);
        group * self.group_outputs + first..group * self.group_outputs + end
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
