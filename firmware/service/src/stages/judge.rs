//! The judge's stage: observations, switches and time in; lines driven, events and standings out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::mailbox::{CameraRules, JudgeMail, Judgement, NewRules, Request};
use crate::judge::{EventKind, Judge, Now, Panel, Rules, Switch, SwitchError, Switches};
use crate::lines::{InputList, LineError, LineList, Lines};
use crate::live::Live;
use crate::names::SharedNames;
use crate::outputs::{Event, TellMail};
use crate::status::{CameraBoard, Judged, StatusBoard};
use crate::sync::Bell;
use crate::telemetry::Telemetry;

/// How soon a line that refused a level is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// How often inputs are looked at without being told.
const INPUTS_PERIOD: Duration = Duration::from_millis(500);

/// The longest wait, when nothing is due by time.
const LONGEST: Duration = Duration::from_mins(1);

/// Standings that are kept to be written into again; as many may be looked at at once without a
/// new one being made.
const SPARES: usize = 4;

/// What the time is.
pub(crate) trait Clock {
    fn now(&self) -> Now;
}

/// The clocks of this machine.
pub(crate) struct SystemClock(pub(crate) Instant);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { monotonic: self.0.elapsed(), wall: SystemTime::now() }
    }
}

/// What the stage reaches.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) lines: Arc<Lines>,
    pub(crate) board: Arc<StatusBoard>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) live: Arc<Live>,
    pub(crate) tell: Arc<TellMail>,
    /// Rung when a line was taken away and must be opened again.
    pub(crate) supervisor: Arc<Bell>,
}

/// What is told of a camera.
struct Desk {
    board: Arc<CameraBoard>,
    names: SharedNames,
    /// Number and arrival of the last frame.
    frame: (u64, Duration),
    spares: Vec<Arc<Judged>>,
}

impl Desk {
    /// A camera's desk, and its rules.
    fn new(camera: CameraRules) -> (Self, Rules) {
        let CameraRules { rules, names, board } = camera;
        (Self { board, names, frame: (0, Duration::ZERO), spares: Vec::with_capacity(SPARES) }, rules)
    }

    /// Puts up how things stand.
    fn publish(&mut self, judge: &Judge) {
        let mut judged = self.spare();
        // It is nobody else's: `spare` gives no other.
        let Some(shown) = Arc::get_mut(&mut judged) else { return };
        shown.rules.clear();
        shown.rules.extend(judge.standings());
        shown.counted.clear();
        shown.counted.extend(judge.counted());
        shown.names.clone_from(&self.names);
        shown.stale = judge.is_stale();
        shown.dry_run = judge.is_dry();
        shown.dry_run_configured = judge.is_dry_configured();
        let old = self.board.publish(judged);
        if self.spares.len() < SPARES {
            self.spares.push(old);
        }
    }

    /// Standings that nobody looks at any more, or new ones.
    fn spare(&mut self) -> Arc<Judged> {
        let unused = self.spares.iter_mut().position(|spare| Arc::get_mut(spare).is_some());
        match unused {
            Some(index) => self.spares.swap_remove(index),
            None => Arc::new(Judged::nothing_yet(&self.names)),
        }
    }
}

/// See the module.
pub(crate) struct JudgeStage<C> {
    clock: C,
    panel: Panel,
    /// One for each judge of the panel.
    desks: Vec<Desk>,
    lines: LineList,
    inputs: InputList,
    reach: Reach,
    /// Whether a line is not known to be at the level that it should have.
    unsure: bool,
    /// Whether a line was written since the outputs were told.
    moved: bool,
}

impl<C: Clock> JudgeStage<C> {
    /// Begins with the lines at their safe levels and with what was switched before.
    pub(crate) fn new(clock: C, new: NewRules, switches: &Switches, reach: Reach) -> Self {
        let NewRules { cameras, lines, inputs } = new;
        let (desks, rules) = cameras.into_iter().map(Desk::new).unzip();
        let panel = Panel::new(clock.now(), rules, switches);
        for rule in &panel.switches().disarmed {
            log::warn!("rule `{rule}` is disarmed since before the restart");
        }
        let mut stage = Self { clock, panel, desks, lines, inputs, reach, unsure: false, moved: false };
        if stage.panel.is_dry() {
            log_dry_run(true);
        }
        stage.reach.board.set_inputs(stage.inputs.clone());
        stage.publish();
        stage
    }

    /// Judges a frame, drives the lines, and then tells the rest.
    pub(crate) fn frame(&mut self, judgement: &mut Judgement) {
        let Judgement { camera, observation, snapshots } = judgement;
        self.read_inputs();
        let now = self.clock.now();
        snapshots.clear();
        let Some(decisions) = self.panel.frame(now, *camera, observation) else { return };
        snapshots.extend_from_slice(&decisions.snapshots);
        let (driven, written) = self.drive();
        let desk = &mut self.desks[*camera];
        desk.frame = (observation.frame, observation.arrival);
        let latency = driven.saturating_sub(observation.arrival);
        if let Some(written) = written {
            desk.board.telemetry.line_write.add(written);
        }
        if observation.finding.scores().is_some() {
            desk.board.telemetry.latency.add(latency);
            let standings = self.panel.judges()[*camera].standings().map(|(_, standing)| standing);
            self.reach.live.frame(*camera, now.monotonic, observation, standings);
        }
        self.tell(driven);
    }

    /// Lets time pass, and looks at the inputs.
    pub(crate) fn tick(&mut self) {
        self.read_inputs();
        self.panel.tick(self.clock.now());
        let driven = self.drive_between_frames();
        self.tell(driven);
    }

    /// Switches something; lines let go at once.
    ///
    /// # Errors
    /// A rule that is not there, and a dry run that the configuration asks for.
    pub(crate) fn switch(&mut self, switch: &Switch) -> Result<Switches, SwitchError> {
        self.read_inputs();
        self.panel.switch(self.clock.now(), switch)?;
        self.drive_between_frames();
        self.tell(Duration::ZERO);
        Ok(self.panel.switches())
    }

    /// Goes on with other cameras and rules; those that are the same keep their state.
    pub(crate) fn replace(&mut self, new: NewRules) {
        let NewRules { cameras, lines, inputs } = new;
        self.report(self.reach.lines.install(&lines));
        (self.lines, self.inputs) = (lines, inputs);
        let (mut desks, rules): (Vec<Desk>, Vec<Rules>) = cameras.into_iter().map(Desk::new).unzip();
        let before = |desk: &Desk| self.desks.iter().position(|old| Arc::ptr_eq(&old.board, &desk.board));
        let before: Vec<Option<usize>> = desks.iter().map(before).collect();
        for (desk, before) in desks.iter_mut().zip(&before) {
            desk.frame = before.map_or((0, Duration::ZERO), |before| self.desks[before].frame);
        }
        self.panel.replace(self.clock.now(), before.into_iter().zip(rules).collect());
        self.desks = desks;
        self.reach.board.set_cameras(self.desks.iter().map(|desk| desk.board.clone()).collect());
        self.reach.board.set_inputs(self.inputs.clone());
        self.drive_between_frames();
        self.tell(Duration::ZERO);
    }

    /// How long nothing can happen by time alone.
    pub(crate) fn quiet(&self) -> Duration {
        let now = self.clock.now().monotonic;
        let retry = self.unsure.then_some(now + RETRY);
        // An input that hangs is unknown after a while, and nobody rings for that.
        let inputs = (!self.inputs.is_empty()).then_some(now + INPUTS_PERIOD);
        let due = [self.panel.deadline(), retry, inputs].into_iter().flatten().min();
        due.map_or(LONGEST, |due| due.saturating_sub(now).min(LONGEST))
    }

    fn read_inputs(&mut self) {
        let inputs = &self.inputs;
        self.panel.set_inputs(|| inputs.iter().map(|input| input.level()));
    }

    /// Drives the lines. Gives the time when they show what was decided, and how long that took if any
    /// was written.
    fn drive(&mut self) -> (Duration, Option<Duration>) {
        let decided = self.clock.now().monotonic;
        let mut written = false;
        self.unsure = false;
        if self.panel.is_stale() {
            // What could not be made safe at first is tried again: nothing else would.
            let result = self.reach.lines.keep_safe();
            self.unsure = result.is_err();
            self.report(result);
        } else {
            for (line, active) in self.lines.iter().zip(self.panel.levels()) {
                match self.reach.lines.drive(line, *active) {
                    Ok(changed) => written |= changed,
                    Err(error) => {
                        self.unsure = true;
                        self.report(Err(error));
                    }
                }
            }
        }
        let now = self.clock.now().monotonic;
        self.moved |= written || self.unsure;
        if self.unsure {
            // It may have been taken away.
            self.reach.supervisor.ring();
        }
        (now, written.then(|| now.saturating_sub(decided)))
    }

    /// The same where no frame was the cause: a write counts for the first camera that was decided about.
    fn drive_between_frames(&mut self) -> Duration {
        let (driven, written) = self.drive();
        if let Some((desk, written)) = self.desks.get(self.panel.touched().start).zip(written) {
            desk.board.telemetry.line_write.add(written);
        }
        driven
    }

    /// Counts and logs what the lines refused.
    fn report(&self, result: Result<(), LineError>) {
        if let Err(error) = result {
            self.reach.telemetry.line_errors.one_more();
            log::error!("{error}");
        }
    }

    /// Tells what was decided, now that the lines show it, which they did at `driven`; zero where no
    /// frame was the cause.
    fn tell(&mut self, driven: Duration) {
        self.reach.telemetry.dry_run.set(self.panel.is_dry().into());
        // Whoever is woken by an event is to see what it says.
        self.publish();
        let mut dry_told = false;
        for camera in self.panel.touched() {
            let (judge, desk) = (&self.panel.judges()[camera], &self.desks[camera]);
            for kind in &judge.decisions().events {
                // It is all cameras'.
                if matches!(kind, EventKind::DryRun(_)) && std::mem::replace(&mut dry_told, true) {
                    continue;
                }
                self.tell_event(*kind, judge, desk, driven.saturating_sub(desk.frame.1));
            }
        }
        if std::mem::take(&mut self.moved) {
            // There are changes without an event, such as the end of a pulse.
            self.reach.tell.wake.ring();
        }
    }

    fn tell_event(&self, kind: EventKind, judge: &Judge, desk: &Desk, latency: Duration) {
        let telemetry = &self.reach.telemetry;
        let event = Event {
            kind,
            monotonic: self.clock.now().monotonic,
            wall: SystemTime::now(),
            frame: desk.frame.0,
            latency: if matches!(kind, EventKind::Rule(_)) { latency } else { Duration::ZERO },
            dry_run: judge.is_dry(),
            area: match kind {
                EventKind::Rule(change) => desk.board.area(change.class, &desk.names),
                _ => None,
            },
            names: desk.names.clone(),
        };
        telemetry.events.one_more();
        if !self.reach.tell.push(event) {
            telemetry.events_lost.one_more();
        }
        match kind {
            EventKind::Rule(_) => {}
            EventKind::Stale => {
                desk.board.telemetry.stale_periods.one_more();
                let (camera, patience) = (desk.names.prefix(), judge.patience().as_millis());
                log::warn!("{camera}no frame for {patience} ms: lines are at their safe levels");
            }
            EventKind::Recovered => log::info!("{}frames come again", desk.names.prefix()),
            EventKind::DryRun(on) => log_dry_run(on),
            EventKind::Switched { rule, armed } => {
                let name = desk.names.rule(rule).unwrap_or_default();
                log::warn!("rule `{name}` is {} now", if armed { "armed" } else { "disarmed" });
            }
        }
    }

    /// Puts up how things stand, of the cameras about whom something was decided.
    fn publish(&mut self) {
        for camera in self.panel.touched() {
            let judge = &self.panel.judges()[camera];
            self.desks[camera].board.telemetry.stale.set(judge.is_stale().into());
            self.desks[camera].publish(judge);
        }
    }
}

fn log_dry_run(on: bool) {
    if on {
        log::warn!("dry run: rules are evaluated, lines stay at their safe levels");
    } else {
        log::warn!("dry run is over: rules drive their lines again");
    }
}

/// Says that the judge answers no more, however its thread ends.
struct Leaving<'a>(&'a JudgeMail);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The thread: frames first, then requests, then time, until the mail is closed.
pub(crate) fn run<C: Clock>(mut stage: JudgeStage<C>, mail: &JudgeMail) {
    let _leaving = Leaving(mail);
    while !mail.is_closed() {
        if let Some(mut judgement) = mail.observation() {
            stage.frame(&mut judgement);
            mail.answer(judgement);
            continue;
        }
        match mail.request() {
            Some(Request::Switch(switch, answer)) => {
                // Whoever asked may have gone.
                let _ = answer.send(stage.switch(&switch));
                continue;
            }
            Some(Request::Replace(rules, bell, done)) => {
                stage.replace(*rules);
                done.store(true, Ordering::SeqCst);
                bell.ring();
                continue;
            }
            None => {}
        }
        let quiet = stage.quiet();
        mail.bell.wait(Some(Instant::now() + quiet));
        if mail.is_quiet() {
            stage.tick();
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
