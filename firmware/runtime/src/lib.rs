//! Running int8 networks: tract operators, their NNEF form, compiled programs, compute threads.
//!
//! The host tools and the board use this crate alike, so what was measured on the host is,
//! bit for bit, what the board computes.

mod caches;
mod classes;
mod error;
mod model;
pub mod nnef;
pub mod operators;
mod program;
mod threads;

use std::env;

pub use caches::cache_sizes;
pub use classes::{Prediction, predictions, softmax, top_k};
pub use error::RuntimeError;
pub use model::{Classifier, Model, ModelParts};
pub use program::{Program, StepInfo};
pub use resight_kernels::{CacheSizes, Isa};
pub use threads::{ThreadError, ThreadPool, ThreadSettings};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "RESIGHT_ISA";

/// The instruction set that `RESIGHT_ISA` names, or the best one of this CPU.
///
/// # Errors
/// A name that is unknown or that this CPU cannot run; there is no silent fallback.
pub fn isa_from_environment() -> Result<Isa, RuntimeError> {
    let name = env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty());
    Ok(Isa::select(name.as_deref())?)
}
