//! Writing the model file.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use resight_network::{Labels, ModelParts, Provenance};
use sha2::{Digest, Sha256};

use crate::quantise::{Options, Quantised, QuantiseError};

/// Writes `quantised`, which came from the ONNX file `source`, to `output`.
///
/// # Errors
/// Labels that do not match the classes, and files that cannot be read or written. Nothing
/// is left behind then.
pub fn save(output: &Path, source: &Path, labels: &Labels, options: &Options, quantised: &Quantised) -> Result<()> {
    let classes = quantised.golden.first().map_or(0, |golden| golden.logits.len());
    if labels.len() != classes {
        return Err(QuantiseError::Labels {
            classes,
            labels: labels.len(),
            file: labels.file().to_owned(),
        }
        .into());
    }
    let provenance = Provenance {
        source: source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        source_sha256: sha256(source)?,
        calibration_images: quantised.report.images,
        calibration_sha256: quantised.calibration_sha256.clone(),
        method: quantised.report.method.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let parts = ModelParts {
        name: source.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        graph: &quantised.model,
        labels,
        preprocessing: &options.preprocessing,
        provenance: &provenance,
        report: &serde_json::to_value(&quantised.report)?,
        golden: &quantised.golden,
    };
    parts.write(output)?;
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let read = || -> io::Result<String> {
        let mut hash = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hash)?;
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    read().with_context(|| format!("{}: cannot read", path.display()))
}
