//! The loop: capture, latest frame, inference, triggers, lines.

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::tz::TimeZone;
use resight_imaging::{FrameDecoder, ImagingError, Region, Rotation};
use resight_runtime::{Classifier, Model, RuntimeError, Target, softmax};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::board;
use crate::camera::Wanted;
use crate::config::{Config, SourceConfig};
use crate::control::{self, Control, Rules, Switch, SwitchError};
use crate::hours::local_zone;
use crate::lines::{Input, InputList, LineError, LineList, Lines, inputs};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notify::Notify;
use crate::outputs::{self, About, Counters, Events, FrameTap, Names, Outputs};
use crate::pace::Pace;
use crate::runtime::LinesInUse;
use crate::source::{self, Frame, Next, Source, SourceError};
use crate::switches::Keeper;
use crate::triggers::{Mode, Rule, Triggers};
use crate::version::VERSION;

/// Nothing waits longer than this without looking whether it should stop.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Longest pause between two attempts to open a source.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// How often the temperature is read and the status sent.
const BOARD_INTERVAL: Duration = Duration::from_secs(2);

/// How often systemd is told that all is well though no frame comes.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Still waiting for the first frame: give us 15 more seconds.
const EXTEND_START: &str = "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=no frame yet";

/// How long outputs may take at the end, a little more than they give themselves.
const FLUSH: Duration = Duration::from_millis(1500);

/// A poisoned lock only guards counters and mailboxes, which are whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network with what surrounds it.
struct Engine {
    classifier: Classifier,
    decoder: FrameDecoder,
    region: Region,
    /// What a camera's frames should hold.
    wanted: Wanted,
    probabilities: Vec<f32>,
    inputs: InputList,
    /// A pause is no longer than half of it.
    stale: Duration,
    pace: Pace,
}

/// What a reload replaces, but the source.
type Program = (Engine, Rules);

impl Engine {
    /// Loads the model, runs its golden vectors and resolves the rules.
    fn load(path: &Path, config: &Config, lines: LineList, inputs: InputList) -> Result<Program> {
        let model = config.load_model()?;
        let rules = config.rules(path, model.labels())?;
        let target = Target::of_this_machine()?;
        let isa = target.isa;
        let mut classifier = Classifier::new(&model, &target, config.threads)?;
        classifier.self_test(&model)?;
        classifier.set_orientation(config.image.orientation);
        log::info!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len());
        let zone = if rules.iter().any(|rule| rule.hours.is_some()) { local_zone() } else { TimeZone::UTC };
        let names = Names {
            model: model.name().to_owned(),
            isa: isa.name(),
            rules: rules.iter().map(|rule| rule.name.clone()).collect(),
            active: rules.iter().map(|_| AtomicBool::new(false)).collect(),
            labels: model.labels().clone(),
            about: about(config, &model, &rules),
        };
        let engine = Self {
            probabilities: vec![0.0; classifier.classes()],
            classifier,
            decoder: FrameDecoder::default(),
            region: config.image.region,
            wanted: Wanted::new(model.preprocessing().resize_shorter, config.image.region),
            inputs: inputs.clone(),
            stale: config.stale,
            pace: Pace::new(config.pace.clone()),
        };
        let triggers = Triggers::new(rules);
        let names = Arc::new(names);
        let rules =
            Rules { triggers, lines, inputs, zone, stale: config.stale, dry_run: config.dry_run, names };
        Ok((engine, rules))
    }

    fn classify(&mut self, frame: &Frame) -> Result<(), RuntimeError> {
        let image = frame.image(&mut self.decoder)?.region(self.region);
        let logits = self.classifier.classify(&image)?;
        self.probabilities.copy_from_slice(logits);
        softmax(&mut self.probabilities);
        Ok(())
    }

    /// Whether frames are classified only when an input becomes active.
    fn is_triggered(&self) -> bool {
        self.inputs.iter().any(|input| input.is_trigger())
    }

    /// Whether a frame is to be classified for the rules.
    fn is_wanted(&self, frame: &Frame) -> bool {
        // Each must know that this frame is there.
        let answers = self.inputs.iter().filter(|input| input.is_trigger() && input.answer(frame.arrival));
        answers.count() > 0 || !self.is_triggered()
    }
}

/// Classes of a rule whose names are shown.
const CLASSES: usize = 8;

/// What the page shows of the configuration.
fn about(config: &Config, model: &Model, rules: &[Rule]) -> About {
    let rule = |rule: &Rule| {
        let (mode, pulse) = match rule.mode {
            Mode::Level => ("level", None),
            Mode::Pulse(length) => ("pulse", Some(length.as_millis() as u64)),
            Mode::Toggle => ("toggle", None),
        };
        let classes = rule.classes.iter().filter_map(|class| model.labels().name(*class));
        json!({
            "name": rule.name,
            "classes": classes.take(CLASSES).collect::<Vec<_>>(),
            "class_count": rule.classes.len(),
            "threshold": rule.threshold,
            "hits": rule.hits,
            "frames": rule.frames,
            "mode": mode,
            "pulse_ms": pulse,
            "armed_by": rule.armed_by.map(|input| &config.inputs[input].name),
            "lines": rule.lines.iter().map(|line| &config.lines[*line].name).collect::<Vec<_>>(),
        })
    };
    let Region { left, top, width, height } = config.image.region;
    let orientation = config.image.orientation;
    let preprocessing = model.preprocessing();
    About {
        rules: rules.iter().map(rule).collect(),
        view: json!({
            "region": [left, top, width, height],
            "rotate": match orientation.rotation {
                Rotation::Upright => 0,
                Rotation::Clockwise => 90,
                Rotation::Half => 180,
                Rotation::Counterclockwise => 270,
            },
            "mirror": orientation.mirror,
            "resize_shorter": preprocessing.resize_shorter,
            "crop": preprocessing.crop,
        }),
    }
}

/// The newest frame, between two threads.
#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct SlotState {
    frame: Option<Frame>,
    spare: Option<Frame>,
    closed: bool,
}

enum Taken {
    Frame,
    Nothing,
    Closed,
}

impl Slot {
    /// Hands over a frame and gives another's memory. `true` if one that nobody took is lost.
    fn put(&self, frame: &mut Frame) -> bool {
        let mut state = lock(&self.state);
        let (dropped, spare) = match state.frame.take() {
            Some(old) => (true, old),
            None => (false, state.spare.take().unwrap_or_else(Frame::new)),
        };
        state.frame = Some(std::mem::replace(frame, spare));
        self.filled.notify_one();
        dropped
    }

    /// Waits until the frame is taken, or for a moment. `true` if there is room.
    fn wait_for_room(&self) -> bool {
        let state = lock(&self.state);
        let occupied = |state: &mut SlotState| state.frame.is_some();
        let (state, _) =
            self.emptied.wait_timeout_while(state, TICK, occupied).unwrap_or_else(PoisonError::into_inner);
        state.frame.is_none()
    }

    fn take(&self, frame: &mut Frame, wait: Duration) -> Taken {
        let state = lock(&self.state);
        let idle = |state: &mut SlotState| state.frame.is_none() && !state.closed;
        let (mut state, _) =
            self.filled.wait_timeout_while(state, wait, idle).unwrap_or_else(PoisonError::into_inner);
        match state.frame.take() {
            Some(new) => {
                state.spare = Some(std::mem::replace(frame, new));
                self.emptied.notify_one();
                Taken::Frame
            }
            None if state.closed => Taken::Closed,
            None => Taken::Nothing,
        }
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_one();
    }
}

/// A source that is to replace the running one. One that may be missing is opened later.
struct NewSource {
    config: SourceConfig,
    wanted: Wanted,
    source: Option<Box<dyn Source>>,
    live: bool,
}

impl NewSource {
    fn open(config: &SourceConfig, wanted: Wanted) -> Result<Self, SourceError> {
        // Nor is a camera opened here: the source that this replaces may still hold it.
        let (source, live) = if config.may_come_later() {
            (None, true)
        } else {
            let (source, live) = source::open(config, wanted)?;
            (Some(source), live)
        };
        Ok(Self { config: config.clone(), wanted, source, live })
    }
}

/// How the source is doing.
#[derive(Debug, Clone, Default)]
struct SourceState {
    path: String,
    /// Whether frames come from it since it was opened.
    streaming: bool,
    /// Why it was lost; until it is open again.
    error: Option<String>,
    ended: bool,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) start: Instant,
    pub(crate) metrics: Mutex<Metrics>,
    names: Mutex<Arc<Names>>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) outputs: Mutex<Arc<Outputs>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tap: FrameTap,
    pub(crate) live: Live,
    /// Locked while something is switched.
    keeper: Mutex<Keeper>,
    inputs: Mutex<InputList>,
    slot: Slot,
    source: Mutex<SourceState>,
    pub(crate) control: Mutex<Control>,
    /// From the rules to the outputs.
    pub(crate) events: Events,
    /// Something was judged, so something else may be due.
    pub(crate) judged: Condvar,
    new_program: Mutex<Option<Program>>,
    new_source: Mutex<Option<NewSource>>,
    /// When the capture thread last finished looking for a frame, ms since the start.
    looked: AtomicU64,
    notify: Notify,
}

impl Shared {
    fn new(rules: Rules, lines: Arc<Lines>, source: NewSource, keeper: Keeper) -> Self {
        Self {
            stop: AtomicBool::new(false),
            start: Instant::now(),
            metrics: Mutex::new(Metrics { stale: true, ..Metrics::default() }),
            names: Mutex::new(rules.names.clone()),
            inputs: Mutex::new(rules.inputs.clone()),
            control: Mutex::new(Control::new(rules, &keeper.restore())),
            keeper: Mutex::new(keeper),
            events: Events::default(),
            judged: Condvar::new(),
            lines,
            outputs: Mutex::default(),
            counters: Arc::default(),
            tap: FrameTap::default(),
            live: Live::default(),
            slot: Slot::default(),
            source: Mutex::default(),
            new_program: Mutex::new(None),
            new_source: Mutex::new(Some(source)),
            looked: AtomicU64::new(0),
            notify: Notify::from_environment(),
        }
    }

    /// Shows the names and inputs of other rules from now on.
    pub(crate) fn show(&self, rules: &Rules) {
        *lock(&self.names) = rules.names.clone();
        *lock(&self.inputs) = rules.inputs.clone();
    }

    /// What `/status` shows.
    pub(crate) fn status(&self) -> Value {
        let (mut value, mut state) = (self.figures(), self.state());
        if let (Some(value), Some(state)) = (value.as_object_mut(), state.as_object_mut()) {
            value.append(state);
        }
        value
    }

    /// What changes with each frame.
    pub(crate) fn figures(&self) -> Value {
        let metrics = lock(&self.metrics).clone();
        let names = self.names();
        let mut value = metrics.json();
        for (name, _, count) in self.counters.list().chain(self.counters.gauges()) {
            value[name] = json!(count);
        }
        value["viewers"] = json!(self.live.viewers());
        value["uptime_s"] = json!(self.start.elapsed().as_secs_f64());
        value["temperature_c"] = json!(metrics.temperature);
        if let Some((class, probability, frame)) = metrics.last {
            let name = names.labels.name(class);
            value["last"] =
                json!({ "class": class, "name": name, "probability": probability, "frame": frame });
        }
        value
    }

    /// What changes now and then: model, source, rules, lines, inputs.
    pub(crate) fn state(&self) -> Value {
        let standings = lock(&self.control).standings(self.start.elapsed());
        let names = self.names();
        let inputs = lock(&self.inputs).clone();
        let level = |input: &Arc<Input>| (input.name().to_owned(), json!(input.level()));
        let stale = lock(&self.metrics).stale;
        let source = lock(&self.source).clone();
        let state = match &source {
            SourceState { ended: true, .. } => "ended",
            SourceState { error: Some(_), .. } => "lost",
            SourceState { streaming: false, .. } => "opening",
            _ if stale => "silent",
            _ => "streaming",
        };
        json!({
            "version": VERSION.as_str(),
            "model": names.model,
            "kernels": names.isa,
            "view": names.about.view,
            "source": { "name": source.path, "state": state, "error": source.error },
            "dry_run": standings.is_dry(),
            "dry_run_configured": standings.is_dry_configured(),
            "rules": standings.json(),
            "lines": self.lines.levels().into_iter().map(|(name, active)| (name, json!(active))).collect::<Value>(),
            "inputs": inputs.iter().map(level).collect::<Value>(),
        })
    }

    /// What `/metrics` shows.
    pub(crate) fn prometheus(&self) -> String {
        let metrics = lock(&self.metrics).clone();
        let levels = self.lines.levels();
        let inputs = lock(&self.inputs).clone();
        let levels = levels.iter().map(|(name, level)| (name.as_str(), *level));
        let standings = lock(&self.control).standings(self.start.elapsed());
        metrics.prometheus(&self.counters, &inputs, levels, &standings, self.live.viewers())
    }

    /// Switches something, and keeps it for after a restart.
    ///
    /// # Errors
    /// A rule that is not there, and a dry run that the configuration asks for.
    pub(crate) fn switch(&self, switch: &Switch) -> Result<(), SwitchError> {
        let keeper = lock(&self.keeper);
        let mut control = lock(&self.control);
        control.switch(self, switch)?;
        let switches = control.switches();
        drop(control);
        // Holds and pulses may end at other times now.
        self.judged.notify_one();
        keeper.keep(&switches);
        Ok(())
    }

    /// Whether frames are being classified.
    pub(crate) fn is_healthy(&self) -> bool {
        !lock(&self.metrics).stale
    }

    /// What the running model and rules are called.
    pub(crate) fn names(&self) -> Arc<Names> {
        lock(&self.names).clone()
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// Runs until a signal or the end of the frames.
///
/// # Errors
/// A configuration, model, line or source that cannot be used at the start, and a thread that
/// panicked. The lines are at their safe levels then.
pub(crate) fn run(path: &Path) -> Result<()> {
    // First of all: a signal during the start is not lost.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot handle signals")?;
    let mut config = Config::load(path)?;
    LinesInUse::from_environment().start(&config.text);
    let lines = Arc::new(Lines::open(&config.lines)?);
    make_safe_on_panic(&lines);
    let (engine, rules) = Engine::load(path, &config, lines.list(), inputs(&config.inputs, &[].into())?)?;
    let source = NewSource::open(&config.source, engine.wanted)?;
    let shared = Arc::new(Shared::new(rules, lines.clone(), source, Keeper::from_environment()));
    let opened = Outputs::open(&config.output, &Outputs::default(), &shared)?;
    opened.install(&shared);
    let dispatcher = spawn("outputs", {
        let shared = shared.clone();
        move || outputs::dispatch(&shared)
    })?;
    let capture = spawn("capture", {
        let shared = shared.clone();
        move || capture(&shared)
    })?;
    let inference = spawn("inference", {
        let shared = shared.clone();
        move || infer(&shared, engine)
    })?;
    let triggers = spawn("triggers", {
        let shared = shared.clone();
        move || control::keep_time(&shared)
    })?;

    let mut reported: Option<(Instant, u64)> = None;
    let mut reload_wanted = false;
    while !inference.is_finished() && !triggers.is_finished() && !shared.stopping() {
        for signal in signals.pending() {
            if signal == SIGHUP {
                reload_wanted = true;
            } else {
                log::info!("stopping: signal {signal}");
                shared.stop.store(true, Ordering::SeqCst);
            }
        }
        // One at a time: what the last one opened is held until it is in use.
        if reload_wanted && lock(&shared.new_program).is_none() {
            reload_wanted = false;
            reload(path, &mut config, &shared);
        }
        restore_lines(&shared);
        if capture.is_finished() {
            // However it ended: what it handed over is still classified.
            shared.slot.close();
        }
        if reported.is_none_or(|(at, _)| at.elapsed() >= BOARD_INTERVAL) {
            reported = Some(report(&shared, reported));
        }
        thread::sleep(TICK);
    }
    let capture_ended = capture.is_finished();
    shared.stop.store(true, Ordering::SeqCst);
    // Not after the inference that may be running.
    lines.seal();
    shared.notify.send("STOPPING=1\nSTATUS=stopping");
    let inference_result = inference.join();
    let triggers_result = triggers.join();
    shared.events.close();
    // A decoder may be busy for a while, but nothing depends on it any more.
    let capture_result = if capture_ended { capture.join() } else { Ok(()) };
    let deadline = Instant::now() + FLUSH;
    while !dispatcher.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    // The threads of the outputs hold `shared`, so they would keep each other.
    *lock(&shared.outputs) = Arc::default();
    if inference_result.is_err() || triggers_result.is_err() || capture_result.is_err() {
        bail!("a thread panicked; the lines are at their safe levels");
    }
    log::info!("{}", summary(&lock(&shared.metrics)));
    Ok(())
}

/// Reads the temperature, and tells systemd how things are. Takes and gives when that was and
/// how many inferences there were.
fn report(shared: &Shared, last: Option<(Instant, u64)>) -> (Instant, u64) {
    let temperature = board::temperature();
    let mut metrics = lock(&shared.metrics);
    metrics.temperature = temperature;
    let (now, inferences) = (Instant::now(), metrics.inferences);
    let (at, before) = last.unwrap_or((shared.start, 0));
    if inferences == 0 {
        return (now, 0);
    }
    // A reload may have taken the main thread longer than the interval.
    let rate = (inferences - before) as f64 / (now - at).as_secs_f64().max(1e-3);
    let state = if metrics.stale { "no frames; " } else { "" };
    let latency = metrics.latency.quantile(0.95).as_secs_f64() * 1e3;
    drop(metrics);
    let dry = if lock(&shared.control).is_dry() { "dry run; " } else { "" };
    let celsius = temperature.map_or_else(String::new, |celsius| format!(", {celsius:.1} °C"));
    shared
        .notify
        .send(&format!("STATUS={dry}{state}{rate:.1} inferences/s, latency p95 {latency:.1} ms{celsius}"));
    (now, inferences)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .with_context(|| format!("cannot start thread {name}"))
}

fn summary(metrics: &Metrics) -> String {
    let ms = |share| metrics.latency.quantile(share).as_secs_f64() * 1e3;
    format!(
        "{} frames, {} classified, {} dropped, {} corrupt; latency p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, \
         max {:.1} ms",
        metrics.frames,
        metrics.inferences,
        metrics.dropped,
        metrics.corrupt,
        ms(0.5),
        ms(0.95),
        ms(0.99),
        ms(1.0)
    )
}

/// Before the message of a panic, and before an abort: the safe levels.
fn make_safe_on_panic(lines: &Arc<Lines>) {
    let lines = lines.clone();
    let message = panic::take_hook();
    panic::set_hook(Box::new(move |information| {
        // Without one of these the service ends; until it has, the others must not move a line.
        let thread = thread::current();
        let vital = thread.name().is_some_and(|name| {
            ["capture", "inference", "triggers"].contains(&name) || name.starts_with("compute-")
        });
        if vital || cfg!(panic = "abort") {
            lines.seal();
        } else if let Err(error) = lines.make_safe() {
            log::error!("{error}");
        }
        message(information);
    }));
}

/// Opens lines that were taken away and are back.
fn restore_lines(shared: &Shared) {
    let (restored, failed) = shared.lines.restore();
    if restored + failed > 0 {
        let mut metrics = lock(&shared.metrics);
        metrics.lines_restored += restored;
        metrics.line_errors += failed;
    }
}

/// Counts and logs what the lines refused.
pub(crate) fn report_line(shared: &Shared, result: Result<(), LineError>) {
    if let Err(error) = result {
        lock(&shared.metrics).line_errors += 1;
        log::error!("{error}");
    }
}

/// Applies the configuration file anew, or keeps what runs.
fn reload(path: &Path, config: &mut Config, shared: &Arc<Shared>) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    // Before the first inference the service is still starting, and READY would say otherwise.
    let ready = lock(&shared.metrics).inferences > 0;
    if ready {
        shared.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }
    match prepare(path, config, shared) {
        Ok((new, program, source, outputs)) => {
            LinesInUse::from_environment().prepare(&new.text);
            *lock(&shared.new_program) = Some(program);
            if let Some(source) = source {
                *lock(&shared.new_source) = Some(source);
            }
            outputs.install(shared);
            *config = new;
            lock(&shared.metrics).reloads += 1;
            log::info!("{}: reloaded", path.display());
        }
        Err(error) => {
            lock(&shared.metrics).reloads_refused += 1;
            log::error!("reload refused, the running configuration stays: {error:#}");
        }
    }
    if ready {
        shared.notify.send("READY=1");
    }
}

type Prepared = (Config, Program, Option<NewSource>, Outputs);

fn prepare(path: &Path, running: &Config, shared: &Arc<Shared>) -> Result<Prepared> {
    let config = Config::load(path)?;
    let (mut engine, mut rules) = Engine::load(path, &config, shared.lines.list(), [].into())?;
    let source = if config.source == running.source {
        None
    } else {
        Some(NewSource::open(&config.source, engine.wanted)?)
    };
    let old = lock(&shared.outputs).clone();
    let outputs = Outputs::open(&config.output, &old, shared)?;
    // Last, because it moves wires: what was refused before has touched nothing.
    rules.inputs = inputs(&config.inputs, &lock(&shared.inputs).clone())?;
    engine.inputs = rules.inputs.clone();
    rules.lines = shared.lines.prepare(&config.lines)?;
    Ok((config, (engine, rules), source, outputs))
}

fn capture(shared: &Shared) {
    let mut frame = Frame::new();
    let mut number = 0;
    let Some(NewSource { mut config, mut wanted, mut source, mut live }) = lock(&shared.new_source).take()
    else {
        return;
    };
    show_source(shared, |state| state.path.clone_from(&config.path));
    let mut backoff = TICK;
    let mut retry_at = Instant::now();
    let mut streaming = false;
    while !shared.stopping() {
        shared.looked.store(shared.start.elapsed().as_millis() as u64, Ordering::SeqCst);
        if let Some(new) = lock(&shared.new_source).take() {
            (config, wanted, source, live, backoff) = (new.config, new.wanted, new.source, new.live, TICK);
            (retry_at, streaming) = (Instant::now(), false);
            show_source(shared, |state| {
                *state = SourceState { path: config.path.clone(), ..SourceState::default() };
            });
        }
        if !live && !shared.slot.wait_for_room() {
            continue;
        }
        let next = match &mut source {
            Some(source) => source.next(&mut frame, TICK),
            None if Instant::now() < retry_at => {
                thread::sleep(TICK);
                continue;
            }
            None => source::open(&config, wanted).map(|(opened, _)| {
                log::info!("{}: the source is open", config.path);
                show_source(shared, |state| state.error = None);
                source = Some(opened);
                Next::Nothing
            }),
        };
        match next {
            Ok(Next::Frame) => {
                backoff = TICK;
                if !std::mem::replace(&mut streaming, true) {
                    show_source(shared, |state| state.streaming = true);
                }
                number += 1;
                frame.number = number;
                let dropped = shared.slot.put(&mut frame);
                let mut metrics = lock(&shared.metrics);
                metrics.frames += 1;
                metrics.dropped += u64::from(dropped) + source.as_mut().map_or(0, |source| source.dropped());
            }
            Ok(Next::Nothing) => {}
            Ok(Next::Corrupt(cause)) => {
                lock(&shared.metrics).corrupt += 1;
                log::warn!("corrupt frame: {cause}");
            }
            Ok(Next::End) => {
                log::info!("{}: the frames are at their end", config.path);
                show_source(shared, |state| state.ended = true);
                return;
            }
            Err(error) => {
                lose(shared, &error, streaming);
                (source, streaming) = (None, false);
                retry_at = Instant::now() + backoff;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

fn lose(shared: &Shared, error: &SourceError, streaming: bool) {
    lock(&shared.metrics).source_errors += 1;
    let what = if streaming { "source lost" } else { "no source" };
    log::error!("{what}: {error}; trying again and again");
    show_source(shared, |state| (state.streaming, state.error) = (false, Some(error.to_string())));
}

fn show_source(shared: &Shared, change: impl FnOnce(&mut SourceState)) {
    let mut state = lock(&shared.source);
    change(&mut state);
    let up = state.streaming && !state.ended;
    shared.counters.source_up.store(up.into(), Ordering::Relaxed);
}

/// The state of the inference thread besides its engine.
struct Loop<'a> {
    shared: &'a Shared,
    frame: Frame,
    /// Whether a frame was classified yet.
    ready: bool,
    /// Whether systemd was told so.
    told: bool,
    /// When the next frame may be classified.
    next: Instant,
    /// When systemd was last told that all is well though no frame came.
    idle: Instant,
}

fn infer(shared: &Shared, mut engine: Engine) {
    let mut state = Loop::new(shared);
    loop {
        let threads = engine.classifier.threads();
        let Some((new, rules)) = threads.enter(|| state.run(&mut engine)) else { return };
        lock(&shared.control).replace(shared, rules);
        LinesInUse::from_environment().settle();
        engine = new;
    }
}

impl<'a> Loop<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now = Instant::now();
        Self { shared, frame: Frame::new(), ready: false, told: false, next: now, idle: now }
    }

    /// Works with an engine until there is a new one, which is the result, or it is time to stop.
    fn run(&mut self, engine: &mut Engine) -> Option<Program> {
        while !self.shared.stopping() {
            let new = lock(&self.shared.new_program).take();
            if new.is_some() {
                return new;
            }
            let pause = self.next.saturating_duration_since(Instant::now());
            let taken = if pause.is_zero() {
                self.shared.slot.take(&mut self.frame, TICK)
            } else {
                thread::sleep(pause.min(TICK));
                Taken::Nothing
            };
            match taken {
                Taken::Frame if engine.is_wanted(&self.frame) => self.frame(engine, true),
                // The first is classified all the same, to know that everything works.
                Taken::Frame if !self.ready => self.frame(engine, false),
                Taken::Frame => {
                    self.idle();
                    self.judge(None);
                }
                Taken::Nothing => self.idle(),
                Taken::Closed => return None,
            }
        }
        None
    }

    /// Hands the frame to the rules.
    fn judge(&self, probabilities: Option<&[f32]>) {
        lock(&self.shared.control).frame(self.shared, &self.frame, probabilities);
        self.shared.judged.notify_one();
    }

    /// Classifies a frame, for the rules or only to see that it can be done.
    fn frame(&mut self, engine: &mut Engine, for_rules: bool) {
        let begin = Instant::now();
        if let Err(error) = engine.classify(&self.frame) {
            log::error!("frame {}: {error}", self.frame.number);
            if matches!(
                error,
                RuntimeError::Imaging(ImagingError::Image { .. } | ImagingError::Preprocessing(_))
            ) {
                lock(&self.shared.metrics).corrupt += 1;
                // Rubbish from the source is as good as no frame: a restart would not help.
                self.idle();
            } else {
                lock(&self.shared.metrics).inference_errors += 1;
            }
            return;
        }
        let took = begin.elapsed();
        // A long pause after a long inference is no reason to give up the lines.
        self.next = begin + engine.pace.interval(took).min(engine.stale / 2);
        self.judge(for_rules.then_some(engine.probabilities.as_slice()));
        self.shared.tap.pass(&self.frame, &engine.probabilities);
        let best = (0..engine.probabilities.len()).fold(0, |best, class| {
            if engine.probabilities[class] > engine.probabilities[best] { class } else { best }
        });
        let temperature = {
            let mut metrics = lock(&self.shared.metrics);
            metrics.inferences += 1;
            metrics.inference.add(took);
            metrics.last = Some((best, engine.probabilities[best], self.frame.number));
            metrics.temperature
        };
        if let Some(celsius) = temperature
            && engine.pace.temperature(celsius)
        {
            match engine.pace.limit() {
                Some(rate) => log::warn!("{celsius:.1} °C: {rate} inferences per second at most"),
                None => log::info!("{celsius:.1} °C: no limit by temperature any more"),
            }
        }
        if !std::mem::replace(&mut self.ready, true) {
            log::info!("ready: first frame classified in {:.1} ms", took.as_secs_f64() * 1e3);
        }
        // Again with the next frame if systemd's queue was full: nothing else says it.
        self.told = self.told || self.shared.notify.send("READY=1");
        self.shared.notify.send("WATCHDOG=1");
    }

    /// Nothing to classify: tells systemd that all is well, if it is. That no frame comes is
    /// no reason to be restarted, which would not bring the camera back; but the capture
    /// thread must have looked for one, so that its hanging is noticed.
    fn idle(&mut self) {
        let looked = Duration::from_millis(self.shared.looked.load(Ordering::SeqCst));
        let alive = self.shared.start.elapsed().saturating_sub(looked) < MAX_BACKOFF;
        if alive && self.idle.elapsed() >= IDLE_INTERVAL {
            self.idle = Instant::now();
            self.shared.notify.send(if self.ready { "WATCHDOG=1" } else { EXTEND_START });
        }
    }
}

/// Everything that can be checked without devices: the configuration, the model if it is
/// there, the rules against its labels. Gives what was not checked.
///
/// # Errors
/// All mistakes of the configuration, or what is wrong with the model.
pub(crate) fn check(path: &Path) -> Result<Option<PathBuf>> {
    let config = Config::load(path)?;
    if !config.model.exists() {
        return Ok(Some(config.model));
    }
    let model = config.load_model()?;
    config.rules(path, model.labels())?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackEnd, LineConfig};
    use crate::lines::{OutputLine, WriteError};
    use crate::outputs::EventKind;
    use crate::queue::Popped;

    fn numbered(number: u64) -> Frame {
        Frame { number, ..Frame::new() }
    }

    #[test]
    fn the_newest_frame_wins_and_the_others_are_counted() {
        let slot = Slot::default();
        assert!(!slot.put(&mut numbered(1)));
        assert!(slot.put(&mut numbered(2)));
        assert!(!slot.wait_for_room());
        slot.close();
        let mut frame = Frame::new();
        assert!(matches!(slot.take(&mut frame, Duration::ZERO), Taken::Frame));
        assert_eq!(frame.number, 2);
        assert!(slot.wait_for_room());
        assert!(matches!(slot.take(&mut frame, Duration::ZERO), Taken::Closed));
    }

    /// Nothing but the thread of time runs: as if the network computed for ever.
    #[test]
    fn pulses_end_and_missing_frames_show_while_the_network_computes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.tar"), resight_fixtures::TINY_MODEL).unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(folder.path().join("frames"), [0; 12]).unwrap();
        let text = "[model]\nfile = \"m.tar\"\n[source]\nkind = \"raw\"\npath = \"frames\"\n\
            format = \"rgb24\"\nwidth = 2\nheight = 2\n[safety]\nstale_ms = 300\n\
            [[line]]\nname = \"valve\"\nbackend = \"virtual\"\n\
            [[line]]\nname = \"lamp\"\nbackend = \"virtual\"\n\
            [[rule]]\nname = \"a\"\nclasses = [\"thing*\"]\nmode = \"pulse\"\npulse_ms = 40\nlines = [\"valve\"]\n\
            [[rule]]\nname = \"b\"\nclasses = [\"thing*\"]\nlines = [\"lamp\"]\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let lines = Arc::new(Lines::open(&config.lines).unwrap());
        let (engine, rules) = Engine::load(&path, &config, lines.list(), [].into()).unwrap();
        let source = NewSource::open(&config.source, engine.wanted).unwrap();
        let shared = Shared::new(rules, lines, source, Keeper::default());
        let levels =
            || -> Vec<bool> { shared.lines.levels().into_iter().map(|(_, level)| level.unwrap()).collect() };
        thread::scope(|scope| {
            scope.spawn(|| control::keep_time(&shared));
            let start = Instant::now();
            lock(&shared.control).frame(&shared, &Frame::new(), Some(&[0.1; 10]));
            shared.judged.notify_one();
            assert_eq!(levels(), [true, true]);
            while levels()[0] {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
            while levels()[1] {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
            shared.stop.store(true, Ordering::SeqCst);
        });
        let kinds: Vec<bool> = std::iter::from_fn(|| match shared.events.pop(Duration::ZERO) {
            Popped::Item(event) => Some(matches!(event.kind, EventKind::Stale)),
            _ => None,
        })
        .collect();
        assert_eq!(kinds, [false, false, true]);
    }

    /// A line that refuses writes when told to, and shows its level.
    struct Stubborn(Arc<[AtomicBool; 2]>);

    impl OutputLine for Stubborn {
        fn set(&self, high: bool) -> Result<(), WriteError> {
            let [refuses, level] = &*self.0;
            if refuses.load(Ordering::SeqCst) {
                return Err(WriteError { cause: "no answer".into(), gone: false });
            }
            level.store(high, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn a_panic_puts_the_lines_to_their_safe_levels() {
        let state = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let stubborn = state.clone();
        let open = move |_: &LineConfig| {
            Ok::<_, LineError>(Box::new(Stubborn(stubborn.clone())) as Box<dyn OutputLine>)
        };
        let config =
            LineConfig { name: "lamp".into(), back_end: BackEnd::Virtual, active_low: false, safe: false };
        let lines = Arc::new(Lines::with(Box::new(open), &[config]).unwrap());
        let line = lines.list()[0].clone();
        let level = || state[1].load(Ordering::SeqCst);
        make_safe_on_panic(&lines);
        // Whoever it is; when it was a thread that the service needs, for good.
        for (name, again) in [("http client", true), ("inference", false)] {
            assert_eq!(lines.drive(&line, true), Ok(true));
            assert!(level());
            assert!(spawn(name, || panic!("on purpose, for a test")).unwrap().join().is_err());
            assert!(!level(), "{name}");
            assert_eq!(lines.drive(&line, true), Ok(again), "{name}");
            lines.make_safe().unwrap();
        }
    }

    #[test]
    fn a_line_that_refuses_its_safe_level_has_it_as_soon_as_it_can() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.tar"), resight_fixtures::TINY_MODEL).unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(folder.path().join("frames"), [0; 12]).unwrap();
        let text = "[model]\nfile = \"m.tar\"\n[source]\nkind = \"raw\"\npath = \"frames\"\n\
            format = \"rgb24\"\nwidth = 2\nheight = 2\n[safety]\nstale_ms = 100\n\
            [[line]]\nname = \"lamp\"\nbackend = \"virtual\"\n\
            [[rule]]\nname = \"a\"\nclasses = [\"thing*\"]\nlines = [\"lamp\"]\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let state = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let stubborn = state.clone();
        let open = move |_: &LineConfig| {
            Ok::<_, LineError>(Box::new(Stubborn(stubborn.clone())) as Box<dyn OutputLine>)
        };
        let lines = Arc::new(Lines::with(Box::new(open), &config.lines).unwrap());
        let (engine, rules) = Engine::load(&path, &config, lines.list(), [].into()).unwrap();
        let source = NewSource::open(&config.source, engine.wanted).unwrap();
        let shared = Shared::new(rules, lines, source, Keeper::default());
        let [refuses, level] = &*state;
        let wait_for = |what: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !what() {
                assert!(start.elapsed() < Duration::from_mins(1));
                thread::sleep(Duration::from_millis(1));
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| control::keep_time(&shared));
            lock(&shared.control).frame(&shared, &Frame::new(), Some(&[0.1; 10]));
            assert!(level.load(Ordering::SeqCst));
            refuses.store(true, Ordering::SeqCst);
            wait_for(&|| lock(&shared.metrics).line_errors >= 2);
            assert!(lock(&shared.metrics).stale && level.load(Ordering::SeqCst));
            refuses.store(false, Ordering::SeqCst);
            wait_for(&|| !level.load(Ordering::SeqCst));
            shared.stop.store(true, Ordering::SeqCst);
        });
    }

    /// From the source's bytes to the lines and the event, on the threads that do it.
    #[test]
    fn a_frame_allocates_nothing_once_warm() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.tar"), resight_fixtures::TINY_MODEL).unwrap();
        for format in ["rgb24", "yuyv", "nv12", "rggb10"] {
            for threads in [1, 2] {
                let frames = folder.path().join("frames");
                let pixel_format = resight_imaging::PixelFormat::from_name(format).unwrap();
                let bytes = pixel_format.frame_bytes(48, pixel_format.row_bytes(64));
                std::fs::write(&frames, vec![100; 3 * bytes]).unwrap();
                let path = folder.path().join("c.toml");
                let text = format!(
                    "[model]\nfile = \"m.tar\"\nthreads = {threads}\n[source]\nkind = \"raw\"\n\
                     path = \"frames\"\nformat = \"{format}\"\nwidth = 64\nheight = 48\nrepeat = true\n\
                     [[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nmode = \"pulse\"\npulse_ms = 1\n"
                );
                std::fs::write(&path, text).unwrap();
                let config = Config::load(&path).unwrap();
                let lines = Arc::new(Lines::open(&config.lines).unwrap());
                let (mut engine, rules) = Engine::load(&path, &config, lines.list(), [].into()).unwrap();
                let new = NewSource::open(&config.source, engine.wanted).unwrap();
                let shared = &Shared::new(rules, lines, new, Keeper::default());
                let mut source = lock(&shared.new_source).take().unwrap().source.unwrap();
                let mut state = Loop::new(shared);
                let mut captured = Frame::new();
                let threads_of_the_loop = engine.classifier.threads();
                let mut frame = move || {
                    assert_eq!(source.next(&mut captured, TICK).unwrap(), Next::Frame);
                    shared.slot.put(&mut captured);
                    assert!(matches!(shared.slot.take(&mut state.frame, TICK), Taken::Frame));
                    state.frame(&mut engine, true);
                    lock(&shared.control).send(shared, EventKind::Recovered, Duration::ZERO);
                    while matches!(shared.events.pop(Duration::ZERO), Popped::Item(_)) {}
                };
                let counts = threads_of_the_loop.enter(|| {
                    (0..10).for_each(|_| frame());
                    allocation_counter::measure(|| (0..200).for_each(|_| frame()))
                });
                assert_eq!(counts.count_total, 0, "{format}, {threads} threads");
            }
        }
    }

    #[test]
    fn the_memory_of_frames_goes_round() {
        let slot = Slot::default();
        let (mut captured, mut taken) = (Frame::new(), Frame::new());
        let mut pointers = std::collections::HashSet::new();
        for _ in 0..20 {
            captured.bytes.resize(3000, 0);
            pointers.insert(captured.bytes.as_ptr());
            slot.put(&mut captured);
            assert!(matches!(slot.take(&mut taken, Duration::ZERO), Taken::Frame));
        }
        assert!(pointers.len() <= 3, "{}", pointers.len());
    }
}
