//! What an ONNX tensor is at import.

use super::array::Array;

/// What an ONNX tensor is at import.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Float(Array<f32>),
    Integer(Array<Option<i64>>),
    /// Computed from shapes in a way that is not understood; the operator that did it.
    Unresolved(String),
    Data(Data),
    /// Softmax of the operation's result: only good as the network's output.
    Probabilities(usize),
}

/// A view of an operation's result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    pub(super) operation: usize,
    /// Zeros around it that are yet to be folded, `[top, left, bottom, right]`.
    pub(super) padding: [usize; 4],
    /// `[batch, channels]` instead of `[batch, channels, 1, 1]`.
    pub(super) flat: bool,
}

/// What a node's handler makes: the value of the node's first output, or why it is refused.
pub(super) type Outcome = Result<Value, String>;
