//! The intermediate form: elementary operations on `[channels, height, width]` tensors.

use crate::function::{Binary, Function};
use crate::graph::Between;

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// Indices of operations before this one.
    pub(super) inputs: Vec<usize>,
    /// The ONNX node's printable name.
    pub(super) name: String,
    /// The ONNX operator.
    pub(super) operator: String,
    /// The ONNX tensor that holds the result.
    pub(super) tensor: String,
    /// `[channels, height, width]`.
    pub(super) shape: [usize; 3],
}

/// What an elementary operation computes.
#[derive(Debug)]
pub(super) enum Kind {
    Input,
    /// Also a fully connected layer: a 1x1 convolution of a 1x1 image.
    Convolution {
        weights: Vec<f32>,
        bias: Vec<f32>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
        groups: usize,
    },
    /// `scale[c] * x + offset[c]`.
    Affine {
        scale: Vec<f64>,
        offset: Vec<f64>,
    },
    Relu,
    /// What a quantised file rounds to 8 bits; nothing is folded across it.
    Rounding {
        /// Whether the least of the 256 numbers is zero.
        from_zero: bool,
    },
    Add,
    MaxPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
    },
    GlobalAverage,
    /// The average over windows.
    AveragePool {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        /// Whether the padding counts as zeros.
        counts_padding: bool,
    },
    /// A function of each value.
    Function(Function),
    /// From 0 to `high`.
    Clip {
        high: f32,
    },
    /// The product of two; the second may be of one position or of one channel.
    Multiply,
    /// The channels of each position over their L2 norm.
    Normalise,
    /// The channels of all inputs side by side.
    Concat,
    /// Some channels, in this order.
    Channels(Vec<usize>),
    /// The same values under another shape, see [`Operator::View`](crate::graph::Operator::View).
    View,
    /// Rows and columns round it that repeat others.
    Pad {
        padding: [usize; 4],
        reflects: bool,
    },
    /// Each position repeated.
    Upsample([usize; 2]),
    /// Another size by interpolation, see [`Operator::Resize`](crate::graph::Operator::Resize).
    Resize {
        rows: Vec<Between>,
        columns: Vec<Between>,
    },
    /// Phases put together, see [`Operator::Interleave`](crate::graph::Operator::Interleave).
    Interleave([usize; 2]),
    /// Every stride-th position, with zero channels before and after.
    Select {
        stride: [usize; 2],
        before: usize,
        after: usize,
    },
}

impl Operation {
    /// What the operation is as a function of each value of its input, if it is one.
    pub(super) fn function(&self) -> Option<Function> {
        match &self.kind {
            Kind::Function(function) => Some(function.clone()),
            Kind::Affine { scale, offset } => Some(
                Function::Argument
                    .with(Binary::Product, Function::numbers(scale))
                    .with(Binary::Sum, Function::numbers(offset)),
            ),
            Kind::Relu => Some(Function::Argument.with(Binary::Maximum, Function::number(0.0))),
            Kind::Clip { high } => Some(Function::Argument.limited(0.0, f64::from(*high))),
            _ => None,
        }
    }
}
