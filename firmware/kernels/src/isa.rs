use core::fmt;

use alloc::string::ToString;

use crate::KernelError;

/// An instruction set that kernels exist for, best last within an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable scalar code, the reference.
    Generic,
    /// ARMv8.0 NEON: `smull`, `smlal2`, `sadalp` (Cortex-A53, A57, A72).
    NeonMlal,
    /// NEON with `sdot` (Cortex-A55, A76, A78AE).
    NeonDot,
    /// NEON with `smmla` (ARMv8.6, Neoverse V1, Cortex-A710 and later).
    NeonI8mm,
    /// AVX2, 16-bit multiply-add.
    X86Avx2,
    /// AVX2 with AVX-VNNI, 256-bit dot products (Alder Lake and later without AVX-512).
    X86AvxVnni,
    /// AVX-512 with VNNI.
    X86Vnni,
}

impl Isa {
    /// All of them, in the order of preference: the last available one is the best.
    pub const ALL: [Self; 7] = [
        Self::Generic,
        Self::NeonMlal,
        Self::NeonDot,
        Self::NeonI8mm,
        Self::X86Avx2,
        Self::X86AvxVnni,
        Self::X86Vnni,
    ];

    /// The name, as in `RESIGHT_ISA` and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::NeonMlal => "neon_mlal",
            Self::NeonDot => "neon_dot",
            Self::NeonI8mm => "neon_i8mm",
            Self::X86Avx2 => "x86_avx2",
            Self::X86AvxVnni => "x86_avx_vnni",
            Self::X86Vnni => "x86_vnni",
        }
    }

    /// Whether kernels for it are built in and the running CPU has the instructions.
    pub fn is_available(self) -> bool {
        crate::dispatch::is_available(self)
    }

    /// Those that [are available](Self::is_available).
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The best that the running CPU has.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::Generic)
    }

    /// The one called `name`, or the best one without a name.
    ///
    /// # Errors
    /// An unknown name and one that this CPU cannot run: a forced choice never falls back.
    pub fn select(name: Option<&str>) -> Result<Self, KernelError> {
        name.map_or_else(|| Ok(Self::best()), |name| Self::named(name)?.check())
    }

    /// The one called `name`, whether or not this CPU can run it.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Self, KernelError> {
        let known = Self::ALL.into_iter().find(|isa| isa.name() == name);
        known.ok_or_else(|| KernelError::UnknownIsa(name.to_string()))
    }

    /// Its kernels for convolutions, each with the layers that it runs; the first one runs those
    /// that no other does.
    pub fn kernels(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        crate::dispatch::table(self)
    }

    /// Itself when it is available.
    pub(crate) fn check(self) -> Result<Self, KernelError> {
        if self.is_available() { Ok(self) } else { Err(KernelError::Unavailable(self.name())) }
    }

    pub(crate) fn list(f: &mut fmt::Formatter<'_>, all: impl Iterator<Item = Self>) -> fmt::Result {
        for (index, isa) in all.enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, isa.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = Isa::select(Some("sse")).unwrap_err().to_string();
        assert!(error.contains("`sse`") && error.contains("neon_dot"), "{error}");
    }

    #[test]
    fn a_foreign_instruction_set_is_an_error_not_a_fallback() {
        let foreign = if cfg!(target_arch = "aarch64") { "x86_avx2" } else { "neon_mlal" };
        let error = Isa::select(Some(foreign)).unwrap_err().to_string();
        assert!(error.contains(foreign) && error.contains("generic"), "{error}");
    }

    #[test]
    fn generic_can_always_be_forced() {
        assert_eq!(Isa::select(Some("generic")), Ok(Isa::Generic));
    }
}
