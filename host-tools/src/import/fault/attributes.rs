//! Attributes of a node.

use crate::import::limits::MAX_DIMENSION;
use crate::import::names::printable;
use crate::import::tensor::TensorFault;

/// Why an attribute cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AttributeFault {
    #[error("its attribute `{name}` is no {kind}")]
    Kind { name: &'static str, kind: &'static str },
    #[error("its attribute `{0}` is not a number")]
    NotANumber(&'static str),
    #[error(
        "its attribute `{name}` is {found:?}; {count} values from {least} to {MAX_DIMENSION} are supported"
    )]
    Sizes { name: &'static str, found: Vec<i64>, count: usize, least: usize },
    #[error("its value {0}")]
    Value(TensorFault),
    #[error("it holds no tensor or number")]
    NoValue,
    #[error(
        "its attribute `{name}` is not supported; export with standard ONNX operators",
        name = printable(name)
    )]
    Unsupported { name: String },
}
