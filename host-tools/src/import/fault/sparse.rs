//! Sparse initialisers.

use crate::import::limits::{LimitFault, MAX_WEIGHTS};
use crate::import::tensor::TensorFault;

/// Why a sparse initialiser cannot be used. The message goes on after its name.
#[derive(Debug, thiserror::Error)]
pub enum SparseFault {
    #[error(transparent)]
    Limit(#[from] LimitFault),
    #[error(transparent)]
    Tensor(#[from] TensorFault),
    #[error("is damaged: its values, indices and dimensions do not fit; export it again")]
    Damaged,
    #[error("is one of those with more than {MAX_WEIGHTS} weights together; use a smaller network")]
    Weights,
    #[error("holds integers where weights are needed; export the f32 model")]
    Integers,
}
