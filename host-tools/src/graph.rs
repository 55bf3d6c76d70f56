//! The float network as the quantiser sees it: what an int8 network of ours can hold, and
//! nothing else.
//!
//! Activations are `[channels, height, width]` here (ONNX's order), one image at a time.
//! [`import`](crate::import) makes a graph from an ONNX file: batch normalisation, ReLU,
//! padding and residual additions are already folded into the convolutions.

/// Index of a node in [`FloatGraph::nodes`].
pub type NodeId = usize;

/// A residual network in float, in topological order: a node's inputs come before it.
#[derive(Debug, Clone)]
pub struct FloatGraph {
    /// The graph's name in the ONNX file, or the file's stem.
    pub name: String,
    /// Nodes; the first is the [`Operator::Input`], the last one the only output.
    pub nodes: Vec<Node>,
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
    /// `weights * x + bias`, the logits.
    Linear {
        /// `[output][input]`.
        weights: Vec<f32>,
        /// One per output.
        bias: Vec<f32>,
    },
}

/// `relu(convolution(x) + bias + residual)`, where the last two steps are optional.
#[derive(Debug, Clone)]
pub struct FloatConvolution {
    /// `[output channel][input channel of the group][kernel y][kernel x]`, ONNX's order.
    pub weights: Vec<f32>,
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
}
