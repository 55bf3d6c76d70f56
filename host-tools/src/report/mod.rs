//! `resight report`: what a model file is, and what it does on pictures, as one page.
//!
//! [`accuracy`] compares it with f32 on labelled pictures, [`values`] counts its weights and
//! activations; [`page`] is what people read.

pub mod accuracy;
pub mod page;
pub mod values;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use resight_runtime::{Head, Model, Target};

use self::accuracy::Accuracy;
use self::values::{LayerValues, activations, weights};
use crate::predict::predict;
use crate::quantise::Progress;

/// Pictures whose activations are counted.
const COUNTED: usize = 32;

/// What the page shows.
pub struct ModelReport<'a> {
    /// The model file.
    pub model: &'a Model,
    /// Its layers, in their order.
    pub layers: Vec<LayerValues>,
    /// How it does on pictures, where there are any.
    pub accuracy: Option<Accuracy>,
    /// What there is to say of the pictures.
    pub notes: Vec<String>,
}

/// The pictures that a report is made on.
#[derive(Debug, Clone, Copy)]
pub struct Pictures<'a> {
    /// The folder, labelled as for `resight evaluate`.
    pub folder: &'a Path,
    /// The f32 network that the model is compared with.
    pub float: Option<&'a Path>,
    /// Whether a picture that cannot be read is an error.
    pub strict: bool,
}

impl<'a> ModelReport<'a> {
    /// Looks at a model, and at what it does on pictures.
    ///
    /// # Errors
    /// Pictures of a network whose outputs are no classes; files that cannot be read.
    pub fn new(
        model: &'a Model,
        pictures: Option<Pictures<'_>>,
        target: &Target,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let mut report = Self { model, layers: weights(model), accuracy: None, notes: vec![] };
        let Some(Pictures { folder, float, strict }) = pictures else { return Ok(report) };
        ensure!(
            matches!(model.head(), Head::Classes(_)),
            "{}: its outputs are no classes, so labelled pictures say nothing of it; leave out --images",
            model.file()
        );
        let models: Vec<PathBuf> =
            float.into_iter().map(Path::to_owned).chain([PathBuf::from(model.file())]).collect();
        let predicted = predict(&models, folder, strict, target, progress)?;
        report.notes = predicted.notes;
        let mut models = predicted.models;
        if let Some(int8) = models.pop() {
            let files: Vec<&Path> =
                int8.images.iter().map(|image| image.path.as_path()).take(COUNTED).collect();
            activations(model, &files, target, &mut report.layers, progress)?;
            report.accuracy = Some(Accuracy::of(&int8, models.pop().as_ref())?);
        }
        Ok(report)
    }
}
