//! Why a quantised network cannot be converted.

use resight_runtime::RuntimeError;

use crate::quantise::QuantiseError;

/// Why a quantised network cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// One layer does not fit the int8 arithmetic.
    #[error("node `{node}`: {fault}")]
    Node {
        /// The layer.
        node: String,
        /// Why.
        fault: ConvertFault,
    },
    /// See [`QuantiseError`].
    #[error(transparent)]
    Quantise(#[from] QuantiseError),
    /// See [`RuntimeError`].
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// What is wrong with a layer of a quantised network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertFault {
    /// A float operation whose result is nowhere rounded.
    #[error(
        "its result stays in floats, which makes it a float island inside of a quantised network: no QuantizeLinear \
         follows; quantise it too, or give the f32 file to `resight quantize`"
    )]
    Island,
    /// A layer takes the image as it is.
    #[error(
        "it takes the image in floats; put a QuantizeLinear between, as the tools do that quantise inputs too"
    )]
    FloatImage,
    /// The image is rounded to whole grey levels, but given in other numbers.
    #[error(
        "it is rounded to whole grey levels, which it is not with this normalisation; say by `--preprocess`, or \
         `--mean` and `--std`, what the network is given"
    )]
    Levels,
    /// Weights of floats that are no multiples of one step.
    #[error(
        "its weights are floats: the file quantises what is around it, but not them; quantise it too, or give the f32 \
         file to `resight quantize`"
    )]
    FloatWeights,
    /// Weights of an output that are no multiples of one step, although the file's are.
    #[error(
        "the weights of its output {0} are no multiples of one step; quantise per tensor or per output channel, and \
         fold normalisation into the weights before"
    )]
    Uneven(usize),
    /// Logits of another shape than one number for each class.
    #[error("the network must end in one number for each class, this one has {0:?}")]
    Logits([usize; 3]),
}

impl ConvertFault {
    pub(crate) fn of(self, node: &str) -> ConvertError {
        ConvertError::Node { node: node.into(), fault: self }
    }
}
