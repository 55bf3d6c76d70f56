//! Lines of GPIO character devices: any board, any chip that the kernel has a driver for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpiocdev::Request;
use gpiocdev::chip::Chip;
use gpiocdev::line::{EdgeDetection, EdgeKind, Offset, Value};
use rustix::time::{ClockId, clock_gettime};

use super::input::{InputLine, Reading};
use super::{LineError, OutputLine, WriteError, list};
use crate::config::{Bias, Position};

/// What the kernel shows as the holder of a line.
const CONSUMER: &str = "resightd";

/// Edges read at once.
const EVENTS: usize = 16;

/// An output line.
pub(super) struct Gpio {
    request: Request,
    offset: Offset,
}

impl Gpio {
    /// Finds the line `name` of the configuration and requests it, driven at once.
    ///
    /// # Errors
    /// A line that is missing, held by somebody or refused.
    pub(super) fn open(
        name: &str,
        chip: Option<&str>,
        position: &Position,
        high: bool,
    ) -> Result<Self, LineError> {
        let (path, offset) = find(name, chip, position)?;
        ensure_free(name, &path, offset)?;
        let mut builder = Request::builder();
        builder.on_chip(path).with_consumer(CONSUMER).with_line(offset).as_output(Value::from(high));
        let request = builder.request().map_err(|error| refused(name, &error))?;
        Ok(Self { request, offset })
    }
}

impl OutputLine for Gpio {
    fn set(&self, high: bool) -> Result<(), WriteError> {
        self.request
            .set_value(self.offset, Value::from(high))
            .map_err(|error| WriteError { gone: is_gone(&error), cause: error.to_string() })
    }
}

/// An input line. The kernel watches its edges, with their times, and takes care of bouncing
/// and of active-low.
pub(super) struct GpioInput {
    request: Request,
    offset: Offset,
    buffer: Vec<u64>,
}

impl GpioInput {
    /// Finds the line `name` of the configuration and requests it.
    ///
    /// # Errors
    /// A line that is missing, held by somebody or refused, for example without interrupts.
    pub(super) fn open(
        name: &str,
        (chip, position): (Option<&str>, &Position),
        active_low: bool,
        bias: Option<Bias>,
        debounce: Duration,
    ) -> Result<Self, LineError> {
        let (path, offset) = find(name, chip, position)?;
        ensure_free(name, &path, offset)?;
        let mut builder = Request::builder();
        builder.on_chip(path).with_consumer(CONSUMER).with_line(offset).as_input();
        builder.with_edge_detection(EdgeDetection::BothEdges);
        if active_low {
            builder.as_active_low();
        }
        if let Some(bias) = bias {
            builder.with_bias(match bias {
                Bias::None => gpiocdev::line::Bias::Disabled,
                Bias::PullUp => gpiocdev::line::Bias::PullUp,
                Bias::PullDown => gpiocdev::line::Bias::PullDown,
            });
        }
        if !debounce.is_zero() {
            builder.with_debounce_period(debounce);
        }
        let request = builder.request().map_err(|error| refused(name, &error))?;
        let buffer = vec![0; EVENTS * request.edge_event_u64_size()];
        Ok(Self { request, offset, buffer })
    }

    fn read(&mut self, timeout: Duration) -> Result<Reading, gpiocdev::Error> {
        let mut edges = None;
        // True for a chip that is gone, too: reading then says so.
        if self.request.wait_edge_event(timeout)? {
            let words = self.request.read_edge_events_into_slice(&mut self.buffer)?;
            let clock = clock_gettime(ClockId::Monotonic);
            let monotonic = Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32);
            let now = Instant::now();
            for event in self.buffer[..words].chunks_exact(self.request.edge_event_u64_size()) {
                let event = self.request.edge_event_from_slice(event)?;
                if event.kind == EdgeKind::Rising {
                    let age = monotonic.saturating_sub(Duration::from_nanos(event.timestamp_ns));
                    let at = now.checked_sub(age).unwrap_or(now);
                    edges = Some((edges.map_or(at, |(first, _)| first), at));
                }
            }
        }
        let active = self.request.value(self.offset)? == Value::Active;
        Ok(Reading { active, edges })
    }
}

impl InputLine for GpioInput {
    fn wait(&mut self, timeout: Duration) -> Result<Reading, String> {
        self.read(timeout).map_err(|error| error.to_string())
    }
}

fn refused(name: &str, error: &gpiocdev::Error) -> LineError {
    LineError::Gpio { line: name.to_owned(), cause: error.to_string() }
}

/// Whether the chip was taken away. The crate keeps the number of the error to itself.
fn is_gone(error: &gpiocdev::Error) -> bool {
    error.to_string().contains(&io::Error::from(rustix::io::Errno::NODEV).to_string())
}

/// The chip and the offset of a line.
fn find(name: &str, chip: Option<&str>, position: &Position) -> Result<(PathBuf, Offset), LineError> {
    let missing = |found: &str| LineError::NoLine { line: name.to_owned(), name: found.to_owned() };
    match (position, chip) {
        (Position::Offset(offset), Some(label)) => Ok((labelled(name, label)?, *offset)),
        (Position::Name(wanted), Some(label)) => {
            let path = labelled(name, label)?;
            let chip = Chip::from_path(&path).map_err(|error| refused(name, &error))?;
            let info = chip.find_line_info(wanted).ok_or_else(|| missing(wanted))?;
            Ok((path, info.offset))
        }
        (Position::Name(wanted), None) => {
            let found = gpiocdev::find_named_line(wanted).ok_or_else(|| missing(wanted))?;
            Ok((found.chip, found.info.offset))
        }
        // The configuration demands a chip for an offset.
        (Position::Offset(_), None) => {
            Err(LineError::Gpio { line: name.to_owned(), cause: "an offset needs a chip".into() })
        }
    }
}

/// Refuses a line that somebody uses.
///
/// # Errors
/// Names the holder, as far as the kernel knows it.
pub(super) fn ensure_free(name: &str, chip: &Path, offset: Offset) -> Result<(), LineError> {
    let info = Chip::from_path(chip).and_then(|chip| chip.line_info(offset));
    let info = info.map_err(|error| refused(name, &error))?;
    let Some(holder) = list::holder(info) else { return Ok(()) };
    Err(LineError::Busy { line: name.to_owned(), chip: chip.display().to_string(), offset, holder })
}

/// The chip with a label.
fn labelled(name: &str, label: &str) -> Result<PathBuf, LineError> {
    let chips = chips();
    let found = chips.iter().map(|(_, other)| other.as_str()).collect::<Vec<_>>().join(", ");
    let chip = chips.into_iter().find(|(_, other)| other == label).map(|(path, _)| path);
    chip.ok_or_else(|| LineError::NoChip { line: name.to_owned(), label: label.to_owned(), found })
}

/// The GPIO chips that can be opened, with their labels.
pub(crate) fn chips() -> Vec<(PathBuf, String)> {
    let label = |path: PathBuf| {
        let info = Chip::from_path(&path).and_then(|chip| chip.info()).ok()?;
        Some((path, info.label))
    };
    gpiocdev::chip::chips().unwrap_or_default().into_iter().filter_map(label).collect()
}
