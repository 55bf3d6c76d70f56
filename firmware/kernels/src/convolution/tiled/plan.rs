//! How a layer is cut into parts and blocks.

use super::matrix::Matrix;
use super::microkernel::Microkernel;
use crate::CacheSizes;
use crate::parts::{CACHE_LINE, Grid, MAX_PARTS};

/// Parts of row and column tiles, and the blocks of each.
#[derive(Debug)]
pub(super) struct Plan {
    /// Row tiles and column tiles of all groups.
    pub(super) grid: Grid,
    /// Row tiles of a block.
    pub(super) block: usize,
    /// Scratch memory of a part: the panels of a block, and gathered rows.
    pub(super) part_bytes: usize,
}

impl Plan {
    /// Cuts a layer for so many threads; `residual` says whether it has one.
    pub(super) fn new<M: Microkernel>(
        matrix: &Matrix,
        residual: bool,
        threads: usize,
        caches: CacheSizes,
    ) -> Self {
        let threads = threads.clamp(1, MAX_PARTS);
        let grid = grid(matrix, threads);
        let most = grid.most_rows();
        // What a row tile touches in a column part, besides its panel: output and residual.
        let outputs = matrix.groups * matrix.group_outputs;
        let touched = M::ROWS * outputs.div_ceil(grid.column_parts) * if residual { 2 } else { 1 };
        let weights = matrix.columns() * matrix.depth * M::COLUMNS * M::WEIGHT_BYTES;
        let fitting = M::block_tiles(caches, threads, matrix.panel_bytes, touched, weights).clamp(1, most);
        let block = most.div_ceil(most.div_ceil(fitting));
        let part_bytes = (block * matrix.panel_bytes + matrix.gather_bytes).next_multiple_of(CACHE_LINE);
        Self { grid, block, part_bytes }
    }
}

/// The most balanced grid; with equal balance the one that packs fewest pixels twice.
fn grid(matrix: &Matrix, threads: usize) -> Grid {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let (row_parts, column_parts) = (1..=threads)
        .map(|column_parts| (threads / column_parts, column_parts))
        .min_by_key(|&(r, c)| {
            let pixels = (rows.div_ceil(r) * matrix.tile_rows).min(matrix.pixels);
            (pixels * columns.div_ceil(c), c)
        })
        .unwrap_or((1, 1));
    Grid { rows, columns, row_parts: row_parts.min(rows), column_parts: column_parts.min(columns) }
}
