//! Inputs of a node: results of the network, and constants.

use crate::import::data::{Layout, NCHW, shown_layout};
use crate::import::limits::LimitFault;
use crate::import::names::printable;
use crate::import::tensor::TensorFault;

/// Why an input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputFault {
    #[error(transparent)]
    Limit(#[from] LimitFault),
    #[error("its input {0} is missing")]
    Missing(usize),
    #[error("its input `{name}` does not exist", name = printable(name))]
    Unknown { name: String },
    #[error("the initialiser `{name}` {cause}", name = printable(name))]
    Initialiser { name: String, cause: TensorFault },
    #[error("it follows a Softmax, which must be the last node")]
    Probabilities,
    #[error("it takes the norm of a result, which is only supported to divide the result by")]
    Norm,
    #[error(
        "it takes maps one behind the other, which only outputs of a detector can be; export the network up to its \
         raw maps"
    )]
    Rows,
    #[error(
        "its input `{name}` is computed from shapes by {operator}; export with fixed shapes and constant folding",
        name = printable(name)
    )]
    Unresolved { name: String, operator: String },
    #[error("its input `{name}` is a constant, not a result of the network", name = printable(name))]
    Constant { name: String },
    #[error("its input `{name}` is no constant; export with fixed shapes and constant folding", name = printable(name))]
    NoConstant { name: String },
    #[error("its weights are missing")]
    NoWeights,
    #[error(
        "the initialiser `{name}` holds {value} at position {position}; weights must be finite, train or export the \
         model again",
        name = printable(name)
    )]
    NotFinite { name: String, value: f32, position: usize },
    #[error(
        "the initialiser `{name}` holds integers where weights are needed; export the f32 model",
        name = printable(name)
    )]
    IntegerWeights { name: String },
    #[error(
        "its weights `{name}` are computed by {operator} (weight standardisation, for one); fold constants first, \
         with onnxsim or onnxruntime's offline optimisation",
        name = printable(name)
    )]
    UnresolvedWeights { name: String, operator: String },
    #[error(
        "its input `{name}` is computed while the network runs; weights must be constants, export for inference with \
         constant folding",
        name = printable(name)
    )]
    ComputedWeights { name: String },
    #[error(
        "its input `{name}` has the dimensions {dims:?} where [{channels}] is needed",
        name = printable(name)
    )]
    PerChannel { name: String, dims: Vec<usize>, channels: usize },
    #[error("its input is flat, [batch, features], where an image is needed")]
    Flat,
    #[error(
        "its input is {found} where {needed} is needed; transpose it before",
        found = shown_layout(layout),
        needed = shown_layout(&NCHW)
    )]
    NoImage { layout: Layout },
}
