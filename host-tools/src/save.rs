//! Writing the model file.

use std::path::Path;

use anyhow::{Result, ensure};
use resight_imaging::Preprocessing;
use resight_model_file::{Calibration, Golden, Labels, Provenance, Task, sha256_of_file};
use resight_runtime::{Layers, ModelParts};
use serde_json::Value;
use tract_onnx::prelude::TypedModel;

use crate::convert::Converted;
use crate::quantise::{Options, Quantised};

/// Writes `quantised`, which came from the ONNX file `source`, to `output`.
///
/// # Errors
/// Labels that do not match the classes, and files that cannot be read or written. Nothing
/// is left behind then.
pub fn save(
    output: &Path,
    source: &Path,
    labels: &Labels,
    options: &Options,
    quantised: &Quantised,
) -> Result<()> {
    let classes = quantised.golden.first().map_or(0, |golden| golden.logits().map_or(0, <[f32]>::len));
    let task = Task::Classes { activation: quantised.activation };
    save_as(output, source, labels, (task, classes), options, quantised)
}

/// As [`save`], for a task with so many classes.
///
/// # Errors
/// As [`save`].
pub fn save_as(
    output: &Path,
    source: &Path,
    labels: &Labels,
    task: (Task, usize),
    options: &Options,
    quantised: &Quantised,
) -> Result<()> {
    let calibration = Calibration {
        images: quantised.report.images,
        sha256: quantised.calibration_sha256.clone(),
        method: quantised.report.method.to_owned(),
    };
    let network = Network {
        graph: &quantised.model,
        report: serde_json::to_value(&quantised.report)?,
        golden: &quantised.golden,
        task,
        calibration: Some(calibration),
    };
    network.save(output, source, labels, &options.preprocessing)
}

/// Writes `converted`, which came from the quantised ONNX file `source`, to `output`.
///
/// # Errors
/// As [`save`].
pub fn save_converted(
    output: &Path,
    source: &Path,
    labels: &Labels,
    preprocessing: &Preprocessing,
    converted: &Converted,
) -> Result<()> {
    let classes = converted.golden.first().map_or(0, |golden| golden.logits().map_or(0, <[f32]>::len));
    let network = Network {
        graph: &converted.model,
        report: serde_json::to_value(&converted.report)?,
        golden: &converted.golden,
        task: (Task::Classes { activation: converted.activation }, classes),
        calibration: None,
    };
    network.save(output, source, labels, preprocessing)
}

/// A network on its way into a model file.
struct Network<'a> {
    graph: &'a TypedModel,
    report: Value,
    golden: &'a [Golden],
    /// With its number of classes.
    task: (Task, usize),
    calibration: Option<Calibration>,
}

impl Network<'_> {
    fn save(
        self,
        output: &Path,
        source: &Path,
        labels: &Labels,
        preprocessing: &Preprocessing,
    ) -> Result<()> {
        let (task, classes) = self.task;
        ensure!(
            labels.len() == classes,
            "{}: the network has {classes} classes, there are {} labels",
            source.display(),
            labels.len()
        );
        let provenance = Provenance {
            source: source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            source_sha256: sha256_of_file(source)?,
            calibration: self.calibration,
            tool: concat!("resight ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let parts = ModelParts {
            name: &source.file_stem().unwrap_or_default().to_string_lossy(),
            layers: &Layers::default(),
            graph: self.graph,
            task,
            labels,
            preprocessing,
            provenance: &provenance,
            report: &self.report,
            golden: self.golden,
        };
        parts.write(output)?;
        Ok(())
    }
}
