//! From probabilities and time to lines and events.
//!
//! Both the inference loop, with each frame, and a thread of its own, as time passes, come
//! here: a pulse ends and missing frames are noticed while the network computes, or hangs.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;

use crate::lines::{InputList, LineList};
use crate::outputs::{Event, EventKind, Names};
use crate::run::{Shared, TICK, lock, report_line};
use crate::source::Frame;
use crate::triggers::{Change, Rule, Triggers};

/// The rules with what they look at and act on: what a reload replaces.
pub(crate) struct Rules {
    pub(crate) triggers: Triggers,
    /// The lines and inputs that the rules count.
    pub(crate) lines: LineList,
    pub(crate) inputs: InputList,
    pub(crate) zone: TimeZone,
    /// Without a frame for so long, the lines go to their safe levels.
    pub(crate) stale: Duration,
    pub(crate) names: Arc<Names>,
}

/// Rules and the state that outlives them.
pub(crate) struct Control {
    rules: Rules,
    changes: Vec<Change>,
    /// When the last frame was classified, or passed on purpose.
    last: Option<Instant>,
    /// Number and arrival of the last frame.
    frame: (u64, Instant),
    /// Whether the lines are left at their safe levels.
    stale: bool,
}

impl Control {
    pub(crate) fn new(rules: Rules) -> Self {
        let changes = Vec::with_capacity(rules.names.rules.len());
        Self { rules, changes, last: None, frame: (0, Instant::now()), stale: true }
    }

    /// Goes on with other rules; those that are the same keep their state.
    pub(crate) fn replace(&mut self, shared: &Shared, mut rules: Rules) {
        let line =
            |index: usize| rules.lines.iter().position(|line| line.name() == self.rules.lines[index].name());
        let input = |index: usize| {
            rules.inputs.iter().position(|input| input.name() == self.rules.inputs[index].name())
        };
        rules.triggers.inherit(&self.rules.triggers, line, input);
        self.changes.reserve(rules.names.rules.len());
        report_line(shared, shared.lines.install(&rules.lines));
        shared.show(&rules);
        self.rules = rules;
        self.show_rules();
    }

    /// A frame was classified: `probabilities`, one per class. Without them it came, and nobody
    /// wanted to know what it shows.
    pub(crate) fn frame(&mut self, shared: &Shared, frame: &Frame, probabilities: Option<&[f32]>) {
        self.frame = (frame.number, frame.arrival);
        let first = self.last.replace(Instant::now()).is_none();
        if std::mem::take(&mut self.stale) && !first {
            log::info!("frames come again");
            self.send(shared, EventKind::Recovered, Duration::ZERO);
        }
        lock(&shared.metrics).stale = false;
        self.judge(shared.start.elapsed(), probabilities);
        let latency = self.drive(shared);
        if probabilities.is_some() {
            lock(&shared.metrics).latency.add(latency);
            if self.changes.iter().any(|change| change.active) {
                let outputs = lock(&shared.outputs).clone();
                outputs.take_snapshots(&self.changes, frame, &self.rules.names);
            }
        }
        self.report(shared, latency);
    }

    /// Lets time pass.
    fn tick(&mut self, shared: &Shared) {
        if self.stale {
            // What could not be made safe at first is tried again: nothing else would.
            return report_line(shared, shared.lines.keep_safe());
        }
        if self.last.is_some_and(|last| last.elapsed() > self.rules.stale) {
            return self.go_stale(shared);
        }
        self.judge(shared.start.elapsed(), None);
        let latency = self.drive(shared);
        self.report(shared, latency);
    }

    /// How long nothing can happen by time alone.
    fn quiet(&self, now: Duration) -> Duration {
        let due = self.rules.triggers.deadline().filter(|_| !self.stale);
        due.map_or(TICK, |due| due.saturating_sub(now).min(TICK))
    }

    fn judge(&mut self, now: Duration, probabilities: Option<&[f32]>) {
        let Self { rules: Rules { triggers, inputs, zone, .. }, changes, .. } = self;
        let wall = SystemTime::now();
        let may_act = |rule: &Rule| {
            let armed = |input: usize| inputs[input].level() == Some(true);
            rule.armed_by.is_none_or(armed)
                && rule.hours.as_ref().is_none_or(|hours| hours.contains(wall, zone))
        };
        triggers.arm(now, may_act, |change| changes.push(change));
        match probabilities {
            Some(probabilities) => triggers.frame(now, probabilities, |change| changes.push(change)),
            None => triggers.advance(now, |change| changes.push(change)),
        }
    }

    /// Drives the lines. Gives the time since the frame arrived.
    fn drive(&mut self, shared: &Shared) -> Duration {
        let decided = Instant::now();
        let mut write = None;
        for (index, line) in self.rules.lines.iter().enumerate() {
            match shared.lines.drive(line, self.rules.triggers.is_on(index)) {
                Ok(true) => write = Some(decided.elapsed()),
                Ok(false) => {}
                Err(error) => {
                    lock(&shared.metrics).line_errors += 1;
                    log::error!("line write failed: {error}");
                }
            }
        }
        if let Some(write) = write {
            lock(&shared.metrics).line_write.add(write);
        }
        self.show_rules();
        self.frame.1.elapsed()
    }

    /// Shows which rules are active.
    fn show_rules(&self) {
        for (rule, active) in self.rules.names.active.iter().enumerate() {
            active.store(self.rules.triggers.is_active(rule), std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn report(&mut self, shared: &Shared, latency: Duration) {
        for change in &self.changes {
            self.send(shared, EventKind::Rule(*change), latency);
        }
        self.changes.clear();
    }

    fn go_stale(&mut self, shared: &Shared) {
        self.stale = true;
        self.rules.triggers.reset();
        self.show_rules();
        report_line(shared, shared.lines.make_safe());
        log::warn!("no frame for {} ms: lines are at their safe levels", self.rules.stale.as_millis());
        {
            let mut metrics = lock(&shared.metrics);
            metrics.stale = true;
            metrics.stale_periods += 1;
        }
        self.send(shared, EventKind::Stale, Duration::ZERO);
    }

    pub(crate) fn send(&self, shared: &Shared, kind: EventKind, latency: Duration) {
        let event = Event {
            kind,
            monotonic: shared.start.elapsed(),
            wall: SystemTime::now(),
            frame: self.frame.0,
            latency,
            names: self.rules.names.clone(),
        };
        let lost = !shared.events.push(event);
        let mut metrics = lock(&shared.metrics);
        metrics.events += 1;
        metrics.events_lost += u64::from(lost);
    }
}

/// What the thread of time does until the end.
pub(crate) fn keep_time(shared: &Shared) {
    let mut control = lock(&shared.control);
    while !shared.stopping() {
        let quiet = control.quiet(shared.start.elapsed());
        if !quiet.is_zero() {
            (control, _) = shared.judged.wait_timeout(control, quiet).unwrap_or_else(PoisonError::into_inner);
        }
        control.tick(shared);
    }
}
