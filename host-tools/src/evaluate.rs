//! Accuracy of models on labelled images, and their distance from f32.

use std::path::{Path, PathBuf};

use anyhow::Result;
use resight_model_file::{Activation, Labels};
use resight_runtime::{Target, top_k};
use serde::Serialize;

use crate::decisions::Decisions;
use crate::predict::{Predicted, Predictions, predict};
use crate::quantise::{Noise, Progress};
use crate::tags::TaggedImage;

/// How one model did.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// The model's file.
    pub model: String,
    /// Images evaluated.
    pub images: usize,
    /// Percent of the images whose best class is a label.
    pub top1: f64,
    /// Percent of the images with a label among the five best classes.
    pub top5: f64,
    /// Percent of the images with the same best class as the first, f32, model; of classes that do
    /// not exclude each other, percent of all decisions by the threshold that are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Signal to noise ratio of all logits against the first, f32, model, in decibel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqnr_db: Option<f64>,
    /// The same with the mean of each image's logits removed from both: what all classes have
    /// in common changes no decision and no probability. `None` for classes that do not exclude
    /// each other, of which it changes both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub centred_sqnr_db: Option<f64>,
    /// What a threshold decides of each class: of classes that do not exclude each other, or where
    /// a threshold was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Decisions>,
}

/// What was evaluated, and on which images.
#[derive(Debug)]
pub struct Evaluated {
    /// How each model did.
    pub models: Vec<Evaluation>,
    /// The names of each model's classes, where there are any.
    pub labels: Vec<Option<Labels>>,
    /// What there is to say of the images: where their classes come from, which ones were passed over
    /// and what was done to the others.
    pub notes: Vec<String>,
}

/// The threshold of decisions where none is given.
pub const THRESHOLD: f64 = 0.5;

/// Runs every model over every image. An f32 network gets the preprocessing of the first int8 model.
///
/// # Errors
/// See [`predict`].
pub fn evaluate(
    models: &[PathBuf],
    folder: &Path,
    strict: bool,
    threshold: Option<f64>,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Evaluated> {
    let Predicted { models, notes } = predict(models, folder, strict, target, progress)?;
    let reference = models.first().filter(|first| first.model.is_float());
    let evaluation = |(index, predictions): (usize, &Predictions)| {
        let comparable = |reference: &&Predictions| {
            let classes = |predictions: &Predictions| predictions.logits.first().map(Vec::len);
            reference.images == predictions.images && classes(reference) == classes(predictions)
        };
        let against = reference.filter(|_| index > 0).filter(comparable);
        score(predictions, threshold, against.map(|reference| &reference.logits))
    };
    let results = models.iter().enumerate().map(evaluation).collect();
    Ok(Evaluated {
        models: results,
        labels: models.into_iter().map(|predictions| predictions.labels).collect(),
        notes,
    })
}

fn percent(count: usize, total: usize) -> f64 {
    100.0 * count as f64 / total.max(1) as f64
}

fn score(predictions: &Predictions, threshold: Option<f64>, reference: Option<&Vec<Vec<f32>>>) -> Evaluation {
    let Predictions { file, model, images, logits, .. } = predictions;
    let hits = |k: usize| {
        let is_right = |row: &[f32], image: &TaggedImage| {
            top_k(row, k).iter().any(|class| image.classes.contains(class))
        };
        let hits = logits.iter().zip(images).filter(|(row, image)| is_right(row, image));
        percent(hits.count(), logits.len())
    };
    let independent = model.activation() == Activation::Sigmoid;
    let threshold = threshold.or(independent.then_some(THRESHOLD));
    let probabilities =
        |rows: &[Vec<f32>]| -> Vec<Vec<f32>> { rows.iter().map(|row| model.probabilities(row)).collect() };
    let decisions = threshold.map(|threshold| {
        let shown: Vec<&[usize]> = images.iter().map(|image| image.classes.as_slice()).collect();
        Decisions::of(&probabilities(logits), &shown, threshold)
    });
    let same = |reference: &Vec<Vec<f32>>| {
        if let Some(threshold) = threshold.filter(|_| independent) {
            let decided = |rows: &[Vec<f32>]| -> Vec<bool> {
                probabilities(rows).concat().iter().map(|&p| p >= threshold as f32).collect()
            };
            let (reference, found) = (decided(reference), decided(logits));
            let same = reference.iter().zip(&found).filter(|(r, x)| r == x).count();
            return percent(same, found.len());
        }
        let same = reference.iter().zip(logits).filter(|(r, x)| top_k(r, 1) == top_k(x, 1)).count();
        percent(same, logits.len())
    };
    let noise = |reference: &Vec<Vec<f32>>, of: fn(&[f32], &[f32]) -> Noise| {
        let mut noise = Noise::default();
        reference.iter().zip(logits).for_each(|(r, x)| noise.merge(of(r, x)));
        noise.decibel()
    };
    Evaluation {
        model: file.clone(),
        images: logits.len(),
        top1: hits(1),
        top5: hits(5),
        agreement: reference.map(same),
        sqnr_db: reference.map(|reference| noise(reference, Noise::of)),
        centred_sqnr_db: reference.filter(|_| !independent).map(|reference| noise(reference, Noise::centred)),
        decisions,
    }
}
