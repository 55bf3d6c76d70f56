//! Figures with their uncertainty.

use serde::{Deserialize, Serialize};

/// A share with the interval in which it lies 95 times of 100; all `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Standard deviations of 95 %.
const Z: f64 = 1.959_963_984_540_054;

impl Share {
    /// Wilson's interval for `hits` of `count`, either of which may be a fraction.
    pub fn wilson(hits: f64, count: f64) -> Self {
        if count <= 0.0 {
            return Self { value: 0.0, low: 0.0, high: 1.0 };
        }
        let value = hits / count;
        let z2 = Z * Z / count;
        let centre = (value + z2 / 2.0) / (1.0 + z2);
        let half = Z / (1.0 + z2) * (value * (1.0 - value) / count + z2 / (4.0 * count)).sqrt();
        Self { value, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }

    /// The share of `right` among photographs in groups, whose interval holds for as many *other*
    /// photographs: they vary as much as these do, so that the count is halved. Photographs of one group
    /// count less than those of different ones, by the variance between groups (the design effect).
    ///
    /// What is learnt from all photographs does better than what a fold was tested with, which learnt
    /// from fewer: `left` of the errors, `0..=1`, remain then. The upper end allows for that.
    pub fn of_others(right: &[bool], groups: &[usize], left: f64) -> Self {
        let count = right.len() as f64;
        let hits = right.iter().filter(|right| **right).count() as f64;
        let effective = (count / design_effect(right, groups)).max(1.0) / 2.0;
        let value = hits / count.max(1.0);
        let better = 1.0 - (1.0 - value) * left;
        let low = Self::wilson(value * effective, effective).low;
        Self { value, low, high: Self::wilson(better * effective, effective).high }
    }
}

/// By how much the variance of the share is larger than of photographs that are all different; at
/// least 1.
fn design_effect(right: &[bool], groups: &[usize]) -> f64 {
    let count = right.len() as f64;
    let share = right.iter().filter(|right| **right).count() as f64 / count.max(1.0);
    let plain = share * (1.0 - share) * count;
    let group_count = groups.iter().max().map_or(0, |group| group + 1);
    let mut residuals = vec![0.0; group_count];
    for (&right, &group) in right.iter().zip(groups) {
        residuals[group] += f64::from(u8::from(right)) - share;
    }
    let clustered: f64 = residuals.iter().map(|residual| residual * residual).sum();
    if plain > 0.0 { (clustered / plain).max(1.0) } else { count / (group_count as f64).max(1.0) }
}

/// Area under the curve of those that should be high against those that should be low: how often one of
/// the former is above one of the latter. One half without either.
pub fn auroc(high: &[f64], low: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = high.iter().map(|&value| (value, true)).collect();
    all.extend(low.iter().map(|&value| (value, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut won, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let equal = all[at..].iter().take_while(|other| other.0 == all[at].0).count();
        let highs = all[at..at + equal].iter().filter(|one| one.1).count() as f64;
        let lows = equal as f64 - highs;
        won += highs * (below + lows / 2.0);
        below += lows;
        at += equal;
    }
    let pairs = (high.len() * low.len()) as f64;
    if pairs > 0.0 { won / pairs } else { 0.5 }
}

/// The largest value such that at most `share` of `values` are below it.
pub fn lower_quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len() as f64).floor() as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        let share = Share::wilson(90.0, 100.0);
        assert!((share.low - 0.8256).abs() < 1e-4 && (share.high - 0.9448).abs() < 1e-4, "{share:?}");
        let none = Share::wilson(0.0, 3.0);
        assert!(none.low == 0.0 && (none.high - 0.5615).abs() < 1e-4, "{none:?}");
    }

    #[test]
    fn photographs_of_one_group_count_as_one() {
        let right: Vec<bool> = (0..100).map(|index| index >= 20).collect();
        let apart = Share::of_others(&right, &(0..100).collect::<Vec<_>>(), 1.0);
        let tens = Share::of_others(&right, &(0..100).map(|index| index / 10).collect::<Vec<_>>(), 1.0);
        assert_eq!(apart.value, tens.value);
        let better = Share::of_others(&right, &(0..100).collect::<Vec<_>>(), 0.9);
        assert!(better.low == apart.low && better.high > apart.high, "{better:?}");
        assert!(tens.high - tens.low > 2.0 * (apart.high - apart.low), "{apart:?} {tens:?}");
        let certain =
            Share::of_others(&[true; 40], &(0..40).map(|index| index / 20).collect::<Vec<_>>(), 1.0);
        assert!(certain.low < 0.5, "{certain:?}");
    }

    #[test]
    fn the_area_counts_pairs() {
        assert_eq!(auroc(&[2.0, 3.0], &[1.0, 2.0]), 3.5 / 4.0);
        assert_eq!(auroc(&[], &[1.0]), 0.5);
        assert_eq!(lower_quantile(&[5.0, 1.0, 3.0, 2.0, 4.0], 0.2), 2.0);
        assert_eq!(lower_quantile(&[5.0, 1.0, 3.0], 0.01), 1.0);
    }
}
