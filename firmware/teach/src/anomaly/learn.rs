//! What is typical of pictures of good parts, and from where on another one is not.

use resight_runtime::layers::Anomaly;
use serde::{Deserialize, Serialize};

use super::components::{COMPONENTS, Components};
use super::coreset::Coreset;
use super::places::Places;
use crate::error::TeachError;
use crate::folds::folds;
use crate::statistics::{Share, auroc, lower_quantile};

/// The name of the class of what is typical.
pub const GOOD: &str = "good";

/// The name of the class of what is not.
pub const ANOMALY: &str = "anomaly";

/// The share of the places, those farthest from what is typical, whose mean distance counts: the largest
/// one alone is often a border. On magnetic tiles 1, 5, 10 and 25 % give an AUROC of 90.2, 90.8, 90.3 and
/// 88.9 %, all of them 85.0 %.
const FARTHEST: f64 = 0.05;

/// Rows of a memory of patches.
const MEMORY: usize = 1000;

/// Least photographs of good parts.
pub const LEAST_GOOD: usize = 5;

/// The share of what patches vary by that is due to their places, from which parts lie alike. It is 24 % of
/// magnetic tiles that fill the picture.
const ALIKE: f64 = 0.1;

/// The probability of an anomaly that half of the good pictures stay below.
const MEDIAN: f64 = 0.02;

/// Least and largest slope of the logit.
const SLOPES: [f64; 2] = [4.0, 60.0];

/// With what a picture's places are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// Each with the same place of the good pictures: parts lie alike.
    Places,
    /// Each with patches from anywhere in the good pictures.
    Patches,
}

/// What is learnt from: the [`Patches`](super::Patches) of photographs.
#[derive(Debug, Clone, Copy)]
pub struct InspectionLesson<'a> {
    /// Of good parts, `[photograph][place][feature]`.
    pub good: &'a [i8],
    /// Of defects, alike; none if none are known.
    pub defects: &'a [i8],
    /// Height, width and features of the places.
    pub shape: [usize; 3],
    /// How many features are of each stage.
    pub stages: &'a [usize],
    /// The group of each photograph of a good part: those that are nearly the same.
    pub groups: &'a [usize],
}

/// How it is learnt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InspectionSettings {
    /// Most folds of the cross-validation, at least 2.
    pub folds: usize,
    /// What folds follow from.
    pub seed: u64,
    /// Wanted share of good pictures above the threshold, 0 to 1. Without, it is chosen by the defects, if
    /// there are any, or else 1 %.
    pub false_alarms: Option<f64>,
    /// With what places are compared; found out if nothing is said.
    pub comparison: Option<Comparison>,
}

impl Default for InspectionSettings {
    fn default() -> Self {
        Self { folds: 5, seed: 1, false_alarms: None, comparison: None }
    }
}

/// What is typical.
#[derive(Debug, Clone, PartialEq)]
pub enum Typical {
    /// Of each place.
    Places(Places),
    /// Of patches anywhere.
    Patches(Coreset),
}

impl Typical {
    fn new(pictures: &[&[i8]], components: usize, comparison: Comparison) -> Result<Self, TeachError> {
        Ok(match comparison {
            Comparison::Places => Self::Places(Places::new(pictures, components)?),
            Comparison::Patches => Self::Patches(Coreset::new(pictures, components, MEMORY)),
        })
    }

    /// The distance of each place of a picture's components from what is typical.
    pub fn map(&self, picture: &[i8]) -> Vec<f32> {
        match self {
            Self::Places(places) => places.map(picture),
            Self::Patches(coreset) => coreset.map(picture),
        }
    }

    /// The mean distance of the farthest places of a picture, as the network computes it.
    fn distance(&self, picture: &[i8], farthest: usize) -> f64 {
        let pooling = Anomaly { farthest, threshold: 1.0, slope: 1.0 };
        f64::from(pooling.distance(&self.map(picture)))
    }
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// From features to few numbers.
    pub components: Components,
    /// What is typical of those.
    pub typical: Typical,
    /// What was found out.
    pub figures: InspectionFigures,
    /// The distance of each good photograph when it was not learnt from, in thresholds.
    pub good: Vec<f64>,
    /// The distance of each defect, in thresholds.
    pub defects: Vec<f64>,
    /// The fold of each good photograph.
    pub folds: Vec<usize>,
}

/// What was found out about an inspection, by cross-validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InspectionFigures {
    /// Photographs of good parts that were learnt from.
    pub photographs: usize,
    /// Groups of them that are kept together.
    pub groups: usize,
    /// Folds.
    pub folds: usize,
    /// With what places are compared.
    pub comparison: Comparison,
    /// The share of what patches vary by that is due to their places, `0..=1`.
    pub place_share: f64,
    /// Height and width of the map, in places.
    pub places: [usize; 2],
    /// Numbers that each place is described by.
    pub components: usize,
    /// How much of the features' variance they have, `0..=1`.
    pub explained: f64,
    /// Rows of the memory of patches, if there is one.
    pub memory: Option<usize>,
    /// How many of the farthest places count.
    pub farthest: usize,
    /// The distance at which a picture is as likely typical as not.
    pub threshold: f64,
    /// How fast the logit changes with the logarithm of the distance.
    pub slope: f64,
    /// Half of the good pictures are below this distance, in thresholds, when not learnt from.
    pub median: f64,
    /// Of good pictures that were not learnt from, how many are above the threshold; the interval is for as
    /// many others.
    pub false_alarms: Share,
    /// What was measured on defects, if some are known.
    pub defects: Option<DefectFigures>,
}

/// What was measured on defects, none of which was learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DefectFigures {
    /// Photographs of them.
    pub photographs: usize,
    /// How often a defect is above a good picture that was not learnt from either, `0..=1`.
    pub auroc: f64,
    /// How many are found, with a threshold that was chosen without the half that it was tried on.
    pub found: Share,
    /// Of the good pictures, how many are taken for defects then.
    pub false_alarms: Share,
}

/// Learns what is typical.
///
/// # Errors
/// Fewer than five good photographs, or photographs that do not vary.
pub fn inspect(
    lesson: &InspectionLesson<'_>,
    settings: &InspectionSettings,
) -> Result<Inspected, TeachError> {
    let [height, width, features] = lesson.shape;
    let places = height * width;
    let count = lesson.good.len() / (places * features).max(1);
    let groups = lesson.groups.iter().max().map_or(0, |group| group + 1);
    if count < LEAST_GOOD || groups < 2 {
        let different = if count < LEAST_GOOD { "" } else { " that are not nearly the same" };
        return Err(TeachError::Photographs(format!(
            "there are {count} photographs of good parts: give at least {LEAST_GOOD}{different}, better 100, taken one by \
             one"
        )));
    }
    let components = Components::new(lesson.good, lesson.stages, COMPONENTS)?;
    let [good, defects] = [lesson.good, lesson.defects].map(|values| components.of(values));
    let size = places * components.len();
    let good: Vec<&[i8]> = good.chunks_exact(size).collect();
    let place_share = place_share(&good, &components);
    let found = if place_share >= ALIKE { Comparison::Places } else { Comparison::Patches };
    let comparison = settings.comparison.unwrap_or(found);
    let farthest = ((places as f64 * FARTHEST).round() as usize).clamp(1, 64);
    let fold_count = settings.folds.min(groups).max(2);
    let folds = folds(lesson.groups, &vec![0; count], fold_count, settings.seed);
    let learn = |pictures: &[&[i8]]| Typical::new(pictures, components.len(), comparison);
    let held_out = held_out(&good, &folds, farthest, learn)?;
    let typical = learn(&good)?;
    let defects: Vec<f64> =
        defects.chunks_exact(size).map(|picture| typical.distance(picture, farthest)).collect();

    let threshold = match settings.false_alarms {
        None if !defects.is_empty() => best_threshold(&held_out, &defects),
        alarms => threshold_of_good(&held_out, alarms.unwrap_or(0.01)),
    };
    let threshold = threshold.max(f64::from(f32::MIN_POSITIVE));
    let above = |scores: &[f64]| scores.iter().filter(|score| **score >= threshold).count() as f64;
    let median = lower_quantile(&held_out, 0.5) / threshold;
    let slope = ((1.0 - MEDIAN) / MEDIAN).ln() / -median.clamp(1e-6, 1.0 - 1e-6).ln();
    let relative = |scores: &[f64]| scores.iter().map(|score| score / threshold).collect();
    let figures = InspectionFigures {
        photographs: count,
        groups,
        folds: fold_count,
        comparison,
        place_share,
        places: [height, width],
        components: components.len(),
        explained: components.explained,
        memory: match &typical {
            Typical::Places(_) => None,
            Typical::Patches(coreset) => Some(coreset.len()),
        },
        farthest,
        threshold,
        slope: slope.clamp(SLOPES[0], SLOPES[1]),
        median,
        false_alarms: Share::wilson(above(&held_out), count as f64),
        defects: (!defects.is_empty()).then(|| on_defects(&held_out, &defects, settings.false_alarms)),
    };
    Ok(Inspected {
        good: relative(&held_out),
        defects: relative(&defects),
        components,
        typical,
        figures,
        folds,
    })
}

/// The distance of each picture from what is typical of those of the other folds.
fn held_out(
    pictures: &[&[i8]],
    folds: &[usize],
    farthest: usize,
    learn: impl Fn(&[&[i8]]) -> Result<Typical, TeachError>,
) -> Result<Vec<f64>, TeachError> {
    let mut distances = vec![0.0; pictures.len()];
    for fold in 0..=folds.iter().copied().max().unwrap_or(0) {
        let others = pictures.iter().zip(folds).filter(|(_, other)| **other != fold);
        let typical = learn(&others.map(|(picture, _)| *picture).collect::<Vec<_>>())?;
        for index in (0..pictures.len()).filter(|&index| folds[index] == fold) {
            distances[index] = typical.distance(pictures[index], farthest);
        }
    }
    Ok(distances)
}

/// The share of the variance of all patches that is between the means of their places, each component by
/// its part of the features' variance.
fn place_share(pictures: &[&[i8]], components: &Components) -> f64 {
    let count = components.len();
    let size = pictures.first().map_or(0, |picture| picture.len());
    let n = pictures.len().max(1) as f64;
    let places = (size / count).max(1) as f64;
    let (mut sums, mut squares) = (vec![0_i64; size], vec![0_i64; count]);
    for picture in pictures {
        for (at, &value) in picture.iter().enumerate() {
            sums[at] += i64::from(value);
            squares[at % count] += i64::from(value).pow(2);
        }
    }
    let (mut between, mut all) = (0.0, 0.0);
    for (component, &variance) in components.variances.iter().enumerate() {
        let means = || sums.iter().skip(component).step_by(count).map(|&sum| sum as f64 / n);
        let mean = means().sum::<f64>() / places;
        let total = squares[component] as f64 / (n * places) - mean * mean;
        // What the means of a few pictures differ by without any place's being special is taken off.
        let raw = means().map(|value| (value - mean).powi(2)).sum::<f64>() / places;
        let own = ((raw - total / n) / (1.0 - 1.0 / n.max(2.0))).max(0.0);
        if total > 0.0 {
            between += variance * own / total;
            all += variance;
        }
    }
    if all > 0.0 { (between / all).min(1.0) } else { 0.0 }
}

/// The standard normal deviate that is exceeded with this probability.
fn deviate(probability: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let exceeded = 0.5 * libm::erfc(middle / std::f64::consts::SQRT_2);
        if exceeded > probability { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// What so many of good pictures exceed: of many the quantile, of few that of a logarithmic normal
/// distribution, with room for its own uncertainty.
fn threshold_of_good(scores: &[f64], alarms: f64) -> f64 {
    let n = scores.len() as f64;
    if n * alarms >= 1.0 {
        let negative: Vec<f64> = scores.iter().map(|score| -score).collect();
        return -lower_quantile(&negative, alarms);
    }
    let logarithms: Vec<f64> = scores.iter().map(|score| score.max(1e-30).ln()).collect();
    let mean = logarithms.iter().sum::<f64>() / n;
    let square: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (square / (n - 1.0).max(1.0) * (1.0 + 1.0 / n)).sqrt();
    (mean + deviate(alarms) * deviation).exp()
}

/// The threshold at which the mean of the shares that are right is best, of good pictures and of defects,
/// halfway between two scores.
fn best_threshold(good: &[f64], defects: &[f64]) -> f64 {
    let mut all: Vec<f64> = good.iter().chain(defects).copied().collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    let ends = [all[0] * 0.99, all[all.len() - 1] * 1.01];
    let between = all.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
    let right = |threshold: f64| {
        let share = |scores: &[f64], count: usize| count as f64 / scores.len().max(1) as f64;
        let kept = good.iter().filter(|score| **score < threshold).count();
        let found = defects.iter().filter(|score| **score >= threshold).count();
        share(good, kept) + share(defects, found)
    };
    let candidates = between.chain(ends);
    candidates.fold(ends[1], |best, other| if right(other) > right(best) { other } else { best })
}

/// What defects are found, with thresholds from one half of all pictures tried on the other.
fn on_defects(good: &[f64], defects: &[f64], alarms: Option<f64>) -> DefectFigures {
    let half = |scores: &[f64], which: usize| -> Vec<f64> {
        scores.iter().enumerate().filter(|(index, _)| index % 2 == which).map(|(_, score)| *score).collect()
    };
    let (mut found, mut alarmed) = (0, 0);
    for which in 0..2 {
        let [known, defective] = [half(good, which), half(defects, which)];
        let threshold = match alarms {
            None if !defective.is_empty() => best_threshold(&known, &defective),
            alarms => threshold_of_good(&known, alarms.unwrap_or(0.01)),
        };
        let above = |scores: Vec<f64>| scores.into_iter().filter(|score| *score >= threshold).count();
        found += above(half(defects, 1 - which));
        alarmed += above(half(good, 1 - which));
    }
    DefectFigures {
        photographs: defects.len(),
        auroc: auroc(defects, good),
        found: Share::wilson(found as f64, defects.len() as f64),
        false_alarms: Share::wilson(alarmed as f64, good.len() as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Photographs of 3 x 3 places with 4 features in two stages, the means of which are the places' own;
    /// one place of a defect is another's.
    fn photographs(count: usize, seed: u64, defect: bool) -> Vec<i8> {
        let mut random = Random::new(seed, &[]);
        (0..count)
            .flat_map(|_| {
                let swapped = random.below(9);
                let places =
                    (0..9).map(move |place| if defect && place == swapped { (place + 4) % 9 } else { place });
                let mut random = random.clone();
                let values: Vec<i8> = places
                    .flat_map(|place| {
                        let mean = place as f64 * 12.0 - 50.0;
                        [mean, -mean, 5.0, 20.0].map(|mean| (mean + random.between(-6.0, 6.0)) as i8)
                    })
                    .collect();
                values
            })
            .collect()
    }

    fn lesson<'a>(good: &'a [i8], defects: &'a [i8], groups: &'a [usize]) -> InspectionLesson<'a> {
        InspectionLesson { good, defects, shape: [3, 3, 4], stages: &[2, 2], groups }
    }

    #[test]
    fn defects_are_farther_than_good_pictures() {
        let (good, defects) = (photographs(60, 1, false), photographs(12, 2, true));
        let groups: Vec<usize> = (0..60).collect();
        let found = inspect(&lesson(&good, &defects, &groups), &InspectionSettings::default()).unwrap();
        let figures = &found.figures;
        assert_eq!((figures.comparison, figures.farthest), (Comparison::Places, 1));
        assert!(figures.place_share > 0.3, "{}", figures.place_share);
        let on_defects = figures.defects.unwrap();
        assert!(on_defects.auroc > 0.95, "{on_defects:?}");
        assert!(on_defects.found.value > 0.8 && on_defects.false_alarms.value < 0.1, "{on_defects:?}");
        // Alone, the good ones give a threshold that few of them exceed.
        let alone = inspect(&lesson(&good, &[], &groups), &InspectionSettings::default()).unwrap();
        assert_eq!(alone.figures.defects, None);
        assert!(alone.figures.false_alarms.value < 0.05 && alone.figures.median < 1.0);
        assert!(alone.figures.threshold < figures.threshold * 1.5);
    }

    #[test]
    fn too_few_photographs_are_refused() {
        let good = photographs(4, 1, false);
        let error = inspect(&lesson(&good, &[], &[0, 1, 2, 3]), &InspectionSettings::default()).unwrap_err();
        let expected = "there are 4 photographs of good parts: give at least 5, better 100, taken one by one";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn thresholds_are_what_they_say() {
        let scores: Vec<f64> = (1..=1000).map(f64::from).collect();
        let threshold = threshold_of_good(&scores, 0.01);
        assert!((989.0..=992.0).contains(&threshold), "{threshold}");
        assert!((deviate(0.025) - 1.959_964).abs() < 1e-5);
        // exp(0), exp(1), exp(-1): 2.326 deviations of sqrt(4 / 3) above 0.
        let few = threshold_of_good(&[1.0, 1_f64.exp(), (-1_f64).exp()], 0.01);
        assert!((few.ln() - 2.326_348 * (4.0_f64 / 3.0).sqrt()).abs() < 1e-4, "{few}");
        assert_eq!(best_threshold(&[1.0, 2.0, 5.0], &[4.0, 6.0, 7.0]), 3.0);
        assert_eq!(best_threshold(&[1.0, 1.0], &[2.0]), 1.5);
    }
}
