//! What models say of labelled pictures: the logits that everything that compares them starts from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use resight_imaging::decode;
use resight_model_file::{Activation, Labels};
use resight_runtime::{Head, Model, Target};

use crate::classifier::{AnyModel, is_onnx};
use crate::images::{Classes, LabelledImages, MatchedClass, labelled_images};
use crate::quantise::Progress;
use crate::readable::ReadableImages;
use crate::tags::{TaggedImage, TaggedImages, tagged_images};

/// What one model says of pictures.
pub struct Predictions {
    /// The model's file.
    pub file: String,
    /// The model.
    pub model: AnyModel,
    /// The names of its classes, where there are any.
    pub labels: Option<Labels>,
    /// The pictures, with what they show.
    pub images: Vec<TaggedImage>,
    /// The logits of each picture, `[classes]`.
    pub logits: Vec<Vec<f32>>,
}

/// What several models say.
pub struct Predicted {
    /// Of each model.
    pub models: Vec<Predictions>,
    /// What there is to say of the images: where their classes come from, which ones were passed over
    /// and what was done to the others.
    pub notes: Vec<String>,
}

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
pub fn predict(
    models: &[PathBuf],
    folder: &Path,
    strict: bool,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Predicted> {
    let (mut results, mut notes) = (vec![], vec![]);
    let mut readable: Option<HashSet<PathBuf>> = None;
    // Only an int8 model's file says how its network wants images.
    let int8 = models.iter().find(|path| !is_onnx(path)).map(|path| Model::load(path)).transpose()?;
    let preprocessing = int8.as_ref().map(|model| model.preprocessing().clone());
    // A network of any size gets the images of the first int8 model.
    let size = preprocessing.as_ref().map(|preprocessing| preprocessing.crop.map(|side| side as usize));
    for path in models {
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
        let labels = classes.labels.cloned();
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
        results.push(Predictions { file: path.display().to_string(), model, labels, images, logits });
    }
    Ok(Predicted { models: results, notes })
}
