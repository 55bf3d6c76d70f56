//! Lines of GPIO character devices: any board, any chip that the kernel has a driver for.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpiocdev::Request;
use gpiocdev::chip::Chip;
use gpiocdev::line::{EdgeDetection, EdgeKind, Offset, Value};
use rustix::time::{ClockId, clock_gettime};

use super::port::{InputLine, LineCause, LineError, OutputLine, Reading, WriteError};
use super::settings::{Bias, Position};
use crate::sync::Stop;

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
        let request = builder.request().map_err(|error| refused(name, error))?;
        Ok(Self { request, offset })
    }
}

impl OutputLine for Gpio {
    fn set(&self, high: bool) -> Result<(), WriteError> {
        self.request
            .set_value(self.offset, Value::from(high))
            .map_err(|error| WriteError { gone: is_gone(&error), cause: LineCause::Chip(error) })
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
        let request = builder.request().map_err(|error| refused(name, error))?;
        let buffer = vec![0; EVENTS * request.edge_event_u64_size()];
        Ok(Self { request, offset, buffer })
    }

    fn read(&mut self, stop: &Stop, timeout: Duration) -> Result<Reading, gpiocdev::Error> {
        let mut edges = None;
        // True for a chip that is gone, too: reading then says so.
        if stop.wait_or_for(self.request.as_fd(), timeout) {
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
    fn wait(&mut self, stop: &Stop, timeout: Duration) -> Result<Reading, LineCause> {
        self.read(stop, timeout).map_err(LineCause::Chip)
    }
}

fn refused(name: &str, error: gpiocdev::Error) -> LineError {
    LineError::Gpio { line: name.to_owned(), cause: LineCause::Chip(error) }
}

/// Whether the chip was taken away. The crate keeps the number of the error to itself.
fn is_gone(error: &gpiocdev::Error) -> bool {
    error.to_string().contains(&io::Error::from(rustix::io::Errno::NODEV).to_string())
}

/// The chip and the offset of a line.
fn find(name: &str, chip: Option<&str>, position: &Position) -> Result<(PathBuf, Offset), LineError> {
    let all = chips();
    let searched = match chip {
        Some(wanted) => std::slice::from_ref(one_chip(name, wanted, &all)?),
        None => all.as_slice(),
    };
    let wanted = match position {
        Position::Name(wanted) => wanted,
        Position::Offset(offset) => {
            // The configuration demands a chip for an offset.
            let missing = || LineError::Gpio { line: name.to_owned(), cause: LineCause::OffsetWithoutChip };
            let chip = searched.first().filter(|_| chip.is_some()).ok_or_else(missing)?;
            return Ok((chip.path.clone(), *offset));
        }
    };
    let mut found = vec![];
    for chip in searched {
        let lines = Chip::from_path(&chip.path).and_then(|chip| chip.line_info_iter()?.collect());
        // One of many that cannot be read is no reason to miss the others.
        let lines: Vec<gpiocdev::line::Info> = match lines {
            Err(error) if searched.len() == 1 => return Err(refused(name, error)),
            lines => lines.unwrap_or_default(),
        };
        let named = lines.iter().filter(|line| line.name == *wanted);
        found.extend(named.map(|line| (chip, line.offset)));
    }
    one_line(name, wanted, &found).map(|(chip, offset)| (chip.path.clone(), offset))
}

/// Refuses a line that somebody uses.
///
/// # Errors
/// Names the holder, as far as the kernel knows it.
pub(super) fn ensure_free(name: &str, chip: &Path, offset: Offset) -> Result<(), LineError> {
    let info = Chip::from_path(chip).and_then(|chip| chip.line_info(offset));
    let info = info.map_err(|error| refused(name, error))?;
    let Some(holder) = holder(info) else { return Ok(()) };
    Err(LineError::Busy { line: name.to_owned(), chip: chip.display().to_string(), offset, holder })
}

/// A GPIO chip that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpioChip {
    /// Its device file.
    pub(crate) path: PathBuf,
    pub(crate) label: String,
    /// The folder in sysfs of the device that it belongs to; it says which of several equal ones it
    /// is, and stays when chips are numbered anew.
    pub(crate) device: Option<PathBuf>,
}

impl GpioChip {
    /// Whether `chip` of a configuration names it: its label, its device file, or the device in sysfs
    /// that it is or belongs to.
    fn is_named(&self, wanted: &str) -> bool {
        if !wanted.starts_with('/') {
            return self.label == wanted;
        }
        let wanted = fs::canonicalize(wanted).unwrap_or_else(|_| wanted.into());
        let in_sysfs = || {
            let file = self.path.file_name()?;
            self.device.as_ref().map(|device| wanted == *device || wanted == device.join(file))
        };
        wanted == self.path || in_sysfs().unwrap_or(false)
    }
}

impl fmt::Display for GpioChip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.device.as_ref().map_or(Ok(()), |device| write!(f, " ({})", device.display()))
    }
}

/// The one chip of `chips` that `wanted` names.
fn one_chip<'a>(name: &str, wanted: &str, chips: &'a [GpioChip]) -> Result<&'a GpioChip, LineError> {
    let named: Vec<&GpioChip> = chips.iter().filter(|chip| chip.is_named(wanted)).collect();
    let list = |chips: &[&GpioChip], text: fn(&GpioChip) -> String| {
        chips.iter().map(|chip| text(chip)).collect::<Vec<_>>().join(", ")
    };
    let (line, wanted) = (name.to_owned(), wanted.to_owned());
    match named.as_slice() {
        [chip] => Ok(chip),
        [] => {
            let found = list(&chips.iter().collect::<Vec<_>>(), |chip| chip.label.clone());
            Err(LineError::NoChip { line, label: wanted, found })
        }
        several => Err(LineError::ManyChips {
            line,
            label: wanted,
            count: several.len(),
            found: list(several, ToString::to_string),
        }),
    }
}

/// The one line of those that have the name `wanted`.
fn one_line<'a>(
    name: &str,
    wanted: &str,
    found: &[(&'a GpioChip, Offset)],
) -> Result<(&'a GpioChip, Offset), LineError> {
    let (line, wanted) = (name.to_owned(), wanted.to_owned());
    match found {
        [one] => Ok(*one),
        [] => Err(LineError::NoLine { line, name: wanted }),
        several => {
            let place = |(chip, offset): &(&GpioChip, Offset)| format!("offset {offset} of {chip}");
            let list = several.iter().map(place).collect::<Vec<_>>().join(", ");
            Err(LineError::ManyLines { line, name: wanted, count: several.len(), found: list })
        }
    }
}

/// The GPIO chips that can be opened.
pub(crate) fn chips() -> Vec<GpioChip> {
    let chip = |path: PathBuf| {
        let info = Chip::from_path(&path).and_then(|chip| chip.info()).ok()?;
        let device = device_of(&path, Path::new("/sys"));
        Some(GpioChip { path, label: info.label, device })
    };
    gpiocdev::chip::chips().unwrap_or_default().into_iter().filter_map(chip).collect()
}

/// Who holds a line, as far as the kernel knows.
pub(super) fn holder(info: gpiocdev::line::Info) -> Option<String> {
    info.used.then_some(if info.consumer.is_empty() { "the kernel".into() } else { info.consumer })
}

/// The device in sysfs that a chip belongs to.
pub(super) fn device_of(chip: &Path, sysfs: &Path) -> Option<PathBuf> {
    let own = fs::canonicalize(sysfs.join("bus/gpio/devices").join(chip.file_name()?)).ok()?;
    own.parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two expanders of one kind on one bus, and the processor's own lines.
    fn chips() -> Vec<GpioChip> {
        let chip = |number: u32, label: &str, device: &str| GpioChip {
            path: format!("/dev/gpiochip{number}").into(),
            label: label.into(),
            device: Some(format!("/sys/devices/platform/{device}").into()),
        };
        vec![
            chip(0, "pinctrl-bcm2711", "soc/fe200000.gpio"),
            chip(2, "pcf8574", "i2c-1/1-0020"),
            chip(3, "pcf8574", "i2c-1/1-0021"),
        ]
    }

    #[test]
    fn a_chip_is_found_by_its_label_and_by_its_device() {
        let chips = chips();
        let path =
            |wanted: &str| one_chip("pump", wanted, &chips).map(|chip| chip.path.display().to_string());
        assert_eq!(path("pinctrl-bcm2711").unwrap(), "/dev/gpiochip0");
        assert_eq!(path("/dev/gpiochip3").unwrap(), "/dev/gpiochip3");
        assert_eq!(path("/sys/devices/platform/i2c-1/1-0020").unwrap(), "/dev/gpiochip2");
        assert_eq!(path("/sys/devices/platform/i2c-1/1-0021/gpiochip3").unwrap(), "/dev/gpiochip3");
        let missing = path("pcf8575").unwrap_err().to_string();
        assert!(missing.contains("labelled `pcf8575`, there are: pinctrl-bcm2711, pcf8574"), "{missing}");
        assert!(path("/dev/gpiochip9").is_err_and(|error| matches!(error, LineError::NoChip { .. })));
    }

    #[test]
    fn chips_with_one_label_are_told_apart_by_what_can_be_configured() {
        let error = one_chip("pump", "pcf8574", &chips()).unwrap_err().to_string();
        assert_eq!(
            error,
            "line `pump`: 2 GPIO chips are labelled `pcf8574`: /dev/gpiochip2 \
             (/sys/devices/platform/i2c-1/1-0020), /dev/gpiochip3 (/sys/devices/platform/i2c-1/1-0021); set \
             `chip` to one of these paths (those in brackets stay when chips are numbered anew)"
        );
    }

    #[test]
    fn lines_with_one_name_are_told_apart_too() {
        let chips = chips();
        let found = [(&chips[1], 4), (&chips[2], 4)];
        let error = one_line("pump", "RELAY", &found).unwrap_err().to_string();
        assert_eq!(
            error,
            "line `pump`: 2 GPIO lines are named `RELAY`: offset 4 of /dev/gpiochip2 \
             (/sys/devices/platform/i2c-1/1-0020), offset 4 of /dev/gpiochip3 \
             (/sys/devices/platform/i2c-1/1-0021); set `chip` to the chip's label or path (the one \
             in brackets stays when chips are numbered anew), and `line` to the offset where one chip has both"
        );
        assert_eq!(one_line("pump", "RELAY", &found[..1]).unwrap(), found[0]);
        assert!(matches!(one_line("pump", "RELAY", &[]), Err(LineError::NoLine { .. })));
    }

    #[test]
    fn the_device_of_a_chip_is_the_folder_that_it_lies_in() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = fs::canonicalize(root.path()).unwrap();
        let own = sysfs.join("devices/i2c-1/1-0020/gpiochip2");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(sysfs.join("bus/gpio/devices")).unwrap();
        std::os::unix::fs::symlink(&own, sysfs.join("bus/gpio/devices/gpiochip2")).unwrap();
        let device = device_of(Path::new("/dev/gpiochip2"), &sysfs);
        assert_eq!(device, own.parent().map(Path::to_owned));
        assert_eq!(device_of(Path::new("/dev/gpiochip7"), &sysfs), None);
    }
}
