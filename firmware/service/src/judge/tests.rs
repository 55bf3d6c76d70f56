//! Everything that the judge decides, in a table each, with a clock that the test turns.

use std::time::{Duration, UNIX_EPOCH};

use jiff::tz::TimeZone;

use super::*;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// Monday, 2026-11-23, 12:00:00 UTC and so many milliseconds.
fn at(value: u64) -> Now {
    Now { monotonic: ms(value), wall: UNIX_EPOCH + Duration::from_hours(498_732) + ms(value) }
}

fn rule(name: &str, class: usize, line: usize) -> Rule {
    Rule {
        name: name.into(),
        classes: vec![class],
        boxes: BoxCondition::default(),
        threshold: 0.5,
        hits: 1,
        frames: 1,
        hold: ms(0),
        cooldown: ms(0),
        mode: Mode::Level,
        armed_by: None,
        hours: None,
        lines: vec![line],
    }
}

/// Rules on the lines `lamp`, safe when inactive, and `guard`, safe when active; inputs `key` and `door`.
fn rules(rules: Vec<Rule>) -> Rules {
    let line = |name: &str, safe| LineFacts { name: name.into(), safe };
    Rules {
        triggers: Triggers::new(rules),
        lines: vec![line("lamp", false), line("guard", true)],
        inputs: vec!["key".into(), "door".into()],
        zone: TimeZone::UTC,
        stale: ms(300),
        dry_run: false,
        tracking: crate::judge::Tracking::default(),
    }
}

fn two() -> Rules {
    rules(vec![rule("cat", 1, 0), rule("dog", 2, 1)])
}

fn judge(rules: Rules) -> Judge {
    Judge::new(at(0), rules, &Switches::default())
}

/// A frame that shows one class, or none.
fn seen(number: u64, class: Option<usize>) -> Observation {
    let mut scores = vec![0.0; 4];
    if let Some(class) = class {
        scores[class] = 0.75;
    }
    Observation { frame: number, arrival: ms(0), finding: Finding::Classes(scores) }
}

/// Events as short words: `cat+`, `cat-`, `stale`, `dry`, `wet`, `cat armed`.
fn words(decisions: &Decisions, names: &[&str]) -> Vec<String> {
    let word = |event: &EventKind| match event {
        EventKind::Rule(change) => format!("{}{}", names[change.rule], if change.active { '+' } else { '-' }),
        EventKind::Stale => "stale".into(),
        EventKind::Recovered => "recovered".into(),
        EventKind::DryRun(on) => if *on { "dry" } else { "wet" }.into(),
        EventKind::Switched { rule, armed } => {
            format!("{} {}", names[*rule], if *armed { "armed" } else { "disarmed" })
        }
    };
    decisions.events.iter().map(word).collect()
}

const NAMES: [&str; 2] = ["cat", "dog"];

#[test]
fn lines_are_safe_until_the_first_frame_and_follow_their_rules_then() {
    let mut judge = judge(two());
    assert!(judge.is_stale());
    assert_eq!(judge.decisions().levels, [false, true]);
    assert_eq!(judge.tick(at(1000)).levels, [false, true]);
    assert_eq!(judge.deadline(), None);
    let table = [
        (None, [false, false], vec![]),
        (Some(1), [true, false], vec!["cat+"]),
        (Some(1), [true, false], vec![]),
        (Some(2), [false, true], vec!["cat-", "dog+"]),
        (Some(0), [false, false], vec!["dog-"]),
    ];
    for (number, (class, levels, events)) in (0..).zip(table) {
        let decisions = judge.frame(at(1000 + number), &mut seen(number, class));
        assert_eq!((&decisions.levels[..], words(decisions, &NAMES)), (&levels[..], to_owned(&events)));
    }
}

fn to_owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn missing_frames_make_lines_safe_and_rules_forget() {
    let hits = |rule| Rule { hits: 2, frames: 2, ..rule };
    let mut judge = judge(rules(vec![hits(rule("cat", 1, 0)), hits(rule("dog", 2, 1))]));
    judge.frame(at(0), &mut seen(1, Some(1)));
    judge.frame(at(10), &mut seen(2, Some(1)));
    assert_eq!(judge.decisions().levels, [true, false]);
    assert_eq!(judge.deadline(), Some(ms(310)));
    assert_eq!(judge.tick(at(309)).levels, [true, false]);
    let decisions = judge.tick(at(310));
    assert_eq!((&decisions.levels[..], words(decisions, &NAMES)), (&[false, true][..], to_owned(&["stale"])));
    assert!(judge.is_stale());
    assert!(judge.tick(at(900)).events.is_empty());
    let decisions = judge.frame(at(1000), &mut seen(3, Some(1)));
    assert_eq!(words(decisions, &NAMES), ["recovered"], "one hit of two");
    assert_eq!(decisions.levels, [false, false]);
    assert_eq!(words(judge.frame(at(1010), &mut seen(4, Some(1))), &NAMES), ["cat+"]);
}

#[test]
fn a_frame_that_nobody_looked_at_only_shows_that_the_source_lives() {
    let mut judge = judge(two());
    judge.frame(at(0), &mut seen(1, Some(1)));
    let mut unseen = Observation { finding: Finding::Unseen, ..seen(2, None) };
    for now in [100, 200, 300, 400, 500] {
        let decisions = judge.frame(at(now), &mut unseen);
        assert_eq!((&decisions.levels[..], decisions.events.len()), (&[true, false][..], 0), "{now}");
    }
    assert_eq!(judge.deadline(), Some(ms(800)));
}

#[test]
fn time_alone_ends_pulses_holds_and_cooldowns_at_their_deadlines() {
    let pulse = Rule { mode: Mode::Pulse(ms(40)), ..rule("cat", 1, 0) };
    let hold = Rule { hold: ms(60), cooldown: ms(100), ..rule("dog", 2, 1) };
    let mut judge = judge(rules(vec![pulse, hold]));
    assert_eq!(judge.frame(at(0), &mut seen(1, Some(1))).levels, [true, false]);
    assert_eq!(judge.deadline(), Some(ms(40)));
    assert_eq!(judge.tick(at(39)).levels, [true, false]);
    // The end of a pulse is no event: its rule is still active.
    let decisions = judge.tick(at(40));
    assert_eq!((&decisions.levels[..], decisions.events.len()), (&[false, false][..], 0));
    judge.frame(at(50), &mut seen(2, Some(2)));
    judge.frame(at(60), &mut seen(3, None));
    assert_eq!(judge.decisions().levels, [false, true], "held");
    assert_eq!(judge.deadline(), Some(ms(110)));
    assert_eq!(words(judge.tick(at(110)), &NAMES), ["dog-"]);
    judge.frame(at(120), &mut seen(4, Some(2)));
    assert_eq!(judge.decisions().levels, [false, false], "its cooldown is until 210");
    assert_eq!(judge.deadline(), Some(ms(210)));
    assert_eq!(words(judge.tick(at(210)), &NAMES), ["dog+"]);
}

#[test]
fn an_input_arms_its_rule_and_an_unknown_one_does_not() {
    let armed = Rule { armed_by: Some(1), hold: ms(5000), ..rule("cat", 1, 0) };
    let mut judge = judge(rules(vec![armed]));
    let mut now = 0;
    for (door, on) in
        [(None, false), (Some(true), true), (None, false), (Some(true), true), (Some(false), false)]
    {
        now += 10;
        judge.set_inputs([Some(true), door].into_iter());
        judge.frame(at(now), &mut seen(now, Some(1)));
        assert_eq!(judge.decisions().levels[0], on, "{door:?}");
        let bars = judge.standings().next().unwrap().0;
        assert_eq!(bars, Bars { input: !on, ..Bars::default() });
    }
    // At once, by time alone, whatever the hold.
    judge.set_inputs([Some(true), Some(true)].into_iter());
    judge.frame(at(100), &mut seen(6, Some(1)));
    judge.set_inputs([Some(true), None].into_iter());
    assert_eq!(words(judge.tick(at(101)), &NAMES), ["cat-"]);
}

#[test]
fn hours_are_looked_at_each_second_by_the_wall_clock() {
    let window = Window::parse("12:00-12:01").unwrap();
    let hours = Hours::new(vec![window], ["mon"]);
    let mut judge = judge(Rules { stale: ms(100_000), ..rules(vec![Rule { hours, ..rule("cat", 1, 0) }]) });
    judge.frame(at(59_500), &mut seen(1, Some(1)));
    assert!(judge.decisions().levels[0]);
    assert_eq!(judge.deadline(), Some(ms(60_500)));
    assert_eq!(words(judge.tick(at(60_500)), &NAMES), ["cat-"]);
    assert!(judge.standings().next().unwrap().0.hours);
    // Jumps back, as clocks do.
    let jumped = Now { wall: at(0).wall, ..at(61_500) };
    assert!(!judge.tick(jumped).levels[0], "frames before do not count");
    assert!(judge.frame(jumped, &mut seen(2, Some(1))).levels[0]);
}

#[test]
fn dry_run_lets_go_and_nothing_carries_over_in_either_direction() {
    let toggle = Rule { mode: Mode::Toggle, ..rule("cat", 1, 0) };
    let mut judge = judge(rules(vec![toggle, rule("dog", 2, 1)]));
    judge.frame(at(0), &mut seen(1, Some(1)));
    let decisions = judge.switch(at(1), &Switch::DryRun(true)).unwrap();
    assert_eq!(words(decisions, &NAMES), ["dry", "cat-"]);
    assert_eq!(decisions.levels, [false, true]);
    // Evaluated and told, but not driven.
    let decisions = judge.frame(at(2), &mut seen(2, Some(1)));
    assert_eq!((words(decisions, &NAMES), &decisions.levels[..]), (to_owned(&["cat+"]), &[false, true][..]));
    assert!(judge.switch(at(3), &Switch::DryRun(true)).unwrap().events.is_empty(), "it is so already");
    let decisions = judge.switch(at(4), &Switch::DryRun(false)).unwrap();
    assert_eq!(
        (words(decisions, &NAMES), &decisions.levels[..]),
        (to_owned(&["wet", "cat-"]), &[false, false][..])
    );
    assert_eq!(judge.switches(), Switches::default());
}

#[test]
fn a_configured_dry_run_is_not_ended_by_switching() {
    let mut judge = judge(Rules { dry_run: true, ..two() });
    assert!(judge.is_dry() && judge.is_dry_configured());
    assert_eq!(judge.switch(at(1), &Switch::DryRun(false)), Err(SwitchError::Configured));
    judge.frame(at(2), &mut seen(1, Some(1)));
    assert_eq!(judge.decisions().levels, [false, true]);
    // Without it in the configuration it is over, unless it was switched on as well.
    for (switched, levels) in [(true, [false, true]), (false, [false, false])] {
        let mut judge = Judge::new(at(0), Rules { dry_run: true, ..two() }, &Switches::default());
        judge.frame(at(1), &mut seen(1, None));
        assert_eq!(judge.switch(at(2), &Switch::DryRun(switched)).is_ok(), switched);
        assert_eq!(judge.replace(at(3), two()).levels, levels, "{switched}");
    }
}

#[test]
fn a_disarmed_rule_lets_go_and_stays_so_over_reloads() {
    let mut judge = judge(two());
    let switch = |armed| Switch::Rule { name: "cat".into(), armed };
    judge.frame(at(0), &mut seen(1, Some(1)));
    let decisions = judge.switch(at(1), &switch(false)).unwrap();
    assert_eq!((words(decisions, &NAMES), decisions.levels[0]), (to_owned(&["cat disarmed", "cat-"]), false));
    assert!(judge.switch(at(2), &switch(false)).unwrap().events.is_empty(), "it is so already");
    assert!(!judge.frame(at(3), &mut seen(2, Some(1))).levels[0]);
    assert_eq!(judge.switches().disarmed, ["cat"]);
    // By its name, wherever it stands now.
    judge.replace(at(4), rules(vec![rule("dog", 2, 1), rule("cat", 1, 0), rule("new", 3, 0)]));
    assert_eq!(judge.switches().disarmed, ["cat"]);
    assert!(!judge.frame(at(5), &mut seen(3, Some(1))).levels[0]);
    let unknown = Switch::Rule { name: "cow".into(), armed: true };
    assert_eq!(judge.switch(at(6), &unknown), Err(SwitchError::NoRule("cow".into())));
    let restarted = Judge::new(at(0), two(), &judge.switches());
    assert_eq!(restarted.switches(), judge.switches());
}

#[test]
fn switching_without_frames_moves_nothing_and_is_told() {
    let mut judge = judge(two());
    let decisions = judge.switch(at(1), &Switch::Rule { name: "dog".into(), armed: false }).unwrap();
    assert_eq!(
        (words(decisions, &NAMES), &decisions.levels[..]),
        (to_owned(&["dog disarmed"]), &[false, true][..])
    );
    assert!(judge.standings().nth(1).unwrap().0.switch);
    let decisions = judge.switch(at(2), &Switch::DryRun(true)).unwrap();
    assert_eq!((words(decisions, &NAMES), &decisions.levels[..]), (to_owned(&["dry"]), &[false, true][..]));
}

#[test]
fn a_reload_keeps_the_states_of_rules_that_are_the_same() {
    let toggle = |line| Rule { mode: Mode::Toggle, lines: vec![line], ..rule("cat", 1, 0) };
    let mut judge = judge(rules(vec![toggle(0)]));
    judge.set_inputs([Some(true), None].into_iter());
    judge.frame(at(0), &mut seen(1, Some(1)));
    // Another line and another input come before those that there were.
    let mut moved = rules(vec![rule("dog", 2, 0), toggle(1)]);
    moved.lines = vec![LineFacts { name: "new".into(), safe: false }, moved.lines[0].clone()];
    moved.inputs = vec!["window".into(), "key".into()];
    assert_eq!(judge.replace(at(1), moved).levels, [false, true]);
    assert_eq!(judge.inputs, [None, Some(true)], "what is known of an input is known by its name");
    // The same rule with another threshold is another rule.
    let mut other = rules(vec![Rule { threshold: 0.6, ..toggle(0) }]);
    other.lines.truncate(1);
    assert_eq!(judge.replace(at(2), other).levels, [false]);
    assert!(!judge.is_stale(), "frames come all the same");
}

#[test]
fn a_picture_is_wanted_of_each_frame_that_makes_a_rule_active() {
    let both = Rule { cooldown: ms(50), ..rule("dog", 1, 1) };
    let mut judge = judge(rules(vec![rule("cat", 1, 0), both]));
    let active = |judge: &Judge| -> Vec<usize> {
        judge.decisions().snapshots.iter().map(|change| change.rule).collect()
    };
    judge.frame(at(0), &mut seen(1, Some(1)));
    assert_eq!(active(&judge), [0, 1]);
    judge.frame(at(10), &mut seen(2, Some(1)));
    assert_eq!(active(&judge), [0_usize; 0]);
    judge.frame(at(20), &mut seen(3, None));
    assert_eq!(active(&judge), [0_usize; 0]);
    judge.frame(at(30), &mut seen(4, Some(1)));
    assert_eq!(active(&judge), [0], "the other one's cooldown is not over");
    // By time: there is no frame to picture.
    assert_eq!(words(judge.tick(at(70)), &NAMES), ["dog+"]);
    assert_eq!(active(&judge), [0_usize; 0]);
}

#[test]
fn a_step_allocates_nothing() {
    let mut judge = judge(two());
    let mut frames = [seen(1, Some(1)), seen(2, Some(2)), seen(3, None)];
    let mut now = 0;
    let counts = allocation_counter::measure(|| {
        for _ in 0..100 {
            for frame in &mut frames {
                now += 1;
                judge.frame(at(now), frame);
                judge.tick(at(now));
            }
            now += 400;
            judge.tick(at(now));
        }
    });
    assert_eq!(counts.count_total, 0);
}

#[test]
fn boxes_are_followed_and_counted_whatever_is_armed_and_a_reload_keeps_the_counts() {
    use super::{BoxCondition, Crossing, Direction, Happening};

    let line = Crossing { ends: [[0.0, 0.5], [1.0, 0.5]], direction: Some(Direction::Down) };
    let boxes = BoxCondition { happening: Happening::Crosses(line), ..BoxCondition::default() };
    let rules = |cooldown| {
        let gate = Rule { name: "gate".into(), boxes: boxes.clone(), cooldown, ..rule("gate", 1, 0) };
        Rules { triggers: Triggers::new(vec![gate]), ..two() }
    };
    let mut judge = judge(rules(Duration::ZERO));
    let mut now = 0;
    // One thing after another goes down through the picture.
    let mut pass = |judge: &mut Judge| {
        let mut tracks = vec![];
        for step in 0..10 {
            now += 40;
            let top = 0.08 * step as f32;
            let thing = SeenBox { class: 1, score: 0.9, edges: [0.4, top, 0.6, top + 0.2], track: None };
            let finding = Finding::Boxes(vec![0.0; 3], vec![thing]);
            let mut frame = Observation { frame: now, arrival: Duration::from_millis(now), finding };
            judge.frame(at(now), &mut frame);
            tracks.extend(frame.finding.boxes()[0].track);
        }
        now += 2000;
        (
            tracks,
            judge.counted().map(|counted| (counted.rule, counted.class, counted.count)).collect::<Vec<_>>(),
        )
    };
    assert_eq!(pass(&mut judge), (vec![1; 8], vec![(0, 1, 1)]));
    assert_eq!(pass(&mut judge), (vec![2; 8], vec![(0, 1, 2)]));
    judge.replace(at(9000), rules(Duration::ZERO));
    assert_eq!(pass(&mut judge), (vec![3; 8], vec![(0, 1, 3)]));
    judge.replace(at(20_000), rules(Duration::from_secs(1)));
    assert_eq!(pass(&mut judge).1, [(0, 1, 1)], "another rule counts for itself");
}
