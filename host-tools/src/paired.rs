//! Two networks on the same pictures: how far their accuracies are apart, and whether that is chance.
//!
//! Only pictures on which they differ tell anything, so intervals of either accuracy alone are far
//! too wide to compare by.

use serde::Serialize;

use resight_teach::Share;

/// How often two networks are right on the same pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Paired {
    /// Both are.
    pub both: usize,
    /// Only the first is.
    pub first: usize,
    /// Only the second is.
    pub second: usize,
    /// Neither is.
    pub neither: usize,
}

/// A difference of two shares with the interval in which it lies 95 times of 100; all `-1..=1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The difference.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Paired {
    /// Counts pictures, each with whether the first and the second network are right.
    pub fn of(pictures: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut paired = Self::default();
        for right in pictures {
            *match right {
                (true, true) => &mut paired.both,
                (true, false) => &mut paired.first,
                (false, true) => &mut paired.second,
                (false, false) => &mut paired.neither,
            } += 1;
        }
        paired
    }

    /// Pictures.
    pub fn count(&self) -> usize {
        self.both + self.first + self.second + self.neither
    }

    /// The first network's share of right pictures less the second's, with the interval of Newcombe
    /// ("Improved confidence intervals for the difference between binomial proportions based on
    /// paired data", 1998, method 10): Wilson's intervals of both shares, put together by their
    /// correlation.
    pub fn difference(&self) -> Difference {
        let count = self.count() as f64;
        if count == 0.0 {
            return Difference { value: 0.0, low: -1.0, high: 1.0 };
        }
        let first = Share::wilson((self.both + self.first) as f64, count);
        let second = Share::wilson((self.both + self.second) as f64, count);
        let correlation = self.correlation();
        let part = |a: f64, b: f64| (a * a - 2.0 * correlation * a * b + b * b).max(0.0).sqrt();
        let value = (self.first as f64 - self.second as f64) / count;
        Difference {
            value,
            low: value - part(first.value - first.low, second.high - second.value),
            high: value + part(first.high - first.value, second.value - second.low),
        }
    }

    /// How far the networks are right on the same pictures, with Newcombe's correction for
    /// continuity; 0 where one is always right or always wrong.
    fn correlation(&self) -> f64 {
        let [both, first, second, neither] =
            [self.both, self.first, self.second, self.neither].map(|count| count as f64);
        let product = (both + first) * (second + neither) * (both + second) * (first + neither);
        if product == 0.0 {
            return 0.0;
        }
        let together = both * neither - first * second;
        let half = (self.count() as f64) / 2.0;
        let corrected = if together > 0.0 { (together - half).max(0.0) } else { together };
        corrected / product.sqrt()
    }

    /// How probable a difference of this size or more is if neither network is better: `McNemar`'s
    /// test, exact and two-sided, by the pictures on which only one is right.
    pub fn probability(&self) -> f64 {
        two_sided(self.first, self.second)
    }
}

/// Twice the probability that at most the smaller of both counts is heads, of as many fair coins.
fn two_sided(one: usize, other: usize) -> f64 {
    let (count, fewest) = ((one + other) as f64, one.min(other));
    let all = libm::lgamma(count + 1.0) - count * std::f64::consts::LN_2;
    let of = |heads: usize| {
        let heads = heads as f64;
        (all - libm::lgamma(heads + 1.0) - libm::lgamma(count - heads + 1.0)).exp()
    };
    (2.0 * (0..=fewest).map(of).sum::<f64>()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(both: usize, first: usize, second: usize, neither: usize) -> Paired {
        Paired { both, first, second, neither }
    }

    /// Airway hyper-responsiveness before and after transplantation, the example of Fagerland,
    /// Lydersen and Laake ("Recommended tests and confidence intervals for paired binomial
    /// proportions", 2014), of which 1, 1, 7 and 12 children were.
    #[test]
    fn the_probability_is_that_of_the_exact_test() {
        let found = paired(1, 1, 7, 12).probability();
        assert!((found - 18.0 / 256.0).abs() < 1e-12, "{found}");
        // scipy.stats.binomtest(5, 20).pvalue
        let found = paired(300, 15, 5, 80).probability();
        assert!((found - 0.041_389_465_332_031_25).abs() < 1e-12, "{found}");
        // No picture tells anything.
        assert_eq!(paired(5, 0, 0, 5).probability(), 1.0);
        assert_eq!(paired(5, 3, 3, 5).probability(), 1.0);
    }

    #[test]
    fn thousands_of_differences_do_not_overflow() {
        // scipy.stats.binomtest(4900, 10000).pvalue
        let found = paired(0, 4900, 5100, 0).probability();
        assert!((found - 0.046_585_527_7).abs() < 1e-8, "{found}");
    }

    /// Newcombe's table of 1998 for his method 10, and the example above, by which Fagerland and others
    /// give -0.507 to -0.026.
    #[test]
    fn intervals_are_newcombes() {
        for (counts, low, high) in [
            (paired(1, 1, 7, 12), -0.5069, -0.0256),
            (paired(36, 12, 2, 0), 0.0569, 0.3404),
            (paired(20, 12, 2, 16), 0.0562, 0.3292),
        ] {
            let found = counts.difference();
            assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
        }
    }

    #[test]
    fn order_changes_the_sign_alone() {
        let (one, other) = (paired(300, 9, 2, 89).difference(), paired(300, 2, 9, 89).difference());
        assert_eq!(one.value, -other.value);
        assert!((one.low + other.high).abs() < 1e-12 && (one.high + other.low).abs() < 1e-12);
        assert!(one.low < one.value && one.value < one.high);
    }

    #[test]
    fn networks_that_agree_are_not_apart() {
        let difference = paired(380, 0, 0, 20).difference();
        assert_eq!(difference.value, 0.0);
        assert!(difference.low > -0.02 && difference.high < 0.02, "{difference:?}");
        assert_eq!(Paired::default().difference(), Difference { value: 0.0, low: -1.0, high: 1.0 });
    }

    #[test]
    fn pictures_are_counted() {
        let pictures = [(true, true), (true, false), (false, false), (true, true), (false, true)];
        assert_eq!(Paired::of(pictures.into_iter()), paired(2, 1, 1, 1));
    }
}
