//! How a layer is cut into parts and blocks.

use core::sync::atomic::{AtomicU64, Ordering};

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
        last: &LastGrid,
    ) -> Self {
        let threads = threads.clamp(1, MAX_PARTS);
        let grid = last.recall(matrix, threads).unwrap_or_else(|| {
            let grid = grid(matrix, &M::COSTS, residual, threads);
            last.note(threads, &grid);
            grid
        });
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

/// The grid that was chosen last: comparing grids takes thousands of instructions, and every inference
/// asks for the same one.
#[derive(Debug, Default)]
pub(super) struct LastGrid(AtomicU64);

impl LastGrid {
    /// Bits of a number of threads or parts, and of a unit: all are at most [`MAX_PARTS`].
    const BITS: u32 = 8;

    fn note(&self, threads: usize, grid: &Grid) {
        let Grid { rows, columns } = grid;
        let numbers = [threads, rows.parts, rows.unit, columns.parts, columns.unit];
        let code = numbers.iter().fold(0, |code, &number| code << Self::BITS | number as u64);
        self.0.store(code, Ordering::Relaxed);
    }

    fn recall(&self, matrix: &Matrix, threads: usize) -> Option<Grid> {
        let code = self.0.load(Ordering::Relaxed);
        let number = |index: u32| (code >> (index * Self::BITS)) as usize & ((1 << Self::BITS) - 1);
        (number(4) == threads).then(|| Grid {
            rows: Axis { len: matrix.pixels, parts: number(3), unit: number(2) },
            columns: Axis { len: matrix.columns(), parts: number(1), unit: number(0) },
        })
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
    // Where pixels are whole lines, no two parts write into one line: columns are cut between lines.
    let line = whole_lines(matrix.tile_columns);
    let column_units = [if matrix.outputs().is_multiple_of(CACHE_LINE) { line } else { 1 }, line];
    let row_units = [1, whole_lines(matrix.outputs())];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConvolutionShape;
    #[cfg(target_arch = "aarch64")]
    use crate::neon::{NeonDot as Six, NeonMlal as Other};
    #[cfg(target_arch = "x86_64")]
    use crate::x86::{X86Avx2 as Six, X86Vnni as Other};

    /// Size, input channels, output channels, kernel, stride: layers of ResNet-50, and odd ones.
    const LAYERS: [[usize; 5]; 12] = [
        [224, 3, 64, 7, 2],
        [56, 64, 256, 1, 1],
        [56, 256, 64, 1, 1],
        [56, 128, 128, 3, 2],
        [28, 128, 512, 1, 1],
        [14, 256, 256, 3, 1],
        [14, 1024, 256, 1, 1],
        [7, 512, 512, 3, 1],
        [7, 512, 2048, 1, 1],
        [5, 17, 19, 3, 1],
        [1, 64, 1000, 1, 1],
        [1, 3, 1, 1, 1],
    ];

    fn each_plan<M: Microkernel>(check: impl Fn(&ConvolutionShape, &Matrix, usize, &Plan)) {
        for [size, inputs, outputs, kernel, stride] in LAYERS {
            let shape = ConvolutionShape {
                input: [size, size, inputs],
                output_channels: outputs,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [kernel / 2; 4],
                dilation: [1; 2],
                groups: 1,
            };
            let matrix = Matrix::new::<M>(&shape);
            let last = LastGrid::default();
            for threads in [1, 2, 3, 4, 5, 6, 7, 8, 64] {
                let plan = Plan::new::<M>(&matrix, true, threads, CacheSizes::default(), &last);
                let again = Plan::new::<M>(&matrix, true, threads, CacheSizes::default(), &last);
                assert_eq!(again.grid, plan.grid, "{shape:?}, {threads} threads: remembered otherwise");
                check(&shape, &matrix, threads, &plan);
            }
        }
    }

    fn every_tile_once<M: Microkernel>() {
        each_plan::<M>(|shape, matrix, threads, plan| {
            let mut times = alloc::vec![0; matrix.pixels * matrix.columns()];
            assert!(plan.grid.parts() <= threads);
            for part in 0..plan.grid.parts() {
                let (pixels, columns) = plan.grid.part(part);
                assert!(!pixels.is_empty() && !columns.is_empty(), "{shape:?}, {threads} threads: {plan:?}");
                assert!(pixels.len() <= plan.grid.rows.most() && columns.len() <= plan.grid.columns.most());
                for pixel in pixels {
                    columns.clone().for_each(|column| times[pixel * matrix.columns() + column] += 1);
                }
            }
            assert!(times.iter().all(|&times| times == 1), "{shape:?}, {threads} threads: {plan:?}");
        });
    }

    #[test]
    fn parts_cover_a_layer_once() {
        every_tile_once::<Six>();
        every_tile_once::<Other>();
    }

    /// Which part writes each cache line of output, when the output starts at one.
    fn own_lines<M: Microkernel>() {
        each_plan::<M>(|shape, matrix, threads, plan| {
            if !shape.output_channels.is_multiple_of(CACHE_LINE) || threads > 8 {
                return;
            }
            let mut owners = alloc::vec![None; shape.output_len() / CACHE_LINE];
            for part in 0..plan.grid.parts() {
                let (pixels, columns) = plan.grid.part(part);
                let channels = matrix.channels(columns.start).start..matrix.channels(columns.end - 1).end;
                for pixel in pixels {
                    let start = pixel * shape.output_channels;
                    let lines =
                        (start + channels.start) / CACHE_LINE..(start + channels.end).div_ceil(CACHE_LINE);
                    for line in &mut owners[lines] {
                        let owner = line.replace(part);
                        assert!(
                            owner.is_none() || owner == Some(part),
                            "{shape:?}, {threads} threads: {plan:?}: parts share a cache line"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn no_two_threads_write_one_cache_line() {
        own_lines::<Six>();
        own_lines::<Other>();
    }

    /// What a layer is cut for: no part does much more than its share.
    fn balanced<M: Microkernel>() {
        each_plan::<M>(|shape, matrix, threads, plan| {
            if shape.output_len() < 7 * 7 * 512 || ![2, 4].contains(&threads) {
                return;
            }
            let whole = grid(matrix, &M::COSTS, true, 1);
            let cost = |grid| part_cost(matrix, &M::COSTS, true, grid);
            let share = cost(&whole).div_ceil(threads);
            assert!(
                cost(&plan.grid) * 100 <= share * 112,
                "{shape:?}, {threads} threads: {plan:?}: {} instead of {share}",
                cost(&plan.grid)
            );
        });
    }

    #[test]
    fn no_part_does_much_more_than_its_share() {
        balanced::<Six>();
        balanced::<Other>();
    }
}
