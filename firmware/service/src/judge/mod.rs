//! The judge: from observations, inputs and time to levels of lines, events and snapshots.
//!
//! Pure: it has no clock, holds no lock, opens nothing and writes nothing; time, levels of inputs and
//! what people switch are passed in, and what is to be done comes out as [`Decisions`]. It allocates
//! nothing per frame. Who drives the lines and tells the rest is the stage around it.

mod boxes;
mod crossing;
mod decisions;
mod evidence;
mod hours;
mod masks;
mod observation;
mod panel;
mod points;
mod seen;
mod things;
mod tracker;
mod triggers;

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;

pub(crate) use self::boxes::{BoxCondition, Happening, MOST_CORNERS};
pub(crate) use self::crossing::{Crossing, Direction};
pub(crate) use self::decisions::{Bars, Decisions, EventKind, Switch, SwitchError, Switches};
pub(crate) use self::evidence::Place;
pub(crate) use self::hours::{Hours, Window, local_zone};
pub(crate) use self::masks::SeenMask;
pub(crate) use self::observation::{Finding, Observation};
pub(crate) use self::panel::Panel;
pub(crate) use self::points::SeenPoint;
pub(crate) use self::seen::SeenBox;
use self::tracker::Tracker;
pub(crate) use self::tracker::Tracking;
pub(crate) use self::triggers::{Change, Counted, MAX_FRAMES, Mode, Rule, Standing, Triggers};

/// How often hours are looked at again: the wall clock may jump.
const HOURS_PERIOD: Duration = Duration::from_secs(1);

/// A moment, by the two clocks that there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Now {
    /// Since the start of the service; never jumps.
    pub(crate) monotonic: Duration,
    /// For active hours alone.
    pub(crate) wall: SystemTime,
}

/// What the judge must know of a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineFacts {
    pub(crate) name: String,
    /// Whether the line is active at its safe level.
    pub(crate) safe: bool,
}

/// The rules with what they look at and act on: what a reload replaces.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) triggers: Triggers,
    /// The lines that the rules count.
    pub(crate) lines: Vec<LineFacts>,
    /// Names of the inputs that the rules count.
    pub(crate) inputs: Vec<String>,
    pub(crate) zone: TimeZone,
    /// Without a frame for so long, the lines go to their safe levels.
    pub(crate) stale: Duration,
    /// Whether the configuration asks for dry run: the lines stay at their safe levels.
    pub(crate) dry_run: bool,
    /// How things are followed from frame to frame.
    pub(crate) tracking: Tracking,
}

/// Rules with the state that outlives them.
#[derive(Debug)]
pub(crate) struct Judge {
    rules: Rules,
    /// When the last frame was judged.
    last: Option<Duration>,
    /// Whether the lines are left at their safe levels.
    stale: bool,
    /// Whether dry run is switched on.
    dry_run: bool,
    /// Whether each rule was disarmed by somebody.
    disarmed: Vec<bool>,
    /// What is followed from frame to frame.
    tracker: Tracker,
    /// The level of each input; `None` while it is unknown.
    inputs: Vec<Option<bool>>,
    /// What kept each rule from acting when it was last looked at, and when that was.
    bars: Vec<Bars>,
    looked: Duration,
    changes: Vec<Change>,
    decisions: Decisions,
}

impl Judge {
    /// Begins without frames, so with the lines at their safe levels, and with what was switched before.
    pub(crate) fn new(now: Now, rules: Rules, switches: &Switches) -> Self {
        let names = rules.triggers.rules().iter().map(|rule| &rule.name);
        let mut judge = Self {
            disarmed: names.map(|rule| switches.disarmed.contains(rule)).collect(),
            tracker: Tracker::new(rules.tracking),
            inputs: vec![None; rules.inputs.len()],
            rules,
            last: None,
            stale: true,
            dry_run: switches.dry_run,
            bars: vec![],
            looked: now.monotonic,
            changes: vec![],
            decisions: Decisions::default(),
        };
        judge.make_room();
        judge.look(now);
        judge.decide();
        judge
    }

    /// Takes the levels of the inputs, in the order of the rules' inputs. They count from the next
    /// frame, tick or switch on.
    pub(crate) fn set_inputs(&mut self, levels: impl Iterator<Item = Option<bool>>) {
        for (known, level) in self.inputs.iter_mut().zip(levels) {
            *known = level;
        }
    }

    /// Judges a frame, and says of its boxes which things they show.
    pub(crate) fn frame(&mut self, now: Now, observation: &mut Observation) -> &Decisions {
        self.begin();
        let first = self.last.replace(now.monotonic).is_none();
        if std::mem::take(&mut self.stale) && !first {
            self.decisions.events.push(EventKind::Recovered);
        }
        if let Some(boxes) = observation.finding.boxes_mut() {
            self.tracker.follow(observation.arrival, boxes);
        }
        self.judge(now, Some(&observation.finding));
        self.report();
        if observation.finding != Finding::Unseen {
            self.decisions.snapshots.extend(self.changes.iter().filter(|change| change.active));
        }
        self.decide();
        &self.decisions
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Now) -> &Decisions {
        self.begin();
        let overdue = |last: Duration| now.monotonic.saturating_sub(last) >= self.rules.stale;
        if self.stale {
            self.look(now);
        } else if self.last.is_some_and(overdue) {
            self.stale = true;
            self.rules.triggers.reset();
            self.tracker.reset();
            self.look(now);
            self.decisions.events.push(EventKind::Stale);
        } else {
            self.judge(now, None);
            self.report();
        }
        self.decide();
        &self.decisions
    }

    /// Switches something; lines let go at once.
    ///
    /// # Errors
    /// A rule that is not there, and a dry run that the configuration asks for.
    pub(crate) fn switch(&mut self, now: Now, switch: &Switch) -> Result<&Decisions, SwitchError> {
        match switch {
            Switch::DryRun(on) => {
                if self.rules.dry_run && !on {
                    return Err(SwitchError::Configured);
                }
                self.begin();
                let was_dry = self.is_dry();
                self.dry_run = *on;
                if self.is_dry() != was_dry {
                    self.dry_run_changed(now);
                }
            }
            Switch::Rule { name, armed } => {
                let rule = self.rules.triggers.rules().iter().position(|rule| rule.name == *name);
                let rule = rule.ok_or_else(|| SwitchError::NoRule(name.clone()))?;
                self.begin();
                if self.disarmed[rule] == *armed {
                    self.disarmed[rule] = !armed;
                    self.decisions.events.push(EventKind::Switched { rule, armed: *armed });
                    self.judge_between_frames(now);
                }
            }
        }
        self.decide();
        Ok(&self.decisions)
    }

    /// Goes on with other rules; those that are the same keep their state, and who was disarmed
    /// stays so: whoever disarmed a rule meant what is called so.
    pub(crate) fn replace(&mut self, now: Now, mut rules: Rules) -> &Decisions {
        self.begin();
        let old = &self.rules;
        let line = |index: usize| rules.lines.iter().position(|line| line.name == old.lines[index].name);
        let input = |index: usize| rules.inputs.iter().position(|input| *input == old.inputs[index]);
        rules.triggers.inherit(&old.triggers, line, input);
        let disarmed = |rule: &Rule| {
            let known = old.triggers.rules().iter().position(|other| other.name == rule.name);
            known.is_some_and(|known| self.disarmed[known])
        };
        self.disarmed = rules.triggers.rules().iter().map(disarmed).collect();
        let level = |name: &String| {
            let known = old.inputs.iter().position(|other| other == name);
            known.and_then(|known| self.inputs[known])
        };
        self.inputs = rules.inputs.iter().map(level).collect();
        let was_dry = self.is_dry();
        self.rules = rules;
        self.tracker.set(self.rules.tracking);
        self.make_room();
        self.look(now);
        if self.is_dry() != was_dry {
            self.dry_run_changed(now);
        }
        self.decide();
        &self.decisions
    }

    /// When [`tick`](Self::tick) has something to do even if no frame comes; `None` is never.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let timed = self.rules.triggers.rules().iter().any(|rule| rule.hours.is_some());
        let hours = timed.then_some(self.looked + HOURS_PERIOD);
        if self.stale {
            return hours;
        }
        let stale = self.last.map(|last| last + self.rules.stale);
        [hours, stale, self.rules.triggers.deadline()].into_iter().flatten().min()
    }

    /// Whether there is a rule of this name.
    pub(crate) fn has_rule(&self, name: &str) -> bool {
        self.rules.triggers.rules().iter().any(|rule| rule.name == name)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether the lines stay at their safe levels, whatever the rules say.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry_run || self.rules.dry_run
    }

    /// Whether the configuration asks for that.
    pub(crate) fn is_dry_configured(&self) -> bool {
        self.rules.dry_run
    }

    /// Without a frame for so long, the lines go to their safe levels.
    pub(crate) fn patience(&self) -> Duration {
        self.rules.stale
    }

    /// What was decided last.
    pub(crate) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// How each rule stands, in their order, and what kept it from acting when it was last looked at.
    pub(crate) fn standings(&self) -> impl Iterator<Item = (Bars, Standing)> {
        self.bars.iter().copied().zip(self.rules.triggers.standings())
    }

    /// How many things each rule has counted.
    pub(crate) fn counted(&self) -> impl Iterator<Item = Counted> {
        self.rules.triggers.counted()
    }

    /// What was switched and must outlive a restart.
    pub(crate) fn switches(&self) -> Switches {
        let disarmed = self.rules.triggers.rules().iter().zip(&self.disarmed);
        Switches {
            dry_run: self.dry_run,
            disarmed: disarmed
                .filter(|(_, disarmed)| **disarmed)
                .map(|(rule, _)| rule.name.clone())
                .collect(),
        }
    }

    /// Room for all that one step can decide, so that none allocates.
    fn make_room(&mut self) {
        let rules = self.rules.triggers.rules().len();
        self.bars.clear();
        self.bars.resize(rules, Bars::default());
        // A rule may be disarmed and, in the same step, another change may follow.
        self.changes.reserve(2 * rules);
        self.decisions.reserve(self.rules.lines.len(), rules);
    }

    fn begin(&mut self) {
        self.changes.clear();
        self.decisions.events.clear();
        self.decisions.snapshots.clear();
    }

    /// Looks what keeps rules from acting.
    fn look(&mut self, now: Now) {
        let Rules { triggers, zone, .. } = &self.rules;
        for (index, rule) in triggers.rules().iter().enumerate() {
            let armed = |input: usize| self.inputs.get(input) == Some(&Some(true));
            self.bars[index] = Bars {
                switch: self.disarmed[index],
                input: !rule.armed_by.is_none_or(armed),
                hours: !rule.hours.as_ref().is_none_or(|hours| hours.contains(now.wall, zone)),
            };
        }
        self.looked = now.monotonic;
    }

    fn judge(&mut self, now: Now, finding: Option<&Finding>) {
        self.look(now);
        let Self { rules: Rules { triggers, .. }, changes, bars, .. } = self;
        triggers.arm(now.monotonic, |index, _| !bars[index].any(), |change| changes.push(change));
        match finding {
            Some(finding) => triggers.frame(now.monotonic, finding, |change| changes.push(change)),
            None => triggers.advance(now.monotonic, |change| changes.push(change)),
        }
    }

    /// Judges what was switched. Without frames no rule is active, and the lines are at their safe
    /// levels already.
    fn judge_between_frames(&mut self, now: Now) {
        if self.stale {
            self.look(now);
        } else {
            self.judge(now, None);
        }
        self.report();
    }

    /// Nothing carries over from dry run to what moves wires, or back: all rules let go and start afresh.
    fn dry_run_changed(&mut self, now: Now) {
        self.decisions.events.push(EventKind::DryRun(self.is_dry()));
        let Self { rules: Rules { triggers, .. }, changes, .. } = self;
        triggers.arm(now.monotonic, |_, _| false, |change| changes.push(change));
        self.judge_between_frames(now);
    }

    fn report(&mut self) {
        self.decisions.events.extend(self.changes.iter().copied().map(EventKind::Rule));
    }

    fn decide(&mut self) {
        let Self { rules: Rules { triggers, lines, .. }, decisions, .. } = self;
        let safe = self.stale || self.dry_run || self.rules.dry_run;
        decisions.levels.clear();
        for (index, line) in lines.iter().enumerate() {
            decisions.levels.push(if safe { line.safe } else { triggers.is_on(index) });
        }
    }
}

#[cfg(test)]
mod tests;
