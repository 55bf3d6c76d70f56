//! Whether a network knows what it sees: the pictures, prepared as several families of networks
//! are given them, run through the f32 network.

use std::path::PathBuf;

use rayon::prelude::*;
use resight_imaging::{ImageView, Preprocessing, Preprocessor, decode};
use resight_runtime::softmax;

use super::Convention;
use crate::import::Imported;
use crate::quantise::QuantiseError;
use crate::reference::Reference;

/// Pictures that are looked at.
const PICTURES: usize = 16;

/// By how many nats another preprocessing must tell more about the class of a picture to be
/// worth a word.
const CLEARLY: f64 = 0.4;

/// How sure a network is of what it sees with one preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    /// Mean of the largest probability.
    pub probability: f64,
    /// Mean entropy of the probabilities, in nats.
    pub entropy: f64,
    /// How much a picture tells about the class, in nats: the entropy of the mean of all
    /// probabilities, less `entropy`. Inputs that are much too large make a network sure of one
    /// and the same class for every picture: it is sure, but knows nothing.
    pub information: f64,
}

/// A preprocessing with which the network seems to know better what it sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Better {
    /// What [`Convention::named`] calls it, or with the channels exchanged.
    pub name: String,
    /// How sure the network is with it.
    pub confidence: Confidence,
    /// How sure it is with the one that was chosen.
    pub chosen: Confidence,
}

/// Compares `chosen` with the well-known conventions on the first pictures; says which one is
/// clearly better, if one is.
///
/// # Errors
/// A picture that cannot be read, and those of the f32 network.
pub fn better(
    imported: &Imported,
    images: &[PathBuf],
    chosen: &Preprocessing,
) -> Result<Option<Better>, QuantiseError> {
    let classes = imported.graph.nodes.last().map_or(0, |node| node.shape[0]);
    let pictures = &images[..images.len().min(PICTURES)];
    // One class, or one picture, tells nothing.
    if classes < 2 || pictures.len() < 2 {
        return Ok(None);
    }
    let reference = Reference::new(imported, &[])?;
    let own = confidence(&reference, pictures, chosen)?;
    let mut best: Option<Better> = None;
    for name in ["imagenet", "tf", "unit", "none", "caffe"] {
        let Some(convention) = Convention::named(name) else { continue };
        let convention = Convention { fit: chosen.fit, ..convention };
        let Ok(mut preprocessing) = convention.preprocessing(imported) else { continue };
        preprocessing.resize_shorter = chosen.resize_shorter;
        if preprocessing == *chosen {
            continue;
        }
        let found = confidence(&reference, pictures, &preprocessing)?;
        let least = best.as_ref().map_or(own.information + CLEARLY, |best| best.confidence.information);
        if found.information > least && found.entropy < own.entropy {
            best = Some(Better { name: name.to_owned(), confidence: found, chosen: own.clone() });
        }
    }
    Ok(best)
}

/// Runs the pictures.
fn confidence(
    reference: &Reference,
    pictures: &[PathBuf],
    preprocessing: &Preprocessing,
) -> Result<Confidence, QuantiseError> {
    let run = |path: &PathBuf| -> Result<Vec<f32>, QuantiseError> {
        let image = decode(path)?;
        let mut preprocessor = Preprocessor::new(preprocessing)?;
        let mut input = vec![0.0; preprocessor.input_len()];
        preprocessor.normalise(&ImageView::of(&image)?, &mut input)?;
        let mut probabilities = reference.run(&input)?.logits().to_vec();
        softmax(&mut probabilities);
        Ok(probabilities)
    };
    let rows: Vec<Vec<f32>> = pictures.par_iter().map(run).collect::<Result<_, _>>()?;
    Ok(summary(&rows))
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

    #[test]
    fn one_class_for_everything_tells_nothing() {
        let same = summary(&[vec![1.0, 0.0], vec![1.0, 0.0]]);
        assert_eq!((same.probability, same.entropy, same.information), (1.0, 0.0, 0.0));
        let different = summary(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!((different.information - 2f64.ln()).abs() < 1e-12);
        let unsure = summary(&[vec![0.5, 0.5], vec![0.5, 0.5]]);
        assert!(unsure.information.abs() < 1e-12 && (unsure.entropy - 2f64.ln()).abs() < 1e-12);
    }
}
