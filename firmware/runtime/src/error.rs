//! Everything that can go wrong between a model file and its logits.

use resight_base::files::FileError;
use resight_imaging::ImagingError;
use resight_model_file::ModelFileError;

use crate::heads::error::HeadError;

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
    /// The parts of a model file do not belong together.
    #[error("{file}: {cause}")]
    Model {
        /// The file.
        file: String,
        /// Why.
        cause: ModelCause,
    },
    /// A machine does not compute what a model file says.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model file itself is wrong.
    #[error(transparent)]
    ModelFile(#[from] ModelFileError),
    /// An image is wrong.
    #[error(transparent)]
    Imaging(#[from] ImagingError),
}

/// Why the parts of a model file are no network that can be run. Shapes are `[height, width, channels]`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelCause {
    /// What tract says of the graph's text or tensors.
    #[error("the graph cannot be read: {0}")]
    Graph(String),
    /// What is wrong with the shape or the type of an input or output.
    #[error("{0}")]
    Shapes(String),
    /// The outputs are not what the task needs.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Preprocessing makes another input than the network takes.
    #[error("the network takes {expected:?}, preprocessing makes {found:?}")]
    Input {
        /// What the network takes.
        expected: [usize; 3],
        /// What preprocessing makes.
        found: [usize; 3],
    },
    /// There is not one label for each class.
    #[error("the network has {expected} classes, there are {found} labels")]
    Labels {
        /// How many classes there are.
        expected: usize,
        /// How many labels there are.
        found: usize,
    },
    /// A golden vector has another number of values than the input or the outputs.
    #[error("a golden vector is not of the network's size")]
    GoldenSize,
    /// Nothing could show that a machine computes what it should.
    #[error("there is no golden vector")]
    NoGolden,
}
