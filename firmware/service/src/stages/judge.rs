//! The judge's stage: observations, switches and time in; lines driven, events and standings out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::mailbox::{JudgeMail, Judgement, NewRules, Request};
use crate::judge::{EventKind, Judge, Now, Switch, SwitchError, Switches};
use crate::lines::{InputList, LineList, Lines};
use crate::live::Live;
use crate::names::SharedNames;
use crate::outputs::{Event, TellMail};
use crate::status::{Judged, StatusBoard};
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

/// See the module.
pub(crate) struct JudgeStage<C> {
    clock: C,
    judge: Judge,
    lines: LineList,
    inputs: InputList,
    names: SharedNames,
    reach: Reach,
    /// Number and arrival of the last frame.
    frame: (u64, Duration),
    /// Whether a line is not known to be at the level that it should have.
    unsure: bool,
    /// Whether a line was written since the outputs were told.
    moved: bool,
    spares: Vec<Arc<Judged>>,
}

/// What the board shows before anything was judged.
pub(crate) fn unjudged(names: &SharedNames) -> Judged {
    Judged { names: names.clone(), rules: vec![], stale: true, dry_run: false, dry_run_configured: false }
}

impl<C: Clock> JudgeStage<C> {
    /// Begins with the lines at their safe levels and with what was switched before.
    pub(crate) fn new(clock: C, new: NewRules, switches: &Switches, reach: Reach) -> Self {
        let NewRules { rules, lines, inputs, names } = new;
        let judge = Judge::new(clock.now(), rules, switches);
        for rule in &judge.switches().disarmed {
            log::warn!("rule `{rule}` is disarmed since before the restart");
        }
        let stage = Self {
            clock,
            judge,
            lines,
            inputs,
            names,
            reach,
            frame: (0, Duration::ZERO),
            unsure: false,
            moved: false,
            spares: Vec::with_capacity(SPARES),
        };
        if stage.judge.is_dry() {
            log_dry_run(true);
        }
        let mut stage = stage;
        stage.reach.board.set_inputs(stage.inputs.clone());
        stage.publish();
        stage
    }

    /// Judges a frame, drives the lines, and then tells the rest.
    pub(crate) fn frame(&mut self, judgement: &mut Judgement) {
        let Judgement { observation, snapshots } = judgement;
        self.read_inputs();
        let now = self.clock.now();
        self.judge.frame(now, observation);
        let driven = self.drive();
        self.frame = (observation.frame, observation.arrival);
        let latency = driven.saturating_sub(observation.arrival);
        snapshots.clear();
        snapshots.extend_from_slice(&self.judge.decisions().snapshots);
        if let Some(scores) = observation.finding.scores() {
            self.reach.telemetry.latency.add(latency);
            let standings = self.judge.standings().map(|(_, standing)| standing);
            self.reach.live.frame(now.monotonic, observation.frame, scores, standings);
        }
        self.tell(latency);
    }

    /// Lets time pass, and looks at the inputs.
    pub(crate) fn tick(&mut self) {
        self.read_inputs();
        self.judge.tick(self.clock.now());
        let driven = self.drive();
        self.tell(driven.saturating_sub(self.frame.1));
    }

    /// Switches something; lines let go at once.
    ///
    /// # Errors
    /// A rule that is not there, and a dry run that the configuration asks for.
    pub(crate) fn switch(&mut self, switch: &Switch) -> Result<Switches, SwitchError> {
        self.read_inputs();
        self.judge.switch(self.clock.now(), switch)?;
        self.drive();
        self.tell(Duration::ZERO);
        Ok(self.judge.switches())
    }

    /// Goes on with other rules; those that are the same keep their state.
    pub(crate) fn replace(&mut self, new: NewRules) {
        let NewRules { rules, lines, inputs, names } = new;
        self.report(self.reach.lines.install(&lines).map_err(|error| error.to_string()));
        (self.lines, self.inputs, self.names) = (lines, inputs, names);
        self.judge.replace(self.clock.now(), rules);
        self.reach.board.set_inputs(self.inputs.clone());
        // Those that were not there before are new since then.
        self.spares.clear();
        self.drive();
        self.tell(Duration::ZERO);
    }

    /// How long nothing can happen by time alone.
    pub(crate) fn quiet(&self) -> Duration {
        let now = self.clock.now().monotonic;
        let retry = self.unsure.then_some(now + RETRY);
        // An input that hangs is unknown after a while, and nobody rings for that.
        let inputs = (!self.inputs.is_empty()).then_some(now + INPUTS_PERIOD);
        let due = [self.judge.deadline(), retry, inputs].into_iter().flatten().min();
        due.map_or(LONGEST, |due| due.saturating_sub(now).min(LONGEST))
    }

    fn read_inputs(&mut self) {
        self.judge.set_inputs(self.inputs.iter().map(|input| input.level()));
    }

    /// Drives the lines. Gives the time when they show what was decided.
    fn drive(&mut self) -> Duration {
        let decided = self.clock.now().monotonic;
        let mut written = false;
        self.unsure = false;
        if self.judge.is_stale() {
            // What could not be made safe at first is tried again: nothing else would.
            let result = self.reach.lines.keep_safe().map_err(|error| error.to_string());
            self.unsure = result.is_err();
            self.report(result);
        } else {
            for (line, active) in self.lines.iter().zip(&self.judge.decisions().levels) {
                match self.reach.lines.drive(line, *active) {
                    Ok(changed) => written |= changed,
                    Err(error) => {
                        self.unsure = true;
                        self.report(Err(format!("line write failed: {error}")));
                    }
                }
            }
        }
        let now = self.clock.now().monotonic;
        if written {
            self.reach.telemetry.line_write.add(now.saturating_sub(decided));
            self.moved = true;
        }
        if self.unsure {
            self.moved = true;
            // It may have been taken away.
            self.reach.supervisor.ring();
        }
        now
    }

    /// Counts and logs what the lines refused.
    fn report(&self, result: Result<(), String>) {
        if let Err(error) = result {
            self.reach.telemetry.line_errors.one_more();
            log::error!("{error}");
        }
    }

    /// Tells what was decided, now that the lines show it.
    fn tell(&mut self, latency: Duration) {
        let telemetry = &self.reach.telemetry;
        telemetry.stale.set(self.judge.is_stale().into());
        telemetry.dry_run.set(self.judge.is_dry().into());
        // Whoever is woken by an event is to see what it says.
        self.publish();
        let telemetry = &self.reach.telemetry;
        for kind in &self.judge.decisions().events {
            let event = Event {
                kind: *kind,
                monotonic: self.clock.now().monotonic,
                wall: SystemTime::now(),
                frame: self.frame.0,
                latency: if matches!(kind, EventKind::Rule(_)) { latency } else { Duration::ZERO },
                dry_run: self.judge.is_dry(),
                names: self.names.clone(),
            };
            telemetry.events.one_more();
            if !self.reach.tell.push(event) {
                telemetry.events_lost.one_more();
            }
            match kind {
                EventKind::Rule(_) => {}
                EventKind::Stale => {
                    telemetry.stale_periods.one_more();
                    let patience = self.judge.patience().as_millis();
                    log::warn!("no frame for {patience} ms: lines are at their safe levels");
                }
                EventKind::Recovered => log::info!("frames come again"),
                EventKind::DryRun(on) => log_dry_run(*on),
                EventKind::Switched { rule, armed } => {
                    let name = self.names.rule(*rule).unwrap_or_default();
                    log::warn!("rule `{name}` is {} now", if *armed { "armed" } else { "disarmed" });
                }
            }
        }
        if std::mem::take(&mut self.moved) {
            // There are changes without an event, such as the end of a pulse.
            self.reach.tell.wake.ring();
        }
    }

    /// Puts up how things stand, if that has changed.
    fn publish(&mut self) {
        let mut judged = self.spare();
        // It is nobody else's: `spare` gives no other.
        let Some(shown) = Arc::get_mut(&mut judged) else { return };
        shown.rules.clear();
        shown.rules.extend(self.judge.standings());
        shown.names.clone_from(&self.names);
        shown.stale = self.judge.is_stale();
        shown.dry_run = self.judge.is_dry();
        shown.dry_run_configured = self.judge.is_dry_configured();
        let old = self.reach.board.publish(judged);
        if self.spares.len() < SPARES {
            self.spares.push(old);
        }
    }

    /// Standings that nobody looks at any more, or new ones.
    fn spare(&mut self) -> Arc<Judged> {
        let unused = self.spares.iter_mut().position(|spare| Arc::get_mut(spare).is_some());
        match unused {
            Some(index) => self.spares.swap_remove(index),
            None => Arc::new(unjudged(&self.names)),
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
