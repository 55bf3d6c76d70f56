//! Writing the model file.

use std::path::Path;

use anyhow::{Result, ensure};
use resight_model_file::{Calibration, Labels, Provenance, Task, sha256_of_file};
use resight_runtime::{Layers, ModelParts};

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
    ensure!(
        labels.len() == classes,
        "{}: the network has {classes} classes, there are {} labels",
        source.display(),
        labels.len()
    );
    let provenance = Provenance {
        source: source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        source_sha256: sha256_of_file(source)?,
        calibration: Some(Calibration {
            images: quantised.report.images,
            sha256: quantised.calibration_sha256.clone(),
            method: quantised.report.method.to_owned(),
        }),
        tool: concat!("resight ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let parts = ModelParts {
        name: &source.file_stem().unwrap_or_default().to_string_lossy(),
        layers: &Layers::default(),
        graph: &quantised.model,
        task: Task::Classes { activation: quantised.activation },
        labels,
        preprocessing: &options.preprocessing,
        provenance: &provenance,
        report: &serde_json::to_value(&quantised.report)?,
        golden: &quantised.golden,
    };
    parts.write(output)?;
    Ok(())
}
