//! What the judge decides, and what it is told to switch.

use super::triggers::Change;

/// What is to be done now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decisions {
    /// Whether each line is to be active, in the order of the rules' lines.
    pub(crate) levels: Vec<bool>,
    /// What happened, in this order.
    pub(crate) events: Vec<EventKind>,
    /// Rules that became active by this frame.
    pub(crate) snapshots: Vec<Change>,
}

impl Decisions {
    /// Makes room for all that one step can decide.
    pub(super) fn reserve(&mut self, lines: usize, rules: usize) {
        self.levels.reserve(lines);
        self.events.reserve(2 * rules + 2);
        self.snapshots.reserve(2 * rules);
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EventKind {
    /// A rule became active or stopped being so.
    Rule(Change),
    /// Frames have stopped coming.
    Stale,
    /// Frames come again.
    Recovered,
    /// Dry run has begun or ended.
    DryRun(bool),
    /// Somebody has armed or disarmed a rule.
    Switched { rule: usize, armed: bool },
}

/// What keeps a rule from acting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bars {
    /// Somebody has disarmed it.
    pub(crate) switch: bool,
    /// Its input is not active.
    pub(crate) input: bool,
    /// It is not within its hours.
    pub(crate) hours: bool,
}

impl Bars {
    pub(crate) fn any(self) -> bool {
        self.switch || self.input || self.hours
    }
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
    #[error("the rules did not answer in time; what was wanted may still happen")]
    Busy,
}

/// What was switched.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Switches {
    /// Whether the lines stay at their safe levels, whatever the rules say.
    pub(crate) dry_run: bool,
    /// Names of the rules that were disarmed.
    pub(crate) disarmed: Vec<String>,
}
