//! What is gathered of each tensor while the f32 network runs over the calibration images.
//!
//! Everything is integer sums, so the result does not depend on the order of the images or on
//! the number of threads, and its size does not depend on the number of images.

/// Bins on either side of zero.
const HALF: usize = 4096;
/// The narrowest bins: 2^-40.
const MINIMUM_EXPONENT: i32 = -40;
/// Fixed-point scale of summed means.
const MEAN_SCALE: f64 = (1u64 << 32) as f64;

/// A histogram with bins of width `2^exponent` that doubles its bins as the range grows.
///
/// A value falls in bin `floor(value / 2^exponent)`. Doubling merges bins in pairs, which is
/// exact, so the final state depends only on the set of values.
#[derive(Debug, Clone)]
pub struct Histogram {
    exponent: i32,
    counts: Vec<u64>,
    zeros: u64,
    minimum: f32,
    maximum: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            exponent: MINIMUM_EXPONENT,
            counts: vec![0; 2 * HALF],
            zeros: 0,
            minimum: f32::INFINITY,
            maximum: f32::NEG_INFINITY,
        }
    }
}

impl Histogram {
    /// Adds values. Returns false, leaving the histogram as it was, when one is not finite.
    pub fn add(&mut self, values: &[f32]) -> bool {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut finite = true;
        for &value in values {
            low = low.min(value);
            high = high.max(value);
            finite &= value.is_finite();
        }
        if !finite {
            return false;
        }
        if values.is_empty() {
            return true;
        }
        self.minimum = self.minimum.min(low);
        self.maximum = self.maximum.max(high);
        self.grow(low.abs().max(high.abs()));
        let inverse = (-f64::from(self.exponent)).exp2() as f32;
        for &value in values {
            if value == 0.0 {
                self.zeros += 1;
            } else {
                // A power of two scales exactly, and `grow` made the result fit.
                let bin = (value * inverse).floor() as i32 + HALF as i32;
                self.counts[bin as usize] += 1;
            }
        }
        true
    }

    /// Adds the values of another histogram.
    pub fn merge(&mut self, mut other: Self) {
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
        self.zeros += other.zeros;
        while self.exponent < other.exponent {
            self.double();
        }
        while other.exponent < self.exponent {
            other.double();
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    fn grow(&mut self, magnitude: f32) {
        while f64::from(magnitude) >= HALF as f64 * self.width() {
            self.double();
        }
    }

    fn double(&mut self) {
        let mut counts = vec![0; 2 * HALF];
        for (bin, count) in self.counts.iter().enumerate() {
            let signed = bin as i32 - HALF as i32;
            counts[(signed.div_euclid(2) + HALF as i32) as usize] += count;
        }
        self.counts = counts;
        self.exponent += 1;
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// Smallest value, infinity when empty.
    pub fn minimum(&self) -> f32 {
        self.minimum
    }

    /// Largest value, negative infinity when empty.
    pub fn maximum(&self) -> f32 {
        self.maximum
    }

    /// How many values were added, exact zeros included.
    pub fn total(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// How many values were exactly zero; they are in no bin.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The bins that hold something, in ascending order: centre and count.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let width = self.width();
        self.counts
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count > 0)
            .map(move |(bin, &count)| ((bin as f64 - HALF as f64 + 0.5) * width, count))
    }
}

/// Statistics of one tensor: its histogram and the mean of each channel.
#[derive(Debug, Clone)]
pub struct TensorStatistics {
    /// All values.
    pub histogram: Histogram,
    sums: Vec<i128>,
    images: u64,
}

impl TensorStatistics {
    /// Empty statistics of a tensor with so many channels.
    pub fn new(channels: usize) -> Self {
        Self { histogram: Histogram::default(), sums: vec![0; channels], images: 0 }
    }

    /// Adds one image's tensor `[channels][positions]`. False when a value is not finite.
    pub fn add(&mut self, values: &[f32]) -> bool {
        if !self.histogram.add(values) {
            return false;
        }
        let positions = (values.len() / self.sums.len().max(1)).max(1);
        for (sum, channel) in self.sums.iter_mut().zip(values.chunks_exact(positions)) {
            let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / positions as f64;
            *sum += (mean * MEAN_SCALE).round() as i128;
        }
        self.images += 1;
        true
    }

    /// Adds the images of other statistics of the same tensor.
    pub fn merge(&mut self, other: Self) {
        self.histogram.merge(other.histogram);
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
        self.images += other.images;
    }

    /// Mean of each channel over all positions and images; zero when empty.
    pub fn means(&self) -> Vec<f64> {
        let scale = MEAN_SCALE * self.images.max(1) as f64;
        self.sums.iter().map(|&sum| sum as f64 / scale).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(
            values in proptest::collection::vec(-1e6f32..1e6, 1..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(values.len());
            let mut one = Histogram::default();
            prop_assert!(one.add(&values));
            let mut first = Histogram::default();
            let mut second = Histogram::default();
            prop_assert!(first.add(&values[cut..]));
            prop_assert!(second.add(&values[..cut]));
            second.merge(first);
            prop_assert_eq!(one.exponent, second.exponent);
            prop_assert_eq!(&one.counts, &second.counts);
            prop_assert_eq!(one.total(), values.len() as u64);
        }

        #[test]
        fn bins_are_close_to_their_values(value in -1e6f32..1e6) {
            prop_assume!(value != 0.0);
            let mut histogram = Histogram::default();
            prop_assert!(histogram.add(&[value]));
            let (centre, count) = histogram.bins().next().unwrap();
            prop_assert_eq!(count, 1);
            prop_assert!((centre - f64::from(value)).abs() <= f64::from(value.abs()) / 2000.0);
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused() {
        let mut histogram = Histogram::default();
        assert!(!histogram.add(&[1.0, f32::NAN]));
        assert!(!histogram.add(&[f32::NEG_INFINITY]));
        assert_eq!(histogram.total(), 0);
    }

    #[test]
    fn means_are_per_channel() {
        let mut statistics = TensorStatistics::new(2);
        assert!(statistics.add(&[1.0, 3.0, -1.0, -1.0]));
        assert!(statistics.add(&[5.0, 7.0, 0.0, 0.0]));
        assert_eq!(statistics.means(), [4.0, -0.5]);
    }
}
