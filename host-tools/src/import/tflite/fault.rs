//! Why a TFLite file is refused.

use super::flatbuffer::Damage;
use crate::import::limits::{LimitFault, MAX_WEIGHTS};
use crate::import::names::printable;

/// Why a file as a whole is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error("not a TFLite file, or a damaged one: {0}; export or copy the model again")]
    Damage(#[from] Damage),
    #[error("it is of version {0} of the format; only version 3 is known, convert the network again")]
    Version(u32),
    #[error("it holds no network; convert it again")]
    Empty,
    #[error("it holds {0} tensors or operators, more than any network of pictures has")]
    Parts(usize),
    #[error("it holds more than {MAX_WEIGHTS} weights; use a smaller network")]
    Weights,
    #[error("tensor {index} `{name}` {cause}; the file is damaged, convert the network again", name = printable(.name))]
    Tensor { index: usize, name: String, cause: ContentFault },
    #[error(
        "operator {index} is of kind {code}, which the file does not list; it is damaged, convert the network again"
    )]
    Code { index: usize, code: u32 },
    #[error("the network has {0} inputs; only one image is supported")]
    Inputs(usize),
    #[error("the input `{name}` has the dimensions {dims:?}; only [1, height, width, channels] is supported", name = printable(.name))]
    Input { name: String, dims: Vec<usize> },
    #[error("the network has {0} outputs; convert it with the logits alone")]
    Outputs(usize),
}

/// Why a tensor of the file is refused: what follows its name in the message.
#[derive(Debug, thiserror::Error)]
pub enum ContentFault {
    #[error("has the size {0} along one axis")]
    Size(i32),
    #[error(transparent)]
    Limit(#[from] LimitFault),
    #[error("is in buffer {0}, which there is not")]
    Buffer(u32),
    #[error("ends behind the file")]
    Behind,
    #[error("has {found} bytes where its dimensions {dims:?} need {expected}")]
    Bytes { found: usize, dims: Vec<usize>, expected: usize },
    #[error("has the scale {0}; a scale must be positive and finite")]
    Scale(f32),
    #[error("has the zero point {zero}, which {kind} cannot have")]
    ZeroPoint { zero: i64, kind: String },
    #[error("has {scales} scales and {zero_points} zero points along axis {axis} of {dims:?}")]
    Scales { scales: usize, zero_points: usize, axis: usize, dims: Vec<usize> },
    /// It is the image.
    #[error(transparent)]
    Image(#[from] TfliteFault),
}

/// Why an operator is refused: what follows its name in the message.
#[derive(Debug, thiserror::Error)]
pub enum TfliteFault {
    #[error("{0}; the file is damaged, convert the network again")]
    Damage(#[from] Damage),
    #[error(
        "its input {0} is missing or computed by nothing before; the file is damaged, convert the network again"
    )]
    Input(usize),
    #[error("it has no output; the file is damaged, convert the network again")]
    Output,
    #[error("its input {0} must be a constant")]
    Computed(usize),
    #[error("`{name}` has the type {found}; only int8, uint8 and float32 are supported: quantise to 8 bits", name = printable(.name))]
    Kind { name: String, found: String },
    #[error("`{name}` holds integers without a scale; quantise the network again", name = printable(.name))]
    NoScale { name: String },
    #[error("`{name}` has a scale for each of {scales} channels; only weights can have them", name = printable(.name))]
    ActivationPerChannel { name: String, scales: usize },
    #[error("`{name}` has the dimensions {dims:?}, which it cannot use", name = printable(.name))]
    Dims { name: String, dims: Vec<usize> },
    #[error("its {what} is {value}, which is not supported")]
    Option { what: &'static str, value: i64 },
    #[error(
        "it reshapes {from:?} to {to:?}; only an image can become a vector, and back where it has one position"
    )]
    Reshape { from: Vec<usize>, to: Vec<usize> },
    #[error(
        "the operator is not supported: networks are made of convolutions, functions of one value, sums, products, \
         concatenation, pooling and fully connected layers"
    )]
    Operator,
}
