//! The judge's stage without a thread: messages in, levels of wires and events out, and a clock that
//! the test turns.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use jiff::tz::TimeZone;
use resight_model_file::Labels;
use resight_status::{RuleFacts, View};

use super::*;
use crate::judge::Finding;
use crate::judge::{BoxCondition, Change, LineFacts, Mode, Observation, Rule, Rules, Triggers};
use crate::lines::{BackEnd, LineCause, LineConfig, LineError, OutputLine, WriteError};
use crate::names::Names;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// A clock that stands still until it is turned.
#[derive(Clone, Default)]
struct Turned(Rc<Cell<u64>>);

impl Clock for Turned {
    fn now(&self) -> Now {
        let monotonic = ms(self.0.get());
        Now { monotonic, wall: UNIX_EPOCH + Duration::from_hours(498_732) + monotonic }
    }
}

/// Wires, in the order in which they were opened: what was written to each, and whether they refuse.
#[derive(Default)]
struct Wires {
    written: Mutex<Vec<(String, bool)>>,
    refuse: AtomicBool,
}

struct Wire(Arc<Wires>, String);

impl OutputLine for Wire {
    fn set(&self, high: bool) -> Result<(), WriteError> {
        if self.0.refuse.load(Ordering::SeqCst) {
            return Err(WriteError { cause: LineCause::Fake("no answer"), gone: false });
        }
        self.0.written.lock().unwrap().push((self.1.clone(), high));
        Ok(())
    }
}

struct Jig {
    stage: JudgeStage<Turned>,
    clock: Turned,
    wires: Arc<Wires>,
    judgement: Judgement,
}

fn line(name: &str) -> LineConfig {
    LineConfig { name: name.into(), back_end: BackEnd::Virtual, active_low: false, safe: false }
}

/// A rule with the name of its line, for the class of the same index.
fn new_rules(lines: &Lines, names: &[&str], mode: Mode) -> NewRules {
    new_rules_of(lines, None, names, mode)
}

fn new_rules_of(lines: &Lines, camera: Option<&str>, names: &[&str], mode: Mode) -> NewRules {
    let rule = |(index, name): (usize, &&str)| Rule {
        name: (*name).to_owned(),
        classes: vec![index],
        boxes: BoxCondition::default(),
        threshold: 0.5,
        hits: 1,
        frames: 1,
        hold: ms(0),
        cooldown: ms(0),
        mode,
        armed_by: None,
        hours: None,
        lines: vec![index],
    };
    let facts = |name: &&str| RuleFacts {
        name: (*name).to_owned(),
        classes: vec![],
        class_count: 1,
        threshold: 0.5,
        hits: 1,
        frames: 1,
        mode: "level".into(),
        pulse_ms: None,
        armed_by: None,
        lines: vec![(*name).to_owned()],
        place: None,
    };
    let rules = Rules {
        triggers: Triggers::new(names.iter().enumerate().map(rule).collect()),
        lines: names.iter().map(|name| LineFacts { name: (*name).to_owned(), safe: false }).collect(),
        inputs: vec![],
        zone: TimeZone::UTC,
        stale: ms(300),
        dry_run: false,
        tracking: crate::judge::Tracking::default(),
    };
    let lines = lines.prepare(&names.iter().map(|name| line(name)).collect::<Vec<_>>()).unwrap();
    let names = Arc::new(Names {
        camera: camera.map(str::to_owned),
        model: "model".into(),
        isa: "generic",
        rules: names.iter().map(facts).collect(),
        labels: Labels::parse("names", b"a\nb\nc\n").unwrap(),
        colours: vec![],
        links: vec![],
        view: View::default(),
    });
    let board = Arc::new(CameraBoard::new(Instant::now(), &names));
    NewRules { cameras: vec![CameraRules { rules, names, board }], lines, inputs: [].into() }
}

impl Jig {
    fn new(mode: Mode) -> Self {
        let wires = Arc::new(Wires::default());
        let open = {
            let wires = wires.clone();
            move |config: &LineConfig| {
                Ok::<_, LineError>(Box::new(Wire(wires.clone(), config.name.clone())) as Box<dyn OutputLine>)
            }
        };
        let configs = [line("lamp"), line("horn")];
        let lines = Arc::new(Lines::with(Box::new(open), &configs).unwrap());
        let rules = new_rules(&lines, &["lamp", "horn"], mode);
        let telemetry = Arc::new(Telemetry::default());
        let cameras = rules.cameras.iter().map(|camera| camera.board.clone()).collect();
        let board = Arc::new(StatusBoard::new(Instant::now(), telemetry.clone(), lines.clone(), cameras));
        let reach = Reach {
            lines,
            board,
            live: Arc::new(Live::new(telemetry.clone())),
            telemetry,
            tell: Arc::default(),
            supervisor: Arc::default(),
        };
        let clock = Turned::default();
        let stage = JudgeStage::new(clock.clone(), rules, &Switches::default(), reach);
        let observation = Observation { frame: 0, arrival: ms(0), finding: Finding::Unseen };
        let jig =
            Self { stage, clock, wires, judgement: Judgement { camera: 0, observation, snapshots: vec![] } };
        jig.written();
        jig
    }

    /// A frame of this class that came so long ago.
    fn frame(&mut self, class: usize, age: u64) -> &[Change] {
        let mut scores = vec![0.0; 3];
        scores[class] = 1.0;
        self.judgement.observation.frame += 1;
        self.judgement.observation.arrival = self.stage.clock.now().monotonic.saturating_sub(ms(age));
        self.judgement.observation.finding = Finding::Classes(scores);
        self.stage.frame(&mut self.judgement);
        &self.judgement.snapshots
    }

    /// The first camera.
    fn camera(&self) -> Arc<CameraBoard> {
        self.stage.reach.board.camera(None).unwrap()
    }

    /// Other rules for the cameras that there are.
    fn replace(&mut self, names: &[&str]) {
        let mut rules = new_rules(&self.stage.reach.lines.clone(), names, Mode::Level);
        rules.cameras[0].board = self.camera();
        self.stage.replace(rules);
    }

    fn turn(&self, to: u64) {
        self.clock.0.set(to);
    }

    /// What was written to wires since the last call: `lamp+`, `lamp-`.
    fn written(&self) -> Vec<String> {
        let written = std::mem::take(&mut *self.wires.written.lock().unwrap());
        written.into_iter().map(|(wire, on)| format!("{wire}{}", if on { '+' } else { '-' })).collect()
    }

    /// Events since the last call, with their frames.
    fn events(&self) -> Vec<(String, u64)> {
        let next = || self.stage.reach.tell.pop();
        std::iter::from_fn(next)
            .map(|event| (event.json()["event"].as_str().unwrap().to_owned(), event.frame))
            .collect()
    }
}

#[test]
fn a_frame_drives_lines_and_is_told_afterwards() {
    let mut jig = Jig::new(Mode::Level);
    jig.turn(20);
    let pictured: Vec<usize> = jig.frame(0, 5).iter().map(|change| change.rule).collect();
    assert_eq!(pictured, [0]);
    assert_eq!((jig.written(), jig.events()), (vec!["lamp+".to_owned()], vec![("active".to_owned(), 1)]));
    let camera = jig.camera();
    let telemetry = &camera.telemetry;
    let latency = telemetry.latency.read();
    assert_eq!((latency.count, latency.maximum), (1, ms(5)));
    assert_eq!(telemetry.line_write.read().count, 1);
    assert!(jig.frame(0, 5).is_empty());
    assert_eq!((jig.written().len(), jig.events().len(), telemetry.line_write.read().count), (0, 0, 1));
    jig.frame(1, 0);
    assert_eq!(jig.written(), ["lamp-", "horn+"]);
    let shown = jig.camera().judged();
    assert_eq!((shown.active().collect::<Vec<_>>(), shown.stale), (vec![false, true], false));
}

#[test]
fn pulses_end_and_missing_frames_show_while_the_network_computes() {
    let mut jig = Jig::new(Mode::Pulse(ms(40)));
    jig.frame(0, 0);
    assert_eq!((jig.written(), jig.stage.quiet()), (vec!["lamp+".to_owned()], ms(40)));
    jig.turn(40);
    jig.stage.tick();
    assert_eq!((jig.written(), jig.stage.quiet()), (vec!["lamp-".to_owned()], ms(260)));
    jig.turn(50);
    jig.frame(1, 0);
    jig.turn(80);
    jig.stage.tick();
    assert_eq!(jig.written(), ["horn+"]);
    jig.events();
    jig.turn(350);
    jig.stage.tick();
    assert_eq!((jig.written(), jig.events()), (vec!["horn-".to_owned()], vec![("stale".to_owned(), 2)]));
    let camera = jig.camera();
    let telemetry = &camera.telemetry;
    assert!(telemetry.stale.is_set() && jig.camera().judged().stale);
    assert_eq!(telemetry.stale_periods.count(), 1);
    // Nothing is due by time any more.
    assert_eq!(jig.stage.quiet(), LONGEST);
    jig.turn(5000);
    jig.frame(2, 0);
    assert_eq!(jig.events()[0].0, "recovered");
    assert!(!telemetry.stale.is_set());
}

#[test]
fn a_line_that_refuses_its_safe_level_has_it_as_soon_as_it_can() {
    let mut jig = Jig::new(Mode::Level);
    jig.frame(0, 0);
    assert_eq!(jig.written(), ["lamp+"]);
    jig.wires.refuse.store(true, Ordering::SeqCst);
    jig.turn(300);
    jig.stage.tick();
    let telemetry = jig.stage.reach.telemetry.clone();
    assert_eq!((telemetry.line_errors.count(), jig.camera().telemetry.stale.is_set()), (1, true));
    assert_eq!(jig.stage.reach.lines.levels()[0].1, None, "nobody knows");
    assert_eq!(jig.stage.quiet(), RETRY);
    jig.turn(350);
    jig.stage.tick();
    assert_eq!((telemetry.line_errors.count(), jig.written().len()), (2, 0));
    jig.wires.refuse.store(false, Ordering::SeqCst);
    jig.turn(400);
    jig.stage.tick();
    assert_eq!((jig.written(), jig.stage.quiet()), (vec!["lamp-".to_owned()], LONGEST));
}

#[test]
fn a_failed_write_is_shown_and_tried_again_without_a_frame() {
    let mut jig = Jig::new(Mode::Level);
    jig.wires.refuse.store(true, Ordering::SeqCst);
    jig.frame(0, 0);
    assert_eq!(jig.stage.reach.lines.levels()[0], ("lamp".to_owned(), None));
    assert_eq!(jig.stage.quiet(), RETRY);
    jig.wires.refuse.store(false, Ordering::SeqCst);
    jig.turn(50);
    jig.stage.tick();
    assert_eq!(jig.written(), ["lamp+"]);
    assert_eq!(jig.stage.quiet(), ms(250), "until frames are missed");
}

#[test]
fn switches_act_before_they_answer_and_errors_move_nothing() {
    let mut jig = Jig::new(Mode::Level);
    jig.frame(0, 0);
    jig.written();
    jig.events();
    let switches = jig.stage.switch(&Switch::DryRun(true)).unwrap();
    assert!(switches.dry_run);
    assert_eq!(jig.written(), ["lamp-"]);
    let events: Vec<String> = jig.events().into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["dry_run", "inactive"]);
    jig.frame(0, 0);
    assert!(jig.written().is_empty() && jig.stage.reach.telemetry.dry_run.is_set());
    jig.events();
    let error = jig.stage.switch(&Switch::Rule { name: "cow".into(), armed: true });
    assert_eq!(error, Err(SwitchError::NoRule("cow".into())));
    assert!(jig.written().is_empty() && jig.events().is_empty());
}

#[test]
fn a_reload_leaves_lines_that_stay_alone_and_makes_the_others_safe() {
    let mut jig = Jig::new(Mode::Level);
    jig.frame(0, 0);
    jig.written();
    jig.replace(&["lamp", "bell"]);
    assert!(jig.written().is_empty(), "the bell is safe since it was opened");
    jig.frame(1, 0);
    assert_eq!(jig.written(), ["lamp-", "bell+"]);
    jig.replace(&["lamp"]);
    assert_eq!(jig.written(), ["bell-"]);
    assert_eq!(jig.camera().names().rules.len(), 1);
    assert_eq!(jig.camera().judged().rules.len(), 1);
}

#[test]
fn sealed_lines_stay_safe_whatever_is_judged() {
    let mut jig = Jig::new(Mode::Level);
    jig.frame(0, 0);
    jig.stage.reach.lines.seal();
    assert_eq!(jig.written(), ["lamp+", "lamp-"]);
    jig.frame(1, 0);
    jig.frame(0, 0);
    assert!(jig.written().is_empty());
}

#[test]
fn standings_that_somebody_looks_at_are_not_written_into() {
    let mut jig = Jig::new(Mode::Level);
    jig.frame(0, 0);
    let looked = jig.camera().judged();
    for class in [1, 2, 0, 1, 2, 1] {
        jig.frame(class, 0);
    }
    assert_eq!(looked.active().collect::<Vec<_>>(), [true, false]);
    assert_eq!(jig.camera().judged().active().collect::<Vec<_>>(), [false, true]);
}
