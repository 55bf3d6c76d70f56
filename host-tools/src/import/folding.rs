//! A node while more is folded into it, and the convolutions that folding makes.

use super::fault::folding::FoldingFault;
use crate::graph::{FloatConvolution, Node, Operator};

/// An operation that the graph cannot hold.
pub(super) struct Refusal {
    pub(super) node: String,
    pub(super) operator: String,
    pub(super) cause: FoldingFault,
}

/// A node while more is folded into it.
pub(super) struct Folding {
    pub(super) node: Node,
    /// Index of the last operation in it: the nodes' final order.
    pub(super) last: usize,
    /// A shortcut that only selects positions and channels.
    pub(super) selection: bool,
    /// Whether it went into the convolution behind it, and is no node of its own any more.
    pub(super) absorbed: bool,
    /// ONNX operator, for errors.
    pub(super) operator: String,
}

impl Folding {
    pub(super) fn convolution(&mut self) -> Option<&mut FloatConvolution> {
        match &mut self.node.operator {
            Operator::Convolution(convolution) => Some(convolution),
            _ => None,
        }
    }

    /// The refusal of this node.
    pub(super) fn refusal(&self, cause: FoldingFault) -> Refusal {
        Refusal { node: self.node.name.clone(), operator: self.operator.clone(), cause }
    }
}

/// `scale[c] * x + bias[c]` of every stride-th position.
pub(super) fn depthwise(scale: Vec<f32>, bias: Vec<f32>, stride: [usize; 2]) -> FloatConvolution {
    FloatConvolution {
        groups: scale.len(),
        weights: scale.into(),
        bias,
        kernel: [1, 1],
        stride,
        padding: [0; 4],
        dilation: [1, 1],
        residual: false,
        relu: false,
        ceiling: None,
    }
}

pub(super) fn identity(channels: usize) -> FloatConvolution {
    depthwise(vec![1.0; channels], vec![0.0; channels], [1, 1])
}

/// The average over all positions of an image of `height` x `width`, for each channel.
pub(super) fn average(channels: usize, [height, width]: [usize; 2]) -> FloatConvolution {
    let area = height * width;
    FloatConvolution {
        weights: vec![1.0 / area as f32; channels * area].into(),
        kernel: [height, width],
        ..identity(channels)
    }
}
