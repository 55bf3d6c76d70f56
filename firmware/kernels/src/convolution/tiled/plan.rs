//! How a layer is cut into parts and blocks.

use super::matrix::Matrix;
use super::microkernel::{Costs, Microkernel};
use crate::CacheSizes;
use crate::parts::{Axis, CACHE_LINE, Grid, MAX_PARTS, whole_lines};

/// What two threads that write one cache line in turn cost, in instructions.
const SHARED_LINE: usize = 100;
/// What a cache line of weights costs that a part reads from a farther level, in instructions.
const WEIGHT_LINE: usize = 2;

/// Parts of pixels and column tiles, and the blocks of each.
#[derive(Debug)]
pub(super) struct Plan {
    /// Output pixels, and column tiles of all groups.
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
        let grid = grid(matrix, &M::COSTS, residual, threads);
        let most = grid.rows.most().div_ceil(M::ROWS);
        // What a row tile touches in a column part, besides its panel: output and residual.
        let touched = M::ROWS * matrix.outputs().div_ceil(grid.columns.parts) * if residual { 2 } else { 1 };
        let weights = matrix.columns() * matrix.depth * M::COLUMNS * M::WEIGHT_BYTES;
        let fitting = M::block_tiles(caches, threads, matrix.panel_bytes, touched, weights).clamp(1, most);
        let block = most.div_ceil(most.div_ceil(fitting));
        let part_bytes = (block * matrix.panel_bytes + matrix.gather_bytes).next_multiple_of(CACHE_LINE);
        Self { grid, block, part_bytes }
    }
}

/// The grid whose largest part costs least; with equal costs the one with the fewest columns.
///
/// Cut by pixels, all parts read all weights; cut by columns, all of them pack all pixels, and they
/// write pieces of the same lines unless the cut falls between two lines.
fn grid(matrix: &Matrix, costs: &Costs, residual: bool, threads: usize) -> Grid {
    let whole = |len| Axis { len, unit: 1, parts: 1 };
    let (pixels, columns) = (whole(matrix.pixels), whole(matrix.columns()));
    let mut best = Grid { rows: pixels, columns };
    if threads == 1 {
        return best;
    }
    let row_units = [1, whole_lines(matrix.outputs())];
    let column_units = [1, whole_lines(matrix.tile_columns)];
    let mut least = usize::MAX;
    for column_parts in 1..=threads {
        for row_unit in row_units {
            for column_unit in column_units {
                let grid = Grid {
                    rows: pixels.cut(row_unit, threads / column_parts),
                    columns: columns.cut(column_unit, column_parts),
                };
                let cost = part_cost(matrix, costs, residual, &grid);
                if cost < least {
                    (best, least) = (grid, cost);
                }
            }
        }
    }
    best
}

/// The instructions of the largest part, and what it waits for.
fn part_cost(matrix: &Matrix, costs: &Costs, residual: bool, grid: &Grid) -> usize {
    let (pixels, columns) = (grid.rows.most(), grid.columns.most());
    let steps = matrix.depth / 16 + 1;
    let tile = |rows: usize| {
        let products = rows.next_multiple_of(costs.row_step) * costs.row_products + costs.tile_loads;
        steps * products + rows * (costs.row + if residual { costs.row_residual } else { 0 }) + costs.tile
    };
    let (full, rest) = (pixels / matrix.tile_rows, pixels % matrix.tile_rows);
    let tiles = full * tile(matrix.tile_rows) + if rest > 0 { tile(rest) } else { 0 };
    let groups = columns.div_ceil(matrix.column_tiles);
    let gathering = if matrix.gather_bytes > 0 { 2 } else { 1 };
    let panel = (steps * costs.panel + matrix.taps * costs.tap) * gathering;
    let panels = pixels.div_ceil(matrix.tile_rows) * groups * panel;
    let lines = columns * matrix.weight_tile_bytes / CACHE_LINE * WEIGHT_LINE;
    tiles * columns + panels + lines + shared_lines(matrix, grid) * SHARED_LINE
}

/// Cache lines of output that the largest part shares with its neighbours, if the output starts at a line.
fn shared_lines(matrix: &Matrix, grid: &Grid) -> usize {
    let outputs = matrix.outputs();
    let row_lines =
        usize::from(grid.rows.parts > 1 && !(grid.rows.unit * outputs).is_multiple_of(CACHE_LINE));
    let between_lines = outputs.is_multiple_of(CACHE_LINE)
        && (grid.columns.unit * matrix.tile_columns).is_multiple_of(CACHE_LINE);
    let column_lines = if grid.columns.parts > 1 && !between_lines { grid.rows.most() } else { 0 };
    row_lines + column_lines
}
