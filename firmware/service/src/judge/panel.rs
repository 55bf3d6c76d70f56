//! The judges of all cameras, and what they decide together.
//!
//! Each camera has a judge of its own, so none waits for another's frames. What they share are lines: one
//! that rules of several cameras drive is on when a rule of any of them says so, and at its safe level
//! while one of these cameras gives no frames, because nobody knows what that would show. Pure, as the
//! judges are.

use std::ops::Range;
use std::time::Duration;

use super::decisions::{Decisions, Switch, SwitchError, Switches};
use super::observation::Observation;
use super::{Judge, Now, Rules};

/// See the module.
#[derive(Debug)]
pub(crate) struct Panel {
    judges: Vec<Judge>,
    /// For each line, the cameras that have a say in it.
    owners: Vec<Vec<usize>>,
    levels: Vec<bool>,
    /// The judges that decided something in the last step.
    touched: Range<usize>,
}

impl Panel {
    /// Begins without frames, with the rules of each camera, which all count the same lines and inputs,
    /// and with what was switched before.
    pub(crate) fn new(now: Now, rules: Vec<Rules>, switches: &Switches) -> Self {
        let judges = rules.into_iter().map(|rules| Judge::new(now, rules, switches)).collect();
        let mut panel = Self { judges, owners: vec![], levels: vec![], touched: 0..0 };
        panel.share_lines();
        panel.done(0..panel.judges.len());
        panel
    }

    /// The judge of each camera.
    pub(crate) fn judges(&self) -> &[Judge] {
        &self.judges
    }

    /// Whether each line is to be active.
    pub(crate) fn levels(&self) -> &[bool] {
        &self.levels
    }

    /// The cameras about whom something was decided in the last step.
    pub(crate) fn touched(&self) -> Range<usize> {
        self.touched.clone()
    }

    /// Whether no camera gives frames, so that all lines are at their safe levels.
    pub(crate) fn is_stale(&self) -> bool {
        self.judges.iter().all(Judge::is_stale)
    }

    /// Whether the lines stay at their safe levels, whatever the rules say.
    pub(crate) fn is_dry(&self) -> bool {
        self.judges.iter().any(Judge::is_dry)
    }

    /// Takes the levels of the inputs, in the order of the rules' inputs.
    pub(crate) fn set_inputs<I: Iterator<Item = Option<bool>>>(&mut self, levels: impl Fn() -> I) {
        for judge in &mut self.judges {
            judge.set_inputs(levels());
        }
    }

    /// Judges a frame of a camera; one that is not there has none.
    pub(crate) fn frame(
        &mut self,
        now: Now,
        camera: usize,
        observation: &mut Observation,
    ) -> Option<&Decisions> {
        self.judges.get_mut(camera)?.frame(now, observation);
        self.done(camera..camera + 1);
        self.judges.get(camera).map(Judge::decisions)
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Now) {
        for judge in &mut self.judges {
            judge.tick(now);
        }
        self.done(0..self.judges.len());
    }

    /// Switches something: dry run of all cameras, or the rule of the one that has it.
    ///
    /// # Errors
    /// A rule that is not there, and a dry run that the configuration asks for.
    pub(crate) fn switch(&mut self, now: Now, switch: &Switch) -> Result<(), SwitchError> {
        let touched = match switch {
            Switch::DryRun(_) => 0..self.judges.len(),
            Switch::Rule { name, .. } => {
                let camera = self.judges.iter().position(|judge| judge.has_rule(name));
                let camera = camera.ok_or_else(|| SwitchError::NoRule(name.clone()))?;
                camera..camera + 1
            }
        };
        // They refuse for what is the same of all of them.
        for judge in &mut self.judges[touched.clone()] {
            judge.switch(now, switch)?;
        }
        self.done(touched);
        Ok(())
    }

    /// Goes on with other cameras: the rules of each, and which one it was before. A rule that somebody
    /// has disarmed stays so, whichever camera has it now.
    pub(crate) fn replace(&mut self, now: Now, cameras: Vec<(Option<usize>, Rules)>) {
        let switches = self.switches();
        let mut old: Vec<Option<Judge>> = self.judges.drain(..).map(Some).collect();
        for (before, rules) in cameras {
            let judge = match before.and_then(|index| old.get_mut(index)?.take()) {
                Some(mut judge) => {
                    judge.replace(now, rules);
                    judge
                }
                None => Judge::new(now, rules, &switches),
            };
            self.judges.push(judge);
        }
        self.share_lines();
        self.done(0..self.judges.len());
    }

    /// When [`tick`](Self::tick) has something to do even if no frame comes; `None` is never.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.judges.iter().filter_map(Judge::deadline).min()
    }

    /// What was switched and must outlive a restart.
    pub(crate) fn switches(&self) -> Switches {
        let mut all = Switches::default();
        for switches in self.judges.iter().map(Judge::switches) {
            all.dry_run |= switches.dry_run;
            all.disarmed.extend(switches.disarmed);
        }
        all
    }

    /// Who has a say in each line: those whose rules name it, or everybody where none does.
    fn share_lines(&mut self) {
        let lines = self.judges.first().map_or(0, |judge| judge.rules.lines.len());
        let names = |camera: &usize, line: usize| {
            self.judges[*camera].rules.triggers.rules().iter().any(|rule| rule.lines.contains(&line))
        };
        let owners = |line: usize| {
            let named: Vec<usize> = (0..self.judges.len()).filter(|camera| names(camera, line)).collect();
            if named.is_empty() { (0..self.judges.len()).collect() } else { named }
        };
        self.owners = (0..lines).map(owners).collect();
        self.levels.reserve(lines);
    }

    fn done(&mut self, touched: Range<usize>) {
        self.touched = touched;
        self.levels.clear();
        for (line, owners) in self.owners.iter().enumerate() {
            let judges = || owners.iter().map(|camera| &self.judges[*camera]);
            // A judge that holds it safe says so by its level.
            let held = judges().find(|judge| judge.is_stale() || judge.is_dry());
            let level = match held {
                Some(judge) => judge.decisions.levels[line],
                None => judges().any(|judge| judge.decisions.levels[line]),
            };
            self.levels.push(level);
        }
    }
}

#[cfg(test)]
#[path = "panel_tests.rs"]
mod tests;
