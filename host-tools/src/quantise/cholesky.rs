//! Cholesky's factorisation of a positive definite matrix, with the same bits for any number of
//! threads and on every CPU: each element is the result of one fixed sequence of operations.

use rayon::prelude::*;

use super::product::{Panels, TILE_COLUMNS, TILE_ROWS, sums};

/// Columns that are factorised before the rest of the matrix is updated.
const BLOCK: usize = 128;
/// Rows of the rest that are updated by one task.
const TASK_ROWS: usize = 8 * TILE_ROWS;

/// Replaces the lower triangle of `matrix` (`[size][size]`, symmetric, of which only that triangle
/// is read) by `L` with `matrix = L * transpose(L)`. What lies above the diagonal is not touched.
/// False where the matrix is not positive definite; it is of no use then.
pub fn factorise(matrix: &mut [f64], size: usize) -> bool {
    for start in (0..size).step_by(BLOCK) {
        let end = (start + BLOCK).min(size);
        let (upper, lower) = matrix.split_at_mut(end * size);
        if !diagonal(upper, size, start, end) {
            return false;
        }
        let columns = columns(upper, size, start, end);
        lower.par_chunks_mut(size).for_each(|row| panel(&columns, &mut row[start..end]));
        let (depth, below) = (end - start, lower.len() / size);
        let value = |column: usize, row: usize| lower[row * size + start + column];
        let left = Panels::new(depth, below, TILE_ROWS, value);
        let right = Panels::new(depth, below, TILE_COLUMNS, value);
        lower.par_chunks_mut(TASK_ROWS * size).enumerate().for_each(|(task, rows)| {
            update(rows, (&left, &right), size, end, task * TASK_ROWS);
        });
    }
    true
}

/// The block on the diagonal.
fn diagonal(matrix: &mut [f64], size: usize, start: usize, end: usize) -> bool {
    for row in start..end {
        for column in start..=row {
            let mut value = matrix[row * size + column];
            for k in start..column {
                value -= matrix[row * size + k] * matrix[column * size + k];
            }
            if column < row {
                value /= matrix[column * size + column];
            } else if value > 0.0 && value.is_finite() {
                value = value.sqrt();
            } else {
                return false;
            }
            matrix[row * size + column] = value;
        }
    }
    true
}

/// The columns of the block on the diagonal, from the diagonal down.
fn columns(matrix: &[f64], size: usize, start: usize, end: usize) -> Vec<Vec<f64>> {
    let column = |column: usize| (column..end).map(|row| matrix[row * size + column]).collect();
    (start..end).map(column).collect()
}

/// One row below the block, the part of it in the block's columns.
fn panel(columns: &[Vec<f64>], mut row: &mut [f64]) {
    for column in columns {
        let Some((first, rest)) = row.split_first_mut() else { return };
        *first /= column[0];
        let known = *first;
        rest.iter_mut().zip(&column[1..]).for_each(|(value, factor)| *value -= known * factor);
        row = rest;
    }
}

/// Takes the block's share off `rows`, the first of which is `first` rows below the block, which
/// ends at the column `end`.
fn update(rows: &mut [f64], (left, right): (&Panels, &Panels), size: usize, end: usize, first: usize) {
    let count = rows.len() / size;
    for column in (0..first + count).step_by(TILE_COLUMNS) {
        for (tile, rows) in rows.chunks_mut(TILE_ROWS * size).enumerate() {
            let first = first + tile * TILE_ROWS;
            if column >= first + TILE_ROWS {
                continue;
            }
            let sums = sums(left.panel(first / TILE_ROWS), right.panel(column / TILE_COLUMNS));
            for (index, (row, sums)) in rows.chunks_exact_mut(size).zip(sums).enumerate() {
                let width = (first + index + 1).saturating_sub(column).min(TILE_COLUMNS);
                for (value, sum) in row[end + column..].iter_mut().zip(sums).take(width) {
                    *value -= sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A well conditioned positive definite matrix: `A * transpose(A) + size`.
    fn matrix(size: usize) -> Vec<f64> {
        let entry = |row: usize, column: usize| ((row * 37 + column * 91) % 23) as f64 / 23.0 - 0.5;
        let mut matrix = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..size {
                let sum: f64 = (0..size).map(|k| entry(row, k) * entry(column, k)).sum();
                matrix[row * size + column] = sum + if row == column { 1.0 } else { 0.0 };
            }
        }
        matrix
    }

    #[test]
    fn the_factor_times_its_transpose_is_the_matrix() {
        for size in [1, 2, 5, 63, 127, 128, 129, 150, 300] {
            let original = matrix(size);
            let mut factor = original.clone();
            assert!(factorise(&mut factor, size), "{size}");
            for row in 0..size {
                for column in 0..=row {
                    let product: f64 =
                        (0..=column).map(|k| factor[row * size + k] * factor[column * size + k]).sum();
                    let difference = product - original[row * size + column];
                    assert!(difference.abs() < 1e-9, "{size}: {row} {column}: {difference}");
                }
                assert_eq!(
                    factor[row * size + row + 1..(row + 1) * size],
                    original[row * size + row + 1..(row + 1) * size]
                );
            }
        }
    }

    #[test]
    fn an_indefinite_matrix_is_refused() {
        assert!(!factorise(&mut [1.0, 0.0, 2.0, 1.0], 2));
        assert!(!factorise(&mut [0.0], 1));
        assert!(!factorise(&mut [f64::NAN], 1));
    }

    #[test]
    fn threads_change_no_bit() {
        let size = 290;
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut factor = matrix(size);
                assert!(factorise(&mut factor, size));
                factor
            })
        };
        assert!(run(1) == run(3));
    }
}
