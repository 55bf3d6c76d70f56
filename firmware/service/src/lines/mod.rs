//! Output lines, each with a safe level; input lines.

mod gpio;
mod input;
mod list;
mod port;
#[cfg(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm")))]
mod registers;
mod settings;
mod virtual_line;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use resight_base::retry::Backoff;

pub(crate) use self::gpio::chips;
pub(crate) use self::input::{InputList, inputs};
pub(crate) use self::list::{NONE, list};
use self::port::{BACKOFF, UNKNOWN};
pub(crate) use self::port::{LineCause, LineError, NotBuiltIn, OutputLine, WriteError};
pub(crate) use self::settings::{BackEnd, Bias, InputBackEnd, InputConfig, LineConfig, Position};

/// Whether `backend = "rppal"` works in this build; otherwise why not.
pub(crate) fn registers_are_built_in() -> Result<(), NotBuiltIn> {
    if cfg!(not(any(target_arch = "aarch64", target_arch = "arm"))) {
        return Err(NotBuiltIn::OtherProcessor);
    }
    if cfg!(feature = "rppal") { Ok(()) } else { Err(NotBuiltIn::WithoutFeature) }
}

/// Opens a line, driven at its safe level at once.
///
/// # Errors
/// A line that is missing, busy or refused.
fn open(config: &LineConfig) -> Result<Box<dyn OutputLine>, LineError> {
    let high = config.safe != config.active_low;
    Ok(match &config.back_end {
        BackEnd::Virtual => Box::new(virtual_line::Virtual::open(config, high)),
        BackEnd::Gpio { chip, position } => {
            Box::new(gpio::Gpio::open(&config.name, chip.as_deref(), position, high)?)
        }
        #[cfg(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm")))]
        BackEnd::Registers { pin } => Box::new(registers::Registers::open(&config.name, *pin, high)?),
        // The configuration refuses it already.
        #[cfg(not(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm"))))]
        BackEnd::Registers { .. } => {
            let cause = registers_are_built_in().err().unwrap_or(NotBuiltIn::OtherProcessor);
            return Err(LineError::Registers {
                line: config.name.clone(),
                cause: LineCause::NotBuiltIn(cause),
            });
        }
    })
}

/// What a line needs of the hardware. It outlives changes of its name, polarity and safe level.
struct Device {
    back_end: BackEnd,
    /// `None` while it is taken away. Locked for a write, or to replace it; never for long.
    output: RwLock<Option<Box<dyn OutputLine>>>,
    retry: Mutex<Retry>,
}

struct Retry {
    at: Instant,
    backoff: Backoff,
    failures: u64,
}

impl Device {
    fn new(back_end: BackEnd, output: Box<dyn OutputLine>) -> Arc<Self> {
        let retry = Mutex::new(Retry { at: Instant::now(), backoff: BACKOFF, failures: 0 });
        Arc::new(Self { back_end, output: RwLock::new(Some(output)), retry })
    }

    fn is_there(&self) -> bool {
        self.output.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, high: bool) -> Result<(), WriteError> {
        match &*self.output.read().unwrap_or_else(PoisonError::into_inner) {
            Some(output) => output.set(high),
            None => Err(WriteError { cause: LineCause::TakenAway, gone: false }),
        }
    }

    fn replace(&self, output: Option<Box<dyn OutputLine>>) {
        let mut place = self.output.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, output);
        drop(place);
        // Closing a device may take a while.
        drop(old);
    }
}

/// An output line with its name, polarity and safe level.
pub(crate) struct Line {
    config: LineConfig,
    /// 0, 1 or [`UNKNOWN`].
    level: AtomicU8,
    device: Arc<Device>,
}

impl Line {
    fn level(&self) -> Option<bool> {
        let level = self.level.load(Ordering::SeqCst);
        (level != UNKNOWN).then_some(level == 1)
    }

    fn write(&self, active: bool) -> Result<(), LineCause> {
        let result = self.device.set(active != self.config.active_low);
        let level = if result.is_ok() { u8::from(active) } else { UNKNOWN };
        self.level.store(level, Ordering::SeqCst);
        result.map_err(|error| {
            if error.gone {
                self.device.replace(None);
                let mut retry = self.device.retry.lock().unwrap_or_else(PoisonError::into_inner);
                retry.at = Instant::now() + retry.backoff.pause();
            }
            error.cause
        })
    }

    fn make_safe(&self) -> Result<(), LineError> {
        if self.level() == Some(self.config.safe) {
            return Ok(());
        }
        self.write(self.config.safe)
            .map_err(|cause| LineError::Write { line: self.config.name.clone(), cause })
    }
}

/// Lines in the order of their configuration.
pub(crate) type LineList = Arc<[Arc<Line>]>;

type Open = dyn Fn(&LineConfig) -> Result<Box<dyn OutputLine>, LineError> + Send + Sync;

/// All output lines. They start at their safe levels and return to them when this is dropped.
pub(crate) struct Lines {
    list: RwLock<LineList>,
    sealed: AtomicBool,
    open: Box<Open>,
}

impl Lines {
    /// Opens every line at its safe level.
    ///
    /// # Errors
    /// The first line that is missing, busy or refused.
    pub(crate) fn open(configs: &[LineConfig]) -> Result<Self, LineError> {
        Self::with(Box::new(open), configs)
    }

    /// The same with another way to open a line.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn with(open: Box<Open>, configs: &[LineConfig]) -> Result<Self, LineError> {
        let lines = Self { list: RwLock::new([].into()), sealed: AtomicBool::new(false), open };
        let list = lines.prepare(configs)?;
        lines.install(&list)?;
        Ok(lines)
    }

    /// The lines in use.
    pub(crate) fn list(&self) -> LineList {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens what another configuration needs besides the lines in use, at safe levels. The lines
    /// in use stay as they are until [`install`](Self::install).
    ///
    /// # Errors
    /// The first line that is missing, busy or refused.
    pub(crate) fn prepare(&self, configs: &[LineConfig]) -> Result<LineList, LineError> {
        let running = self.list();
        let line = |config: &LineConfig| {
            if let Some(same) = running.iter().find(|line| line.config == *config) {
                return Ok(same.clone());
            }
            let shared = running
                .iter()
                .find(|line| line.device.back_end == config.back_end && config.back_end != BackEnd::Virtual);
            let (device, level) = match shared {
                Some(line) => (line.device.clone(), UNKNOWN),
                None => (Device::new(config.back_end.clone(), (self.open)(config)?), u8::from(config.safe)),
            };
            Ok(Arc::new(Line { config: config.clone(), level: AtomicU8::new(level), device }))
        };
        configs.iter().map(line).collect()
    }

    /// Uses `list` from now on. Lines that are new in it or not in it any more are put to their
    /// safe levels.
    ///
    /// # Errors
    /// The first line that could not be set, after all were tried.
    pub(crate) fn install(&self, list: &LineList) -> Result<(), LineError> {
        let mut place = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, list.clone());
        drop(place);
        let is_old = |line: &Arc<Line>| old.iter().any(|other| Arc::ptr_eq(line, other));
        let is_used = |device: &Arc<Device>| list.iter().any(|line| Arc::ptr_eq(device, &line.device));
        let removed = old.iter().filter(|line| !is_used(&line.device));
        let new = list.iter().filter(|line| !is_old(line));
        let result = first_error(removed.chain(new));
        // Sealed in between: that could not know the new lines.
        if self.sealed.load(Ordering::SeqCst) { self.make_safe() } else { result }
    }

    /// Name and state of each line; `None` after a failed write.
    pub(crate) fn levels(&self) -> Vec<(String, Option<bool>)> {
        self.list().iter().map(|line| (line.config.name.clone(), line.level())).collect()
    }

    /// Makes a line active or inactive, if it is not so already. `true` if it changed; never
    /// while it is taken away.
    ///
    /// # Errors
    /// What the device says; the next call tries again.
    pub(crate) fn drive(&self, line: &Line, active: bool) -> Result<bool, LineError> {
        if self.sealed.load(Ordering::SeqCst) || line.level() == Some(active) || !line.device.is_there() {
            return Ok(false);
        }
        let named = |cause| LineError::Drive { line: line.config.name.clone(), cause };
        line.write(active).map_err(named)?;
        // Sealed in between, by a panic elsewhere: the safe level has the last word.
        if self.sealed.load(Ordering::SeqCst) {
            line.write(line.config.safe).map_err(named)?;
        }
        Ok(true)
    }

    /// Puts every line to its safe level.
    ///
    /// # Errors
    /// The first line that could not be set, after all were tried.
    pub(crate) fn make_safe(&self) -> Result<(), LineError> {
        first_error(self.list().iter())
    }

    /// Tries again with the lines that are not known to be at their safe levels. Those that were
    /// taken away are so when they are opened again.
    ///
    /// # Errors
    /// The first line that could not be set, after all were tried.
    pub(crate) fn keep_safe(&self) -> Result<(), LineError> {
        first_error(self.list().iter().filter(|line| line.device.is_there()))
    }

    /// Puts every line to its safe level for good.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::SeqCst);
        if let Err(error) = self.make_safe() {
            log::error!("{error}");
        }
    }

    /// Opens lines that were taken away, when it is time to try again; they are at their safe
    /// levels then. Gives how many were opened and how many could not be.
    pub(crate) fn restore(&self) -> (u64, u64) {
        let mut counts = (0, 0);
        for line in self.list().iter().filter(|line| !line.device.is_there()) {
            let mut retry = line.device.retry.lock().unwrap_or_else(PoisonError::into_inner);
            if Instant::now() < retry.at {
                continue;
            }
            match (self.open)(&line.config) {
                Ok(output) => {
                    line.level.store(u8::from(line.config.safe), Ordering::SeqCst);
                    line.device.replace(Some(output));
                    log::info!("line {} is there again, at its safe level", line.config.name);
                    retry.backoff.reset();
                    retry.failures = 0;
                    counts.0 += 1;
                }
                Err(error) => {
                    retry.at = Instant::now() + retry.backoff.pause();
                    retry.failures += 1;
                    if retry.failures.is_power_of_two() {
                        log::error!("{error} ({} attempts)", retry.failures);
                    }
                    counts.1 += 1;
                }
            }
        }
        counts
    }
}

impl Lines {
    /// When [`restore`](Self::restore) has something to do again; `None` while all lines are there.
    pub(crate) fn restore_at(&self) -> Option<Instant> {
        let list = self.list();
        let gone = list.iter().filter(|line| !line.device.is_there());
        gone.map(|line| line.device.retry.lock().unwrap_or_else(PoisonError::into_inner).at).min()
    }
}

fn first_error<'a>(lines: impl Iterator<Item = &'a Arc<Line>>) -> Result<(), LineError> {
    let failed: Vec<LineError> = lines.filter_map(|line| line.make_safe().err()).collect();
    failed.into_iter().next().map_or(Ok(()), Err)
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.seal();
    }
}

/// Drives each line to its safe level, whatever becomes of the others. Gives what to tell.
pub(crate) fn safe(configs: &[LineConfig]) -> Vec<Result<String, LineError>> {
    let drive = |config: &LineConfig| {
        open(config)?;
        let state = if config.safe { "active" } else { "inactive" };
        let level = if config.safe == config.active_low { "low" } else { "high" };
        Ok(format!("line {}: {state} ({level})", config.name))
    };
    configs.iter().map(drive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board of pins; what is written to each, and whether it is there.
    #[derive(Default)]
    struct Board {
        writes: Mutex<Vec<(u32, bool)>>,
        opened: Mutex<Vec<(u32, bool)>>,
        unplugged: AtomicBool,
        broken: AtomicBool,
    }

    /// What a safe level says that could not be written.
    const NO_ANSWER: &str = "line `relay 1` cannot be put to its safe level: no answer";

    struct Pin(Arc<Board>, u32);

    impl OutputLine for Pin {
        fn set(&self, high: bool) -> Result<(), WriteError> {
            let gone = self.0.unplugged.load(Ordering::SeqCst);
            if gone || self.0.broken.load(Ordering::SeqCst) {
                return Err(WriteError { cause: LineCause::Fake("no answer"), gone });
            }
            self.0.writes.lock().unwrap().push((self.1, high));
            Ok(())
        }
    }

    impl Board {
        fn lines(self: &Arc<Self>, configs: &[LineConfig]) -> Lines {
            let board = self.clone();
            let open = move |config: &LineConfig| {
                let BackEnd::Gpio { position: Position::Offset(pin), .. } = config.back_end else {
                    panic!("{config:?}")
                };
                if board.unplugged.load(Ordering::SeqCst) || pin > 9 {
                    return Err(LineError::NoLine { line: config.name.clone(), name: pin.to_string() });
                }
                board.opened.lock().unwrap().push((pin, config.safe != config.active_low));
                Ok(Box::new(Pin(board.clone(), pin)) as Box<dyn OutputLine>)
            };
            Lines::with(Box::new(open), configs).unwrap()
        }

        fn writes(&self) -> Vec<(u32, bool)> {
            std::mem::take(&mut self.writes.lock().unwrap())
        }

        fn opened(&self) -> Vec<(u32, bool)> {
            std::mem::take(&mut self.opened.lock().unwrap())
        }
    }

    fn config(pin: u32, safe: bool) -> LineConfig {
        let back_end = BackEnd::Gpio { chip: Some("fake".into()), position: Position::Offset(pin) };
        LineConfig { name: format!("relay {pin}"), back_end, active_low: false, safe }
    }

    fn one(safe: bool) -> (Lines, Arc<Line>, Arc<Board>) {
        let board = Arc::new(Board::default());
        let lines = board.lines(&[config(1, safe)]);
        let line = lines.list()[0].clone();
        (lines, line, board)
    }

    #[test]
    fn safe_first_changes_only_and_safe_last() {
        let (lines, line, board) = one(true);
        assert_eq!(board.opened(), [(1, true)]);
        assert!(lines.drive(&line, false).unwrap());
        assert!(!lines.drive(&line, false).unwrap());
        drop(lines);
        assert_eq!(board.writes(), [(1, false), (1, true)]);
    }

    #[test]
    fn active_low_lines_are_safe_at_the_other_voltage() {
        let board = Arc::new(Board::default());
        let lines = board.lines(&[LineConfig { active_low: true, ..config(1, false) }]);
        assert_eq!(board.opened(), [(1, true)]);
        lines.drive(&lines.list()[0], true).unwrap();
        lines.seal();
        assert_eq!(board.writes(), [(1, false), (1, true)]);
    }

    #[test]
    fn sealed_lines_no_longer_move() {
        let (lines, line, board) = one(false);
        lines.drive(&line, true).unwrap();
        lines.seal();
        assert!(!lines.drive(&line, true).unwrap());
        assert_eq!(board.writes(), [(1, true), (1, false)]);
        // A reload that comes too late may not move its lines either.
        let list = lines.prepare(&[config(2, true)]).unwrap();
        lines.install(&list).unwrap();
        assert!(!lines.drive(&list[0], false).unwrap());
    }

    #[test]
    fn a_failed_write_is_shown_and_tried_again() {
        let (lines, line, board) = one(false);
        board.broken.store(true, Ordering::SeqCst);
        let refused = lines.drive(&line, true).unwrap_err().to_string();
        assert_eq!(refused, "line write failed: line relay 1: no answer");
        assert_eq!(lines.levels(), [("relay 1".into(), None)]);
        board.broken.store(false, Ordering::SeqCst);
        assert_eq!(lines.restore(), (0, 0));
        assert!(lines.drive(&line, true).unwrap());
        assert_eq!(lines.levels(), [("relay 1".into(), Some(true))]);
        assert_eq!(board.opened().len(), 1);
    }

    #[test]
    fn a_safe_level_that_could_not_be_written_is_tried_again() {
        let (lines, line, board) = one(false);
        lines.drive(&line, true).unwrap();
        board.broken.store(true, Ordering::SeqCst);
        for refused in [lines.make_safe(), lines.keep_safe()] {
            assert_eq!(refused.unwrap_err().to_string(), NO_ANSWER);
        }
        board.broken.store(false, Ordering::SeqCst);
        lines.keep_safe().unwrap();
        lines.keep_safe().unwrap();
        assert_eq!(board.writes(), [(1, true), (1, false)]);
        // One that is gone is nobody's to write.
        lines.drive(&line, true).unwrap();
        board.unplugged.store(true, Ordering::SeqCst);
        assert_eq!(lines.make_safe().unwrap_err().to_string(), NO_ANSWER);
        assert!(lines.keep_safe().is_ok());
    }

    /// Failure table: GPIO line taken away.
    #[test]
    fn a_line_taken_away_is_unknown_until_it_is_opened_again_at_its_safe_level() {
        let (lines, line, board) = one(false);
        lines.drive(&line, true).unwrap();
        board.unplugged.store(true, Ordering::SeqCst);
        lines.drive(&line, false).unwrap_err();
        assert_eq!(lines.levels(), [("relay 1".into(), None)]);
        // One failure, not one for each frame.
        assert!(!lines.drive(&line, false).unwrap());
        assert_eq!(lines.restore(), (0, 0), "before the first pause is over");
        let mut backoff = BACKOFF;
        std::thread::sleep(backoff.pause());
        assert_eq!(lines.restore(), (0, 1));
        assert_eq!(lines.restore(), (0, 0), "the pause after a failure");
        board.unplugged.store(false, Ordering::SeqCst);
        board.opened();
        std::thread::sleep(backoff.pause());
        assert_eq!(lines.restore(), (1, 0));
        assert_eq!(board.opened(), [(1, false)]);
        assert_eq!(lines.levels(), [("relay 1".into(), Some(false))]);
        assert!(lines.drive(&line, true).unwrap());
    }

    #[test]
    fn a_reload_keeps_what_is_the_same_and_leaves_the_rest_safe() {
        let board = Arc::new(Board::default());
        let lines = board.lines(&[config(1, false), config(2, false), config(3, false)]);
        let old = lines.list();
        for line in old.iter() {
            lines.drive(line, true).unwrap();
        }
        board.writes();
        board.opened();
        // 1 stays, 2 changes its safe level, 3 goes, 4 comes.
        let list = lines.prepare(&[config(4, true), config(2, true), config(1, false)]).unwrap();
        assert_eq!((board.opened(), board.writes()), (vec![(4, true)], vec![]));
        assert!(Arc::ptr_eq(&list[2], &old[0]));
        lines.install(&list).unwrap();
        assert_eq!(board.writes(), [(3, false), (2, true)]);
        let states = [("relay 4", true), ("relay 2", true), ("relay 1", true)];
        assert_eq!(lines.levels(), states.map(|(name, state)| (name.to_owned(), Some(state))));
        drop(lines);
        assert_eq!(board.writes(), [(1, false)]);
    }

    #[test]
    fn a_refused_reload_changes_nothing() {
        let (lines, line, board) = one(false);
        lines.drive(&line, true).unwrap();
        let refused = lines.prepare(&[config(2, false), config(10, false)]).err().unwrap();
        assert!(matches!(&refused, LineError::NoLine { name, .. } if name == "10"), "{refused}");
        assert_eq!(lines.levels(), [("relay 1".into(), Some(true))]);
        assert_eq!(board.writes(), [(1, true)]);
    }

    #[test]
    fn a_missing_chip_is_named_and_the_other_lines_are_made_safe() {
        let missing = LineConfig {
            back_end: BackEnd::Gpio { chip: Some("no-such-chip".into()), position: Position::Offset(1) },
            ..config(1, false)
        };
        let error = Lines::open(std::slice::from_ref(&missing)).err().unwrap().to_string();
        assert!(error.contains("relay 1") && error.contains("no-such-chip"), "{error}");
        let lamp = LineConfig { back_end: BackEnd::Virtual, active_low: true, ..config(2, false) };
        let told: Vec<_> = safe(&[missing, lamp]).into_iter().map(Result::ok).collect();
        assert_eq!(told, [None, Some("line relay 2: inactive (high)".into())]);
    }
}
