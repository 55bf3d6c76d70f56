//! What is configured of lines and inputs.

use std::path::PathBuf;
use std::time::Duration;

/// An output line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineConfig {
    pub(crate) name: String,
    pub(crate) back_end: BackEnd,
    pub(crate) active_low: bool,
    /// Whether the line is active at its safe level.
    pub(crate) safe: bool,
}

/// What drives a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BackEnd {
    Virtual,
    Gpio {
        chip: Option<String>,
        position: Position,
    },
    /// A Raspberry Pi's registers, by BCM number.
    Registers {
        pin: u8,
    },
}

/// How a line of a chip is found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Position {
    Name(String),
    Offset(u32),
}

/// An input line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InputConfig {
    pub(crate) name: String,
    pub(crate) back_end: InputBackEnd,
    pub(crate) active_low: bool,
    /// Whether frames are classified only when an input like this becomes active.
    pub(crate) trigger: bool,
}

/// Where an input is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InputBackEnd {
    Gpio { chip: Option<String>, position: Position, bias: Option<Bias>, debounce: Duration },
    File(PathBuf),
}

impl InputBackEnd {
    /// Whether only one of the two can be open.
    pub(crate) fn is_same_wire(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Gpio { chip, position, .. },
                Self::Gpio { chip: other_chip, position: other_position, .. },
            ) => chip == other_chip && position == other_position,
            _ => false,
        }
    }
}

/// Resistor of an input within the chip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bias {
    None,
    PullUp,
    PullDown,
}
