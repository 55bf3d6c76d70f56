//! What a network is packed for.

use std::env;
use std::path::{Path, PathBuf};

use resight_kernels::{CacheSizes, Isa, Loops};
use tract_nnef::internal::TractResult;

use crate::caches::cache_sizes;
use crate::error::RuntimeError;
use crate::nnef::kernel_error;
use crate::part::Part;
use crate::threads;

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
    /// Whether one thread may run layers band by band, so that what passes between them stays in the caches.
    /// Then the tensors between them are never whole, and nobody can [observe](crate::Program::run_observed) them.
    pub bands: bool,
}

impl Target {
    /// The scalar kernels on one thread: runs anywhere, and is what the others are measured
    /// against.
    pub fn reference() -> Self {
        Self { isa: Isa::Generic, caches: CacheSizes::default(), threads: 1, bands: false }
    }

    /// The running machine with one compute thread: the instruction set that `RESIGHT_ISA`
    /// names, or the best one of this CPU, and the caches of its fastest core.
    ///
    /// # Errors
    /// A name that is unknown or that this CPU cannot run; there is no silent fallback.
    pub fn of_this_machine() -> Result<Self, RuntimeError> {
        Ok(Self {
            isa: isa_from_environment()?,
            caches: cache_sizes(&fastest_core()),
            threads: 1,
            bands: true,
        })
    }

    /// What runs layers that have no kernel of their own.
    ///
    /// # Errors
    /// An instruction set that this CPU does not have.
    pub fn loops(&self) -> TractResult<Loops> {
        Loops::new(self.isa).map_err(kernel_error)
    }

    /// With another instruction set.
    #[must_use]
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// With whole layers one after the other, whose outputs can be observed.
    #[must_use]
    pub fn with_whole_layers(self) -> Self {
        Self { bands: false, ..self }
    }

    /// With so many compute threads.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }
}

/// The instruction set that `RESIGHT_ISA` names, or the best one of this CPU's fastest core.
///
/// # Errors
/// A name that is unknown or that this CPU cannot run; there is no silent fallback.
pub fn isa_from_environment() -> Result<Isa, RuntimeError> {
    let name = env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty());
    let isa = Isa::select(name.as_deref())?;
    Ok(if name.is_none() { suited(isa, &fastest_core()) } else { isa })
}

/// The same instructions in the order that suits a core whose folder this is.
fn suited(isa: Isa, cpu: &Path) -> Isa {
    let in_order = isa == Isa::NeonDot && Part::of(cpu).is_some_and(Part::takes_dot_in_order);
    if in_order { Isa::NeonDotInOrder } else { isa }
}

/// Where Linux describes the fastest core that this process may use.
fn fastest_core() -> PathBuf {
    Path::new(threads::CPUS).join(format!("cpu{}", threads::fastest_core()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_in_order_core_gets_the_order_that_suits_it() {
        let folder = tempfile::tempdir().unwrap();
        let registers = folder.path().join("regs/identification");
        fs::create_dir_all(&registers).unwrap();
        let suited_to = |register: &str, isa| {
            fs::write(registers.join("midr_el1"), register).unwrap();
            suited(isa, folder.path())
        };
        assert_eq!(suited_to("0x412fd050", Isa::NeonDot), Isa::NeonDotInOrder);
        assert_eq!(suited_to("0x412fd050", Isa::NeonMlal), Isa::NeonMlal);
        assert_eq!(suited_to("0x414fd0b1", Isa::NeonDot), Isa::NeonDot);
    }
}
