//! Arithmetic of two results, or with a constant.

use crate::import::names::printable;

/// Why arithmetic cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ArithmeticFault {
    #[error("none of its inputs is a result of the network; export with constant folding")]
    NoResult,
    #[error("only arithmetic of two results is supported")]
    Operator,
    #[error("{0} of two results of the network is not supported; only their sum and their product are")]
    TwoResults(String),
    #[error("it adds {left:?} and {right:?}; both must have the same shape")]
    Sum { left: [usize; 3], right: [usize; 3] },
    #[error(
        "it multiplies {left:?} and {right:?}; both must have the same shape, or one be of a single position or \
         channel"
    )]
    Product { left: [usize; 3], right: [usize; 3] },
    #[error("its constant is missing")]
    NoConstant,
    #[error(
        "its constant `{name}` has the dimensions {dims:?}; only one value per channel is supported",
        name = printable(name)
    )]
    Constant { name: String, dims: Vec<usize> },
    #[error("subtracting a result of the network from a constant is not supported; multiply by -1 and add")]
    FromConstant,
    #[error("dividing by a result of the network is not supported")]
    Divisor,
    #[error("it is no arithmetic")]
    NoArithmetic,
    #[error("its scale or offset is not finite")]
    NotFinite,
    #[error("it adds {0} tensors; two are supported, export with Add")]
    Count(usize),
}
