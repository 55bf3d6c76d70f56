//! How well boxes are found: mAP against labels, of f32 and int8 networks alike.

pub mod annotations;
pub mod average_precision;
mod float;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use resight_imaging::{ImageView, decode};
use resight_model_file::Labels;
use resight_runtime::{Detection, Found, Head, Locator, Model, Target, ThreadSettings, Tiling};
use serde::Serialize;

use self::annotations::{LabelledPicture, TruthKind};
use self::average_precision::{OVERLAPS, Picture, average_precision};
use self::float::FloatLocator;
use crate::classifier::is_onnx;
use crate::quantise::Progress;

/// The least score of boxes that precision is computed of: recall needs the unlikely ones too.
pub const THRESHOLD: f32 = 0.01;

/// How well a model finds boxes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoxEvaluation {
    /// The model's file.
    pub model: String,
    /// Pictures evaluated.
    pub images: usize,
    /// Boxes that are there, without crowds and what is difficult.
    pub truths: usize,
    /// Mean over the classes of the average precision at an overlap of 0.5, percent.
    pub map_50: f64,
    /// The same as a mean over the overlaps 0.5, 0.55, to 0.95.
    pub map_50_95: f64,
    /// Each class that the pictures have.
    pub classes: Vec<ClassPrecision>,
}

/// How well the boxes of a class are found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassPrecision {
    /// The class, counted from 0.
    pub class: usize,
    /// Its name.
    pub name: String,
    /// Boxes that are there.
    pub truths: usize,
    /// Average precision at an overlap of 0.5, percent.
    pub ap_50: f64,
    /// The mean over the overlaps 0.5, 0.55, to 0.95.
    pub ap_50_95: f64,
}

/// How pictures are looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// The least score of boxes that count.
    pub threshold: f32,
    /// The tiles that a picture is looked at in; as a whole without.
    pub tiling: Option<Tiling>,
}

/// An f32 or an int8 network that finds boxes.
enum AnyLocator {
    Float(Box<FloatLocator>),
    Int8(Box<Locator>),
}

impl AnyLocator {
    /// The boxes of a picture, which is looked at as a whole or in tiles.
    fn boxes(&mut self, path: &Path, tiling: Option<Tiling>) -> Result<Vec<Detection>> {
        let image = decode(path)?;
        let view = ImageView::of(&image)?;
        match tiling {
            None => self.locate(&view),
            Some(tiling) => tiling.locate(&view, |tile| self.locate(tile)),
        }
    }

    fn locate(&mut self, view: &ImageView<'_>) -> Result<Vec<Detection>> {
        Ok(match self {
            Self::Float(locator) => locator.boxes(view)?,
            Self::Int8(locator) => match locator.locate(view)? {
                Found::Boxes(boxes) => boxes.to_vec(),
                Found::Mask { .. } | Found::Points(_) => vec![],
            },
        })
    }
}

/// Runs every model over the pictures that `annotations` label, see [`annotations`](mod@annotations). An f32 network gets
/// preprocessing, decoder and class names of the first int8 model.
///
/// # Errors
/// Models that find no boxes or cannot be read, labels that do not fit, pictures that cannot be read.
pub fn evaluate(
    models: &[PathBuf],
    folder: &Path,
    annotations: &Path,
    look: Look,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Vec<BoxEvaluation>> {
    let first = models.iter().find(|path| !is_onnx(path));
    let first = first.context("an int8 model among the models says how boxes are made; name one")?;
    let first = Model::load(first)?;
    let pictures = annotations::read(annotations, folder, first.labels())?;
    ensure!(!pictures.is_empty(), "{}: it has no images", annotations.display());
    models.iter().map(|path| one(path, &first, &pictures, look, target, progress)).collect()
}

fn one(
    path: &Path,
    first: &Model,
    pictures: &[LabelledPicture],
    look: Look,
    target: &Target,
    progress: Progress<'_>,
) -> Result<BoxEvaluation> {
    let phase = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = AtomicUsize::new(0);
    progress(&phase, 0, pictures.len());
    let float = if is_onnx(path) { Some(FloatLocator::new(path, first, look.threshold)?) } else { None };
    let int8 = if float.is_none() { Some(Model::load(path)?) } else { None };
    let labels = int8.as_ref().unwrap_or(first).labels();
    let locator = || -> Result<AnyLocator> {
        if let Some(float) = &float {
            return Ok(AnyLocator::Float(Box::new(float.fork()?)));
        }
        let model = int8.as_ref().context("an int8 model was loaded above")?;
        ensure!(
            matches!(model.head(), Head::Boxes(_)),
            "{}: the network finds no boxes; quantise it with `--task detect`",
            model.file()
        );
        let settings = ThreadSettings { threads: Some(std::num::NonZeroUsize::MIN), pin: false };
        let mut locator = Locator::new(model, target, settings)?;
        locator.set_threshold(look.threshold);
        Ok(AnyLocator::Int8(Box::new(locator)))
    };
    let found: Vec<Vec<Detection>> = pictures
        .par_iter()
        .map_init(locator, |locator, picture| -> Result<Vec<Detection>> {
            let locator = locator.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let boxes = locator.boxes(&picture.path, look.tiling)?;
            progress(&phase, done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
            Ok(boxes)
        })
        .collect::<Result<_>>()
        .with_context(|| format!("evaluating {}", path.display()))?;
    Ok(score(path.display().to_string(), labels, pictures, &found))
}

fn score(
    model: String,
    labels: &Labels,
    pictures: &[LabelledPicture],
    found: &[Vec<Detection>],
) -> BoxEvaluation {
    let pairs: Vec<Picture<'_>> = pictures
        .iter()
        .zip(found)
        .map(|(picture, found)| (picture.truths.as_slice(), found.as_slice()))
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let class = |class: usize| {
        let precision: [f64; OVERLAPS] = average_precision(&pairs, class)?;
        let truths = pictures.iter().flat_map(|picture| &picture.truths);
        Some(ClassPrecision {
            class,
            name: labels.name(class).unwrap_or_default().to_owned(),
            truths: truths.filter(|truth| truth.class == class && truth.kind == TruthKind::One).count(),
            ap_50: 100.0 * precision[0],
            ap_50_95: 100.0 * mean(&precision),
        })
    };
    let classes: Vec<ClassPrecision> = (0..labels.len()).filter_map(class).collect();
    let of = |value: fn(&ClassPrecision) -> f64| mean(&classes.iter().map(value).collect::<Vec<f64>>());
    BoxEvaluation {
        model,
        images: pictures.len(),
        truths: classes.iter().map(|class| class.truths).sum(),
        map_50: of(|class| class.ap_50),
        map_50_95: of(|class| class.ap_50_95),
        classes,
    }
}
