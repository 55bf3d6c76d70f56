//! What a wire must be able to do, and what may be wrong with it: below every back end.

use std::time::{Duration, Instant};

use resight_base::retry::Backoff;

use crate::sync::Stop;

/// A level that nobody knows; 0 and 1 are inactive and active.
pub(super) const UNKNOWN: u8 = 2;

/// Pauses between attempts to open a line that was taken away.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error(
        "line `{line}`: no GPIO chip is labelled `{label}`, there are: {found}; `resightd lines` lists them"
    )]
    NoChip { line: String, label: String, found: String },
    #[error(
        "line `{line}`: {count} GPIO chips are labelled `{label}`: {found}; set `chip` to one of these paths \
         (those in brackets stay when chips are numbered anew)"
    )]
    ManyChips { line: String, label: String, count: usize, found: String },
    #[error(
        "line `{line}`: {count} GPIO lines are named `{name}`: {found}; set `chip` to the chip's label or \
         path (the one in brackets stays when chips are numbered anew), and `line` to the offset where one chip \
         has both"
    )]
    ManyLines { line: String, name: String, count: usize, found: String },
    #[error("line `{line}`: no GPIO line is named `{name}`; `resightd lines` lists them all")]
    NoLine { line: String, name: String },
    #[error("line `{line}`: {chip} offset {offset} is held by `{holder}`; stop that or choose another line")]
    Busy { line: String, chip: String, offset: u32, holder: String },
    #[error("line `{line}`: {cause}; may this user open the GPIO chips (group gpio)?")]
    Gpio { line: String, cause: String },
    #[error(
        "line `{line}`: {cause}; rppal needs a Raspberry Pi and may open /dev/gpiochip* and /dev/gpiomem \
         (Raspberry Pi 5: /dev/gpiomem0, group gpio), or choose backend = \"gpio\""
    )]
    Registers { line: String, cause: String },
    #[error("input `{input}`: {cause}")]
    Input { input: String, cause: String },
    #[error("line `{line}` cannot be put to its safe level: {cause}")]
    Write { line: String, cause: String },
}

/// Why a line could not be set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WriteError {
    pub(crate) cause: String,
    /// Whether it was taken away and must be opened anew.
    pub(crate) gone: bool,
}

/// One output line; it can be set from any thread, a panicking one too.
pub(crate) trait OutputLine: Send + Sync {
    /// Makes the voltage high or low.
    ///
    /// # Errors
    /// What the device says.
    fn set(&self, high: bool) -> Result<(), WriteError>;
}

/// What a wait has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) active: bool,
    /// When the line became active since the last reading: the first and the last time.
    pub(crate) edges: Option<(Instant, Instant)>,
}

/// An input line.
pub(crate) trait InputLine: Send {
    /// Waits until the line has changed, for `timeout`, or until it shall stop.
    ///
    /// # Errors
    /// A line that was taken away or cannot be read.
    fn wait(&mut self, stop: &Stop, timeout: Duration) -> Result<Reading, String>;
}
