//! What a wire must be able to do, and what may be wrong with it: below every back end.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use resight_base::retry::Backoff;

use crate::sync::Stop;

/// A level that nobody knows; 0 and 1 are inactive and active.
pub(super) const UNKNOWN: u8 = 2;

/// Pauses between attempts to open a line that was taken away.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// What is wrong with a wire, or with what stands for one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineCause {
    #[error("{0}")]
    Chip(gpiocdev::Error),
    #[error("an offset needs a chip")]
    OffsetWithoutChip,
    #[error("it was taken away")]
    TakenAway,
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{0}: not a regular file; expected one that holds 0 or 1")]
    NotRegular(PathBuf),
    #[error("{0}: expected 0 or 1")]
    Content(PathBuf),
    #[error("cannot be waited for: {0}")]
    Wait(io::Error),
    #[error("cannot start its thread: {0}")]
    Thread(io::Error),
    #[cfg(not(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm"))))]
    #[error(transparent)]
    NotBuiltIn(NotBuiltIn),
    #[cfg(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm")))]
    #[error("no GPIO chip that can be opened is labelled {0}")]
    NoRegisters(String),
    #[cfg(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm")))]
    #[error("{0}")]
    Registers(rppal::gpio::Error),
    #[cfg(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm")))]
    #[error("another resightd drives pins of {0} by its registers")]
    Owned(PathBuf),
    #[cfg(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm")))]
    #[error("its pin is held by a thread that hangs")]
    Held,
    #[cfg(test)]
    #[error("{0}")]
    Fake(&'static str),
}

/// Why `backend = "rppal"` does not work in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotBuiltIn {
    #[error("this is a resightd for {}, not for a Raspberry Pi", std::env::consts::ARCH)]
    OtherProcessor,
    #[error("this resightd was built without the feature rppal")]
    WithoutFeature,
}

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
    Gpio { line: String, cause: LineCause },
    #[error(
        "line `{line}`: {cause}; rppal needs a Raspberry Pi and may open /dev/gpiochip* and /dev/gpiomem \
         (Raspberry Pi 5: /dev/gpiomem0, group gpio), or choose backend = \"gpio\""
    )]
    Registers { line: String, cause: LineCause },
    #[error("input `{input}`: {cause}")]
    Input { input: String, cause: LineCause },
    #[error("line write failed: line {line}: {cause}")]
    Drive { line: String, cause: LineCause },
    #[error("line `{line}` cannot be put to its safe level: {cause}")]
    Write { line: String, cause: LineCause },
}

/// Why a line could not be set.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) cause: LineCause,
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
    fn wait(&mut self, stop: &Stop, timeout: Duration) -> Result<Reading, LineCause>;
}
