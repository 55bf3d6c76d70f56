//! The float network as the quantiser sees it: what an int8 network of ours can hold, and
//! nothing else.
//!
//! Activations are `[channels, height, width]` here (ONNX's order), one image at a time.
//! [`import`](crate::import) makes a graph from an ONNX file: batch normalisation, ReLU,
//! padding and residual additions are already folded into the convolutions.

use resight_model_file::Activation;

use crate::function::{Function, Unary};
use crate::weights::Weights;

/// Index of a node in [`FloatGraph::nodes`].
pub type NodeId = usize;

/// A residual network in float, in topological order: a node's inputs come before it.
#[derive(Debug, Clone)]
pub struct FloatGraph {
    /// The graph's name in the ONNX file, or the file's stem.
    pub name: String,
    /// Nodes; the first is the [`Operator::Input`]. Of a classifier the last one is the only output.
    pub nodes: Vec<Node>,
    /// The maps that a network for boxes, masks and the like gives, in the order of the file; none of
    /// a classifier.
    pub outputs: Vec<GraphOutput>,
}

impl FloatGraph {
    /// The nodes that are outputs.
    pub fn output_nodes(&self) -> Vec<NodeId> {
        match self.outputs.as_slice() {
            [] => self.nodes.len().checked_sub(1).into_iter().collect(),
            outputs => outputs.iter().map(|output| output.node).collect(),
        }
    }

    /// Whether there are layers with so many weights that these lie in a file.
    pub fn has_stored_weights(&self) -> bool {
        self.nodes.iter().any(|node| match &node.operator {
            Operator::Convolution(FloatConvolution { weights, .. }) | Operator::Linear { weights, .. } => {
                weights.are_stored()
            }
            _ => false,
        })
    }
}

/// A map that is an output of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphOutput {
    /// Its name in the ONNX file.
    pub name: String,
    /// The node that gives it.
    pub node: NodeId,
    /// What the file makes of the node's values in the end, which the network leaves to the decoder:
    /// a softmax is over the channels.
    pub activation: Option<Activation>,
    /// How many channels in a row a softmax is over, where it is not over all: those of an anchor.
    pub group: Option<usize>,
}

impl GraphOutput {
    /// What the decoder makes of each value, if it is a function of each value by itself.
    pub fn function(&self) -> Option<Function> {
        (self.activation == Some(Activation::Sigmoid)).then(|| Function::Argument.then(Unary::Sigmoid))
    }
}

/// A place between two rows or columns: `share` of the way from `first` to the one behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    /// The first of the two.
    pub first: usize,
    /// `0..1`; 0 at the last one.
    pub share: f64,
}

/// One operation with one output.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique name, from the ONNX node that does most of the work (the convolution).
    pub name: String,
    /// What it computes.
    pub operator: Operator,
    /// Where its inputs come from. A convolution with a residual has two: `[input, residual]`.
    pub inputs: Vec<NodeId>,
    /// The ONNX tensor that holds this node's output when the f32 network runs.
    pub tensor: String,
    /// Output `[channels, height, width]`; a linear layer has `[features, 1, 1]`.
    pub shape: [usize; 3],
}

/// What a node computes.
#[derive(Debug, Clone)]
pub enum Operator {
    /// The network's input image.
    Input,
    /// A convolution with everything that was folded into it.
    Convolution(FloatConvolution),
    /// Maximum over windows; padding never wins.
    MaxPool {
        /// Window `[height, width]`.
        kernel: [usize; 2],
        /// Step `[vertical, horizontal]`.
        stride: [usize; 2],
        /// Padding `[top, left, bottom, right]`.
        padding: [usize; 4],
    },
    /// Average over all positions.
    GlobalAverage,
    /// The average over windows.
    AveragePool {
        /// Window `[height, width]`.
        kernel: [usize; 2],
        /// Step `[vertical, horizontal]`.
        stride: [usize; 2],
        /// Padding `[top, left, bottom, right]`.
        padding: [usize; 4],
        /// Whether the padding counts as zeros.
        counts_padding: bool,
    },
    /// A function of each value.
    Table(Function),
    /// A function of the average over all positions of another one, which is never negative; the outer
    /// one rises.
    GeneralisedMean {
        /// The inner one.
        inner: Function,
        /// The outer one.
        outer: Function,
    },
    /// The sum of two inputs of one shape.
    Add {
        /// Whether negative results become zero.
        relu: bool,
    },
    /// The product of two inputs; the second may be of one position or of one channel.
    Multiply,
    /// The channels of each position over their L2 norm, times a factor for each channel; zeros stay
    /// zeros.
    Normalise(Vec<f32>),
    /// The channels of all inputs side by side.
    Concat,
    /// Some channels of the input, in this order.
    Channels(Vec<usize>),
    /// The same values under another shape: the channels of one position as columns of one channel,
    /// or the reverse; or all of an image's values as channels, in the order of rows, columns and
    /// channels.
    View,
    /// Rows and columns round the input that repeat others of it.
    Pad {
        /// `[top, left, bottom, right]`.
        padding: [usize; 4],
        /// Whether the border is a mirror, or else its own rows and columns are repeated.
        reflects: bool,
    },
    /// Each position repeated `[vertical, horizontal]` times.
    Upsample([usize; 2]),
    /// Another size, by linear interpolation along both axes.
    Resize {
        /// Where each row of the output lies.
        rows: Vec<Between>,
        /// Where each column lies.
        columns: Vec<Between>,
    },
    /// The phases of a transposed convolution of the stride `[vertical, horizontal]` put together:
    /// pixel `[y, x]` of the output is one of the input `y % vertical * horizontal + x % horizontal`.
    Interleave([usize; 2]),
    /// `weights * x + bias`, the logits.
    Linear {
        /// `[output][input]`.
        weights: Weights,
        /// One per output.
        bias: Vec<f32>,
    },
}

impl Operator {
    /// Whether each of its results is one of its input's values, or between some of them, whatever
    /// those stand for.
    pub fn keeps_values(&self) -> bool {
        matches!(
            self,
            Self::MaxPool { .. }
                | Self::Channels(_)
                | Self::View
                | Self::Pad { .. }
                | Self::Upsample(_)
                | Self::Resize { .. }
        )
    }
}

/// `relu(convolution(x) + bias + residual)`, where the last two steps are optional.
#[derive(Debug, Clone)]
pub struct FloatConvolution {
    /// `[output channel][input channel of the group][kernel y][kernel x]`, ONNX's order.
    pub weights: Weights,
    /// One per output channel.
    pub bias: Vec<f32>,
    /// Kernel `[height, width]`.
    pub kernel: [usize; 2],
    /// Step `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// Padding with zeros `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Distance between taps `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// Whether the node's second input is added before the ReLU.
    pub residual: bool,
    /// Whether negative results become zero.
    pub relu: bool,
    /// With `relu`: what larger results become.
    pub ceiling: Option<f32>,
}
