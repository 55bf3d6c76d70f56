//! Products of `f64` matrices with the same bits for any number of threads and on every CPU: each
//! element is one fixed sequence of multiplications and additions, never fused. Wider registers
//! compute more elements at a time, never another sequence.

use std::ops::Range;

use rayon::prelude::*;

/// Rows of a tile.
pub const TILE_ROWS: usize = 4;
/// Columns of a tile.
pub const TILE_COLUMNS: usize = 16;

/// The sums of a tile.
pub type Sums = [[f64; TILE_COLUMNS]; TILE_ROWS];

/// A matrix cut into panels of `tile` columns, `[panel][row][column of the panel]`; zeros fill the
/// last one.
pub struct Panels {
    values: Vec<f64>,
    depth: usize,
    tile: usize,
}

impl Panels {
    /// Cuts `width` columns of `depth` values each: `value(row, column)`.
    pub fn new(depth: usize, width: usize, tile: usize, value: impl Fn(usize, usize) -> f64 + Sync) -> Self {
        let mut values = vec![0.0; width.div_ceil(tile) * tile * depth];
        values.par_chunks_mut((depth * tile).max(1)).enumerate().for_each(|(panel, values)| {
            let first = panel * tile;
            for (row, values) in values.chunks_exact_mut(tile).enumerate() {
                let columns = first..(first + tile).min(width);
                values.iter_mut().zip(columns).for_each(|(into, column)| *into = value(row, column));
            }
        });
        Self { values, depth, tile }
    }

    /// A panel, `[row][column of the panel]`.
    pub fn panel(&self, index: usize) -> &[f64] {
        let length = self.depth * self.tile;
        &self.values[index * length..(index + 1) * length]
    }
}

/// Rows of the depth whose products are summed before they are added to the target.
const DEPTH: usize = 256;
/// Rows of the target that one task computes.
const TASK_ROWS: usize = 8 * TILE_ROWS;

/// Adds `sum(left(k, row) * right(k, column))`, over all `k` of `depth`, to `target`, `[row][column]`.
pub fn add_product(
    target: &mut [f64],
    columns: usize,
    depth: usize,
    left: impl Fn(usize, usize) -> f64 + Sync,
    right: impl Fn(usize, usize) -> f64 + Sync,
) {
    let rows = target.len() / columns.max(1);
    for start in (0..depth).step_by(DEPTH) {
        let depth = DEPTH.min(depth - start);
        let left = Panels::new(depth, rows, TILE_ROWS, |k, row| left(start + k, row));
        let right = Panels::new(depth, columns, TILE_COLUMNS, |k, column| right(start + k, column));
        target.par_chunks_mut(TASK_ROWS * columns).enumerate().for_each(|(task, target)| {
            add_tiles(target, columns, 0..columns, (&left, task * TASK_ROWS), &right);
        });
    }
}

/// Adds products to the columns `into` of some rows, `stride` apart. The first row is that number
/// of `left`, a multiple of [`TILE_ROWS`]; the first column is the first of `right`.
pub fn add_tiles(
    rows: &mut [f64],
    stride: usize,
    into: Range<usize>,
    (left, first): (&Panels, usize),
    right: &Panels,
) {
    for (panel, column) in into.clone().step_by(TILE_COLUMNS).enumerate() {
        let columns = column..(column + TILE_COLUMNS).min(into.end);
        let right = right.panel(panel);
        for (tile, rows) in rows.chunks_mut(TILE_ROWS * stride).enumerate() {
            let sums = sums(left.panel(first / TILE_ROWS + tile), right);
            for (row, sums) in rows.chunks_exact_mut(stride).zip(sums) {
                row[columns.clone()].iter_mut().zip(sums).for_each(|(target, sum)| *target += sum);
            }
        }
    }
}

/// `sum(left[k][row] * right[k][column])` over all `k`, in their order. `left` is a panel of
/// [`TILE_ROWS`], `right` one of [`TILE_COLUMNS`].
pub fn sums(left: &[f64], right: &[f64]) -> Sums {
    let mut sums = [[0.0; TILE_COLUMNS]; TILE_ROWS];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has AVX-512F.
            unsafe { with_avx512(left, right, &mut sums) };
            return sums;
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            unsafe { with_avx2(left, right, &mut sums) };
            return sums;
        }
    }
    add::<8>(left, right, &mut sums);
    sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512(left: &[f64], right: &[f64], sums: &mut Sums) {
    add::<16>(left, right, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(left: &[f64], right: &[f64], sums: &mut Sums) {
    add::<8>(left, right, sums);
}

/// With so many columns in registers at a time.
///
/// Plain loops: what iterators are made of is compiled without the caller's vectors, so calls of it
/// would stay calls.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled for each set of registers")]
fn add<const COLUMNS: usize>(left: &[f64], right: &[f64], sums: &mut Sums) {
    let (left, right) = (left.as_chunks::<TILE_ROWS>().0, right.as_chunks::<TILE_COLUMNS>().0);
    let depth = if left.len() < right.len() { left.len() } else { right.len() };
    let mut first = 0;
    while first < TILE_COLUMNS {
        let mut local = [[0.0; COLUMNS]; TILE_ROWS];
        let mut k = 0;
        while k < depth {
            let (left, right) = (&left[k], &right[k]);
            let mut row = 0;
            while row < TILE_ROWS {
                let mut column = 0;
                while column < COLUMNS {
                    local[row][column] += left[row] * right[first + column];
                    column += 1;
                }
                row += 1;
            }
            k += 1;
        }
        let mut row = 0;
        while row < TILE_ROWS {
            let mut column = 0;
            while column < COLUMNS {
                sums[row][first + column] = local[row][column];
                column += 1;
            }
            row += 1;
        }
        first += COLUMNS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(row: usize, column: usize) -> f64 {
        ((row * 37 + column * 91) % 101) as f64 / 7.0 - 6.0
    }

    #[test]
    fn each_sum_is_that_of_plain_loops_to_the_bit() {
        for depth in [0, 1, 7, 128] {
            let left = Panels::new(depth, 6, TILE_ROWS, entry);
            let right = Panels::new(depth, 21, TILE_COLUMNS, |row, column| entry(column, row + 3));
            for (row, column) in [(0, 0), (3, 15), (5, 20), (4, 16), (1, 18)] {
                let sums = sums(left.panel(row / TILE_ROWS), right.panel(column / TILE_COLUMNS));
                let mut expected = 0.0;
                for k in 0..depth {
                    expected += entry(k, row) * entry(column, k + 3);
                }
                assert_eq!(sums[row % TILE_ROWS][column % TILE_COLUMNS], expected, "{depth} {row} {column}");
            }
        }
    }

    #[test]
    fn products_of_any_size_are_added() {
        let (rows, columns, depth) = (37, 19, 300);
        let mut target = vec![1.0; rows * columns];
        add_product(&mut target, columns, depth, entry, |k, column| entry(column, k));
        for (row, column) in [(0, 0), (36, 18), (33, 15), (17, 16)] {
            let sum: f64 = (0..depth).map(|k| entry(k, row) * entry(column, k)).sum();
            assert!((target[row * columns + column] - 1.0 - sum).abs() < 1e-9, "{row} {column}");
        }
    }

    #[test]
    fn what_fills_a_panel_up_is_zero() {
        let panels = Panels::new(2, 5, TILE_ROWS, |row, column| (10 * row + column) as f64);
        assert_eq!(panels.panel(0), [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
        assert_eq!(panels.panel(1), [4.0, 0.0, 0.0, 0.0, 14.0, 0.0, 0.0, 0.0]);
    }
}
