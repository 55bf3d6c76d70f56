//! Whether a network knows what it sees: the pictures, prepared as several families of networks
//! are given them, run through the f32 network.

use std::path::PathBuf;

use rayon::prelude::*;
use resight_imaging::{Channels, ImageView, Preprocessing, Preprocessor, decode};
use resight_model_file::Activation;
use resight_runtime::{sigmoid, softmax};

use super::Convention;
use crate::import::Imported;
use crate::quantise::QuantiseError;
use crate::reference::Reference;

/// Pictures that are looked at, evenly spread over all.
const PICTURES: usize = 16;
/// Pictures that are run before it is asked whether the others are worth it.
const AT_ONCE: usize = 2;

/// How sure a network is of what it sees with one preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    /// Mean of the largest probability.
    pub probability: f64,
    /// Mean entropy of the probabilities, in nats.
    pub entropy: f64,
    /// How much a picture tells about the class, in nats: the entropy of the mean of all
    /// probabilities, less `entropy`. A network that is given far too much is sure of one and the
    /// same class whatever it sees; one that is given far too little is sure of nothing: neither
    /// tells anything.
    pub information: f64,
}

/// A preprocessing with which the network seems to know better what it sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Better {
    /// The switches of `resight quantize` for it.
    pub switches: String,
    /// How sure the network is with it.
    pub confidence: Confidence,
    /// How sure it is with the one that was chosen.
    pub chosen: Confidence,
}

/// Compares `chosen` with the well-known conventions, and with the other order of channels, on
/// some of the pictures; says which one is clearly better, if one is.
///
/// # Errors
/// A picture that cannot be read, and those of the f32 network.
pub fn better(
    imported: &Imported,
    images: &[PathBuf],
    chosen: &Preprocessing,
) -> Result<Option<Better>, QuantiseError> {
    let classes = imported.graph.nodes.last().map_or(0, |node| node.shape[0]);
    let pictures: Vec<&PathBuf> = images.iter().step_by(images.len().div_ceil(PICTURES).max(1)).collect();
    // One class, or one picture, tells nothing.
    if classes < 2 || pictures.len() < 2 {
        return Ok(None);
    }
    let (reference, activation) = (Reference::new(imported, &[])?, imported.activation);
    let own_rows = probabilities(&reference, activation, &pictures, chosen)?;
    let own = confidence(activation, &own_rows);
    let mut best: Option<Better> = None;
    for (switches, preprocessing) in candidates(imported, chosen) {
        let larger = amplification(&preprocessing) / amplification(chosen);
        let mut rows = vec![];
        // A few at a time: most candidates are out of the race long before the last picture.
        for pictures in pictures.chunks(AT_ONCE) {
            if !can_be_clearly_better(activation, &rows, &own_rows, larger) {
                break;
            }
            rows.extend(probabilities(&reference, activation, pictures, &preprocessing)?);
        }
        if rows.len() < pictures.len() {
            continue;
        }
        let found = confidence(activation, &rows);
        let is_best = best.as_ref().is_none_or(|best| found.probability > best.confidence.probability);
        if is_clearly_better(&found, &own, larger) && is_best {
            best = Some(Better { switches, confidence: found, chosen: own.clone() });
        }
    }
    Ok(best)
}

/// Other preprocessings that are likely, with the switches for them.
fn candidates(imported: &Imported, chosen: &Preprocessing) -> Vec<(String, Preprocessing)> {
    let mut result: Vec<(String, Preprocessing)> = vec![];
    for name in ["imagenet", "tf", "unit", "none", "caffe"] {
        let Some(convention) = Convention::named(name) else { continue };
        let Ok(known) = convention.preprocessing(imported) else { continue };
        let Preprocessing { resize_shorter, fit, interpolation, .. } = *chosen;
        let preprocessing = Preprocessing { resize_shorter, fit, interpolation, ..known };
        result.push((format!("--preprocess {name}"), preprocessing));
    }
    let other = match chosen.channels {
        Channels::Rgb => Channels::Bgr,
        Channels::Bgr | Channels::Gray => Channels::Rgb,
    };
    if chosen.channels != Channels::Gray {
        let mut exchanged = Preprocessing { channels: other, ..chosen.clone() };
        exchanged.mean.reverse();
        exchanged.standard_deviation.reverse();
        result.push((format!("--channels {}", other.name()), exchanged));
    }
    result.retain(|(_, preprocessing)| preprocessing != chosen);
    result
}

/// What a grey level is multiplied with, on average over the channels.
fn amplification(preprocessing: &Preprocessing) -> f64 {
    let deviations = preprocessing.standard_deviation.map(|deviation| f64::from(deviation).ln());
    (-deviations.iter().sum::<f64>() / 3.0).exp()
}

/// The information above which a preprocessing tells something, and how many times that of another it
/// must then be.
const TELLING: (f64, f64) = (0.5, 3.0);
/// Up to so much larger an input a network that is surer may be right.
const MUCH_LARGER: f64 = 5.0;

/// How much surer a network must be with an input that is `larger` times as large. A larger input
/// makes most networks surer without making them know more, so more is asked of it.
fn enough(larger: f64) -> f64 {
    if larger <= 1.5 { 0.08 } else { 0.15 }
}

/// Whether `other`, whose input is `larger` times as large, is worth a word.
fn is_clearly_better(other: &Confidence, own: &Confidence, larger: f64) -> bool {
    let (telling, times) = TELLING;
    // With one of them nothing is told, with the other something.
    if other.information > telling && other.information > times * own.information {
        return true;
    }
    let surer = other.probability - own.probability;
    larger <= MUCH_LARGER && surer >= enough(larger) && other.information >= 0.7 * own.information
}

/// Runs pictures: for each a row of the classes' probabilities.
fn probabilities(
    reference: &Reference,
    activation: Activation,
    pictures: &[&PathBuf],
    preprocessing: &Preprocessing,
) -> Result<Vec<Vec<f32>>, QuantiseError> {
    let run = |path: &&PathBuf| -> Result<Vec<f32>, QuantiseError> {
        let image = decode(path)?;
        let mut preprocessor = Preprocessor::new(preprocessing)?;
        let mut input = vec![0.0; preprocessor.input_len()];
        preprocessor.normalise(&ImageView::of(&image)?, &mut input)?;
        let mut probabilities = reference.run(&input)?.logits().to_vec();
        match activation {
            Activation::Softmax => softmax(&mut probabilities),
            Activation::Sigmoid => sigmoid(&mut probabilities),
        }
        Ok(probabilities)
    };
    pictures.par_iter().map(run).collect()
}

fn confidence(activation: Activation, rows: &[Vec<f32>]) -> Confidence {
    match activation {
        Activation::Softmax => summary(rows),
        Activation::Sigmoid => summary_of_independent(rows),
    }
}

/// Whether [`is_clearly_better`] could still say so, whatever the pictures that are missing in
/// `rows` give; `own` has them all.
fn can_be_clearly_better(activation: Activation, rows: &[Vec<f32>], own: &[Vec<f32>], larger: f64) -> bool {
    let (telling, times) = TELLING;
    let told = confidence(activation, own).information;
    if most_information(activation, own) > telling.max(times * told) {
        return true;
    }
    let sure = |rows: &[Vec<f32>]| rows.iter().map(|row| sureness(activation, row)).sum::<f64>();
    let missing = (own.len() - rows.len()) as f64;
    let surer = (sure(rows) + missing - sure(own)) / own.len() as f64;
    larger <= MUCH_LARGER && surer >= enough(larger)
}

/// The largest information that so many rows can have: which picture of all it is, or each of the
/// classes that do not exclude each other.
fn most_information(activation: Activation, rows: &[Vec<f32>]) -> f64 {
    match activation {
        Activation::Softmax => (rows.len() as f64).ln(),
        Activation::Sigmoid => rows.first().map_or(0, Vec::len) as f64 * 2f64.ln(),
    }
}

/// What [`Confidence::probability`] is the mean of; at most 1.
fn sureness(activation: Activation, row: &[f32]) -> f64 {
    let row = row.iter().map(|&p| f64::from(p));
    match activation {
        Activation::Softmax => row.fold(0.0, f64::max),
        Activation::Sigmoid => {
            let classes = row.len() as f64;
            row.map(|p| p.max(1.0 - p)).sum::<f64>() / classes
        }
    }
}

/// Of classes that are there or not, each by itself: the mean sureness, and what all tell together.
fn summary_of_independent(rows: &[Vec<f32>]) -> Confidence {
    let classes = rows.first().map_or(0, Vec::len);
    let mut all = Confidence { probability: 0.0, entropy: 0.0, information: 0.0 };
    for class in 0..classes {
        let pairs: Vec<Vec<f32>> = rows.iter().map(|row| vec![row[class], 1.0 - row[class]]).collect();
        let one = summary(&pairs);
        all.probability += one.probability / classes as f64;
        all.entropy += one.entropy;
        all.information += one.information;
    }
    all
}

fn summary(rows: &[Vec<f32>]) -> Confidence {
    let count = rows.len() as f64;
    let mut mean = vec![0.0; rows.first().map_or(0, Vec::len)];
    let (mut probability, mut uncertainty) = (0.0, 0.0);
    for row in rows {
        let row: Vec<f64> = row.iter().map(|&p| f64::from(p)).collect();
        probability += row.iter().copied().fold(0.0, f64::max) / count;
        uncertainty += entropy(&row) / count;
        for (sum, p) in mean.iter_mut().zip(&row) {
            *sum += p / count;
        }
    }
    Confidence { probability, entropy: uncertainty, information: entropy(&mean) - uncertainty }
}

/// In nats.
fn entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().filter(|&&p| p > 0.0).map(|&p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(probability: f64, entropy: f64, information: f64) -> Confidence {
        Confidence { probability, entropy, information }
    }

    /// Measured on ResNet-50 and ResNet-18, trained on ImageNet's mean and deviation, and sixteen
    /// photographs.
    #[test]
    fn what_a_network_was_trained_on_is_recognised() {
        let imagenet = [of(0.762, 1.077, 2.641), of(0.650, 1.465, 2.608)];
        let unit = [of(0.577, 1.991, 2.454), of(0.471, 2.523, 2.268)];
        let bgr = [of(0.626, 1.624, 2.581), of(0.493, 2.101, 2.559)];
        let levels = [of(1.0, 0.0, 0.0), of(0.943, 0.147, 1.274)];
        for network in 0..2 {
            assert!(is_clearly_better(&imagenet[network], &unit[network], 1.0 / 0.226));
            assert!(is_clearly_better(&imagenet[network], &bgr[network], 1.0));
            assert!(!is_clearly_better(&unit[network], &imagenet[network], 0.226));
            assert!(!is_clearly_better(&bgr[network], &imagenet[network], 1.0));
            assert!(!is_clearly_better(&levels[network], &imagenet[network], 255.0 * 0.226));
            assert!(!is_clearly_better(&levels[network], &unit[network], 255.0));
        }
        assert!(is_clearly_better(&imagenet[0], &levels[0], 1.0 / (255.0 * 0.226)));
        // One that is trained on grey levels sees next to nothing where they are divided by 255.
        assert!(is_clearly_better(&of(0.8, 0.6, 2.0), &of(0.1, 6.0, 0.01), 255.0 * 0.226));
    }

    /// A network that is as sure as `sure` of a class of its own for each of sixteen pictures, and one
    /// that says the same of all.
    fn rows(sure: f32, of_its_own: bool) -> Vec<Vec<f32>> {
        let row = |picture: usize| {
            let mut row = vec![(1.0 - sure) / 31.0; 32];
            row[if of_its_own { picture } else { 0 }] = sure;
            row
        };
        (0..16).map(row).collect()
    }

    #[test]
    fn what_cannot_win_any_more_is_not_run_to_the_end() {
        let own = rows(0.75, true);
        // How many pictures of those with `sure` are run.
        let run = |sure: f32, larger: f64, own: &[Vec<f32>]| {
            let rows = rows(sure, true);
            (0..=16).find(|&count| !can_be_clearly_better(Activation::Softmax, &rows[..count], own, larger))
        };
        // (0.25 * 16 - n * (1 - sure)) / 16 >= 0.08 until n is the next whole number.
        assert_eq!(run(0.6, 1.0, &own), Some(7));
        assert_eq!(run(0.5, 1.0, &own), Some(6));
        assert_eq!(run(0.5, 2.0, &own), Some(4));
        assert_eq!(run(0.9, 1.0, &own), None);
        // Far too large an input is not even tried, unless the network knows nothing as it is.
        assert_eq!(run(0.9, 255.0, &own), Some(0));
        assert_eq!(run(0.9, 255.0, &rows(0.75, false)), None);
        assert_eq!(run(0.1, 1.0, &rows(0.2, true)), None);
        // Two classes that do not exclude each other, of which the pictures tell all.
        let own: Vec<Vec<f32>> =
            (0..4).map(|picture| vec![(picture % 2) as f32, (picture / 2) as f32]).collect();
        let missing = |sure: f32| {
            let row = vec![sure, 1.0 - sure];
            can_be_clearly_better(Activation::Sigmoid, &[row], &own, 1.0)
        };
        assert!(!missing(1.0) && !missing(0.5));
    }

    #[test]
    fn amplification_is_that_of_the_deviation() {
        let preprocessing = Preprocessing { standard_deviation: [0.5; 3], ..Preprocessing::default() };
        assert!((amplification(&preprocessing) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn one_class_for_everything_tells_nothing() {
        let same = summary(&[vec![1.0, 0.0], vec![1.0, 0.0]]);
        assert_eq!((same.probability, same.entropy, same.information), (1.0, 0.0, 0.0));
        let different = summary(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!((different.information - 2f64.ln()).abs() < 1e-12);
        // Each of two labels in every other picture, known for sure: two times ln 2.
        let labels = [vec![1.0, 1.0], vec![0.0, 1.0], vec![1.0, 0.0], vec![0.0, 0.0]];
        let labels = summary_of_independent(&labels);
        assert!((labels.probability - 1.0).abs() < 1e-12);
        assert!((labels.information - 2.0 * 2f64.ln()).abs() < 1e-12);
        let unsure = summary(&[vec![0.5, 0.5], vec![0.5, 0.5]]);
        assert!(unsure.information.abs() < 1e-12 && (unsure.entropy - 2f64.ln()).abs() < 1e-12);
    }
}
