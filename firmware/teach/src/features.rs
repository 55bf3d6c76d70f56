//! The features of many pictures, as the solver reads them.

/// Rows of features, one for each view of each photograph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    columns: usize,
    values: Vec<i16>,
}

impl Features {
    /// No rows of so many features.
    pub fn new(columns: usize) -> Self {
        Self { columns, values: vec![] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// A row of another length.
    pub fn push(&mut self, row: &[i16]) {
        assert_eq!(row.len(), self.columns, "a row has one number for each feature");
        self.values.extend_from_slice(row);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Features of each row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A row.
    pub fn row(&self, index: usize) -> &[i16] {
        &self.values[index * self.columns..][..self.columns]
    }
}

/// What features are centred on and divided by before learning.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Of each feature.
    pub mean: Vec<f64>,
    /// Of all features; positive. One number for all: divided by deviations of their own, features that
    /// hardly vary become as loud as those that tell classes apart, which cost up to 3 points of accuracy
    /// on photographs of flowers, and 8-bit weights lose more.
    pub deviation: f64,
}

impl Scaling {
    /// Mean of each feature and root mean square deviation of all, of these rows.
    pub fn of(features: &Features, rows: &[usize]) -> Self {
        let columns = features.columns();
        let count = rows.len().max(1) as f64;
        // Sums of 16-bit integers are exact.
        let (mut sums, mut squares) = (vec![0_i64; columns], vec![0_i64; columns]);
        for &row in rows {
            for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(features.row(row)) {
                *sum += i64::from(value);
                *square += i64::from(value) * i64::from(value);
            }
        }
        let mean: Vec<f64> = sums.iter().map(|&sum| sum as f64 / count).collect();
        let variance = |(&square, &mean): (&i64, &f64)| (square as f64 / count - mean * mean).max(0.0);
        let variances: f64 = squares.iter().zip(&mean).map(variance).sum();
        Self { mean, deviation: (variances / columns.max(1) as f64).max(1e-12).sqrt() }
    }
}
