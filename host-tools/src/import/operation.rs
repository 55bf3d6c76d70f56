//! The intermediate form: elementary operations on `[channels, height, width]` tensors.

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
    Add,
    MaxPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
    },
    GlobalAverage,
    /// Every stride-th position, with zero channels before and after.
    Select {
        stride: [usize; 2],
        before: usize,
        after: usize,
    },
}
