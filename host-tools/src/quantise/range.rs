//! From a histogram to the range that an int8 tensor covers.

use std::str::FromStr;

use resight_runtime::Quantisation;

use super::statistics::Histogram;

/// How the range of an activation is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The smallest and the largest value seen.
    MinMax,
    /// Cuts off so many percent of the values at either end, for example 99.99.
    Percentile(f64),
    /// Least Kullback-Leibler divergence between the float and the quantised distribution
    /// (Migacz, "8-bit inference with TensorRT", 2017).
    Entropy,
    /// Least mean squared error: rounding inside the range plus clipping outside.
    Mse,
    /// Ranges as with `Mse`; by default with every pass that brings the network closer to f32.
    Best,
}

impl Method {
    /// The name as on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MinMax => "minmax",
            Self::Percentile(_) => "percentile",
            Self::Entropy => "entropy",
            Self::Mse => "mse",
            Self::Best => "best",
        }
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        match text {
            "minmax" => Ok(Self::MinMax),
            "percentile" => Ok(Self::Percentile(99.999)),
            "entropy" => Ok(Self::Entropy),
            "mse" => Ok(Self::Mse),
            "best" => Ok(Self::Best),
            _ => Err(UnknownMethod(text.into())),
        }
    }
}

/// A method that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown method `{0}`; expected best, mse, minmax, percentile or entropy")]
pub struct UnknownMethod(String);

/// Steps of an int8 number.
const STEPS: f64 = 255.0;
/// Thresholds that a search tries on either side.
const CANDIDATES: usize = 256;

/// A range that is settled grows by less than one part in so many: whatever lies in its outer half comes
/// to lie on a step by less than that.
const WIDEST: f64 = 64.0;
/// The share of the error of rounding that may be left for a range to be settled.
const WORTH_IT: f64 = 0.8;

/// The range `[low, high]` that `method` chooses; it always contains zero.
pub fn choose(method: Method, histogram: &Histogram) -> (f64, f64) {
    let low = f64::from(histogram.minimum()).min(0.0);
    let high = f64::from(histogram.maximum()).max(0.0);
    if histogram.total() == 0 || low == high {
        return (0.0, 1.0);
    }
    match method {
        Method::MinMax => (low, high),
        Method::Percentile(percentile) => cut(histogram, percentile, low, high),
        Method::Entropy => entropy(histogram, low, high),
        Method::Mse | Method::Best => mse(histogram, low, high),
    }
}

/// The range for a tensor that only a function of its values looks at. With the squared error as
/// measure it is the function's error that counts: where it is flat, nothing is lost.
pub fn choose_for(method: Method, histogram: &Histogram, function: &dyn Fn(f64) -> f64) -> (f64, f64) {
    let low = f64::from(histogram.minimum()).min(0.0);
    let high = f64::from(histogram.maximum()).max(0.0);
    let fits = matches!(method, Method::Mse | Method::Best) && histogram.total() > 0 && low < high;
    if !fits {
        return choose(method, histogram);
    }
    let half = histogram.width() / 2.0;
    let bins: Vec<(f64, f64, f64, f64)> = histogram
        .bins()
        .map(|(x, count)| {
            let slope = (function(x + half) - function(x - half)) / histogram.width();
            (x, count as f64, function(x), slope * slope)
        })
        .collect();
    if bins.iter().any(|bin| !bin.2.is_finite() || !bin.3.is_finite()) {
        return choose(method, histogram);
    }
    let error = |low: f64, high: f64| {
        let step = (high - low) / STEPS;
        let rounding = step * step / 12.0;
        let edges = (function(low), function(high));
        let of_bin = |&(x, count, value, slope): &(f64, f64, f64, f64)| {
            let edge = if x < low { edges.0 } else { edges.1 };
            let outside = if x < low || x > high { value - edge } else { 0.0 };
            count * (outside * outside + rounding * slope)
        };
        bins.iter().map(of_bin).sum::<f64>()
    };
    let mut best = (low, high);
    for _ in 0..2 {
        best.1 = search(high, |edge| error(best.0, edge));
        best.0 = search(low, |edge| error(edge, best.1));
    }
    if best.0 == best.1 { (low, high) } else { best }
}

/// A range a little wider than `[low, high]`, so that what most of the values are lies on a step: a map
/// of scores is one number nearly everywhere, and half a step beside it is all its error. Both edges
/// move alike, so the zero point stays. The same range, where that would not take a fifth of the
/// rounding away. `function` is what alone looks at the values.
pub fn settle(
    method: Method,
    histogram: &Histogram,
    (low, high): (f64, f64),
    function: &dyn Fn(f64) -> f64,
) -> (f64, f64) {
    if !matches!(method, Method::Mse | Method::Best) {
        return (low, high);
    }
    let bins: Vec<(f64, f64, f64)> =
        histogram.bins().map(|(x, count)| (x, count as f64, function(x))).collect();
    let error = |wider: f64| {
        let steps = quantisation(low * wider, high * wider);
        let rounded = |x: f64| {
            let step = (x / f64::from(steps.scale)).round() + f64::from(steps.zero_point);
            f64::from(steps.scale) * (step.clamp(-128.0, 127.0) - f64::from(steps.zero_point))
        };
        bins.iter().map(|&(x, count, value)| count * (function(rounded(x)) - value).powi(2)).sum::<f64>()
    };
    let candidates = (0..CANDIDATES).map(|i| 1.0 + i as f64 / (WIDEST * CANDIDATES as f64));
    let best = candidates.map(|wider| (error(wider), wider)).min_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((least, wider)) if least < WORTH_IT * error(1.0) => (low * wider, high * wider),
        _ => (low, high),
    }
}

/// Scale and zero point of a range that contains zero. Zero is always exactly representable.
pub fn quantisation(low: f64, high: f64) -> Quantisation {
    let scale = ((high - low) / STEPS).max(f64::from(f32::MIN_POSITIVE)) as f32;
    let zero_point = (-128.0 - low / f64::from(scale)).round().clamp(-128.0, 127.0) as i32;
    Quantisation { scale, zero_point }
}

fn cut(histogram: &Histogram, percentile: f64, low: f64, high: f64) -> (f64, f64) {
    let allowed = (histogram.total() as f64 * (1.0 - percentile / 100.0)).max(0.0) as u64;
    let half = histogram.width() / 2.0;
    let edge = |bins: &mut dyn Iterator<Item = (f64, u64)>| {
        let mut outside = 0;
        for (centre, count) in bins {
            outside += count;
            if outside > allowed {
                return centre;
            }
        }
        0.0
    };
    let bins: Vec<(f64, u64)> = histogram.bins().collect();
    let new_low = if low < 0.0 { (edge(&mut bins.iter().copied()) - half).clamp(low, 0.0) } else { 0.0 };
    let new_high =
        if high > 0.0 { (edge(&mut bins.iter().rev().copied()) + half).clamp(0.0, high) } else { 0.0 };
    if new_low == new_high { (low, high) } else { (new_low, new_high) }
}

/// Squared error of a range: uniform rounding noise inside, distance to the edge outside.
/// Exact zeros cost nothing, as zero is representable.
fn squared_error(bins: &[(f64, u64)], low: f64, high: f64) -> f64 {
    let step = (high - low) / STEPS;
    let rounding = step * step / 12.0;
    bins.iter()
        .map(|&(value, count)| {
            let outside = value - value.clamp(low, high);
            count as f64 * if outside == 0.0 { rounding } else { outside * outside + rounding }
        })
        .sum()
}

fn mse(histogram: &Histogram, low: f64, high: f64) -> (f64, f64) {
    let bins: Vec<(f64, u64)> = histogram.bins().collect();
    let mut best = (low, high);
    // Alternating between the two edges converges in two rounds on every layer seen.
    for _ in 0..2 {
        best.1 = search(high, |edge| squared_error(&bins, best.0, edge));
        best.0 = search(low, |edge| squared_error(&bins, edge, best.1));
    }
    if best.0 == best.1 { (low, high) } else { best }
}

/// The fraction of `edge` with the least cost.
fn search(edge: f64, cost: impl Fn(f64) -> f64) -> f64 {
    if edge == 0.0 {
        return 0.0;
    }
    let candidates = (CANDIDATES / 16..=CANDIDATES).map(|i| edge * i as f64 / CANDIDATES as f64);
    candidates.map(|edge| (cost(edge), edge)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(edge, |best| best.1)
}

fn entropy(histogram: &Histogram, low: f64, high: f64) -> (f64, f64) {
    // One side of zero after the other, with the share of the steps that falls to it.
    let side = |edge: f64| {
        if edge == 0.0 {
            return 0.0;
        }
        let sign = edge.signum();
        let width = histogram.width();
        let last = (edge.abs() / width).ceil() as usize;
        let mut counts = vec![0.0; last + 1];
        for (value, count) in histogram.bins().filter(|(value, _)| value.signum() == sign) {
            let bin = (value.abs() / width) as usize;
            counts[bin.min(last)] += count as f64;
        }
        let levels = ((edge.abs() / (high - low)) * (STEPS + 1.0)).round().max(2.0) as usize;
        sign * divergence_threshold(&counts, levels) as f64 * width
    };
    let best = (side(low).max(low), side(high).min(high));
    if best.0 == best.1 { (low, high) } else { best }
}

/// The number of leading bins to keep so that quantising them to `levels` levels diverges least.
fn divergence_threshold(counts: &[f64], levels: usize) -> usize {
    let mut best = (f64::INFINITY, counts.len());
    if counts.len() <= levels {
        return counts.len();
    }
    let step = ((counts.len() - levels) / CANDIDATES).max(1);
    for threshold in (levels..=counts.len()).rev().step_by(step) {
        let divergence = divergence(counts, threshold, levels);
        if divergence < best.0 {
            best = (divergence, threshold);
        }
    }
    best.1
}

fn divergence(counts: &[f64], threshold: usize, levels: usize) -> f64 {
    let outside: f64 = counts[threshold..].iter().sum();
    let total: f64 = counts.iter().sum();
    let inside: f64 = total - outside;
    if total == 0.0 || inside == 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for level in 0..levels {
        let range = level * threshold / levels
            ..((level + 1) * threshold / levels).max(level * threshold / levels + 1);
        let bins = &counts[range.start..range.end.min(threshold)];
        let mass: f64 = bins.iter().sum();
        let occupied = bins.iter().filter(|&&count| count > 0.0).count();
        for (offset, &count) in bins.iter().enumerate() {
            let last = range.start + offset == threshold - 1;
            let p = (count + if last { outside } else { 0.0 }) / total;
            // Where only the clipped tail falls into an empty bin, the quantised distribution
            // has nothing; a small mass keeps the divergence finite.
            let q = if count > 0.0 { mass / occupied as f64 / inside } else { 1e-9 };
            if p > 0.0 {
                sum += p * (p / q).ln();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell with one far outlier, as activations have.
    fn outlier() -> Histogram {
        let mut histogram = Histogram::default();
        let values: Vec<f32> = (0..100_000)
            .map(|i| {
                let unit = (i as f32 + 0.5) / 100_000.0;
                (unit / (1.0 - unit)).ln()
            })
            .collect();
        assert!(histogram.add(&values));
        assert!(histogram.add(&[100.0]));
        histogram
    }

    #[test]
    fn minimum_and_maximum_are_taken_as_they_are() {
        let (low, high) = choose(Method::MinMax, &outlier());
        assert!(low < -11.0 && high == 100.0, "{low} {high}");
    }

    #[test]
    fn the_other_methods_cut_the_outlier() {
        // One outlier in 100,000 is worth some of the range to the squared error, none to the others.
        for (method, most) in [(Method::Percentile(99.9), 20.0), (Method::Entropy, 60.0), (Method::Mse, 95.0)]
        {
            let (low, high) = choose(method, &outlier());
            assert!(high < most && high > 4.0 && low < -4.0, "{method:?}: {low} {high}");
        }
    }

    #[test]
    fn mse_beats_minimum_and_maximum() {
        let histogram = outlier();
        let bins: Vec<(f64, u64)> = histogram.bins().collect();
        let error = |method| {
            let (low, high) = choose(method, &histogram);
            squared_error(&bins, low, high)
        };
        assert!(error(Method::Mse) < error(Method::MinMax));
        assert!(error(Method::Mse) <= error(Method::Percentile(99.9)));
    }

    #[test]
    fn a_map_that_is_one_number_nearly_everywhere_has_it_on_a_step() {
        let mut histogram = Histogram::default();
        assert!(histogram.add(&vec![-4.595; 20_000]) && histogram.add(&[-9.0, 2.0]));
        let error = |(low, high)| {
            let q = quantisation(low, high);
            let step = (-4.595 / q.scale).round() as i32 + q.zero_point;
            f64::from((q.dequantise(step as i8) + 4.595).abs() / q.scale)
        };
        // Between two steps, as far from both as it can be.
        let range = (-9.0, 4.595 / 52.5 * STEPS - 9.0);
        assert!(error(range) > 0.45, "{}", error(range));
        let settled = settle(Method::Mse, &histogram, range, &|x| x);
        assert!(error(settled) < 0.05, "{settled:?}");
        assert!(settled.0 <= range.0 && settled.1 >= range.1 && settled.1 < range.1 * (1.0 + 1.0 / WIDEST));
        // What the function does not tell apart is no reason to move anything.
        assert_eq!(settle(Method::Mse, &histogram, range, &|_| 1.0), range);
        assert_eq!(settle(Method::MinMax, &histogram, range, &|x| x), range);
    }

    #[test]
    fn a_map_of_many_numbers_keeps_its_range() {
        let range = choose(Method::Mse, &outlier());
        assert_eq!(settle(Method::Mse, &outlier(), range, &|x| x), range);
    }

    #[test]
    fn a_positive_range_uses_all_steps() {
        let q = quantisation(0.0, 2.55);
        assert_eq!(q.zero_point, -128);
        assert!((q.dequantise(127) - 2.55).abs() < 1e-6);
        assert_eq!(q.dequantise(-128), 0.0);
    }

    #[test]
    fn zero_is_exact_in_a_signed_range() {
        let q = quantisation(-1.3, 2.9);
        assert_eq!(q.dequantise(q.zero_point as i8), 0.0);
    }

    #[test]
    fn an_empty_or_constant_tensor_gets_a_usable_range() {
        let mut histogram = Histogram::default();
        for method in [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse] {
            assert_eq!(choose(method, &Histogram::default()), (0.0, 1.0));
        }
        assert!(histogram.add(&[0.0; 10]));
        assert_eq!(choose(Method::Mse, &histogram), (0.0, 1.0));
        assert!(histogram.add(&[3.0; 10]));
        for method in [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse] {
            let (low, high) = choose(method, &histogram);
            assert!(low <= 0.0 && high >= 2.9, "{method:?}: {low} {high}");
        }
    }
}
