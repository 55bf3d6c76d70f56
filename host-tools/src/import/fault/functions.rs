//! Functions of each value.

/// Why a function cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum FunctionFault {
    #[error("its limit is no single number")]
    LimitCount,
    #[error("its limits are no constants; export with constant folding")]
    ComputedLimit,
    #[error("its limits are not numbers")]
    LimitNotANumber,
    #[error("it is of what are probabilities already")]
    Probabilities,
    #[error("the function {0} is not known")]
    Unknown(String),
    #[error("it converts a result of the network to type {0}; only floats are supported")]
    Cast(i64),
}
