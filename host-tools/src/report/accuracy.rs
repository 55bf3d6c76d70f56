//! How a model does on labelled pictures, alone and against f32.

use anyhow::{Result, ensure};
use resight_model_file::Activation;
use resight_runtime::top_k;
use resight_teach::Share;

use crate::page::chart::Curve;
use crate::paired::Paired;
use crate::predict::Predictions;
use crate::quantise::Noise;
use crate::tags::TaggedImage;

/// Bins of probabilities in which the share of right pictures is counted.
const BINS: usize = 10;
/// With fewer cases a bin is no point of a curve.
const LEAST: usize = 5;

/// How a model does on pictures.
#[derive(Debug)]
pub struct Accuracy {
    /// Of the int8 network.
    pub int8: OwnAccuracy,
    /// Of the f32 network, and how far both are apart.
    pub float: Option<(OwnAccuracy, Compared)>,
    /// The pictures, with what they show.
    pub images: Vec<TaggedImage>,
    /// Whether several classes may be right for a picture.
    pub independent: bool,
}

/// How one network does.
#[derive(Debug, Clone)]
pub struct OwnAccuracy {
    /// The best class is right; of classes that do not exclude each other, the likeliest is.
    pub top1: Share,
    /// One of the best five is.
    pub top5: Share,
    /// How often what is said with some probability is right.
    pub reliability: Curve,
    /// Mean distance of both, weighted by the number of cases (the expected calibration error).
    pub calibration_error: f64,
}

/// How far an int8 network is from f32.
#[derive(Debug)]
pub struct Compared {
    /// Pictures with the same best class.
    pub agreement: Share,
    /// On which of them f32 (first) and int8 (second) are right.
    pub right: Paired,
    /// Signal to noise ratio of the logits, decibel.
    pub sqnr_db: f64,
    /// The same with each picture's mean logit removed.
    pub centred_sqnr_db: f64,
    /// Mean distance of the probability of f32's best class.
    pub probability_distance: f64,
    /// Pictures whose best class changed, those that f32 was surest of first.
    pub changed: Vec<Changed>,
}

/// A picture whose best class changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Which picture.
    pub picture: usize,
    /// f32's best class and its probability.
    pub float: (usize, f32),
    /// The same of int8.
    pub int8: (usize, f32),
}

impl Accuracy {
    /// Of what the int8 network says, and f32 if there is one.
    ///
    /// # Errors
    /// Networks of other classes or other pictures.
    pub fn of(int8: &Predictions, float: Option<&Predictions>) -> Result<Self> {
        let compared = |float: &Predictions| -> Result<_> {
            ensure!(
                float.model.classes() == int8.model.classes() && float.images == int8.images,
                "{} has {} classes, {} has {}: they cannot be compared",
                float.file,
                float.model.classes(),
                int8.file,
                int8.model.classes()
            );
            Ok((OwnAccuracy::of(float), Compared::of(float, int8)))
        };
        Ok(Self {
            int8: OwnAccuracy::of(int8),
            float: float.map(compared).transpose()?,
            images: int8.images.clone(),
            independent: int8.model.activation() == Activation::Sigmoid,
        })
    }
}

fn best(row: &[f32]) -> usize {
    top_k(row, 1).first().copied().unwrap_or(0)
}

impl OwnAccuracy {
    fn of(predictions: &Predictions) -> Self {
        let Predictions { model, images, logits, .. } = predictions;
        let share = |k: usize| {
            let is_right =
                |(row, shown): (&Vec<f32>, &[usize])| top_k(row, k).iter().any(|class| shown.contains(class));
            let shown = images.iter().map(|image| image.classes.as_slice());
            let hits = logits.iter().zip(shown).filter(|&pair| is_right(pair)).count();
            Share::wilson(hits as f64, logits.len() as f64)
        };
        let mut cases: Vec<(f64, bool)> = vec![];
        for (row, image) in logits.iter().zip(images) {
            let probabilities = model.probabilities(row);
            if model.activation() == Activation::Sigmoid {
                let all = probabilities.iter().enumerate();
                cases.extend(all.map(|(class, &p)| (f64::from(p), image.classes.contains(&class))));
            } else {
                let best = best(row);
                cases.push((f64::from(probabilities[best]), image.classes.contains(&best)));
            }
        }
        let (reliability, calibration_error) = reliability(&cases);
        Self { top1: share(1), top5: share(5), reliability, calibration_error }
    }
}

/// The curve of the share of right cases by probability, and its mean distance from the diagonal.
fn reliability(cases: &[(f64, bool)]) -> (Curve, f64) {
    let mut bins = [(0usize, 0.0, 0usize); BINS];
    for &(probability, right) in cases {
        let (count, sum, hits) = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        *count += 1;
        *sum += probability;
        *hits += usize::from(right);
    }
    let all = cases.len().max(1) as f64;
    let error = bins.iter().map(|&(_, sum, hits)| (hits as f64 - sum).abs()).sum::<f64>() / all;
    let point = |&(count, sum, hits): &(usize, f64, usize)| {
        (count >= LEAST).then(|| (sum / count as f64, hits as f64 / count as f64))
    };
    (bins.iter().filter_map(point).collect(), error)
}

impl Compared {
    fn of(float: &Predictions, int8: &Predictions) -> Self {
        let pairs = || float.logits.iter().zip(&int8.logits);
        let mut changed = vec![];
        let (mut noise, mut centred) = (Noise::default(), Noise::default());
        let mut distance = 0.0;
        for (picture, (row, other)) in pairs().enumerate() {
            noise.merge(Noise::of(row, other));
            centred.merge(Noise::centred(row, other));
            let (float, int8) = (float.model.probabilities(row), int8.model.probabilities(other));
            let (before, after) = (best(row), best(other));
            distance += f64::from((float[before] - int8[before]).abs());
            if before != after {
                changed.push(Changed { picture, float: (before, float[before]), int8: (after, int8[after]) });
            }
        }
        let count = int8.logits.len();
        let same = count - changed.len();
        changed.sort_by(|a, b| b.float.1.total_cmp(&a.float.1).then(a.picture.cmp(&b.picture)));
        let right = |row: &[f32], picture: usize| int8.images[picture].classes.contains(&best(row));
        Self {
            agreement: Share::wilson(same as f64, count as f64),
            right: Paired::of(
                pairs()
                    .enumerate()
                    .map(|(picture, (row, other))| (right(row, picture), right(other, picture))),
            ),
            sqnr_db: noise.decibel(),
            centred_sqnr_db: centred.decibel(),
            probability_distance: distance / count.max(1) as f64,
            changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_often_right_as_it_says_lies_on_the_diagonal() {
        let mut cases = vec![];
        for tenth in 0..10 {
            let probability = f64::from(tenth) / 10.0 + 0.05;
            cases.extend((0..100).map(|n| (probability, f64::from(n) < probability * 100.0 - 0.5)));
        }
        let (curve, error) = reliability(&cases);
        assert_eq!(curve.len(), BINS);
        assert!(curve.iter().all(|(said, right)| (said - right).abs() < 0.011), "{curve:?}");
        assert!(error < 0.011, "{error}");
    }

    #[test]
    fn overconfidence_is_measured() {
        // 90 % sure, half of it right: by hand 0.4.
        let cases: Vec<(f64, bool)> = (0..20).map(|n| (0.9, n % 2 == 0)).collect();
        let (curve, error) = reliability(&cases);
        assert_eq!(curve.len(), 1);
        assert!((curve[0].0 - 0.9).abs() < 1e-12 && curve[0].1 == 0.5);
        assert!((error - 0.4).abs() < 1e-12, "{error}");
        // A probability of one has a bin; few cases are no point.
        assert_eq!(reliability(&[(1.0, true)]).0, []);
        assert_eq!(reliability(&[]).1, 0.0);
    }
}
