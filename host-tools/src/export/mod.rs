//! From a model file to a standard ONNX file, for other tools to look at and to run.
//!
//! The network takes what the one took that the model file was made from: a normalised picture in the order
//! of batch, channels, rows and columns, in f32. In the form `qdq` every result is rounded to int8 by a
//! `QuantizeLinear` with the model's scale and zero point, and weights are int8; in the form `f32` nothing is
//! rounded, and results end where int8 does.

mod error;
mod format;
mod layers;
mod tables;
mod weighted;
mod writer;

use std::path::Path;

use prost::Message as _;
use resight_base::files::write_atomically;
use resight_model_file::Task;
use resight_runtime::Model;
use tract_onnx::pb::ModelProto;

pub use self::error::{ExportError, NumberFault};
pub use self::format::{Format, UnknownFormat};
use self::writer::Writer;

/// The ONNX form of a model.
///
/// # Errors
/// [`ExportError`] names the layer that ONNX cannot hold.
pub fn export(model: &Model, format: Format) -> Result<ModelProto, ExportError> {
    if !matches!(model.task(), Task::Classes { .. }) {
        return Err(ExportError::Task(model.file().into()));
    }
    let mut writer = Writer::new(model, format);
    // The order of a model's nodes is topological: they are read in it.
    for node in &model.graph().nodes {
        let exported =
            if node.inputs.is_empty() { Writer::image(node) } else { layers::layer(&mut writer, node)? };
        writer.add(node, exported);
    }
    Ok(writer.finish())
}

/// Writes an ONNX file, whole or not at all.
///
/// # Errors
/// A place where nothing can be written.
pub fn write(proto: &ModelProto, path: &Path) -> Result<(), ExportError> {
    write_atomically(path, |file| file.write_all(&proto.encode_to_vec()))?;
    Ok(())
}
