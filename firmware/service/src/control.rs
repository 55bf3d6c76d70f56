//! From probabilities and time to lines and events.
//!
//! Both the inference loop, with each frame, and a thread of its own, as time passes, come
//! here: a pulse ends and missing frames are noticed while the network computes, or hangs.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::lines::{InputList, LineList};
use crate::outputs::{Event, EventKind, Names};
use crate::run::{Shared, TICK, lock, report_line};
use crate::source::Frame;
use crate::switches::Switches;
use crate::triggers::{Change, Rule, Standing, Triggers};

/// The rules with what they look at and act on: what a reload replaces.
pub(crate) struct Rules {
    pub(crate) triggers: Triggers,
    /// The lines and inputs that the rules count.
    pub(crate) lines: LineList,
    pub(crate) inputs: InputList,
    pub(crate) zone: TimeZone,
    /// Without a frame for so long, the lines go to their safe levels.
    pub(crate) stale: Duration,
    /// Whether the configuration asks for dry run: the lines stay at their safe levels.
    pub(crate) dry_run: bool,
    pub(crate) names: Arc<Names>,
}

/// What somebody wants to switch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Switch {
    DryRun(bool),
    Rule { name: String, armed: bool },
}

/// Why nothing was switched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum SwitchError {
    #[error("there is no rule `{0}`")]
    NoRule(String),
    #[error("`dry_run` in [safety] is true; change the configuration and reload")]
    Configured,
}

/// What keeps a rule from acting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bars {
    /// Somebody has disarmed it.
    switch: bool,
    /// Its input is not active.
    input: bool,
    /// It is not within its hours.
    hours: bool,
}

impl Bars {
    fn of(rule: &Rule, disarmed: bool, inputs: &InputList, wall: SystemTime, zone: &TimeZone) -> Self {
        let armed = |input: usize| inputs[input].level() == Some(true);
        Self {
            switch: disarmed,
            input: !rule.armed_by.is_none_or(armed),
            hours: !rule.hours.as_ref().is_none_or(|hours| hours.contains(wall, zone)),
        }
    }

    fn any(self) -> bool {
        self.switch || self.input || self.hours
    }
}

/// How things stand with the rules, to be shown.
pub(crate) struct Standings {
    names: Arc<Names>,
    rules: Vec<(Bars, Standing)>,
    stale: bool,
    /// Switched on, asked for by the configuration.
    dry_run: (bool, bool),
    /// Since the start of the service.
    now: Duration,
}

impl Standings {
    pub(crate) fn is_dry(&self) -> bool {
        self.dry_run.0 || self.dry_run.1
    }

    pub(crate) fn is_dry_configured(&self) -> bool {
        self.dry_run.1
    }

    /// Name of each rule, whether it is active, and whether it may act.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&str, bool, bool)> {
        let rules = self.names.rules.iter().zip(&self.rules);
        rules.map(|(name, (bars, standing))| (name.as_str(), standing.active, !bars.any()))
    }

    /// The rules as `/status` shows them.
    pub(crate) fn json(&self) -> Value {
        let rules = self.names.about.rules.iter().zip(&self.rules);
        rules
            .map(|(about, (bars, standing))| {
                let mut value = about.clone();
                value["armed"] = json!(!bars.any());
                value["switched_off"] = json!(bars.switch);
                value["active"] = json!(standing.active);
                value["waits_for"] = json!(self.waits_for(*bars, *standing));
                value["ready_at_ms"] = json!(standing.ready_at.as_millis() as u64);
                value
            })
            .collect()
    }

    fn waits_for(&self, bars: Bars, standing: Standing) -> Vec<&'static str> {
        let cooling = !standing.active && standing.ready_at > self.now;
        let causes = [
            (bars.switch, "switch"),
            (bars.input, "input"),
            (bars.hours, "hours"),
            (self.stale, "frames"),
            (cooling, "cooldown"),
        ];
        let mut found: Vec<_> =
            causes.into_iter().filter(|(waits, _)| *waits).map(|(_, name)| name).collect();
        if found.is_empty() && !standing.active {
            found.push("hits");
        }
        found
    }
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
    /// Whether dry run is switched on.
    dry_run: bool,
    /// Whether each rule was disarmed by somebody.
    disarmed: Vec<bool>,
}

impl Control {
    /// Begins with the lines at their safe levels and with what was switched before.
    pub(crate) fn new(rules: Rules, switches: &Switches) -> Self {
        let disarmed: Vec<bool> =
            rules.names.rules.iter().map(|rule| switches.disarmed.contains(rule)).collect();
        for (rule, _) in rules.names.rules.iter().zip(&disarmed).filter(|(_, disarmed)| **disarmed) {
            log::warn!("rule `{rule}` is disarmed since before the restart");
        }
        let control = Self {
            changes: Vec::with_capacity(rules.names.rules.len()),
            rules,
            last: None,
            frame: (0, Instant::now()),
            stale: true,
            dry_run: switches.dry_run,
            disarmed,
        };
        if control.is_dry() {
            control.log_dry_run();
        }
        control
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
        // Whoever disarmed a rule meant what is called so.
        let disarmed = |rule: &String| {
            let old = self.rules.names.rules.iter().position(|old| old == rule);
            old.is_some_and(|old| self.disarmed[old])
        };
        self.disarmed = rules.names.rules.iter().map(disarmed).collect();
        let was_dry = self.is_dry();
        self.rules = rules;
        self.show_rules();
        if self.is_dry() != was_dry {
            self.dry_run_changed(shared);
        }
    }

    pub(crate) fn is_dry(&self) -> bool {
        self.dry_run || self.rules.dry_run
    }

    /// Switches something; lines let go at once.
    ///
    /// # Errors
    /// A rule that is not there, and a dry run that the configuration asks for.
    pub(crate) fn switch(&mut self, shared: &Shared, switch: &Switch) -> Result<(), SwitchError> {
        match switch {
            Switch::DryRun(on) => {
                if self.rules.dry_run && !on {
                    return Err(SwitchError::Configured);
                }
                let was_dry = self.is_dry();
                self.dry_run = *on;
                if self.is_dry() != was_dry {
                    self.dry_run_changed(shared);
                }
            }
            Switch::Rule { name, armed } => {
                let rule = self.rules.names.rules.iter().position(|rule| rule == name);
                let rule = rule.ok_or_else(|| SwitchError::NoRule(name.clone()))?;
                if self.disarmed[rule] != *armed {
                    return Ok(());
                }
                self.disarmed[rule] = !armed;
                log::warn!("rule `{name}` is {} now", if *armed { "armed" } else { "disarmed" });
                self.send(shared, EventKind::Switched { rule, armed: *armed }, Duration::ZERO);
                self.act(shared);
            }
        }
        Ok(())
    }

    /// What was switched and must outlive a restart.
    pub(crate) fn switches(&self) -> Switches {
        let disarmed = self.rules.names.rules.iter().zip(&self.disarmed);
        Switches {
            dry_run: self.dry_run,
            disarmed: disarmed.filter(|(_, disarmed)| **disarmed).map(|(name, _)| name.clone()).collect(),
        }
    }

    /// How things stand.
    pub(crate) fn standings(&self, now: Duration) -> Standings {
        let Rules { triggers, inputs, zone, .. } = &self.rules;
        let wall = SystemTime::now();
        let bars = triggers.rules().iter().zip(&self.disarmed);
        let bars = bars.map(|(rule, disarmed)| Bars::of(rule, *disarmed, inputs, wall, zone));
        Standings {
            names: self.rules.names.clone(),
            rules: bars.zip(triggers.standings()).collect(),
            stale: self.stale,
            dry_run: (self.dry_run, self.rules.dry_run),
            now,
        }
    }

    /// Nothing carries over from dry run to what moves wires, or back: all rules let go and start afresh.
    fn dry_run_changed(&mut self, shared: &Shared) {
        self.log_dry_run();
        self.send(shared, EventKind::DryRun(self.is_dry()), Duration::ZERO);
        let Self { rules: Rules { triggers, .. }, changes, .. } = self;
        triggers.arm(shared.start.elapsed(), |_, _| false, |change| changes.push(change));
        self.act(shared);
    }

    fn log_dry_run(&self) {
        if self.is_dry() {
            log::warn!("dry run: rules are evaluated, lines stay at their safe levels");
        } else {
            log::warn!("dry run is over: rules drive their lines again");
        }
    }

    /// Judges and drives between two frames.
    fn act(&mut self, shared: &Shared) {
        // Without frames no rule is active, and the lines are at their safe levels already.
        if !self.stale {
            self.judge(shared.start.elapsed(), None);
            self.drive(shared);
        }
        self.report(shared, Duration::ZERO);
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
        let now = shared.start.elapsed();
        self.judge(now, probabilities);
        let latency = self.drive(shared);
        if let Some(probabilities) = probabilities {
            shared.live.frame(now, frame.number, probabilities, self.rules.triggers.standings());
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
        let Self { rules: Rules { triggers, inputs, zone, .. }, changes, disarmed, .. } = self;
        let wall = SystemTime::now();
        let may_act = |index: usize, rule: &Rule| !Bars::of(rule, disarmed[index], inputs, wall, zone).any();
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
        let dry = self.is_dry();
        for (index, line) in self.rules.lines.iter().enumerate() {
            let active = if dry { line.safe_level() } else { self.rules.triggers.is_on(index) };
            match shared.lines.drive(line, active) {
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
            dry_run: self.is_dry(),
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
