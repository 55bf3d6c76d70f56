//! What is familiar: the taught pictures that a new one is compared with.

use rayon::prelude::*;

use crate::features::Features;

/// Taught pictures as rows of an int8 linear layer.
///
/// A row is the picture's features less their zero, in 8 bits; its product with those of another
/// picture, over both lengths, is the cosine.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// `[picture][feature]`.
    pub rows: Vec<i8>,
    /// One over the length of each row.
    pub scale: Vec<f32>,
    /// The photograph of each row.
    pub photographs: Vec<usize>,
    /// How many of the nearest pictures count.
    pub nearest: usize,
    columns: usize,
    zero: i32,
}

/// Most of the nearest pictures that count. Tried on features of ResNet-50, flowers and waste against each
/// other and against tiles: with 3, 5, 7, 10 and 15 the worst of the four has 82, 85, 87, 93 and 94 % of
/// the unfamiliar pictures rejected at 1 % of familiar ones. Centred or scaled features are worse.
pub const NEAREST: usize = 10;

/// How many of the nearest pictures count where the smallest class has so many: with more of them, those
/// of other classes would.
pub fn nearest_of(smallest_class: usize) -> usize {
    (smallest_class / 4).clamp(1, NEAREST)
}

/// The largest sum of the magnitudes of a row whose products with features up to `limit` fit 32 bits,
/// with the zero folded in.
fn largest_sum(limit: i16, zero: i32) -> i64 {
    i64::from(i32::MAX) / (i64::from(limit) + i64::from(zero).abs() + 1)
}

/// The features less their zero in 8 bits, as long as fits.
fn row_of(features: &[i16], zero: i32, limit: i16) -> (Vec<i8>, f32) {
    let centred: Vec<i64> = features.iter().map(|&value| i64::from(value) - i64::from(zero)).collect();
    let largest = centred.iter().map(|value| value.abs()).max().unwrap_or(0).max(1);
    let sum: i64 = centred.iter().map(|value| value.abs()).sum();
    let room = largest_sum(limit, zero) - features.len() as i64;
    let factor = (127.0 / largest as f64).min(room.max(1) as f64 / sum.max(1) as f64);
    let row: Vec<i8> = centred.iter().map(|&value| (value as f64 * factor).round() as i8).collect();
    let square: i64 = row.iter().map(|&value| i64::from(value).pow(2)).sum();
    (row, (1.0 / (square as f64).sqrt().max(1.0)) as f32)
}

impl Memory {
    /// The pictures of `rows` (of `features`), or, where there are more than `most`, so many of them
    /// that none of the others is far from one: the next is always the one that is least similar to
    /// those that are there.
    pub fn new(
        features: &Features,
        rows: &[usize],
        most: usize,
        nearest: usize,
        zero: i32,
        limit: i16,
    ) -> Self {
        let mut memory = Self {
            rows: vec![],
            scale: vec![],
            photographs: vec![],
            nearest,
            columns: features.columns(),
            zero,
        };
        if rows.len() <= most {
            for (photograph, &row) in rows.iter().enumerate() {
                memory.push(photograph, features.row(row), limit);
            }
            return memory;
        }
        let mut nearest = vec![f64::NEG_INFINITY; rows.len()];
        let mut next = 0;
        for _ in 0..most {
            memory.push(next, features.row(rows[next]), limit);
            let last = memory.len() - 1;
            let cosines: Vec<f64> =
                rows.par_iter().map(|&row| memory.cosine(last, features.row(row))).collect();
            nearest.iter_mut().zip(&cosines).for_each(|(nearest, cosine)| *nearest = nearest.max(*cosine));
            next = (0..rows.len()).min_by(|&a, &b| nearest[a].total_cmp(&nearest[b])).unwrap_or(0);
        }
        memory
    }

    fn push(&mut self, photograph: usize, features: &[i16], limit: i16) {
        let (row, scale) = row_of(features, self.zero, limit);
        self.rows.extend(row);
        self.scale.push(scale);
        self.photographs.push(photograph);
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.scale.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scale.is_empty()
    }

    /// A row.
    pub fn row(&self, index: usize) -> &[i8] {
        &self.rows[index * self.columns..][..self.columns]
    }

    /// What is added to each row's products with features as they are: minus the zero's part.
    pub fn bias(&self) -> Vec<i32> {
        let sum = |row: &[i8]| row.iter().map(|&value| i32::from(value)).sum::<i32>();
        self.rows.chunks_exact(self.columns).map(|row| -sum(row) * self.zero).collect()
    }

    /// The cosine of a row and a picture's features.
    pub fn cosine(&self, index: usize, features: &[i16]) -> f64 {
        let (mut product, mut square) = (0_i64, 0_i64);
        for (&weight, &value) in self.row(index).iter().zip(features) {
            let value = i64::from(value) - i64::from(self.zero);
            product += i64::from(weight) * value;
            square += value * value;
        }
        if square == 0 {
            -1.0
        } else {
            product as f64 * f64::from(self.scale[index]) / (square as f64).sqrt()
        }
    }

    /// The mean cosine to the nearest of the pictures that `counts` lets count.
    pub fn familiarity(&self, features: &[i16], counts: impl Fn(usize) -> bool) -> Option<f64> {
        let counted = (0..self.len()).filter(|&index| counts(self.photographs[index]));
        let mut cosines: Vec<f64> = counted.map(|index| self.cosine(index, features)).collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        cosines.truncate(self.nearest);
        let count = cosines.len();
        (count > 0).then(|| cosines.iter().sum::<f64>() / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> Features {
        let mut features = Features::new(3);
        for row in [[-100, 0, 100], [-100, 10, 90], [300, -100, -100], [-100, -100, 300], [0, 0, 0]] {
            features.push(&row);
        }
        features
    }

    #[test]
    fn cosines_are_those_of_features_less_their_zero() {
        let features = features();
        let memory = Memory::new(&features, &[0, 1, 2, 3, 4], 10, 3, -100, 500);
        assert_eq!(memory.len(), 5);
        // (0, 100, 200) and (400, 0, 0); (0, 100, 200) and itself.
        assert!(memory.cosine(2, features.row(0)).abs() < 0.01);
        assert!((memory.cosine(0, features.row(0)) - 1.0).abs() < 0.001);
        let bias = memory.bias();
        let row = memory.row(0).iter().map(|&value| i32::from(value)).sum::<i32>();
        assert_eq!(bias[0], 100 * row);
    }

    #[test]
    fn of_many_pictures_the_different_ones_stay() {
        let memory = Memory::new(&features(), &[0, 1, 2, 3, 4], 3, 3, -100, 500);
        // 1 is nearly 0, and 3 is nearly 0.
        assert_eq!(memory.photographs[..2], [0, 2]);
    }

    #[test]
    fn products_fit_32_bits() {
        let mut features = Features::new(4096);
        features.push(&[16384; 4096]);
        let memory = Memory::new(&features, &[0], 1, 1, -16384, 16384);
        let sum: i64 = memory.row(0).iter().map(|&value| i64::from(value).abs()).sum();
        assert!(sum * 16384 + i64::from(memory.bias()[0]).abs() <= i64::from(i32::MAX));
        assert!((memory.cosine(0, features.row(0)) - 1.0).abs() < 1e-6);
    }
}
