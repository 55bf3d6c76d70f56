//! From a model file to a standard ONNX file, for other tools to look at and to run.
//!
//! The network takes what the one took that the model file was made from: a normalised picture in the order
//! of batch, channels, rows and columns, in f32. In the form `qdq` every result is rounded to int8 by a
//! `QuantizeLinear` with the model's scale and zero point, and weights are int8; in the form `f32` nothing is
//! rounded, and results end where int8 does.

mod layers;
mod proto;
mod writer;

use std::path::Path;
use std::str::FromStr;

use prost::Message as _;
use resight_base::files::{FileError, write_atomically};
use resight_model_file::Task;
use resight_runtime::Model;
use tract_onnx::pb::ModelProto;

use self::writer::Writer;

/// What numbers an exported network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Integers, between `QuantizeLinear` and `DequantizeLinear`.
    Qdq,
    /// Real numbers.
    F32,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "qdq" => Ok(Self::Qdq),
            "f32" => Ok(Self::F32),
            _ => Err(UnknownFormat(text.into())),
        }
    }
}

/// A format that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`; expected qdq or f32")]
pub struct UnknownFormat(String);

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer for which ONNX has no operators.
    #[error(
        "{file}: layer `{layer}` ({operator}) has no counterpart in ONNX; export the model that it was made from"
    )]
    Layer {
        /// The model file.
        file: String,
        /// The layer.
        layer: String,
        /// What it computes.
        operator: String,
    },
    /// A layer whose integers ONNX cannot hold.
    #[error("{file}: layer `{layer}`: {cause}")]
    Numbers {
        /// The model file.
        file: String,
        /// The layer.
        layer: String,
        /// What is wrong.
        cause: NumberFault,
    },
    /// A network for another task.
    #[error("{0}: only classifiers can be exported")]
    Task(String),
    /// See [`FileError`].
    #[error(transparent)]
    File(#[from] FileError),
}

/// Which numbers of a layer ONNX cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberFault {
    /// A tensor of another type than the layer's.
    #[error("its tensors are not what the layer needs: {0}")]
    Tensor(String),
    /// A tensor whose scale is not known.
    #[error("its input {0} has no scale")]
    NoScale(usize),
    /// A bias of more than 32 bits.
    #[error("its bias {0} needs more than 32 bits in ONNX")]
    Bias(i64),
}

/// The ONNX form of a model.
///
/// # Errors
/// [`ExportError`] names the layer that ONNX cannot hold.
pub fn export(model: &Model, format: Format) -> Result<ModelProto, ExportError> {
    if !matches!(model.task(), Task::Classes { .. }) {
        return Err(ExportError::Task(model.file().into()));
    }
    let mut writer = Writer::new(model, format);
    writer.run()?;
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
