//! Rules: from what a frame shows to the state of the lines.
//!
//! Pure: the time is passed in, nothing is read or written, nothing is allocated per frame.
//!
//! A rule looks at the sum of the probabilities of its classes. A frame is a hit when that is
//! at least the threshold, and the rule is *met* while at least n of its last m frames are
//! hits. It becomes active when it is met and its cooldown is over; it stays active for the
//! hold time at least and until it is no longer met; then the cooldown begins. What a line sees of
//! that depends on the mode.

use std::time::Duration;

use heapless::Deque;

use super::boxes::BoxCondition;
use super::evidence::Place;
use super::hours::Hours;
use super::observation::Finding;
use super::points::{self, SeenPoint};
use super::things::Things;

/// Longest history of a rule, in frames.
pub(crate) const MAX_FRAMES: usize = 64;

/// What a rule does to its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On while the rule is active.
    Level,
    /// On for this long from when the rule became active.
    Pulse(Duration),
    /// Changes each time the rule becomes active.
    Toggle,
}

/// A rule, with its names resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: String,
    /// The classes whose probabilities are added, without repetition.
    pub(crate) classes: Vec<usize>,
    /// Which boxes count, of a network that finds some.
    pub(crate) boxes: BoxCondition,
    /// What the sum must reach, `0..=1`.
    pub(crate) threshold: f32,
    /// Hits needed, `1..=frames`.
    pub(crate) hits: usize,
    /// Frames looked at, `1..=MAX_FRAMES`.
    pub(crate) frames: usize,
    /// Least time active.
    pub(crate) hold: Duration,
    /// Least time from the end of one activity to the next.
    pub(crate) cooldown: Duration,
    /// What the lines see.
    pub(crate) mode: Mode,
    /// Index of the input without which it does not act.
    pub(crate) armed_by: Option<usize>,
    /// When it acts; `None` is always.
    pub(crate) hours: Option<Hours>,
    /// Indices of the lines it acts on.
    pub(crate) lines: Vec<usize>,
}

/// A rule became active or stopped being so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    /// Index of the rule.
    pub(crate) rule: usize,
    /// Whether it became active.
    pub(crate) active: bool,
    /// The most probable of the rule's classes in the latest frame.
    pub(crate) class: usize,
    /// The sum of its classes' probabilities in the latest frame, up to 1.
    pub(crate) score: f32,
    /// The likeliest box of its classes in the latest frame, `[left, top, right, bottom]` as shares of
    /// the picture.
    pub(crate) place: Option<Place>,
    /// The number of the thing that it shows, where things are followed.
    pub(crate) track: Option<u32>,
}

/// What a rule knows of the last frames, to be shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Whether it may act.
    pub(crate) armed: bool,
    pub(crate) active: bool,
    /// The sum of its classes' probabilities in the latest frame; `None` without one since it
    /// was armed.
    pub(crate) score: Option<f32>,
    /// Hits among the frames that it looks at.
    pub(crate) hits: usize,
    /// When its cooldown is over.
    pub(crate) ready_at: Duration,
}

/// How many things of a class a rule has counted since the service began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Index of the rule.
    pub(crate) rule: usize,
    pub(crate) class: usize,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Default)]
struct State {
    disarmed: bool,
    history: Deque<bool, MAX_FRAMES>,
    active_since: Option<Duration>,
    ready_at: Duration,
    pulse_until: Option<Duration>,
    toggled: bool,
    class: usize,
    score: f32,
    place: Option<Place>,
    track: Option<u32>,
    things: Things,
}

impl State {
    fn change(&self, rule: usize, active: bool) -> Change {
        Change { rule, active, class: self.class, score: self.score, place: self.place, track: self.track }
    }

    /// Forgets all but what was counted. It may act again from `ready_at` on.
    fn begin_anew(&mut self, ready_at: Duration, disarmed: bool) {
        let mut things = std::mem::take(&mut self.things);
        things.reset();
        *self = Self { disarmed, ready_at, things, ..Self::default() };
    }

    fn hits(&self) -> usize {
        self.history.iter().filter(|hit| **hit).count()
    }
}

/// All rules with their states.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    rules: Vec<Rule>,
    states: Vec<State>,
    /// Memory for points.
    surest: Vec<SeenPoint>,
}

impl Triggers {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let states = vec![State::default(); rules.len()];
        Self { rules, states, surest: vec![] }
    }

    /// Takes over the states of the rules that are the same in `old`, whose lines and inputs
    /// have these indices now, or none.
    pub(crate) fn inherit(
        &mut self,
        old: &Self,
        line: impl Fn(usize) -> Option<usize>,
        input: impl Fn(usize) -> Option<usize>,
    ) {
        for (other, known) in old.rules.iter().zip(&old.states) {
            let mut other = other.clone();
            let lines: Option<Vec<usize>> = other.lines.iter().map(|index| line(*index)).collect();
            let Some(lines) = lines else { continue };
            let armed_by = other.armed_by.map(&input);
            if armed_by == Some(None) {
                continue;
            }
            (other.lines, other.armed_by) = (lines, armed_by.flatten());
            if let Some(same) = self.rules.iter().position(|rule| *rule == other) {
                self.states[same] = known.clone();
            }
        }
    }

    /// Forgets everything, as if just started, but for running cooldowns.
    pub(crate) fn reset(&mut self) {
        for state in &mut self.states {
            state.begin_anew(state.ready_at, state.disarmed);
        }
    }

    /// Arms the rules that may act now and disarms the others. A rule that is disarmed forgets
    /// its frames and is no longer active, whatever its hold; its cooldown begins.
    pub(crate) fn arm(
        &mut self,
        now: Duration,
        may_act: impl Fn(usize, &Rule) -> bool,
        mut report: impl FnMut(Change),
    ) {
        for (index, (rule, state)) in self.rules.iter().zip(&mut self.states).enumerate() {
            let disarmed = !may_act(index, rule);
            if disarmed && !state.disarmed {
                let was_active = state.active_since.is_some();
                if was_active {
                    report(state.change(index, false));
                }
                let ready_at = if was_active { now + rule.cooldown } else { state.ready_at };
                state.begin_anew(ready_at, true);
            }
            state.disarmed = disarmed;
        }
    }

    /// Takes what a frame shows and reports what changed.
    pub(crate) fn frame(&mut self, now: Duration, finding: &Finding, report: impl FnMut(Change)) {
        for (rule, state) in self.rules.iter().zip(&mut self.states).filter(|(_, state)| !state.disarmed) {
            let evidence = match finding {
                Finding::Boxes(_, boxes) => {
                    Some(state.things.look(now, &rule.classes, &rule.boxes, rule.threshold, boxes))
                }
                Finding::Masks(..) => finding.share(&rule.classes, &rule.boxes.zone),
                Finding::Points(_, points) => {
                    Some(points::evidence(points, &rule.classes, &rule.boxes, &mut self.surest))
                }
                _ => finding.evidence(&rule.classes),
            };
            let Some(evidence) = evidence else { continue };
            (state.score, state.class) = (evidence.score, evidence.class);
            (state.place, state.track) = (evidence.place, evidence.track);
            while state.history.len() >= rule.frames.clamp(1, MAX_FRAMES) {
                state.history.pop_front();
            }
            // There is room: at most MAX_FRAMES - 1 are left.
            let _ = state.history.push_back(state.score >= rule.threshold);
        }
        self.advance(now, report);
    }

    /// Lets time pass: ends holds, pulses and cooldowns.
    pub(crate) fn advance(&mut self, now: Duration, mut report: impl FnMut(Change)) {
        for (index, (rule, state)) in self.rules.iter().zip(&mut self.states).enumerate() {
            let met = state.hits() >= rule.hits.max(1);
            match state.active_since {
                None if met && now >= state.ready_at => {
                    state.active_since = Some(now);
                    state.toggled = !state.toggled;
                    if let Mode::Pulse(length) = rule.mode {
                        state.pulse_until = Some(now + length);
                    }
                    report(state.change(index, true));
                }
                Some(since) if !met && now >= since + rule.hold => {
                    state.active_since = None;
                    state.ready_at = now + rule.cooldown;
                    report(state.change(index, false));
                }
                _ => {}
            }
            state.pulse_until = state.pulse_until.filter(|end| now < *end);
        }
    }

    /// The rules, in their order.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How each rule stands, in their order.
    pub(crate) fn standings(&self) -> impl Iterator<Item = Standing> {
        self.states.iter().map(|state| Standing {
            armed: !state.disarmed,
            active: state.active_since.is_some(),
            score: (!state.history.is_empty()).then_some(state.score),
            hits: state.hits(),
            ready_at: state.ready_at,
        })
    }

    /// How many things each rule has counted, of the classes of which there were some.
    pub(crate) fn counted(&self) -> impl Iterator<Item = Counted> {
        self.rules.iter().zip(&self.states).enumerate().flat_map(|(index, (rule, state))| {
            let counts = rule.classes.iter().zip(state.things.counts()).filter(|(_, count)| **count > 0);
            counts.map(move |(&class, &count)| Counted { rule: index, class, count })
        })
    }

    /// When [`advance`](Self::advance) has something to do even if no frame comes.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let deadlines = self.rules.iter().zip(&self.states).flat_map(|(rule, state)| {
            let met = state.hits() >= rule.hits.max(1);
            let change = match state.active_since {
                None if met => Some(state.ready_at),
                Some(since) if !met => Some(since + rule.hold),
                _ => None,
            };
            [change, state.pulse_until]
        });
        deadlines.flatten().min()
    }

    /// Whether `line` is on: one of its rules says so.
    pub(crate) fn is_on(&self, line: usize) -> bool {
        self.rules.iter().zip(&self.states).any(|(rule, state)| {
            rule.lines.contains(&line)
                && match rule.mode {
                    Mode::Level => state.active_since.is_some(),
                    Mode::Pulse(_) => state.pulse_until.is_some(),
                    Mode::Toggle => state.toggled,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn classes(scores: [f32; 3]) -> Finding {
        Finding::Classes(scores.to_vec())
    }

    fn rule() -> Rule {
        Rule {
            name: "cat".into(),
            classes: vec![1, 2],
            boxes: BoxCondition::default(),
            threshold: 0.5,
            hits: 1,
            frames: 1,
            hold: ms(0),
            cooldown: ms(0),
            mode: Mode::Level,
            armed_by: None,
            hours: None,
            lines: vec![0],
        }
    }

    #[test]
    fn a_disarmed_rule_lets_go_at_once_and_starts_afresh() {
        let table = [
            Rule { hold: ms(1000), ..rule() },
            Rule { mode: Mode::Pulse(ms(1000)), ..rule() },
            Rule { mode: Mode::Toggle, ..rule() },
        ];
        for rule in table {
            let rule = Rule { hits: 2, frames: 2, cooldown: ms(50), ..rule };
            let mut triggers = Triggers::new(vec![rule.clone()]);
            let cat = classes([0.0, 1.0, 0.0]);
            triggers.frame(ms(0), &cat, |_| ());
            triggers.frame(ms(1), &cat, |_| ());
            assert!(triggers.is_on(0), "{rule:?}");
            let mut changes = vec![];
            triggers.arm(ms(10), |_, _| false, |change| changes.push(change.active));
            triggers.frame(ms(11), &cat, |change| changes.push(change.active));
            assert_eq!((changes, triggers.is_on(0), triggers.deadline()), (vec![false], false, None));
            triggers.arm(ms(20), |_, _| true, |_| ());
            triggers.frame(ms(20), &cat, |_| ());
            assert!(!triggers.is_on(0), "frames before count");
            triggers.frame(ms(30), &cat, |_| ());
            assert_eq!(triggers.deadline(), Some(ms(60)), "cooldown from when it was disarmed");
            triggers.advance(ms(60), |_| ());
            assert!(triggers.is_on(0), "{rule:?}");
        }
    }

    /// One frame each 10 ms, `#` with the class and `.` without; gives the line after each.
    fn play(rule: Rule, frames: &str) -> String {
        let mut triggers = Triggers::new(vec![rule]);
        let mut now = ms(0);
        let step = |frame| {
            let cat = if frame == '#' { 0.4 } else { 0.1 };
            triggers.frame(now, &classes([1.0 - 2.0 * cat, cat, cat]), |_| ());
            now += ms(10);
            if triggers.is_on(0) { '#' } else { '.' }
        };
        frames.chars().map(step).collect()
    }

    #[test]
    fn what_the_line_shows() {
        let table = [
            ("level follows", rule(), "..##.#..", "..##.#.."),
            ("2 of 3", Rule { hits: 2, frames: 3, ..rule() }, ".#.#..##.", "...#...##"),
            ("hold 30 ms", Rule { hold: ms(30), ..rule() }, ".#......", ".###...."),
            ("hold is a minimum", Rule { hold: ms(20), ..rule() }, ".####...", ".####..."),
            ("cooldown 30 ms", Rule { cooldown: ms(30), ..rule() }, "#.######", "#...####"),
            ("pulse 20 ms", Rule { mode: Mode::Pulse(ms(20)), ..rule() }, ".######.#", ".##.....#"),
            ("pulse outlasts", Rule { mode: Mode::Pulse(ms(30)), ..rule() }, "#.......", "###....."),
            ("toggle", Rule { mode: Mode::Toggle, ..rule() }, ".##..#..#", ".####...#"),
            ("threshold is inclusive", Rule { threshold: 0.8, ..rule() }, ".#", ".#"),
            ("above the sum", Rule { threshold: 0.81, ..rule() }, ".#", ".."),
        ];
        for (name, rule, frames, expected) in table {
            assert_eq!(play(rule, frames), expected, "{name}");
        }
    }

    #[test]
    fn lines_are_or_of_rules_and_rules_drive_several_lines() {
        let other = Rule { name: "dog".into(), classes: vec![0], lines: vec![0, 1], ..rule() };
        let mut triggers = Triggers::new(vec![rule(), other]);
        triggers.frame(ms(0), &classes([0.0, 0.3, 0.6]), |_| ());
        assert_eq!([triggers.is_on(0), triggers.is_on(1)], [true, false]);
        triggers.frame(ms(1), &classes([0.9, 0.0, 0.1]), |_| ());
        assert_eq!([triggers.is_on(0), triggers.is_on(1)], [true, true]);
        triggers.frame(ms(2), &classes([0.4, 0.0, 0.1]), |_| ());
        assert_eq!([triggers.is_on(0), triggers.is_on(1)], [false, false]);
    }

    #[test]
    fn changes_name_the_likeliest_class_and_the_sum() {
        let mut triggers = Triggers::new(vec![rule()]);
        let mut changes = vec![];
        triggers.frame(ms(0), &classes([0.1, 0.25, 0.5]), |change| changes.push(change));
        triggers.frame(ms(0), &classes([0.1, 0.25, 0.5]), |change| changes.push(change));
        assert_eq!(
            changes,
            [Change { rule: 0, active: true, class: 2, score: 0.75, place: None, track: None }]
        );
    }

    #[test]
    fn boxes_are_counted_and_a_change_says_where_the_likeliest_is() {
        use crate::judge::SeenBox;

        let seen = |score: f32, left: f32| SeenBox {
            class: 1,
            score,
            edges: [left, 0.0, left + 0.25, 0.5],
            track: None,
        };
        let boxes = BoxCondition { count: 2, ..BoxCondition::default() };
        let mut triggers = Triggers::new(vec![Rule { boxes, ..rule() }]);
        let mut changes = vec![];
        let mut frame = |found: &[SeenBox]| {
            let finding = Finding::Boxes(vec![0.0; 3], found.to_vec());
            triggers.frame(ms(0), &finding, |change| changes.push(change));
        };
        frame(&[seen(0.9, 0.5)]);
        frame(&[seen(0.9, 0.5), seen(0.4, 0.0)]);
        frame(&[seen(0.9, 0.5), seen(0.6, 0.0)]);
        frame(&[]);
        let place = Some(Place::Box([0.5, 0.0, 0.75, 0.5]));
        let begun = Change { rule: 0, active: true, class: 1, score: 0.6, place, track: None };
        let over = Change { active: false, score: 0.0, place: None, ..begun };
        assert_eq!(changes, [begun, over]);
    }

    #[test]
    fn time_alone_ends_a_pulse_at_its_deadline() {
        let mut triggers = Triggers::new(vec![Rule { mode: Mode::Pulse(ms(25)), ..rule() }]);
        triggers.frame(ms(100), &classes([0.0, 1.0, 0.0]), |_| ());
        assert_eq!(triggers.deadline(), Some(ms(125)));
        triggers.advance(ms(124), |_| ());
        assert!(triggers.is_on(0));
        triggers.advance(ms(125), |_| ());
        assert!(!triggers.is_on(0));
        assert_eq!(triggers.deadline(), None);
    }

    #[test]
    fn a_reset_forgets_and_the_same_rule_is_inherited() {
        let toggle = Rule { mode: Mode::Toggle, ..rule() };
        let mut old = Triggers::new(vec![toggle.clone()]);
        old.frame(ms(0), &classes([0.0, 1.0, 0.0]), |_| ());
        let mut new = Triggers::new(vec![rule(), toggle]);
        new.inherit(&old, Some, Some);
        assert!(new.is_on(0));
        new.reset();
        assert!(!new.is_on(0));
        let mut changed = Triggers::new(vec![Rule { threshold: 0.6, ..rule() }]);
        changed.inherit(&old, Some, Some);
        assert!(!changed.is_on(0));
    }

    #[test]
    fn a_rule_is_the_same_when_its_lines_move_and_another_when_they_change() {
        let toggle = |line| Rule { mode: Mode::Toggle, lines: vec![line], armed_by: Some(line), ..rule() };
        let mut old = Triggers::new(vec![toggle(0)]);
        old.frame(ms(0), &classes([0.0, 1.0, 0.0]), |_| ());
        // Another line and another input were put before those that there were.
        let moved = |index| Some(index + 1);
        for (line, on) in [(1, true), (0, false)] {
            let mut new = Triggers::new(vec![toggle(line)]);
            new.inherit(&old, moved, moved);
            assert_eq!(new.is_on(line), on, "{line}");
        }
        // The line is gone.
        let mut new = Triggers::new(vec![toggle(0)]);
        new.inherit(&old, |_| None, Some);
        assert!(!new.is_on(0));
        // The input is gone, and a rule that nothing arms is another.
        let mut new = Triggers::new(vec![Rule { armed_by: None, ..toggle(0) }]);
        new.inherit(&old, Some, |_| None);
        assert!(!new.is_on(0));
    }

    proptest! {
        /// Against the definition, written down without any state but the record of frames.
        #[test]
        fn n_of_m_is_what_it_says(
            hits in prop::collection::vec(any::<bool>(), 1..200), frames in 1..=MAX_FRAMES, share in 0.0..1.0f64
        ) {
            let needed = 1 + (share * (frames - 1) as f64) as usize;
            let text: String = hits.iter().map(|hit| if *hit { '#' } else { '.' }).collect();
            let shown = play(Rule { hits: needed, frames, ..rule() }, &text);
            for (index, shown) in shown.chars().enumerate() {
                let last = &hits[(index + 1).saturating_sub(frames)..=index];
                prop_assert_eq!(shown == '#', last.iter().filter(|hit| **hit).count() >= needed);
            }
        }

        /// Whatever comes: a line is on only while its rule is armed, reports alternate, and
        /// after each arming the rule is as a new one that has seen the frames since.
        #[test]
        fn only_armed_rules_act(
            steps in prop::collection::vec((0..40u64, any::<bool>(), any::<bool>()), 1..200),
            hits in 1..4usize, kind in 0..3usize
        ) {
            let mode = [Mode::Level, Mode::Pulse(ms(30)), Mode::Toggle][kind];
            let rule = Rule { hits, frames: 4, hold: ms(25), mode, ..rule() };
            let mut triggers = Triggers::new(vec![rule.clone()]);
            let mut fresh = Triggers::new(vec![rule.clone()]);
            let (mut now, mut active) = (ms(0), false);
            for (pause, hit, armed) in steps {
                now += ms(pause);
                let mut changes = vec![];
                triggers.arm(now, |_, _| armed, |change| changes.push(change.active));
                let frame = classes([0.0, if hit { 1.0 } else { 0.0 }, 0.0]);
                triggers.frame(now, &frame, |change| changes.push(change.active));
                for change in changes {
                    prop_assert_ne!(change, active);
                    active = change;
                }
                if armed {
                    fresh.frame(now, &frame, |_| ());
                } else {
                    fresh = Triggers::new(vec![rule.clone()]);
                    prop_assert!(!active);
                }
                prop_assert_eq!(triggers.is_on(0), fresh.is_on(0));
            }
        }

        /// Whatever comes: no activity shorter than the hold, no pause shorter than the cooldown.
        #[test]
        fn hold_and_cooldown_are_kept(
            steps in prop::collection::vec((0..40u64, any::<bool>()), 1..200),
            hold in 0..100u64, cooldown in 0..100u64
        ) {
            let mut triggers =
                Triggers::new(vec![Rule { hold: ms(hold), cooldown: ms(cooldown), ..rule() }]);
            let (mut now, mut last) = (ms(0), None::<(bool, Duration)>);
            for (pause, hit) in steps {
                now += ms(pause);
                let mut changed = None;
                let cat = if hit { 1.0 } else { 0.0 };
                triggers.frame(now, &classes([0.0, cat, 0.0]), |change| changed = Some(change.active));
                if let Some(active) = changed {
                    if let Some((before, since)) = last {
                        prop_assert_ne!(before, active);
                        let least = ms(if before { hold } else { cooldown });
                        prop_assert!(now >= since + least);
                    }
                    last = Some((active, now));
                }
                prop_assert_eq!(triggers.is_on(0), last.is_some_and(|(active, _)| active));
            }
        }
    }
}
