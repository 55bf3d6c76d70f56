//! Input lines: each is read by a thread of its own, the loop only looks at what it found.

use std::fs;
use std::io::Read as _;
use std::mem;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::gpio;
use super::port::{BACKOFF, InputLine, LineCause, LineError, Reading, UNKNOWN};
use super::settings::{InputBackEnd, InputConfig};
use super::watch::Watch;
use crate::sync::{Bell, Stop};

/// A line that does not change is read so often, to know that it still can be.
const TICK: Duration = Duration::from_millis(400);

/// Longest text of a file, in bytes.
const LONGEST: u64 = 64;

/// How often a file is read of whose changes the kernel says nothing, such as an attribute in sysfs.
const FILE_PERIOD: Duration = Duration::from_millis(10);

/// A reading that is older says nothing: whatever is read hangs.
const OLDEST: Duration = Duration::from_secs(1);

/// A file that holds 0 or 1, such as an attribute in sysfs.
struct File {
    path: PathBuf,
    active_low: bool,
    active: bool,
    /// `None` where the kernel does not tell of changes.
    watch: Option<Watch>,
}

impl File {
    fn open(path: PathBuf, active_low: bool) -> Result<Self, LineCause> {
        // Before it is read: no change after that is missed.
        let watch = Watch::open(&path);
        let mut file = Self { path, active_low, active: false, watch };
        file.active = file.read()?;
        Ok(file)
    }

    fn read(&self) -> Result<bool, LineCause> {
        let failed = |cause: std::io::Error| LineCause::File { path: self.path.clone(), cause };
        // Opening a FIFO would wait for a writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = fs::File::options().read(true).custom_flags(flags).open(&self.path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(LineCause::NotRegular(self.path.clone()));
        }
        let mut text = vec![];
        file.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
        match text.trim_ascii() {
            b"0" => Ok(self.active_low),
            b"1" => Ok(!self.active_low),
            _ => Err(LineCause::Content(self.path.clone())),
        }
    }
}

impl File {
    /// Waits until it may have changed, or until `deadline`; whether it is to end.
    fn pause(&self, stop: &Stop, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(watch) = &self.watch else { return stop.wait(left.min(FILE_PERIOD)) };
        if stop.wait_or_for(watch.as_fd(), left) {
            watch.take(&self.path);
        }
        stop.wait(Duration::ZERO)
    }
}

impl InputLine for File {
    fn wait(&mut self, stop: &Stop, timeout: Duration) -> Result<Reading, LineCause> {
        let deadline = Instant::now() + timeout;
        let mut active = self.read()?;
        while active == self.active && Instant::now() < deadline && !self.pause(stop, deadline) {
            active = self.read()?;
        }
        let now = Instant::now();
        let edges = (active && !self.active).then_some((now, now));
        self.active = active;
        Ok(Reading { active, edges })
    }
}

fn open(config: &InputConfig) -> Result<Box<dyn InputLine>, LineError> {
    Ok(match &config.back_end {
        InputBackEnd::Gpio { chip, position, bias, debounce } => {
            let place = (chip.as_deref(), position);
            Box::new(gpio::GpioInput::open(&config.name, place, config.active_low, *bias, *debounce)?)
        }
        InputBackEnd::File(path) => {
            let file = File::open(path.clone(), config.active_low);
            Box::new(file.map_err(|cause| LineError::Input { input: config.name.clone(), cause })?)
        }
    })
}

/// The first and the last of several times.
type Edges = Option<(Instant, Instant)>;

struct State {
    /// 0, 1 or [`UNKNOWN`].
    level: AtomicU8,
    /// When the level was read, in milliseconds since `begin`.
    read_at: AtomicU64,
    begin: Instant,
    /// For each camera, the first and the last time it became active that no frame has answered.
    edges: Mutex<Vec<Edges>>,
    errors: AtomicU64,
    stop: Stop,
    /// Rung when the level is another one.
    changed: Arc<Bell>,
}

/// An input line that is being read until this is dropped.
pub(crate) struct Input {
    config: InputConfig,
    state: Arc<State>,
}

/// Inputs in the order of their configuration.
pub(crate) type InputList = Arc<[Arc<Input>]>;

type Open = dyn Fn(&InputConfig) -> Result<Box<dyn InputLine>, LineError> + Send;

/// Opens the inputs of a configuration; those that are being read already go on. One whose wire
/// is held by a running input with other settings counts as taken away until that is dropped.
/// `changed` is rung whenever one has another level.
///
/// # Errors
/// The first that is missing, busy or refused.
pub(crate) fn inputs(
    configs: &[InputConfig],
    running: &InputList,
    changed: &Arc<Bell>,
) -> Result<InputList, LineError> {
    let input = |config: &InputConfig| {
        if let Some(same) = running.iter().find(|input| input.config == *config) {
            return Ok(same.clone());
        }
        let is_held = running.iter().any(|input| input.config.back_end.is_same_wire(&config.back_end));
        let line = if is_held { None } else { Some(open(config)?) };
        Input::start(config.clone(), line, Box::new(open), changed.clone()).map(Arc::new)
    };
    configs.iter().map(input).collect()
}

impl Input {
    /// Reads `line`, which `open` opens when it is taken away, or is not there yet.
    fn start(
        config: InputConfig,
        mut line: Option<Box<dyn InputLine>>,
        open: Box<Open>,
        changed: Arc<Bell>,
    ) -> Result<Self, LineError> {
        let failed = |cause| LineError::Input { input: config.name.clone(), cause };
        let stop = Stop::new().map_err(|error| failed(LineCause::Wait(error)))?;
        let reading = line.as_mut().map(|line| line.wait(&stop, Duration::ZERO));
        let reading = reading.transpose().map_err(failed)?;
        let state = Arc::new(State {
            level: AtomicU8::new(reading.map_or(UNKNOWN, |reading| u8::from(reading.active))),
            read_at: AtomicU64::new(0),
            begin: Instant::now(),
            edges: Mutex::new(vec![None]),
            errors: AtomicU64::new(0),
            stop,
            changed,
        });
        thread::Builder::new()
            .name("input".into())
            .spawn({
                let (config, state) = (config.clone(), state.clone());
                move || state.read(&config, line, &open)
            })
            .map_err(|error| failed(LineCause::Thread(error)))?;
        Ok(Self { config, state })
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether frames are classified only when it becomes active.
    pub(crate) fn is_trigger(&self) -> bool {
        self.config.trigger
    }

    /// `None` while it is taken away, or when it could not be read for a second.
    pub(crate) fn level(&self) -> Option<bool> {
        self.state.level_at(Instant::now())
    }

    /// How often it could not be read or opened again.
    pub(crate) fn errors(&self) -> u64 {
        self.state.errors.load(Ordering::SeqCst)
    }

    /// From how many cameras it asks frames.
    pub(crate) fn set_cameras(&self, cameras: usize) {
        self.state.edges.lock().unwrap_or_else(PoisonError::into_inner).resize(cameras, None);
    }

    /// Whether a frame of a camera that arrived then is its first after the input became active.
    pub(crate) fn answer(&self, camera: usize, arrival: Instant) -> bool {
        let mut edges = self.state.edges.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(edges) = edges.get_mut(camera) else { return false };
        let Some((first, last)) = *edges else { return false };
        let answered = arrival >= first;
        if answered {
            *edges = (last > arrival).then_some((last, last));
        }
        answered
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.state.stop.ask();
    }
}

impl State {
    fn level_at(&self, now: Instant) -> Option<bool> {
        let level = self.level.load(Ordering::SeqCst);
        let read_at = self.begin + Duration::from_millis(self.read_at.load(Ordering::SeqCst));
        let is_known = level != UNKNOWN && now.saturating_duration_since(read_at) <= OLDEST;
        is_known.then_some(level == 1)
    }

    fn set_level(&self, level: u8) {
        if self.level.swap(level, Ordering::SeqCst) != level {
            self.changed.ring();
        }
    }

    fn read(&self, config: &InputConfig, mut line: Option<Box<dyn InputLine>>, open: &Open) {
        let mut backoff = BACKOFF;
        let mut pause = Duration::ZERO;
        while !self.stop.wait(mem::take(&mut pause)) {
            let result = match &mut line {
                Some(line) => line.wait(&self.stop, TICK).map(Some).map_err(|cause| cause.to_string()),
                None => open(config).map_err(|error| error.to_string()).map(|opened| {
                    log::info!("input {} is there", config.name);
                    line = Some(opened);
                    None
                }),
            };
            match result {
                Ok(Some(reading)) => {
                    backoff.reset();
                    self.read_at.store(self.begin.elapsed().as_millis() as u64, Ordering::SeqCst);
                    self.set_level(u8::from(reading.active));
                    if let Some((first, last)) = reading.edges {
                        let mut cameras = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
                        for edges in cameras.iter_mut() {
                            *edges = Some((edges.map_or(first, |(first, _)| first), last));
                        }
                    }
                }
                Ok(None) => {}
                Err(cause) => {
                    self.set_level(UNKNOWN);
                    line = None;
                    let errors = 1 + self.errors.fetch_add(1, Ordering::SeqCst);
                    if errors.is_power_of_two() {
                        log::error!("input {} lost ({errors} times): {cause}", config.name);
                    }
                    pause = backoff.pause();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Readings that a test sends; a closed channel is a line taken away.
    struct Fake(Receiver<Reading>, Reading);

    impl InputLine for Fake {
        fn wait(&mut self, _: &Stop, timeout: Duration) -> Result<Reading, LineCause> {
            match self.0.recv_timeout(timeout) {
                Ok(reading) => {
                    self.1 = Reading { edges: None, ..reading };
                    Ok(reading)
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Ok(self.1),
                Err(_) => Err(LineCause::TakenAway),
            }
        }
    }

    const INACTIVE: Reading = Reading { active: false, edges: None };

    fn config() -> InputConfig {
        let back_end = InputBackEnd::File("none".into());
        InputConfig { name: "door".into(), back_end, active_low: false, trigger: true }
    }

    fn wait_for(mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_mins(1));
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// An input whose line can be replaced: the sender of the present one.
    fn fake() -> (Input, Arc<Mutex<Option<Sender<Reading>>>>) {
        let sender = Arc::new(Mutex::new(None));
        let place = sender.clone();
        let open = move |_: &InputConfig| {
            let (sender, receiver) = channel();
            *place.lock().unwrap() = Some(sender);
            Ok(Box::new(Fake(receiver, INACTIVE)) as Box<dyn InputLine>)
        };
        (
            Input::start(config(), Some(open(&config()).unwrap()), Box::new(open), Arc::default()).unwrap(),
            sender,
        )
    }

    /// Its settings change by a reload, and the old input holds the wire until it is replaced.
    #[test]
    fn an_input_whose_wire_is_held_is_opened_when_it_is_free() {
        let held = Arc::new(AtomicBool::new(true));
        let open = {
            let held = held.clone();
            move |config: &InputConfig| {
                if held.load(Ordering::SeqCst) {
                    return Err(LineError::Input {
                        input: config.name.clone(),
                        cause: LineCause::Fake("held"),
                    });
                }
                let (sender, receiver) = channel();
                std::mem::forget(sender);
                Ok(Box::new(Fake(receiver, Reading { active: true, edges: None })) as Box<dyn InputLine>)
            }
        };
        let input = Input::start(config(), None, Box::new(open), Arc::default()).unwrap();
        assert_eq!(input.level(), None);
        wait_for(|| input.errors() >= 1);
        held.store(false, Ordering::SeqCst);
        wait_for(|| input.level() == Some(true));
    }

    #[test]
    fn the_same_wire_is_known_by_chip_and_position() {
        use super::super::settings::{Bias, Position};
        let gpio = |chip: &str, offset, bias| InputBackEnd::Gpio {
            chip: Some(chip.into()),
            position: Position::Offset(offset),
            bias,
            debounce: Duration::ZERO,
        };
        assert!(gpio("a", 1, None).is_same_wire(&gpio("a", 1, Some(Bias::PullUp))));
        assert!(!gpio("a", 1, None).is_same_wire(&gpio("a", 2, None)));
        assert!(!gpio("a", 1, None).is_same_wire(&gpio("b", 1, None)));
        // Several may read a file.
        assert!(!config().back_end.is_same_wire(&config().back_end));
    }

    /// Failure table: GPIO line taken away.
    #[test]
    fn an_input_taken_away_is_unknown_until_it_is_there_again() {
        let (input, sender) = fake();
        assert_eq!(input.level(), Some(false));
        sender.lock().unwrap().as_ref().unwrap().send(Reading { active: true, edges: None }).unwrap();
        wait_for(|| input.level() == Some(true));
        drop(sender.lock().unwrap().take());
        wait_for(|| input.level().is_none());
        assert!(input.errors() >= 1);
        wait_for(|| input.level() == Some(false));
    }

    /// Failure table: an input that hangs.
    #[test]
    fn a_reading_of_more_than_a_second_ago_is_unknown() {
        /// Gives one reading, and then hangs until the test lets it go.
        struct Hanging(Receiver<()>, bool);
        impl InputLine for Hanging {
            fn wait(&mut self, _: &Stop, _: Duration) -> Result<Reading, LineCause> {
                if std::mem::replace(&mut self.1, true) {
                    self.0.recv().map_err(|_| LineCause::TakenAway)?;
                }
                Ok(Reading { active: true, edges: None })
            }
        }
        let (go, receiver) = channel();
        let line: Box<dyn InputLine> = Box::new(Hanging(receiver, false));
        let input = Input::start(config(), Some(line), Box::new(open), Arc::default()).unwrap();
        let begin = input.state.begin;
        assert_eq!(input.state.level_at(begin + OLDEST), Some(true));
        assert_eq!(input.state.level_at(begin + OLDEST + Duration::from_millis(1)), None);
        wait_for(|| input.level().is_none());
        go.send(()).unwrap();
        wait_for(|| input.level() == Some(true));
        assert_eq!(input.errors(), 0);
    }

    #[test]
    fn what_is_no_small_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [&fifo, std::path::Path::new("/dev/zero"), folder.path()] {
            let error = File::open(path.to_owned(), false).err().unwrap();
            assert!(matches!(error, LineCause::NotRegular(_)), "{error}");
        }
        let long = folder.path().join("long");
        fs::write(&long, format!("{}1", " ".repeat(100))).unwrap();
        assert!(matches!(File::open(long, false).err(), Some(LineCause::Content(_))));
    }

    #[test]
    fn the_first_frame_after_each_edge_answers_it() {
        let (input, sender) = fake();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let edges = |first, last| {
            let reading = Reading { active: true, edges: Some((at(first), at(last))) };
            sender.lock().unwrap().as_ref().unwrap().send(reading).unwrap();
            wait_for(|| input.state.edges.lock().unwrap()[0].is_some());
        };
        assert!(!input.answer(0, at(0)));
        edges(10, 10);
        assert!(!input.answer(0, at(9)), "captured before the edge");
        assert!(input.answer(0, at(12)));
        assert!(!input.answer(0, at(14)), "the second frame");
        edges(20, 30);
        assert!(input.answer(0, at(25)));
        assert!(input.answer(0, at(35)), "the edge at 30 came after the frame of 25");
        assert!(!input.answer(0, at(45)));
    }

    /// What is written to a file, and how.
    type Change<'c> = (&'c str, &'c dyn Fn(&str));

    /// However it changes, and though nobody looks again and again.
    #[test]
    fn the_kernel_tells_of_a_file_that_is_written_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        fs::write(&path, "0").unwrap();
        let mut file = File::open(path.clone(), false).unwrap();
        assert!(file.watch.is_some(), "a file system whose changes nobody tells of");
        let stop = Stop::new().unwrap();
        let new = folder.path().join("new");
        // Never empty, whenever it is read.
        let write = |text: &str| {
            let mut file = fs::File::options().write(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        let changes: [Change<'_>; 4] = [
            ("1", &write),
            ("0", &|text| {
                fs::write(&new, text).unwrap();
                fs::rename(&new, &path).unwrap();
            }),
            // Of the file that has the name now.
            ("1", &write),
            ("x", &|_| fs::remove_file(&path).unwrap()),
        ];
        for (level, change) in changes {
            let found = thread::scope(|scope| {
                let waits = scope.spawn(|| file.wait(&stop, Duration::from_hours(1)));
                // It may wait already, or not yet.
                thread::yield_now();
                change(level);
                waits.join().unwrap()
            });
            match level {
                "x" => assert!(found.unwrap_err().to_string().contains("No such file"), "gone"),
                _ => assert_eq!(found.unwrap().active, level == "1"),
            }
        }
        assert!(Watch::open(std::path::Path::new("/proc/self/status")).is_none());
    }

    #[test]
    fn a_file_is_read_with_its_polarity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        fs::write(&path, "1\n").unwrap();
        let mut file = File::open(path.clone(), false).unwrap();
        let stop = Stop::new().unwrap();
        assert_eq!(file.wait(&stop, Duration::ZERO).unwrap(), Reading { active: true, edges: None });
        fs::write(&path, "0").unwrap();
        assert_eq!(file.wait(&stop, Duration::ZERO).unwrap(), INACTIVE);
        fs::write(&path, "1").unwrap();
        assert!(file.wait(&stop, Duration::ZERO).unwrap().edges.is_some());
        assert!(!File::open(path.clone(), true).unwrap().active);
        fs::write(&path, "yes").unwrap();
        assert!(file.wait(&stop, Duration::ZERO).unwrap_err().to_string().contains("expected 0 or 1"));
        fs::remove_file(&path).unwrap();
        assert!(
            file.wait(&stop, Duration::ZERO).unwrap_err().to_string().contains("No such file or directory")
        );
    }
}
