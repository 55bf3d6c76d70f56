//! The factor of a layer's moments, and what is done with it: rounding rows, and dividing by it.

use std::ops::Range;

use rayon::prelude::*;

use crate::quantise::cholesky::factorise;
use crate::quantise::passes::round;
use crate::quantise::product::{Panels, TILE_COLUMNS, TILE_ROWS, add_tiles};

/// What is added to the diagonal of the covariance, in parts of its mean.
const DAMPING: f64 = 0.01;
/// Rows that are rounded by one task.
const ROWS_AT_ONCE: usize = 8 * TILE_ROWS;
/// Columns that are rounded before their errors are moved to all others.
const BLOCK: usize = 128;

/// What rounding a group needs.
pub(super) struct Solved {
    /// The factor of the damped covariance, in the order of `order`.
    pub(super) factor: Vec<f64>,
    /// Columns from the last to be rounded to the first.
    pub(super) order: Vec<usize>,
}

impl Solved {
    /// Factorises the damped covariance. `None` where it is not positive definite.
    pub(super) fn new(products: Vec<f64>, sums: &[f64], samples: f64) -> Option<Self> {
        let columns = sums.len();
        let covariance = |row: usize, column: usize| {
            let product = products[row.max(column) * columns + row.min(column)];
            (product - sums[row] * sums[column] / samples) / samples
        };
        let variances: Vec<f64> = (0..columns).map(|column| covariance(column, column)).collect();
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| variances[a].total_cmp(&variances[b]).then(a.cmp(&b)));
        let mean = variances.iter().sum::<f64>() / columns as f64;
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        let mut factor = vec![0.0; columns * columns];
        factor.par_chunks_mut(columns).enumerate().for_each(|(row, line)| {
            for (column, value) in line[..=row].iter_mut().enumerate() {
                *value = covariance(order[row], order[column]);
            }
            line[row] += damping;
        });
        drop(products);
        factorise(&mut factor, columns).then_some(Self { factor, order })
    }

    /// `rows * inverse(H)`, in the columns' own order.
    pub(super) fn divide(&self, rows: &mut [f64]) {
        let columns = self.order.len();
        let tasks = ROWS_AT_ONCE * columns;
        rows.par_chunks_mut(columns).for_each(|row| {
            let ordered: Vec<f64> = self.order.iter().map(|&column| row[column]).collect();
            row.copy_from_slice(&ordered);
        });
        for start in (0..columns).step_by(BLOCK) {
            let end = (start + BLOCK).min(columns);
            let factor = |k: usize, column: usize| self.factor[(end + column) * columns + start + k];
            let factors = Panels::new(end - start, columns - end, TILE_COLUMNS, factor);
            rows.par_chunks_mut(tasks).for_each(|rows| {
                for row in rows.chunks_exact_mut(columns) {
                    for at in start..end {
                        let line = &self.factor[at * columns..=at * columns + at];
                        let known = line[start..at].iter().zip(&row[start..at]);
                        let known: f64 = known.map(|(factor, value)| factor * value).sum();
                        row[at] = (row[at] - known) / line[at];
                    }
                }
                take_off(rows, columns, start..end, (end..columns, &factors));
            });
        }
        for start in (0..columns).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(columns);
            let factor = |k: usize, column: usize| self.factor[(start + k) * columns + column];
            let factors = Panels::new(end - start, start, TILE_COLUMNS, factor);
            rows.par_chunks_mut(tasks).for_each(|rows| {
                for row in rows.chunks_exact_mut(columns) {
                    for at in (start..end).rev() {
                        let line = &self.factor[at * columns..=at * columns + at];
                        row[at] /= line[at];
                        let value = row[at];
                        let rest = row[start..at].iter_mut().zip(&line[start..]);
                        rest.for_each(|(rest, factor)| *rest -= value * factor);
                    }
                }
                take_off(rows, columns, start..end, (0..start, &factors));
            });
        }
        rows.par_chunks_mut(columns).for_each(|row| {
            let ordered = row.to_vec();
            self.order.iter().zip(ordered).for_each(|(&column, value)| row[column] = value);
        });
    }

    /// Steps for the rows `[row][column]` of a group, of which each has its scale.
    ///
    /// What an error adds to the columns of its own block is added at once, what all errors of a
    /// block add to those before it when the block is done.
    pub(super) fn round(&self, weights: &[f64], scales: &[f64]) -> Vec<i8> {
        let (columns, count) = (self.order.len(), scales.len());
        let mut rows: Vec<Rows> = (0..count)
            .step_by(ROWS_AT_ONCE)
            .map(|row| Rows::new(row, ROWS_AT_ONCE.min(count - row), columns))
            .collect();
        for start in (0..columns).step_by(BLOCK).rev() {
            let block = start..(start + BLOCK).min(columns);
            let factor = |k: usize, column: usize| self.factor[(start + k) * columns + column];
            let factors = Panels::new(block.len(), start, TILE_COLUMNS, factor);
            rows.par_iter_mut().for_each(|rows| {
                let errors = rows.round((weights, scales), self, block.clone());
                rows.move_errors(&errors, &factors, start);
            });
        }
        rows.into_iter().flat_map(|rows| rows.weights).collect()
    }
}

/// Takes `rows[..][block] * factors` off other columns.
fn take_off(
    rows: &mut [f64],
    columns: usize,
    block: Range<usize>,
    (others, factors): (Range<usize>, &Panels),
) {
    let left = Panels::new(block.len(), rows.len() / columns, TILE_ROWS, |k, row| {
        -rows[row * columns + block.start + k]
    });
    add_tiles(rows, columns, others, (&left, 0), factors);
}

/// Some rows of a group while they are rounded.
struct Rows {
    first: usize,
    columns: usize,
    /// `[row][column]`.
    weights: Vec<i8>,
    /// What the errors of columns that are done add to the others, `[row][place in the order]`.
    moved: Vec<f64>,
}

impl Rows {
    fn new(first: usize, count: usize, columns: usize) -> Self {
        Self { first, columns, weights: vec![0; count * columns], moved: vec![0.0; count * columns] }
    }

    /// Rounds the columns of a block, from the last to the first. Gives their errors,
    /// `[row][column of the block]`.
    fn round(&mut self, (reals, scales): (&[f64], &[f64]), solved: &Solved, block: Range<usize>) -> Vec<f64> {
        let columns = self.columns;
        let mut errors = Vec::with_capacity(self.weights.len() / columns * block.len());
        let rows = self.weights.chunks_exact_mut(columns).zip(self.moved.chunks_exact_mut(columns));
        for (row, (weights, moved)) in rows.enumerate() {
            let reals = &reals[(self.first + row) * columns..];
            let scale = scales[self.first + row];
            let at = errors.len();
            errors.resize(at + block.len(), 0.0);
            for index in block.clone().rev() {
                let line = &solved.factor[index * columns..=index * columns + index];
                let column = solved.order[index];
                let step = round::step(reals[column] + moved[index] / line[index], scale);
                weights[column] = step;
                let error = reals[column] - f64::from(step) * scale;
                errors[at + index - block.start] = error;
                for (moved, factor) in moved[block.start..index].iter_mut().zip(&line[block.start..]) {
                    *moved += error * factor;
                }
            }
        }
        errors
    }

    /// Adds what the errors of a block, which starts at `start`, add to the columns before it.
    fn move_errors(&mut self, errors: &[f64], factors: &Panels, start: usize) {
        let count = self.weights.len() / self.columns;
        let depth = errors.len() / count;
        let left = Panels::new(depth, count, TILE_ROWS, |k, row| errors[row * depth + k]);
        add_tiles(&mut self.moved, self.columns, 0..start, (&left, 0), factors);
    }
}
