//! Everything that can go wrong between a model file and its logits.

use resight_base::files::FileError;
use resight_imaging::ImagingError;
use resight_model_file::ModelFileError;

/// An error of this crate. The message is one line and names the file, the cause and, where
/// there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The graph is not an int8 network of ours.
    #[error("{0}")]
    Graph(String),
    /// A kernel refused its parameters or the CPU lacks its instructions.
    #[error(transparent)]
    Kernel(#[from] resight_kernels::KernelError),
    /// The compute threads cannot be started.
    #[error(transparent)]
    Threads(#[from] crate::ThreadError),
    /// The parts of a model file do not belong together, or a machine does not compute what
    /// it says.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model file itself is wrong.
    #[error(transparent)]
    ModelFile(#[from] ModelFileError),
    /// An image is wrong.
    #[error(transparent)]
    Imaging(#[from] ImagingError),
}
