//! Why a model cannot be exported.

use resight_base::files::FileError;

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
}
