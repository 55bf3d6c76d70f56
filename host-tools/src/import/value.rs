//! What an ONNX tensor is at import.

use resight_model_file::Activation;

use super::array::Array;
pub(super) use super::data::{Axis, Data, FLAT, Layout, NCHW, NHWC};
use super::fault::NodeFault;
use super::rows::Rows;

/// What an ONNX tensor is at import.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Float(Array<f32>),
    Integer(Array<Option<i64>>),
    /// Computed from shapes in a way that is not understood; the operator that did it.
    Unresolved(String),
    Data(Data),
    /// Softmax or sigmoid of the operation's result: only good as the network's output.
    Probabilities(usize, Activation),
    /// The L2 norm of each position's channels of a result: only good to divide the result by.
    Norm(Data),
    /// Maps one behind the other: only good as the network's output.
    Rows(Rows),
}

/// What a node's handler makes: the value of the node's first output, or why it is refused.
pub(super) type Outcome = Result<Value, NodeFault>;
