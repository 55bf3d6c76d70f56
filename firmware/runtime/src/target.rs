//! What a network is packed for.

use std::env;

use resight_kernels::{CacheSizes, Isa};

use crate::caches::cache_sizes;
use crate::error::RuntimeError;

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "RESIGHT_ISA";

/// What a network is packed for. It chooses kernels and the sizes of blocks, never a result: any
/// target gives the same bytes.
///
/// A program makes one, once, and passes it down; nothing below asks the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// The data caches of the cores that run them.
    pub caches: CacheSizes,
    /// Compute threads that share a layer, at least 1.
    pub threads: usize,
}

impl Target {
    /// The scalar kernels on one thread: runs anywhere, and is what the others are measured
    /// against.
    pub fn reference() -> Self {
        Self { isa: Isa::Generic, caches: CacheSizes::default(), threads: 1 }
    }

    /// The running machine with one compute thread: the instruction set that `RESIGHT_ISA`
    /// names, or the best one of this CPU, and the caches of its fastest core.
    ///
    /// # Errors
    /// A name that is unknown or that this CPU cannot run; there is no silent fallback.
    pub fn of_this_machine() -> Result<Self, RuntimeError> {
        Ok(Self { isa: isa_from_environment()?, caches: cache_sizes(), threads: 1 })
    }

    /// With another instruction set.
    #[must_use]
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// With so many compute threads.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }
}

/// The instruction set that `RESIGHT_ISA` names, or the best one of this CPU.
///
/// # Errors
/// A name that is unknown or that this CPU cannot run; there is no silent fallback.
pub fn isa_from_environment() -> Result<Isa, RuntimeError> {
    let name = env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty());
    Ok(Isa::select(name.as_deref())?)
}
