//! What is gathered of each tensor while the f32 network runs over the calibration images.
//!
//! Everything is integer sums, so the result does not depend on the order of the images or on
//! the number of threads, and its size does not depend on the number of images.

/// Bins on either side of zero.
const HALF: usize = 4096;
/// Values whose bins are looked for before they are counted.
const BLOCK: usize = 1024;
/// Places for zeros while values are counted.
const ZEROS: usize = 8;
/// Values of which each has a minimum of its own.
const LANES: usize = 16;
/// Sums next to each other.
const SUMS: usize = 4;
/// The bits of a float's exponent: all of them where it is not finite.
const EXPONENT: u32 = 0x7f80_0000;
/// 1.5 x 2^23: what is added to it, up to 2^22, is rounded to a whole number, which its last bits are.
const INTEGERS: f32 = 12_582_912.0;
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
        if values.is_empty() {
            return true;
        }
        let Some((low, high)) = extremes(values) else { return false };
        self.grow(low.abs().max(high.abs()));
        self.minimum = self.minimum.min(low);
        self.maximum = self.maximum.max(high);
        let inverse = (-f64::from(self.exponent)).exp2() as f32;
        // Zeros, half of what a ReLU leaves, have places of their own behind the bins, in turns: a
        // count that waits for the one before it is slow, and so is a branch that nothing foretells.
        self.counts.resize(2 * HALF + ZEROS, 0);
        let mut places = [0; BLOCK];
        for block in values.chunks(BLOCK) {
            for (index, (place, &value)) in places.iter_mut().zip(block).enumerate() {
                // A power of two scales exactly, and `grow` made the result fit.
                let scaled = value * inverse;
                let shifted = scaled + INTEGERS;
                let nearest = shifted.to_bits() as i32 - INTEGERS.to_bits() as i32;
                let bin = nearest - i32::from(shifted - INTEGERS > scaled) + HALF as i32;
                *place = if value == 0.0 { (2 * HALF + index % ZEROS) as i32 } else { bin };
            }
            for &place in &places[..block.len()] {
                self.counts[place as usize] += 1;
            }
        }
        self.zeros += self.counts.drain(2 * HALF..).sum::<u64>();
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
        self.exponent += 1;
        // Nothing was added yet.
        if self.minimum > self.maximum {
            return;
        }
        let mut counts = vec![0; 2 * HALF];
        for (bin, count) in self.counts.iter().enumerate() {
            let signed = bin as i32 - HALF as i32;
            counts[(signed.div_euclid(2) + HALF as i32) as usize] += count;
        }
        self.counts = counts;
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

/// Smallest and largest of values, of which a zero is positive; `None` where one is not finite.
fn extremes(values: &[f32]) -> Option<(f32, f32)> {
    // A minimum of its own for each of some lanes needs no order, so the compiler makes vectors of them.
    let (mut low, mut high, mut exponents) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0; LANES]);
    let mut block = |values: &[f32; LANES]| {
        for (lane, &value) in values.iter().enumerate() {
            low[lane] = if value < low[lane] { value } else { low[lane] };
            high[lane] = if value > high[lane] { value } else { high[lane] };
            let exponent = value.to_bits() & EXPONENT;
            exponents[lane] = if exponent > exponents[lane] { exponent } else { exponents[lane] };
        }
    };
    let (blocks, rest) = values.as_chunks::<LANES>();
    blocks.iter().for_each(&mut block);
    for &value in rest {
        block(&[value; LANES]);
    }
    let is_finite = exponents.iter().all(|exponent| *exponent < EXPONENT);
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    is_finite.then_some((low + 0.0, high + 0.0))
}

/// The sum of each of some slices as long as the first, each in its order: next to each other, because a
/// sum waits for the one before it.
fn sums(slices: [&[f32]; SUMS]) -> [f64; SUMS] {
    let mut sums = [0.0; SUMS];
    let [a, b, c, d] = slices;
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (sum, value) in sums.iter_mut().zip([a, b, c, d]) {
            *sum += f64::from(*value);
        }
    }
    sums
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
        let channels: Vec<&[f32]> = values.chunks_exact(positions).take(self.sums.len()).collect();
        for (totals, channels) in self.sums.chunks_mut(SUMS).zip(channels.chunks(SUMS)) {
            let last = channels[channels.len() - 1];
            let found = sums(std::array::from_fn(|index| channels.get(index).copied().unwrap_or(last)));
            for (total, sum) in totals.iter_mut().zip(found) {
                *total += (sum / positions as f64 * MEAN_SCALE).round() as i128;
            }
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
        assert!(!histogram.add(&[1.0, -f32::NAN, 2.0]));
        assert!(!histogram.add(&[f32::INFINITY, 0.0]));
        assert_eq!((histogram.total(), histogram.minimum()), (0, f32::INFINITY));
    }

    #[test]
    fn each_value_is_in_the_bin_below_it_and_zeros_are_in_none() {
        // More than a block, with an end that is none.
        let values: Vec<f32> = (0..3 * BLOCK + 5).map(|at| (at as f32 - 1500.0) * 0.25).collect();
        let mut histogram = Histogram::default();
        assert!(histogram.add(&values));
        assert!(histogram.add(&[-0.0, 0.0, 0.0]));
        assert_eq!((histogram.minimum(), histogram.maximum()), (-375.0, 394.0));
        assert_eq!((histogram.zeros(), histogram.total()), (4, values.len() as u64 + 3));
        // 394 is below 512 = 4096 / 8.
        assert_eq!(histogram.width(), 0.125);
        let expected = values.iter().filter(|&&value| value != 0.0);
        let expected: Vec<_> = expected.map(|&value| (f64::from(value) + 0.0625, 1)).collect();
        assert_eq!(histogram.bins().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn means_are_per_channel() {
        let mut statistics = TensorStatistics::new(2);
        assert!(statistics.add(&[1.0, 3.0, -1.0, -1.0]));
        assert!(statistics.add(&[5.0, 7.0, 0.0, 0.0]));
        assert_eq!(statistics.means(), [4.0, -0.5]);
    }
}
