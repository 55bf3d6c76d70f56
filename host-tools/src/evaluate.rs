//! Accuracy of models on labelled images, and their distance from f32.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use resight_imaging::decode;
use resight_model_file::{Activation, Labels};
use resight_runtime::{Head, Model, Target, top_k};
use serde::Serialize;

use crate::classifier::{AnyModel, is_onnx};
use crate::decisions::Decisions;
use crate::images::{Classes, LabelledImages, MatchedClass, labelled_images};
use crate::quantise::{Noise, Progress};
use crate::readable::ReadableImages;
use crate::tags::{TaggedImage, TaggedImages, tagged_images};

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

/// Classes that a note names.
const NAMED: usize = 10;

/// Which classes a folder has, as the network understands them.
fn describe(images: &LabelledImages, classes: Classes<'_>) -> Vec<String> {
    let mut notes = vec![format!("{} pictures, with classes by {}", images.images.len(), images.source)];
    let name = |class: usize| classes.labels.and_then(|labels| labels.name(class)).unwrap_or_default();
    let (known, unknown): (Vec<_>, Vec<_>) =
        images.matched.iter().partition(|matched| matched.class.is_some());
    let list = |matched: &[&MatchedClass]| {
        let one = |matched: &&MatchedClass| {
            let class =
                matched.class.map_or_else(String::new, |class| format!(" is {class} {}", name(class)));
            format!("`{}`{} ({})", matched.written, class.trim_end(), matched.images)
        };
        let more = if matched.len() > NAMED {
            format!(" and {} more", matched.len() - NAMED)
        } else {
            String::new()
        };
        matched.iter().take(NAMED).map(one).collect::<Vec<_>>().join(", ") + &more
    };
    if !known.is_empty() {
        notes.push(format!("{} of {} classes: {}", known.len(), classes.count, list(&known)));
    }
    if !unknown.is_empty() {
        notes.push(format!("passed over, for the network has no such class: {}", list(&unknown)));
    }
    notes
}

/// Runs every model over every image. An f32 network gets the preprocessing of the first int8 model.
///
/// # Errors
/// A model that cannot be read, a label that a model has no class for, and an image that cannot be read:
/// any one if the job is `strict`, or else when there is no other.
pub fn evaluate(
    models: &[PathBuf],
    folder: &Path,
    strict: bool,
    threshold: Option<f64>,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Evaluated> {
    let mut reference: Option<(Vec<TaggedImage>, Vec<Vec<f32>>)> = None;
    let mut results = vec![];
    let (mut notes, mut names) = (vec![], vec![]);
    let mut readable: Option<HashSet<PathBuf>> = None;
    // Only an int8 model's file says how its network wants images.
    let int8 = models.iter().find(|path| !is_onnx(path)).map(|path| Model::load(path)).transpose()?;
    let preprocessing = int8.as_ref().map(|model| model.preprocessing().clone());
    // A network of any size gets the images of the first int8 model.
    let size = preprocessing.as_ref().map(|preprocessing| preprocessing.crop.map(|side| side as usize));
    for (index, path) in models.iter().enumerate() {
        let mut model = AnyModel::load_sized(path, target, size)?;
        if let Some(preprocessing) = &preprocessing {
            model.preprocess_like(preprocessing)?;
        }
        if let Some(Head::Classes(classes)) = int8.as_ref().map(Model::head) {
            model.activate_like(classes.len(), classes.activation());
        }
        // An ONNX file has no names; those of the model that was made of it fit.
        let named = int8.as_ref().map(Model::labels).filter(|labels| labels.len() == model.classes());
        let classes = Classes { count: model.classes(), labels: model.labels().or(named) };
        names.push(classes.labels.cloned());
        let tagged = if model.activation() == Activation::Sigmoid {
            tagged_images(folder, classes)?
        } else {
            let labelled = labelled_images(folder, classes)?;
            let notes = describe(&labelled, classes);
            TaggedImages { notes, ..labelled.into() }
        };
        if readable.is_none() {
            notes.extend(tagged.notes);
            let files: Vec<PathBuf> = tagged.images.iter().map(|image| image.path.clone()).collect();
            let checked = ReadableImages::check(&files, strict, progress)?;
            notes.extend(checked.sentences());
            readable = Some(checked.files.into_iter().collect());
        }
        let is_readable =
            |image: &TaggedImage| readable.as_ref().is_some_and(|readable| readable.contains(&image.path));
        let images: Vec<TaggedImage> = tagged.images.into_iter().filter(is_readable).collect();
        let is_float = model.is_float();
        let phase = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let done = AtomicUsize::new(0);
        progress(&phase, 0, images.len());
        // One model for each worker: running one changes its buffers.
        let logits: Vec<Vec<f32>> = images
            .par_iter()
            .map_init(
                || model.fork(),
                |model, image| -> Result<Vec<f32>> {
                    let model = model.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                    let logits = model.logits(&decode(&image.path)?)?;
                    progress(&phase, done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
                    Ok(logits)
                },
            )
            .collect::<Result<_>>()
            .with_context(|| format!("evaluating {}", path.display()))?;
        let against = reference.as_ref().filter(|(same, reference)| {
            *same == images && reference.first().map(Vec::len) == logits.first().map(Vec::len)
        });
        let against = against.map(|(_, reference)| reference);
        results.push(score(path.display().to_string(), (&model, threshold), &logits, &images, against));
        if index == 0 && is_float {
            reference = Some((images, logits));
        }
    }
    Ok(Evaluated { models: results, labels: names, notes })
}

fn percent(count: usize, total: usize) -> f64 {
    100.0 * count as f64 / total.max(1) as f64
}

fn score(
    file: String,
    (model, threshold): (&AnyModel, Option<f64>),
    logits: &[Vec<f32>],
    images: &[TaggedImage],
    reference: Option<&Vec<Vec<f32>>>,
) -> Evaluation {
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
        model: file,
        images: logits.len(),
        top1: hits(1),
        top5: hits(5),
        agreement: reference.map(same),
        sqnr_db: reference.map(|reference| noise(reference, Noise::of)),
        centred_sqnr_db: reference.filter(|_| !independent).map(|reference| noise(reference, Noise::centred)),
        decisions,
    }
}
