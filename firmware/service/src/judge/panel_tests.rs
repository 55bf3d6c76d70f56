//! Several cameras with lines of their own and one that they share, with a clock that the test turns.

use std::time::UNIX_EPOCH;

use jiff::tz::TimeZone;

use super::super::{BoxCondition, EventKind, Finding, LineFacts, Mode, Rule, Triggers};
use super::*;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn at(value: u64) -> Now {
    Now { monotonic: ms(value), wall: UNIX_EPOCH + ms(value) }
}

/// A camera with a rule for each of these lines of `lamp`, `horn` (safe when active) and `bell`.
fn camera(name: &str, lines: &[usize]) -> Rules {
    let rule = |line: &usize| Rule {
        name: format!("{name} {line}"),
        classes: vec![*line],
        boxes: BoxCondition::default(),
        threshold: 0.5,
        hits: 1,
        frames: 1,
        hold: ms(0),
        cooldown: ms(0),
        mode: Mode::Level,
        armed_by: None,
        hours: None,
        lines: vec![*line],
    };
    let line = |(name, safe): (&str, bool)| LineFacts { name: name.into(), safe };
    Rules {
        triggers: Triggers::new(lines.iter().map(rule).collect()),
        lines: [("lamp", false), ("horn", true), ("bell", false)].map(line).into(),
        inputs: vec![],
        zone: TimeZone::UTC,
        stale: ms(300),
        dry_run: false,
        tracking: crate::judge::Tracking::default(),
    }
}

/// `porch` drives the lamp and, as `yard` does, the horn; nobody drives the bell.
fn two() -> Panel {
    Panel::new(at(0), vec![camera("porch", &[0, 1]), camera("yard", &[1])], &Switches::default())
}

fn seen(class: Option<usize>) -> Observation {
    let mut scores = vec![0.0; 3];
    if let Some(class) = class {
        scores[class] = 1.0;
    }
    Observation { frame: 1, arrival: ms(0), finding: Finding::Classes(scores) }
}

fn events(panel: &Panel) -> Vec<(usize, EventKind)> {
    let of =
        |camera: usize| panel.judges()[camera].decisions().events.iter().map(move |kind| (camera, *kind));
    panel.touched().flat_map(of).collect()
}

#[test]
fn a_line_is_its_cameras_and_safe_until_all_of_them_give_frames() {
    let mut panel = two();
    assert_eq!((panel.levels(), panel.is_stale()), (&[false, true, false][..], true));
    panel.frame(at(10), 0, &mut seen(Some(0)));
    assert_eq!(panel.levels(), [true, true, false], "the yard has not been seen yet");
    assert!(!panel.is_stale());
    panel.frame(at(20), 1, &mut seen(None));
    assert_eq!(panel.levels(), [true, false, false]);
    panel.frame(at(30), 1, &mut seen(Some(1)));
    assert_eq!(panel.levels(), [true, true, false], "one says so");
    assert_eq!(panel.touched(), 1..2);
    panel.frame(at(40), 1, &mut seen(None));
    assert_eq!(panel.levels(), [true, false, false]);
}

#[test]
fn a_camera_that_is_lost_costs_the_others_lines_nothing() {
    let mut panel = two();
    panel.frame(at(0), 1, &mut seen(None));
    for step in 0..20 {
        panel.frame(at(step * 50), 0, &mut seen(Some(0)));
        panel.tick(at(step * 50 + 1));
        // What it shares with the lost one is safe, and what is its own goes on.
        assert_eq!(panel.levels(), [true, step * 50 >= 300, false], "{step}");
    }
    let stale: Vec<bool> = panel.judges().iter().map(Judge::is_stale).collect();
    assert_eq!((stale, panel.is_stale()), (vec![false, true], false));
    assert_eq!(panel.deadline(), Some(ms(950 + 300)), "the lost one waits for nothing");
    // It comes back, and says so of itself alone.
    panel.frame(at(1000), 1, &mut seen(None));
    assert_eq!(events(&panel), [(1, EventKind::Recovered)]);
    assert_eq!(panel.levels(), [true, false, false]);
}

#[test]
fn dry_run_is_all_cameras_and_arming_is_the_ones_that_has_the_rule() {
    let mut panel = two();
    for camera in 0..2 {
        panel.frame(at(0), camera, &mut seen(Some(1)));
    }
    assert_eq!(panel.levels(), [false, true, false]);
    let disarm = |name: &str| Switch::Rule { name: name.into(), armed: false };
    panel.switch(at(1), &disarm("yard 1")).unwrap();
    assert_eq!((panel.touched(), panel.levels()[1]), (1..2, true), "the porch still says so");
    panel.switch(at(2), &disarm("porch 1")).unwrap();
    assert!(!panel.levels()[1]);
    assert_eq!(panel.switch(at(3), &disarm("cow")), Err(SwitchError::NoRule("cow".into())));
    panel.switch(at(4), &Switch::DryRun(true)).unwrap();
    assert_eq!(panel.levels(), [false, true, false]);
    let switches = panel.switches();
    assert_eq!((switches.dry_run, switches.disarmed), (true, vec!["porch 1".into(), "yard 1".into()]));
}

#[test]
fn cameras_come_and_go_and_those_that_stay_keep_their_state() {
    let mut panel = two();
    for camera in 0..2 {
        panel.frame(at(0), camera, &mut seen(Some(camera)));
    }
    panel.switch(at(1), &Switch::Rule { name: "yard 1".into(), armed: false }).unwrap();
    assert_eq!(panel.levels(), [true, false, false]);
    // The yard first, a new one behind it, the porch as it was.
    let cameras = vec![
        (Some(1), camera("yard", &[1])),
        (None, camera("gate", &[2])),
        (Some(0), camera("porch", &[0, 1])),
    ];
    panel.replace(at(10), cameras);
    assert_eq!(panel.levels(), [true, false, false]);
    let stale: Vec<bool> = panel.judges().iter().map(Judge::is_stale).collect();
    assert_eq!(stale, [false, true, false]);
    panel.frame(at(20), 1, &mut seen(Some(2)));
    assert_eq!(panel.levels(), [true, false, true]);
    // The gate goes, and somebody else has a rule that was disarmed.
    panel.replace(at(30), vec![(Some(2), camera("porch", &[0])), (None, camera("yard", &[1]))]);
    assert_eq!(panel.levels(), [true, true, false]);
    assert_eq!(panel.switches().disarmed, ["yard 1"]);
}

#[test]
fn a_frame_of_a_camera_that_is_not_there_decides_nothing() {
    assert!(two().frame(at(0), 2, &mut seen(None)).is_none());
}
