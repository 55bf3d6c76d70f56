//! int8 residual networks: tract operators, model file, preprocessing, execution.
//!
//! The host tools and the board use this crate alike, so what was measured on the host is,
//! bit for bit, what the board computes.

mod error;
pub mod nnef;
pub mod operators;
mod program;

use std::env;

pub use error::NetworkError;
pub use program::{Program, StepInfo};
pub use resight_kernels::Isa;

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "RESIGHT_ISA";

/// The instruction set that `RESIGHT_ISA` names, or the best one of this CPU.
///
/// # Errors
/// A name that is unknown or that this CPU cannot run; there is no silent fallback.
pub fn isa_from_environment() -> Result<Isa, NetworkError> {
    let name = env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty());
    Ok(Isa::select(name.as_deref())?)
}
