//! The supervisor: starts the stages, wires their handles, and ends them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::capture::{CameraLink, NewSource};
use super::crew::{Captures, Stage};
use super::ending::{Ending, handle_signals};
use super::infer::{self, InferStage, Program};
use super::judge::{self, JudgeStage, SystemClock};
use super::mailbox::{JudgeMail, Slot, Switcher};
use super::panic::make_safe_on_panic;
use super::reload::{Prepared, Reloader, Running};
use super::viewpoint::Viewpoint;
use crate::board;
use crate::config::{Config, ViewpointConfig};
use crate::lines::{Lines, inputs};
use crate::live::Live;
use crate::notify::Notify;
use crate::outputs::{self, TellMail};
use crate::picture::SnapshotTap;
use crate::reach::Reach;
use crate::runtime::LinesInUse;
use crate::status::StatusBoard;
use crate::status_socket::StatusSocket;
use crate::switches::Keeper;
use crate::sync::Bell;
use crate::telemetry::Telemetry;

/// How often the temperature is read and the status sent.
const BOARD_INTERVAL: Duration = Duration::from_secs(2);

/// How long outputs may take at the end, a little more than they give themselves.
const FLUSH: Duration = Duration::from_millis(1500);

/// Runs until a signal or the end of the frames.
///
/// # Errors
/// A configuration, model, line or source that cannot be used at the start, and a thread that
/// panicked. The lines are at their safe levels then.
pub(crate) fn run(path: &Path) -> Result<()> {
    let ending = Arc::new(Ending::new());
    // First of all: a signal during the start is not lost.
    handle_signals(&ending)?;
    let config = Config::load(path)?;
    LinesInUse::from_environment().start(&config.text);
    let lines = Arc::new(Lines::open(&config.lines)?);
    make_safe_on_panic(&ending);
    ending.guard(&lines);
    let (start, filled) = (Instant::now(), Arc::new(Bell::default()));
    let mut program =
        Program::load(path, &config, |_, names| Arc::new(CameraLink::new(start, names, filled.clone())))?;
    let viewpoints = || config.cameras.iter().zip(&program.engine.viewpoints);
    let open = |(camera, viewpoint): (&ViewpointConfig, &Viewpoint)| {
        NewSource::open(&camera.source, viewpoint.wanted).map(Some)
    };
    let sources = viewpoints().map(open).collect::<Result<Vec<_>, _>>()?;
    let service = Service::new(&ending, lines.clone(), start, filled, &program);
    program.wire(lines.list(), inputs(&config.inputs, &[].into(), &service.judge.bell)?);
    let _socket = StatusSocket::start(path, service.board.clone());
    let reach = service.outputs_reach();
    let opened = outputs::open(&config.output, &[].into(), &reach)?;
    service.run(path, config, program, sources, opened)
}

/// What the stages share by handles, and nothing of their states.
struct Service {
    ending: Arc<Ending>,
    telemetry: Arc<Telemetry>,
    lines: Arc<Lines>,
    board: Arc<StatusBoard>,
    live: Arc<Live>,
    snapshots: Arc<SnapshotTap>,
    /// Rung when a camera has a frame.
    filled: Arc<Bell>,
    judge: Arc<JudgeMail>,
    tell: Arc<TellMail>,
    switcher: Arc<Switcher>,
    keeper: Keeper,
    programs: Arc<Slot<Program>>,
    notify: Arc<Notify>,
}

/// The threads of the stages.
struct Crew {
    captures: Captures,
    infer: Stage,
    judge: Stage,
    tell: Stage,
}

impl Service {
    fn new(
        ending: &Arc<Ending>,
        lines: Arc<Lines>,
        start: Instant,
        filled: Arc<Bell>,
        program: &Program,
    ) -> Self {
        let telemetry = Arc::new(Telemetry::default());
        let live = Arc::new(Live::new(telemetry.clone()));
        let cameras = program.rules.cameras.iter().map(|camera| camera.board.clone()).collect();
        let board = StatusBoard::new(start, telemetry.clone(), lines.clone(), cameras);
        let judge = Arc::new(JudgeMail::default());
        Self {
            ending: ending.clone(),
            telemetry,
            lines,
            board: Arc::new(board),
            live,
            snapshots: Arc::default(),
            filled,
            switcher: Arc::new(Switcher::new(judge.clone(), Keeper::from_environment())),
            judge,
            tell: Arc::default(),
            keeper: Keeper::from_environment(),
            programs: Arc::default(),
            notify: Arc::new(Notify::from_environment()),
        }
    }
}

impl Service {
    fn outputs_reach(&self) -> Reach {
        let (switcher, ending) = (self.switcher.clone(), self.ending.clone());
        Reach {
            board: self.board.clone(),
            telemetry: self.telemetry.clone(),
            live: self.live.clone(),
            snapshots: self.snapshots.clone(),
            wake: self.tell.wake.clone(),
            switch: Arc::new(move |switch| switcher.switch(switch)),
            stopping: Arc::new(move || ending.stopping()),
        }
    }

    /// Who is woken to end.
    fn wake(&self, captures: &Captures) {
        let own = [self.filled.clone(), self.judge.bell.clone()];
        self.ending.wake(own.into_iter().chain(captures.bells()).collect());
    }

    fn start(
        &self,
        program: Program,
        mut sources: Vec<Option<NewSource>>,
        opened: outputs::OutputList,
    ) -> Result<Crew> {
        let links = links(&program);
        let Program { engine, rules } = program;
        let reach = judge::Reach {
            lines: self.lines.clone(),
            board: self.board.clone(),
            telemetry: self.telemetry.clone(),
            live: self.live.clone(),
            tell: self.tell.clone(),
            supervisor: self.ending.supervisor.clone(),
        };
        let stage = JudgeStage::new(SystemClock(self.board.start), rules, &self.keeper.restore(), reach);
        let tell = {
            let (mail, reach) = (self.tell.clone(), self.outputs_reach());
            self.tell.install(opened);
            Stage::start(&self.ending, "outputs", move || outputs::tell(&mail, &reach))?
        };
        let judge = {
            // Until inference has ended, so that whoever waits for it gets an answer.
            let mail = self.judge.clone();
            Stage::start(&self.ending, "judge", move || judge::run(stage, &mail))?
        };
        let mut captures = Captures::new(&self.ending);
        captures.start(&links, &mut sources)?;
        self.wake(&captures);
        let infer = {
            let reach = infer::Reach {
                board: self.board.clone(),
                filled: self.filled.clone(),
                programs: self.programs.clone(),
                snapshots: self.snapshots.clone(),
                notify: self.notify.clone(),
            };
            let stage = InferStage::new(reach, self.judge.clone(), links.len());
            let (ending, supervisor) = (self.ending.clone(), self.ending.supervisor.clone());
            Stage::start(&self.ending, "inference", move || {
                infer::run(
                    stage,
                    engine,
                    move || ending.stopping(),
                    || {
                        LinesInUse::from_environment().settle();
                        // The next reload may begin.
                        supervisor.ring();
                    },
                );
            })?
        };
        Ok(Crew { captures, infer, judge, tell })
    }

    fn run(
        &self,
        path: &Path,
        config: Config,
        program: Program,
        sources: Vec<Option<NewSource>>,
        opened: outputs::OutputList,
    ) -> Result<()> {
        let links = links(&program);
        let mut crew = self.start(program, sources, opened.clone())?;
        let mut running = Running {
            path: path.to_owned(),
            config: Arc::new(config),
            links,
            filled: self.filled.clone(),
            outputs: opened,
            lines: self.lines.clone(),
            board: self.board.clone(),
            reach: self.outputs_reach(),
            changed: self.judge.bell.clone(),
        };
        let mut report = Report { at: self.board.start, inferences: 0, due: Instant::now() };
        let (mut wanted, mut reloader) = (false, Reloader::start(self.ending.supervisor.clone())?);
        while !self.ending.stopping() && !crew.infer.has_ended() && !crew.judge.has_ended() {
            wanted |= self.ending.reload_wanted();
            if let Some(result) = reloader.finished() {
                self.finish_reload(result, &mut running, &mut crew.captures);
            }
            // One at a time: what the last one opened is held until it is in use.
            if wanted && !reloader.is_busy() && self.programs.is_empty() {
                wanted = false;
                self.tell_of_reload();
                reloader.begin(running.clone());
            }
            let restored = self.restore_lines();
            if report.due <= Instant::now() {
                self.report(&mut report);
            }
            let next = [Some(report.due), restored].into_iter().flatten().min();
            self.ending.supervisor.wait(next);
        }
        self.end(crew, running)
    }

    /// Opens lines that were taken away and are back. Gives when to try again.
    fn restore_lines(&self) -> Option<Instant> {
        let (restored, failed) = self.lines.restore();
        self.telemetry.lines_restored.add(restored);
        self.telemetry.line_errors.add(failed);
        if restored > 0 {
            // They are at their safe levels, and the rules may want others.
            self.judge.bell.ring();
            self.tell.wake.ring();
        }
        self.lines.restore_at()
    }

    /// Reads the temperature, and tells systemd how things are.
    fn report(&self, last: &mut Report) {
        let telemetry = &self.telemetry;
        telemetry.temperature_celsius.set(board::temperature());
        let inferences = self.board.sum(|camera| &camera.inferences);
        let now = Instant::now();
        let (elapsed, before) = (now - last.at, last.inferences);
        *last = Report { at: now, inferences, due: now + BOARD_INTERVAL };
        if inferences == 0 {
            return;
        }
        let rate = (inferences - before) as f64 / elapsed.as_secs_f64().max(1e-3);
        let stale = self.board.stale_cameras();
        let of = if stale.is_empty() { String::new() } else { format!("{}: ", stale.join(", ")) };
        let state = if self.board.is_any_stale() { format!("{of}no frames; ") } else { String::new() };
        let latency = self.board.times(|camera| &camera.latency).quantile(0.95).as_secs_f64() * 1e3;
        let dry = if telemetry.dry_run.is_set() { "dry run; " } else { "" };
        let celsius = telemetry.temperature_celsius.value();
        let celsius = celsius.map_or_else(String::new, |celsius| format!(", {celsius:.1} °C"));
        self.notify.send(&format!(
            "STATUS={dry}{state}{rate:.1} inferences/s, latency p95 {latency:.1} ms{celsius}"
        ));
    }

    /// Whether the first frame was classified: before, the service is still starting, and READY would
    /// say otherwise.
    fn is_ready(&self) -> bool {
        self.board.sum(|camera| &camera.inferences) > 0
    }

    fn tell_of_reload(&self) {
        if self.is_ready() {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        }
    }

    fn refuse(&self, error: &anyhow::Error) {
        self.telemetry.reloads_refused.one_more();
        log::error!("reload refused, the running configuration stays: {error:#}");
        if self.is_ready() {
            self.notify.send("READY=1");
        }
    }

    fn finish_reload(&self, result: Result<Prepared>, running: &mut Running, captures: &mut Captures) {
        let prepared = result.and_then(|mut prepared| {
            captures.start(&links(&prepared.program), &mut prepared.sources)?;
            Ok(prepared)
        });
        let Prepared { config, program, sources, outputs } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(&error),
        };
        LinesInUse::from_environment().prepare(&config.text);
        running.links = links(&program);
        self.programs.put(program);
        self.filled.ring();
        captures.follow(&running.links, sources);
        self.wake(captures);
        self.tell.install(outputs.clone());
        (running.config, running.outputs) = (Arc::new(config), outputs);
        self.telemetry.reloads.one_more();
        log::info!("{}: reloaded", running.path.display());
        if self.is_ready() {
            self.notify.send("READY=1");
        }
    }

    fn end(&self, crew: Crew, running: Running) -> Result<()> {
        // Not after the inference that may be running.
        self.ending.stop();
        self.notify.send("STOPPING=1\nSTATUS=stopping");
        let mut failed = !crew.infer.join();
        self.judge.close();
        failed |= !crew.judge.join();
        self.tell.close();
        failed |= !crew.captures.end();
        crew.tell.wait(&self.ending.supervisor, Instant::now() + FLUSH);
        // The threads of the outputs reach much, so they would keep each other.
        drop(running);
        if failed || self.ending.has_failed() {
            bail!("a thread panicked; the lines are at their safe levels");
        }
        log::info!("{}", summary(&self.board));
        Ok(())
    }
}

/// Where the stages meet about each camera of a program.
fn links(program: &Program) -> Vec<Arc<CameraLink>> {
    program.engine.viewpoints.iter().map(|viewpoint| viewpoint.link.clone()).collect()
}

/// What the last report counted, and when the next one is due.
struct Report {
    at: Instant,
    inferences: u64,
    due: Instant,
}

fn summary(board: &StatusBoard) -> String {
    let latency = board.times(|camera| &camera.latency);
    let ms = |share| latency.quantile(share).as_secs_f64() * 1e3;
    format!(
        "{} frames, {} classified, {} dropped, {} corrupt; latency p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, \
         max {:.1} ms",
        board.sum(|camera| &camera.frames),
        board.sum(|camera| &camera.inferences),
        board.sum(|camera| &camera.dropped),
        board.sum(|camera| &camera.corrupt),
        ms(0.5),
        ms(0.95),
        ms(0.99),
        ms(1.0)
    )
}

/// Everything that can be checked without devices: the configuration, the model if it is
/// there, the rules against its labels. Gives what was not checked.
///
/// # Errors
/// All mistakes of the configuration, or what is wrong with the model.
pub(crate) fn check(path: &Path) -> Result<Option<PathBuf>> {
    let config = Config::load(path)?;
    if let Some(http) = &config.output.http {
        outputs::check_web(http)?;
    }
    if !config.model.exists() {
        return Ok(Some(config.model));
    }
    let model = config.load_model()?;
    infer::checked(path, &model, config.rules(path, model.labels())?)?;
    Ok(None)
}
