use core::fmt;

use alloc::string::String;

/// Why a kernel could not be made or run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// A shape or a parameter is not usable; the text says which and why.
    Invalid(String),
    /// A buffer has another length than the shape asks for.
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements it must have.
        expected: usize,
        /// Elements it has.
        found: usize,
    },
    /// The running CPU does not have the instruction set.
    Unavailable {
        /// Its name.
        isa: &'static str,
        /// Names of those that the CPU has.
        available: String,
    },
    /// No instruction set has this name.
    UnknownIsa {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => f.write_str(why),
            Self::Length { what, expected, found } => {
                write!(f, "{what} has {found} elements, expected {expected}")
            }
            Self::Unavailable { isa, available } => write!(
                f,
                "this CPU cannot run the `{isa}` kernels; unset RESIGHT_ISA or choose one of: {available}"
            ),
            Self::UnknownIsa { name, known } => write!(f, "no kernels are called `{name}`; known: {known}"),
        }
    }
}

impl core::error::Error for KernelError {}

impl KernelError {
    pub(crate) fn check(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}
