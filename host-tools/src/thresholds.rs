//! From what rate of false alarms is wanted to the threshold of each class.

use resight_teach::Share;
use serde::Serialize;

use crate::tags::TaggedImage;

/// The probability that the threshold of a wanted rate lies outside of its interval.
const OUTSIDE: f64 = 0.05;

/// What was found of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassThreshold {
    /// The class.
    pub class: usize,
    /// Pictures that show it.
    pub pictures: usize,
    /// Pictures that do not.
    pub others: usize,
    /// The least probability from which on at most the wanted share of the others is taken for it.
    pub threshold: f64,
    /// The threshold that is as good on all pictures of this kind is not below this, 95 times of 100.
    pub low: f64,
    /// Nor above this; `None` where there are too few other pictures to tell.
    pub high: Option<f64>,
    /// Of the others, how many are taken for it with `threshold`.
    pub false_alarms: Share,
    /// Of those that show it, how many are found with `threshold`; `None` if none shows it.
    pub recall: Option<Share>,
}

/// Other pictures that are needed for an upper end of the interval: with fewer, none of them would be
/// a false alarm too often.
pub fn pictures_needed(rate: f64) -> usize {
    ((OUTSIDE / 2.0).ln() / (-rate).ln_1p()).ceil() as usize
}

/// The thresholds of every class that some picture shows, by `probabilities`, of each picture one for
/// each class, and a wanted `rate` of false alarms, `0..1`.
pub fn thresholds(probabilities: &[Vec<f32>], images: &[TaggedImage], rate: f64) -> Vec<ClassThreshold> {
    let classes = probabilities.first().map_or(0, Vec::len);
    let of = |class: usize| {
        let (mut own, mut others) = (vec![], vec![]);
        for (row, image) in probabilities.iter().zip(images) {
            let shows = image.classes.binary_search(&class).is_ok();
            (if shows { &mut own } else { &mut others }).push(f64::from(row[class]));
        }
        (!own.is_empty()).then(|| ClassThreshold::of(class, &own, others, rate))
    };
    (0..classes).filter_map(of).collect()
}

impl ClassThreshold {
    fn of(class: usize, own: &[f64], mut others: Vec<f64>, rate: f64) -> Self {
        others.sort_by(|a, b| b.total_cmp(a));
        let count = others.len();
        let allowed = (rate * count as f64 + 1e-9).floor() as usize;
        let threshold = above(&others, allowed);
        let [fewest, most] = ranks(count, rate);
        let alarms = others.iter().filter(|&&probability| probability >= threshold).count();
        let found = own.iter().filter(|&&probability| probability >= threshold).count();
        Self {
            class,
            pictures: own.len(),
            others: count,
            threshold,
            low: most.map_or(0.0, |most| above(&others, most)).min(threshold),
            high: fewest.map(|fewest| above(&others, fewest).max(threshold)),
            false_alarms: Share::wilson(alarms as f64, count as f64),
            recall: (!own.is_empty()).then(|| Share::wilson(found as f64, own.len() as f64)),
        }
    }
}

/// The least threshold, in ten thousandths, that no more than `allowed` of some probabilities, in
/// falling order, reach.
fn above(falling: &[f64], allowed: usize) -> f64 {
    let Some(first) = falling.get(allowed) else { return 0.0 };
    let next = (first * 1e4).floor() + 1.0;
    // Probabilities are compared as `f32`, of which both may be the same.
    let step = (if next - first * 1e4 < 0.1 { next + 1.0 } else { next }) / 1e4;
    // What a configuration holds is at most 1; a class that is taken for certain has no better one.
    step.min(1.0)
}

/// How many of the others may reach the thresholds at both ends of the interval: the order statistics
/// that hold the quantile of `rate` 95 times of 100, whatever the distribution. The first is the upper
/// end's, `None` where not even the largest of the others is sure enough to be above it.
fn ranks(count: usize, rate: f64) -> [Option<usize>; 2] {
    // Of `count` pictures, how many are above the true quantile is binomial.
    let whole = count as f64;
    let probability = |alarms: f64| {
        let ways =
            libm::lgamma(whole + 1.0) - libm::lgamma(alarms + 1.0) - libm::lgamma(whole - alarms + 1.0);
        (ways + alarms * rate.ln() + (whole - alarms) * (-rate).ln_1p()).exp()
    };
    let (mut below, mut fewest, mut most) = (0.0, None, None);
    for alarms in 0..=count {
        let up_to = below + probability(alarms as f64);
        if up_to <= OUTSIDE / 2.0 {
            fewest = Some(alarms);
        }
        if most.is_none() && up_to >= 1.0 - OUTSIDE / 2.0 {
            most = Some(alarms);
        }
        below = up_to;
    }
    [fewest, most]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn images(classes: &[usize]) -> Vec<TaggedImage> {
        classes.iter().map(|&class| TaggedImage { path: PathBuf::new(), classes: vec![class] }).collect()
    }

    #[test]
    fn at_most_the_wanted_share_is_above() {
        // 100 pictures of class 1 with the probabilities 0.00 to 0.99 of class 0, and four of class 0.
        let mut rows: Vec<Vec<f32>> = (0..100).map(|n| vec![n as f32 / 100.0, 0.0]).collect();
        rows.extend([0.5f32, 0.94, 0.96, 0.99].map(|own| vec![own, 0.0]));
        let shown: Vec<usize> = (0..104).map(|n| usize::from(n < 100)).collect();
        let found = thresholds(&rows, &images(&shown), 0.05);
        let first = &found[0];
        assert_eq!((first.class, first.pictures, first.others), (0, 4, 100));
        // 0.95 to 0.99 are five of a hundred; the next one, 0.94, must stay below.
        assert!(first.threshold > 0.94 && first.threshold < 0.9402, "{first:?}");
        assert_eq!(first.false_alarms, Share::wilson(5.0, 100.0));
        assert_eq!(first.recall, Some(Share::wilson(2.0, 4.0)));
        // scipy.stats.binom(100, 0.05): 1 is the largest with a distribution function up to 0.025
        // (0.037 at 1, 0.0059 at 0), so 0; 0.975 is reached at 10.
        assert!(first.low > 0.89 && first.low < 0.8902, "{first:?}");
        assert!(first.high.is_some_and(|high| high > 0.99), "{first:?}");
    }

    #[test]
    fn ranks_are_those_of_the_binomial_distribution() {
        // scipy.stats.binom.ppf and cdf
        assert_eq!(ranks(100, 0.05), [Some(0), Some(10)]);
        assert_eq!(ranks(400, 0.05), [Some(11), Some(29)]);
        assert_eq!(ranks(50, 0.01), [None, Some(2)]);
        // So many that the probability of none is no number any more.
        let [fewest, most] = ranks(200_000, 0.01);
        assert!(fewest.is_some_and(|n| (1900..2000).contains(&n)), "{fewest:?}");
        assert!(most.is_some_and(|n| (2000..2100).contains(&n)), "{most:?}");
    }

    #[test]
    fn few_pictures_have_no_upper_end() {
        let rows: Vec<Vec<f32>> = (0..21).map(|n| vec![n as f32 / 100.0, 1.0]).collect();
        let shown: Vec<usize> = (0..21).map(|n| usize::from(n < 20)).collect();
        let found = thresholds(&rows, &images(&shown), 0.01);
        assert_eq!(found[0].high, None);
        // (1 - 0.01)^368 is 0.0248, ^367 is 0.0250.
        assert_eq!(pictures_needed(0.01), 368);
    }

    #[test]
    fn a_class_that_no_picture_shows_has_no_threshold() {
        let rows = vec![vec![0.2, 0.7, 0.1], vec![0.9, 0.05, 0.05]];
        let found = thresholds(&rows, &images(&[1, 0]), 0.05);
        assert_eq!(found.iter().map(|class| class.class).collect::<Vec<_>>(), [0, 1]);
        assert!(thresholds(&[], &[], 0.05).is_empty());
    }

    #[test]
    fn what_is_always_taken_for_certain_gets_the_highest_threshold() {
        let found = ClassThreshold::of(0, &[1.0], vec![1.0; 10], 0.05);
        assert_eq!(found.threshold, 1.0);
        assert_eq!(found.false_alarms.value, 1.0);
    }
}
