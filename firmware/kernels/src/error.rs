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
    Unavailable(&'static str),
    /// No instruction set has this name.
    UnknownIsa(String),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => f.write_str(why),
            Self::Length { what, expected, found } => {
                write!(f, "{what} has {found} elements, expected {expected}")
            }
            Self::Unavailable(name) => {
                write!(f, "this CPU cannot run the `{name}` kernels; unset RESIGHT_ISA or choose one of: ")?;
                crate::Isa::list(f, crate::Isa::available())
            }
            Self::UnknownIsa(name) => {
                write!(f, "no kernels are called `{name}`; known: ")?;
                crate::Isa::list(f, crate::Isa::ALL.iter().copied())
            }
        }
    }
}

impl core::error::Error for KernelError {}

impl KernelError {
    pub(crate) fn check(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}
