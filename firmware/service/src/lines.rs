//! Output lines, each with a safe level.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use gpiocdev::Request;
use gpiocdev::chip::Chip;
use gpiocdev::line::{Offset, Value};

use crate::config::{BackEnd, LineConfig, Position};

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error(
        "line `{line}`: no GPIO chip is labelled `{label}`, there are: {found}; `resightd doctor` lists them"
    )]
    NoChip { line: String, label: String, found: String },
    #[error("line `{line}`: no GPIO line is named `{name}`; `resightd doctor` lists the chips")]
    NoLine { line: String, name: String },
    #[error("line `{line}`: {chip} offset {offset} is held by `{holder}`; stop that or choose another line")]
    Busy { line: String, chip: String, offset: Offset, holder: String },
    #[error("line `{line}`: {cause}; may this user open the GPIO chips (group gpio)?")]
    Gpio { line: String, cause: String },
}

/// One output line; it can be set from any thread, a panicking one too.
pub(crate) trait OutputLine: Send + Sync {
    /// Makes the line active or inactive. What voltage that is, is the back end's matter.
    ///
    /// # Errors
    /// What the device says.
    fn set(&self, active: bool) -> Result<(), String>;
}

/// A line in memory: its changes go to the log.
struct Virtual {
    name: String,
    active_low: bool,
}

impl OutputLine for Virtual {
    fn set(&self, active: bool) -> Result<(), String> {
        let level = if active == self.active_low { "low" } else { "high" };
        let state = if active { "active" } else { "inactive" };
        log::info!("virtual line {}: {state} ({level})", self.name);
        Ok(())
    }
}

/// A line of a GPIO character device. The kernel takes care of active-low.
struct Gpio {
    request: Request,
    offset: Offset,
}

impl OutputLine for Gpio {
    fn set(&self, active: bool) -> Result<(), String> {
        self.request.set_value(self.offset, Value::from(active)).map_err(|error| error.to_string())
    }
}

impl Gpio {
    fn open(config: &LineConfig, chip: Option<&str>, position: &Position) -> Result<Self, LineError> {
        let line = || config.name.clone();
        let failed = |error: gpiocdev::Error| LineError::Gpio { line: line(), cause: error.to_string() };
        let chips = chip.map(|label| labelled(config, label)).transpose()?;
        let (path, offset) = match (position, chips) {
            (Position::Offset(offset), Some(path)) => (path, *offset),
            (Position::Name(name), Some(path)) => {
                let info = Chip::from_path(&path).map_err(failed)?.find_line_info(name);
                let info = info.ok_or_else(|| LineError::NoLine { line: line(), name: name.clone() })?;
                (path, info.offset)
            }
            (Position::Name(name), None) => {
                let found = gpiocdev::find_named_line(name);
                let found = found.ok_or_else(|| LineError::NoLine { line: line(), name: name.clone() })?;
                (found.chip, found.info.offset)
            }
            // The configuration demands a chip for an offset.
            (Position::Offset(_), None) => {
                return Err(LineError::Gpio { line: line(), cause: "an offset needs a chip".into() });
            }
        };
        let info = Chip::from_path(&path).and_then(|chip| chip.line_info(offset)).map_err(failed)?;
        if info.used {
            let chip = path.display().to_string();
            let holder = if info.consumer.is_empty() { "the kernel".into() } else { info.consumer };
            return Err(LineError::Busy { line: line(), chip, offset, holder });
        }
        let mut builder = Request::builder();
        builder.on_chip(path).with_consumer("resightd").with_line(offset);
        if config.active_low {
            builder.as_active_low();
        }
        let request = builder.as_output(Value::from(config.safe)).request().map_err(failed)?;
        Ok(Self { request, offset })
    }
}

/// The chip with a label.
fn labelled(config: &LineConfig, label: &str) -> Result<PathBuf, LineError> {
    let chips = chips();
    let found = chips.iter().map(|(_, other)| other.as_str()).collect::<Vec<_>>().join(", ");
    let chip = chips.into_iter().find(|(_, other)| other == label).map(|(path, _)| path);
    chip.ok_or_else(|| LineError::NoChip { line: config.name.clone(), label: label.to_owned(), found })
}

/// The GPIO chips that can be opened, with their labels.
pub(crate) fn chips() -> Vec<(PathBuf, String)> {
    let label = |path: PathBuf| {
        let info = Chip::from_path(&path).and_then(|chip| chip.info()).ok()?;
        Some((path, info.label))
    };
    gpiocdev::chip::chips().unwrap_or_default().into_iter().filter_map(label).collect()
}

const UNKNOWN: u8 = 2;

struct Line {
    name: String,
    safe: bool,
    /// 0, 1 or [`UNKNOWN`].
    level: AtomicU8,
    output: Box<dyn OutputLine>,
}

/// All output lines. They start at their safe levels and return to them when this is dropped.
pub(crate) struct Lines {
    lines: Vec<Line>,
    sealed: AtomicBool,
}

impl Lines {
    /// Opens every line at its safe level.
    ///
    /// # Errors
    /// The first line that is missing, busy or refused.
    pub(crate) fn open(configs: &[LineConfig]) -> Result<Self, LineError> {
        let mut lines = vec![];
        for config in configs {
            let output: Box<dyn OutputLine> = match &config.back_end {
                BackEnd::Virtual => {
                    Box::new(Virtual { name: config.name.clone(), active_low: config.active_low })
                }
                BackEnd::Gpio { chip, position } => Box::new(Gpio::open(config, chip.as_deref(), position)?),
            };
            lines.push((config.name.clone(), config.safe, output));
        }
        let lines = Self::new(lines);
        lines.make_safe().map_err(|(line, cause)| LineError::Gpio { line, cause })?;
        Ok(lines)
    }

    fn new(lines: Vec<(String, bool, Box<dyn OutputLine>)>) -> Self {
        let line = |(name, safe, output)| Line { name, safe, level: AtomicU8::new(UNKNOWN), output };
        Self { lines: lines.into_iter().map(line).collect(), sealed: AtomicBool::new(false) }
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Name and state of each line; `None` while a write has failed.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&str, Option<bool>)> {
        self.lines.iter().map(|line| {
            let level = line.level.load(Ordering::SeqCst);
            (line.name.as_str(), (level != UNKNOWN).then_some(level == 1))
        })
    }

    /// Makes a line active or inactive, if it is not so already. `true` if it changed.
    ///
    /// # Errors
    /// What the device says; the next call tries again.
    pub(crate) fn drive(&self, index: usize, active: bool) -> Result<bool, String> {
        let line = &self.lines[index];
        if self.sealed.load(Ordering::SeqCst) || line.level.load(Ordering::SeqCst) == u8::from(active) {
            return Ok(false);
        }
        line.write(active)?;
        // Sealed in between, by a panic elsewhere: the safe level has the last word.
        if self.sealed.load(Ordering::SeqCst) {
            line.write(line.safe)?;
        }
        Ok(true)
    }

    /// Puts every line to its safe level.
    ///
    /// # Errors
    /// The first line that could not be set, after all were tried.
    pub(crate) fn make_safe(&self) -> Result<(), (String, String)> {
        let mut result = Ok(());
        for line in &self.lines {
            if line.level.load(Ordering::SeqCst) != u8::from(line.safe)
                && let Err(error) = line.write(line.safe)
                && result.is_ok()
            {
                result = Err((line.name.clone(), error));
            }
        }
        result
    }

    /// Puts every line to its safe level for good.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::SeqCst);
        if let Err((line, error)) = self.make_safe() {
            log::error!("line {line} cannot be put to its safe level: {error}");
        }
    }
}

impl Line {
    fn write(&self, active: bool) -> Result<(), String> {
        let result = self.output.set(active);
        self.level.store(if result.is_ok() { u8::from(active) } else { UNKNOWN }, Ordering::SeqCst);
        result
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.seal();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Default)]
    struct Record {
        writes: Mutex<Vec<bool>>,
        broken: AtomicBool,
    }

    impl OutputLine for Arc<Record> {
        fn set(&self, active: bool) -> Result<(), String> {
            if self.broken.load(Ordering::SeqCst) {
                return Err("taken away".into());
            }
            self.writes.lock().unwrap().push(active);
            Ok(())
        }
    }

    fn recorded(safe: bool) -> (Lines, Arc<Record>) {
        let record = Arc::new(Record::default());
        (Lines::new(vec![("relay".into(), safe, Box::new(record.clone()))]), record)
    }

    #[test]
    fn safe_first_changes_only_and_safe_last() {
        let (lines, record) = recorded(true);
        lines.make_safe().unwrap();
        assert_eq!(lines.drive(0, false), Ok(true));
        assert_eq!(lines.drive(0, false), Ok(false));
        drop(lines);
        assert_eq!(*record.writes.lock().unwrap(), [true, false, true]);
    }

    #[test]
    fn sealed_lines_no_longer_move() {
        let (lines, record) = recorded(false);
        lines.drive(0, true).unwrap();
        lines.seal();
        assert_eq!(lines.drive(0, true), Ok(false));
        assert_eq!(*record.writes.lock().unwrap(), [true, false]);
    }

    #[test]
    fn a_failed_write_is_shown_and_tried_again() {
        let (lines, record) = recorded(false);
        lines.make_safe().unwrap();
        record.broken.store(true, Ordering::SeqCst);
        assert_eq!(lines.drive(0, true), Err("taken away".into()));
        assert_eq!(lines.levels().next(), Some(("relay", None)));
        record.broken.store(false, Ordering::SeqCst);
        assert_eq!(lines.drive(0, true), Ok(true));
        assert_eq!(lines.levels().next(), Some(("relay", Some(true))));
    }

    #[test]
    fn a_missing_chip_is_named() {
        let config = LineConfig {
            name: "relay".into(),
            back_end: BackEnd::Gpio { chip: Some("no-such-chip".into()), position: Position::Offset(1) },
            active_low: false,
            safe: false,
        };
        let error = Lines::open(&[config]).err().unwrap().to_string();
        assert!(error.contains("relay") && error.contains("no-such-chip"), "{error}");
    }
}
