//! Cholesky's factorisation of a positive definite matrix, with the same bits for any number of
//! threads and on every CPU: each element is the result of one fixed sequence of operations.

use rayon::prelude::*;

/// Columns that are factorised before the rest of the matrix is updated.
const BLOCK: usize = 64;
/// Rows of the rest that share what is loaded of a block.
const TILE: usize = 4;

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
        let upper = &*upper;
        lower.par_chunks_mut(size).for_each(|row| panel(upper, row, size, start, end));
        let transposed = transposed_panel(lower, size, start, end);
        lower
            .par_chunks_mut(TILE * size)
            .enumerate()
            .for_each(|(tile, rows)| update(rows, &transposed, size, start..end, tile * TILE));
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

/// One row below the block.
fn panel(upper: &[f64], row: &mut [f64], size: usize, start: usize, end: usize) {
    for column in start..end {
        let factor = &upper[column * size + start..=column * size + column];
        let mut value = row[column];
        for (known, factor) in row[start..column].iter().zip(factor) {
            value -= known * factor;
        }
        row[column] = value / factor[column - start];
    }
}

/// The columns `start..end` of the rows below, column by column.
fn transposed_panel(lower: &[f64], size: usize, start: usize, end: usize) -> Vec<f64> {
    let rows = lower.len() / size;
    let mut transposed = vec![0.0; (end - start) * rows];
    transposed.par_chunks_mut(rows.max(1)).enumerate().for_each(|(column, values)| {
        for (value, row) in values.iter_mut().zip(lower.chunks_exact(size)) {
            *value = row[start + column];
        }
    });
    transposed
}

/// Takes the block's share off `rows`, the first of which is `first` rows below the block.
fn update(rows: &mut [f64], transposed: &[f64], size: usize, block: std::ops::Range<usize>, first: usize) {
    let below = transposed.len() / block.len();
    let count = rows.len() / size;
    for column in (0..first + count).step_by(TILE) {
        let width = TILE.min(below - column);
        let mut sums = [[0.0; TILE]; TILE];
        for others in transposed.chunks_exact(below) {
            let mut other = [0.0; TILE];
            other[..width].copy_from_slice(&others[column..column + width]);
            for (index, sums) in sums.iter_mut().enumerate().take(count) {
                let factor = others[first + index];
                for (sum, other) in sums.iter_mut().zip(other) {
                    *sum += factor * other;
                }
            }
        }
        for (index, (row, sums)) in rows.chunks_exact_mut(size).zip(sums).enumerate() {
            let width = width.min(first + index + 1 - column);
            for (value, sum) in row[block.end + column..].iter_mut().zip(sums).take(width) {
                *value -= sum;
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
        for size in [1, 2, 5, 63, 64, 65, 130, 197] {
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
        let size = 150;
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
