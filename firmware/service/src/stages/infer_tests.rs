use super::super::judge::{Clock, JudgeStage, Reach as JudgeReach};
use super::*;
use crate::camera::Wanted;
use crate::frame::Frame;
use crate::judge::{Now, Switches};
use crate::lines::Lines;
use crate::live::Live;
use crate::outputs::TellMail;
use crate::status::CameraBoard;
use crate::telemetry::Telemetry;
use resight_imaging::Region;

/// The smallest network, as a model file.
fn model(folder: &Path) {
    std::fs::write(folder.join("m.tar"), resight_fixtures::TINY_MODEL).unwrap();
}

struct RealTime(Instant);

impl Clock for RealTime {
    fn now(&self) -> Now {
        Now { monotonic: self.0.elapsed(), wall: std::time::SystemTime::now() }
    }
}

/// Judges where inference runs.
struct AtOnce(JudgeStage<RealTime>);

impl Judging for AtOnce {
    fn judge(&mut self, mut judgement: Judgement) -> Option<Judgement> {
        self.0.frame(&mut judgement);
        Some(judgement)
    }

    fn replace(&mut self, rules: NewRules) {
        self.0.replace(rules);
    }
}

struct Jig {
    stage: InferStage<AtOnce>,
    engine: Engine,
    tell: Arc<TellMail>,
    reach: Reach,
}

impl Jig {
    fn new(folder: &Path, text: &str) -> Self {
        let path = folder.join("c.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let (start, filled) = (Instant::now(), Arc::new(Bell::default()));
        let link = |_: usize, names: &SharedNames| Arc::new(CameraLink::new(start, names, filled.clone()));
        let mut program = Program::load(&path, &config, link).unwrap();
        let lines = Arc::new(Lines::open(&config.lines).unwrap());
        let inputs = crate::lines::inputs(&config.inputs, &[].into(), &Arc::default()).unwrap();
        program.wire(lines.list(), inputs);
        let Program { engine, rules } = program;
        let telemetry = Arc::new(Telemetry::default());
        let cameras = rules.cameras.iter().map(|camera| camera.board.clone()).collect();
        let board = StatusBoard::new(start, telemetry.clone(), lines.clone(), cameras);
        let (board, tell) = (Arc::new(board), Arc::new(TellMail::default()));
        let judge = JudgeReach {
            lines,
            board: board.clone(),
            live: Arc::new(Live::new(telemetry.clone())),
            telemetry,
            tell: tell.clone(),
            supervisor: Arc::default(),
        };
        let judge = JudgeStage::new(RealTime(start), rules, &Switches::default(), judge);
        let reach = Reach {
            board,
            filled,
            programs: Arc::default(),
            snapshots: Arc::default(),
            notify: Arc::new(Notify::nobody()),
        };
        let stage = InferStage::new(reach.clone(), AtOnce(judge), engine.viewpoints.len());
        Self { stage, engine, tell, reach }
    }

    /// Hands over a frame of a camera.
    fn put(&self, camera: usize, frame: &mut Frame) {
        self.engine.viewpoints[camera].link.frames.put(frame);
    }

    /// What is shown of the first camera.
    fn camera(&self) -> Arc<CameraBoard> {
        self.reach.board.camera(None).unwrap()
    }

    /// Ends the pause of every camera.
    fn go_on(&mut self) {
        for viewpoint in &mut self.engine.viewpoints {
            viewpoint.memory.next = Instant::now();
        }
    }

    /// What a frame of the only camera shows.
    fn scores(&mut self, draw: impl FnOnce(&mut Frame)) -> Vec<f32> {
        draw(&mut self.engine.viewpoints[0].memory.frame);
        self.engine.classify(0).unwrap();
        self.engine.viewpoints[0].memory.scores.clone()
    }

    fn step(&mut self) -> Step {
        self.stage.step(&mut self.engine)
    }
}

fn configuration(threads: usize, format: &str, rest: &str) -> String {
    format!(
        "[model]\nfile = \"m.tar\"\nthreads = {threads}\n[source]\nkind = \"raw\"\n\
         path = \"frames\"\nformat = \"{format}\"\nwidth = 64\nheight = 48\nrepeat = true\n{rest}\
         [[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nmode = \"pulse\"\npulse_ms = 1\n"
    )
}

/// Frames of a file, one after another.
fn frames(folder: &Path, format: &str, config: &str) -> Box<dyn crate::frame::Source> {
    let pixel_format = resight_imaging::PixelFormat::from_name(format).unwrap();
    let bytes = pixel_format.frame_bytes(48, pixel_format.row_bytes(64));
    std::fs::write(folder.join("frames"), vec![100; 3 * bytes]).unwrap();
    let config = Config::parse(config, folder).unwrap();
    crate::source::open(&config.cameras[0].source, Wanted::new(32, Region::WHOLE)).unwrap().0
}

/// From the source's bytes to the lines and the event.
#[test]
fn a_frame_allocates_nothing_once_warm() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    for format in ["rgb24", "yuyv", "nv12", "rggb10"] {
        for threads in [1, 2] {
            let text = configuration(threads, format, "");
            let mut source = frames(folder.path(), format, &text);
            let mut jig = Jig::new(folder.path(), &text);
            let mut captured = Frame::new();
            let threads_of_the_loop = jig.engine.network.threads();
            let mut frame = move || {
                let next = source.next(&mut captured, Duration::from_mins(1)).unwrap();
                assert_eq!(next, crate::frame::Next::Frame);
                jig.put(0, &mut captured);
                jig.go_on();
                assert!(matches!(jig.step(), Step::Again));
                while jig.tell.pop().is_some() {}
            };
            let counts = threads_of_the_loop.enter(|| {
                (0..10).for_each(|_| frame());
                allocation_counter::measure(|| (0..200).for_each(|_| frame()))
            });
            assert_eq!(counts.count_total, 0, "{format}, {threads} threads");
        }
    }
}

#[test]
fn frames_are_classified_judged_and_shown_until_there_are_no_more() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let text = configuration(1, "rgb24", "");
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let camera = jig.camera();
    let telemetry = &camera.telemetry;
    assert!(matches!(jig.step(), Step::Wait(_)), "there is no frame");
    let mut captured = Frame::new();
    source.next(&mut captured, Duration::from_mins(1)).unwrap();
    captured.number = 7;
    jig.put(0, &mut captured);
    assert!(matches!(jig.step(), Step::Again));
    assert_eq!(telemetry.inferences.count(), 1);
    let last = jig.reach.board.figures().last.unwrap();
    assert_eq!((last.frame, last.probability > 0.0), (7, true));
    assert!(jig.camera().judged().active().all(|active| active));
    // Rubbish is counted, and nothing else.
    captured.bytes.clear();
    jig.go_on();
    jig.put(0, &mut captured);
    assert!(matches!(jig.step(), Step::Again));
    assert_eq!((telemetry.inferences.count(), telemetry.corrupt.count()), (1, 1));
    jig.engine.viewpoints[0].link.frames.close();
    assert!(matches!(jig.step(), Step::End));
}

/// The same network, as one whose classes do not exclude each other.
fn model_with_labels(folder: &Path) {
    use resight_model_file::{Archive, ArchiveBuilder, Task};
    let archive = Archive::from_bytes("m.tar", resight_fixtures::TINY_MODEL.to_vec()).unwrap();
    let mut builder = ArchiveBuilder::from(&archive);
    builder.add_task(&Task::Classes { activation: Activation::Sigmoid }).unwrap();
    std::fs::write(folder.join("m.tar"), builder.to_bytes().unwrap()).unwrap();
}

#[test]
fn of_classes_that_do_not_exclude_each_other_each_has_its_own_probability() {
    let folder = tempfile::tempdir().unwrap();
    let scores = |write: fn(&Path)| {
        write(folder.path());
        let text = configuration(1, "rgb24", "");
        let mut source = frames(folder.path(), "rgb24", &text);
        let mut jig = Jig::new(folder.path(), &text);
        let mut captured = Frame::new();
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        jig.put(0, &mut captured);
        assert!(matches!(jig.step(), Step::Again));
        jig.engine.viewpoints[0].memory.scores.clone()
    };
    let (one, each) = (scores(model), scores(model_with_labels));
    assert!((one.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    // The softmax of the same logits: exp(logit) = p / (1 - p).
    let odds: Vec<f32> = each.iter().map(|p| p / (1.0 - p)).collect();
    let sum: f32 = odds.iter().sum();
    for (one, odds) in one.iter().zip(&odds) {
        assert!((one - odds / sum).abs() < 1e-4 * one.max(1e-2), "{one}, {}", odds / sum);
    }
}

/// A network of 8 x 8 pixels whose outputs are channels of its image, in these orders.
fn model_of_channels(folder: &Path, orders: &[&[usize]], task: resight_model_file::Task, labels: &[u8]) {
    use resight_imaging::{Fit, Preprocessing};
    use resight_model_file::{Expected, Golden, Labels, Provenance};
    use resight_runtime::layers::Channels;
    use resight_runtime::tract::{DatumType, DatumTypeExt as _, SpecialOps as _, TypedModel};
    use resight_runtime::{Layers, ModelParts, Program, Sequential};

    let mut graph = TypedModel::default();
    let image = graph.add_source("image", DatumType::I8.fact([1, 8, 8, 3])).unwrap();
    let layer = |order: &[usize]| Channels { order: order.to_vec() };
    let outputs: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(index, order)| graph.wire_node(format!("o{index}"), layer(order), &[image]).unwrap()[0])
        .collect();
    graph.select_output_outlets(&outputs).unwrap();
    let layers = Layers::default();
    let input = vec![3; 8 * 8 * 3];
    let mut program = Program::compile(&graph, &layers, &Target::reference()).unwrap();
    let outputs = program.run(&Sequential, &input).unwrap();
    let expected = Expected::Tensors(outputs.iter().map(|output| output.little_endian()).collect());
    let parts = ModelParts {
        name: "red",
        layers: &layers,
        graph: &graph,
        task,
        labels: &Labels::parse("", labels).unwrap(),
        preprocessing: &Preprocessing { fit: Fit::Squash, ..Preprocessing::for_input(8, 8) },
        provenance: &Provenance {
            source: "red.onnx".into(),
            source_sha256: "0".repeat(64),
            calibration: None,
            tool: "test".into(),
        },
        report: &serde_json::Value::Null,
        golden: &[Golden { input, expected }],
    };
    std::fs::write(folder.join("m.tar"), parts.to_bytes().unwrap()).unwrap();
}

fn output_map(name: &str, activation: Option<Activation>) -> resight_model_file::OutputMap {
    resight_model_file::OutputMap { name: name.into(), scale: 0.05, zero_point: 0, activation }
}

/// One that takes what is red for a thing, green for its width and blue for its height.
fn model_of_boxes(folder: &Path) {
    use resight_model_file::{BoxDecoder, CenterNet, Task};

    let outputs = vec![output_map("heatmap", Some(Activation::Sigmoid)), output_map("size", None)];
    let centernet = CenterNet { offset: None, threshold: 0.9, overlap: 0.1, ..CenterNet::default() };
    let task = Task::Boxes { outputs, decoder: BoxDecoder::CenterNet(centernet) };
    model_of_channels(folder, &[&[0], &[1, 2]], task, b"thing\n");
}

/// A zone is a part of the frame as it comes, however it is turned for the network.
#[test]
fn masks_are_judged_by_their_share_of_a_zone_and_shown() {
    let outputs = vec![output_map("map", None)];
    let colours = vec![[9, 0, 0], [0, 9, 0], [0, 0, 9]];
    let task = resight_model_file::Task::Mask { outputs, map: "map".into(), colours };
    let folder = tempfile::tempdir().unwrap();
    model_of_channels(folder.path(), &[&[0, 1, 2]], task, b"thing red\nthing green\nthing blue\n");
    let rule = |name: &str, classes: &str, condition: &str| {
        format!("[[rule]]\nname = \"{name}\"\nclasses = [{classes}]\nthreshold = 0.9\n{condition}\n")
    };
    let zone = |left: f32, top: f32| {
        let (right, bottom) = (left + 0.5, top + 0.5);
        format!("zone = [[{left}, {top}], [{right}, {top}], [{right}, {bottom}], [{left}, {bottom}]]")
    };
    let rules = [
        rule("corner", "\"thing red\"", &zone(0.0, 0.0)),
        rule("below", "\"thing red\"", &zone(0.0, 0.5)),
        rule("beside", "\"thing red\"", &zone(0.5, 0.0)),
        rule("either", "\"thing red\", \"thing blue\"", ""),
        rule("most", "\"thing blue\"", ""),
    ];
    for rotate in [0, 90, 180, 270] {
        for mirror in [false, true] {
            let image = format!("[image]\nrotate = {rotate}\nmirror = {mirror}\n");
            let text = configuration(1, "rgb24", &format!("{image}{}", rules.concat()));
            let mut source = frames(folder.path(), "rgb24", &text);
            let mut jig = Jig::new(folder.path(), &text);
            let mut captured = Frame::new();
            let mut frame = |jig: &mut Jig| {
                source.next(&mut captured, Duration::from_mins(1)).unwrap();
                for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
                    let red = index % 64 < 32 && index / 64 < 24;
                    pixel.copy_from_slice(if red { &[250, 0, 0] } else { &[0, 0, 250] });
                }
                captured.number += 1;
                jig.put(0, &mut captured);
                jig.go_on();
                assert!(matches!(jig.step(), Step::Again));
            };
            frame(&mut jig);
            let active: Vec<bool> = jig.camera().judged().active().collect();
            assert_eq!(active[..5], [true, false, false, true, false], "{image}");
            let shown = jig.camera().masks_after(0).unwrap();
            assert_eq!((shown.frame, shown.masks.len(), shown.masks[0].size), (1, 1, [8, 8]));
            let red = |index: usize| u8::from(index % 8 >= 4 || index / 8 >= 4) * 2;
            assert_eq!(shown.masks[0].classes, (0..64).map(red).collect::<Vec<_>>(), "{image}");
            assert!(jig.camera().masks_after(1).is_none());
            let threads = jig.engine.network.threads();
            let counted = threads.enter(|| {
                (0..3).for_each(|_| frame(&mut jig));
                allocation_counter::measure(|| (0..5).for_each(|_| frame(&mut jig)))
            });
            assert_eq!(counted.count_total, 0, "{image}");
        }
    }
    // A mask has no boxes to count.
    let text = configuration(1, "rgb24", &rule("many", "\"thing red\"", "count = 2"));
    std::fs::write(folder.path().join("c.toml"), text).unwrap();
    let path = folder.path().join("c.toml");
    let link = |_: usize, _: &SharedNames| -> Arc<CameraLink> { unreachable!("refused before") };
    let error = Program::load(&path, &Config::load(&path).unwrap(), link).map(|_| ()).unwrap_err();
    let expected = "c.toml: rule `many` has `least_size`, `count`, `dwell_s` or `crossing`, which are for networks that find boxes";
    assert!(error.to_string().contains(expected), "{error}");
}

/// From the source's bytes to rules over boxes, and nothing allocated on the way.
#[test]
fn boxes_are_judged_by_their_place_size_and_number() {
    let folder = tempfile::tempdir().unwrap();
    model_of_boxes(folder.path());
    let rule = |name: &str, condition: &str| {
        format!("[[rule]]\nname = \"{name}\"\nclasses = [\"thing*\"]\nthreshold = 0.9\n{condition}\n")
    };
    let left = "zone = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]";
    let right = "zone = [[0.6, 0], [1, 0], [1, 1], [0.6, 1]]";
    let rules = [
        rule("left", left),
        rule("right", right),
        rule("several", "count = 200"),
        rule("large", "least_size = 0.1"),
        rule("huge", "least_size = 0.9"),
    ];
    let text = configuration(1, "rgb24", &rules.concat());
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let mut captured = Frame::new();
    let mut frame = |jig: &mut Jig, red: bool| {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
            let is_thing = red && (8..32).contains(&(index % 64)) && (12..36).contains(&(index / 64));
            // Three and a half cells wide and high.
            pixel.copy_from_slice(if is_thing { &[255, 198, 198] } else { &[0, 128, 128] });
        }
        captured.number += 1;
        jig.put(0, &mut captured);
        jig.go_on();
        assert!(matches!(jig.step(), Step::Again));
    };
    frame(&mut jig, false);
    assert!(jig.engine.viewpoints[0].memory.boxes.is_empty());
    assert!(jig.camera().judged().active().all(|active| !active));
    frame(&mut jig, true);
    let boxes = jig.engine.viewpoints[0].memory.boxes.clone();
    assert!(!boxes.is_empty());
    for seen in &boxes {
        let [left, top, right, bottom] = seen.edges;
        assert!(seen.score > 0.9 && left < right && right < 0.75 && top < bottom && bottom < 1.0, "{seen:?}");
    }
    let active: Vec<bool> = jig.camera().judged().active().collect();
    // The last one is the configuration's own rule about anything.
    assert_eq!(active, [true, false, false, true, false, true]);
    let events: Vec<serde_json::Value> =
        std::iter::from_fn(|| jig.tell.pop()).map(|event| event.json()).collect();
    let told = events.iter().find(|event| event["rule"] == "left").unwrap();
    assert_eq!(told["box"], serde_json::json!(boxes[0].edges));
    let threads = jig.engine.network.threads();
    let counted = threads.enter(|| {
        (0..5).for_each(|_| frame(&mut jig, true));
        allocation_counter::measure(|| (0..20).for_each(|_| frame(&mut jig, true)))
    });
    assert_eq!(counted.count_total, 0);
    let boxes = &jig.engine.viewpoints[0].memory.boxes;
    assert!(boxes.iter().any(|seen| seen.track == Some(1)), "{boxes:?}");
    let judged = jig.camera().judged();
    let things: Vec<u64> = (0..6).map(|rule| judged.counted(rule).map(|(_, count)| count).sum()).collect();
    // Those on the left and of any size are followed, and there are none elsewhere or as large as that.
    assert!(things[0] > 0 && things[1] == 0 && things[3] > 0 && things[4] == 0, "{things:?}");
    assert_eq!(judged.totals().collect::<Vec<_>>(), things);
    // A classifier finds no boxes to count.
    model(folder.path());
    let path = folder.path().join("c.toml");
    let config = Config::load(&path).unwrap();
    let link = |_: usize, _: &SharedNames| -> Arc<CameraLink> { unreachable!("refused before") };
    let error = Program::load(&path, &config, link).map(|_| ()).unwrap_err().to_string();
    let expected = "c.toml: rule `left` has `least_size`, `count`, `dwell_s` or `crossing`, which are for networks that find boxes, or `zone`,";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_still_scene_is_judged_and_seldom_classified() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let text = configuration(1, "rgb24", "[pace]\non_change = true\nrefresh_ms = 86400000\n");
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let (mut captured, camera) = (Frame::new(), jig.camera());
    let telemetry = &camera.telemetry;
    let mut frame = |jig: &mut Jig, grey: Option<u8>| {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        if let Some(grey) = grey {
            captured.bytes.fill(grey);
        }
        captured.number += 1;
        jig.put(0, &mut captured);
        jig.go_on();
        assert!(matches!(jig.step(), Step::Again));
    };
    (0..30).for_each(|_| frame(&mut jig, None));
    let classified = telemetry.inferences.count();
    assert!(classified < 15 && classified + telemetry.unchanged.count() == 30, "{classified}");
    // Every one was judged, by the scores of the last inference.
    assert_eq!(telemetry.latency.read().count, 30);
    assert!(jig.camera().judged().active().all(|active| active));
    frame(&mut jig, Some(250));
    assert_eq!(telemetry.inferences.count(), classified + 1);
    // Others see no such number.
    assert!(jig.reach.board.prometheus().contains("resight_unchanged_total"));
    let other = Jig::new(folder.path(), &configuration(1, "rgb24", ""));
    assert!(!other.reach.board.prometheus().contains("unchanged"));
}

/// Rules of a region see that region alone, and so does what is told.
#[test]
fn regions_of_a_frame_are_classified_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let regions = "[[region]]\nname = \"left\"\narea = [0, 0, 0.5, 1]\n\
        [[region]]\nname = \"right\"\narea = [0.5, 0, 0.5, 1]\n";
    // Each half by itself, to compare with.
    let alone = |area: &str| {
        let image = format!("[image]\nregion = {area}\n");
        let text = configuration(1, "rgb24", &image);
        let mut jig = Jig::new(folder.path(), &text);
        jig.scores(halves)
    };
    let apart = [alone("[0, 0, 0.5, 1]"), alone("[0.5, 0, 0.5, 1]")].concat();
    let mut jig = Jig::new(folder.path(), &configuration(1, "rgb24", regions));
    assert_eq!(jig.scores(halves), apart);
    let mut frame = Frame::new();
    halves(&mut frame);
    frame.number = 3;
    jig.put(0, &mut frame);
    jig.go_on();
    assert!(matches!(jig.step(), Step::Again));
    let status = jig.reach.board.status();
    let names: Vec<&str> = status.state.rules.iter().map(|rule| rule.facts.name.as_str()).collect();
    assert_eq!(names, ["any/left", "any/right"]);
    assert!(status.state.rules.iter().all(|rule| rule.facts.classes[0].starts_with("thing")));
    let classes = apart.len() / 2;
    for (number, region) in status.figures.regions.iter().enumerate() {
        let scores = &apart[number * classes..(number + 1) * classes];
        let (class, probability) = likeliest(scores);
        assert_eq!((region.class, region.probability as f32), (class, probability), "{}", region.name);
        assert!(region.inference_ms > 0.0 && region.label.is_some());
    }
    assert_eq!(status.figures.regions.len(), 2);
    let mut told = 0;
    while let Some(event) = jig.tell.pop() {
        let event = event.json();
        let region = event["rule"].as_str().unwrap().strip_prefix("any/").unwrap();
        assert_eq!(event["region"], region, "{event}");
        assert!(event["class"].as_u64().unwrap() < classes as u64, "{event}");
        told += 1;
    }
    assert_eq!(told, 2);
    // One frame was classified, and it allocates no more than one region does.
    assert_eq!(jig.camera().telemetry.inferences.count(), 1);
    let threads = jig.engine.network.threads();
    let counts = threads.enter(|| {
        let mut classify = |count: usize| (0..count).for_each(|_| drop(jig.engine.classify(0)));
        classify(10);
        allocation_counter::measure(|| classify(20))
    });
    assert_eq!(counts.count_total, 0);
}

/// A frame whose halves show different things.
fn halves(frame: &mut Frame) {
    fill(frame, &pixels());
}

fn pixels() -> Vec<u8> {
    let pixels = (0..48 * 64).flat_map(|pixel| {
        let (x, y) = (pixel % 64, pixel / 64);
        if x < 32 { [(x * 7) as u8, 20, (y * 5) as u8] } else { [200, (y * x) as u8, 90] }
    });
    pixels.collect()
}

fn fill(frame: &mut Frame, pixels: &[u8]) {
    let format = (resight_imaging::PixelFormat::Rgb24, resight_imaging::Colours::default());
    frame.fill(pixels, format, (64, 48, 192));
    frame.arrival = Instant::now();
}

#[test]
fn a_pause_is_waited_for_and_no_longer_than_half_of_what_makes_lines_safe() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let text = configuration(1, "rgb24", "[safety]\nstale_ms = 90000\n[pace]\nrate = 0.1\n");
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let mut captured = Frame::new();
    for _ in 0..2 {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        jig.put(0, &mut captured);
    }
    assert!(matches!(jig.step(), Step::Again));
    jig.put(0, &mut captured);
    let Step::Wait(until) = jig.step() else { panic!("no pause") };
    assert!(until <= Instant::now() + IDLE_INTERVAL, "systemd is to be told meanwhile");
    let pause = jig.engine.viewpoints[0].memory.next.saturating_duration_since(Instant::now());
    assert!(pause > Duration::from_secs(5) && pause <= Duration::from_secs(10), "{pause:?}");
}

/// A jig of three cameras, of which the last looks at two parts of each frame, and a frame for them.
fn three(folder: &Path) -> Jig {
    model(folder);
    let camera = |name: &str| {
        format!(
            "[[camera]]\nname = \"{name}\"\n[camera.source]\nkind = \"raw\"\npath = \"frames\"\nformat = \"rgb24\"\n\
             width = 64\nheight = 48\n"
        )
    };
    let regions = "[[camera.region]]\nname = \"left\"\narea = [0, 0, 0.5, 1]\n\
        [[camera.region]]\nname = \"right\"\narea = [0.5, 0, 0.5, 1]\n";
    let cameras = ["porch", "yard", "gate"].map(camera).concat();
    let rule = "[[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nmode = \"pulse\"\npulse_ms = 1\n";
    Jig::new(folder, &format!("[model]\nfile = \"m.tar\"\nthreads = 1\n{cameras}{regions}{rule}"))
}

impl Jig {
    /// Gives these cameras a frame if they have none, and lets one be classified.
    fn turn(&mut self, (frame, pixels): (&mut Frame, &[u8]), cameras: &[usize]) {
        for &camera in cameras {
            if self.engine.viewpoints[camera].link.frames.has_room() {
                fill(frame, pixels);
                frame.number += 1;
                self.put(camera, frame);
            }
        }
        self.go_on();
        assert!(matches!(self.step(), Step::Again));
    }

    /// How many inferences each camera has had.
    fn inferences(&self) -> [u64; 3] {
        let count = |camera: usize| {
            let viewpoint = &self.engine.viewpoints[camera];
            viewpoint.link.board.telemetry.inferences.count() * viewpoint.sights.len() as u64
        };
        [0, 1, 2].map(count)
    }
}

#[test]
fn three_cameras_get_the_same_share_of_inferences_and_a_lost_one_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut jig = three(folder.path());
    let (mut frame, pixels) = (Frame::new(), pixels());
    (0..75).for_each(|_| jig.turn((&mut frame, &pixels), &[0, 1, 2]));
    assert_eq!(jig.inferences(), [30, 30, 30]);
    // Two go on, and each has half.
    (0..40).for_each(|_| jig.turn((&mut frame, &pixels), &[0, 1]));
    // The lost one had a frame left.
    assert_eq!(jig.inferences().iter().sum::<u64>(), 90 + 41);
    assert!(jig.inferences()[0].abs_diff(jig.inferences()[1]) <= 1, "{:?}", jig.inferences());
    // It is back, and makes up for hardly anything.
    let before = jig.inferences();
    (0..75).for_each(|_| jig.turn((&mut frame, &pixels), &[0, 1, 2]));
    let after = jig.inferences();
    for (before, after) in before.iter().zip(after) {
        assert!((after - before).abs_diff(30) <= 8, "{before}, {after}");
    }
    // What each shows is its own.
    let figures = jig.reach.board.figures();
    let regions: Vec<usize> = figures.camera_figures.iter().map(|camera| camera.regions.len()).collect();
    assert_eq!(regions, [0, 0, 2]);
    assert!(figures.last.is_none() && figures.camera_figures.iter().all(|camera| camera.last.is_some()));
    assert_eq!(
        figures.inference.count,
        figures.camera_figures.iter().map(|camera| camera.inference.count).sum::<u64>()
    );
}

#[test]
fn several_cameras_allocate_no_more_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut jig = three(folder.path());
    let (mut frame, pixels) = (Frame::new(), pixels());
    let threads = jig.engine.network.threads();
    let counts = threads.enter(|| {
        let mut turns = |count: usize| {
            for _ in 0..count {
                jig.turn((&mut frame, &pixels), &[0, 1, 2]);
                while jig.tell.pop().is_some() {}
            }
        };
        turns(20);
        allocation_counter::measure(|| turns(100))
    });
    assert_eq!(counts.count_total, 0);
}

#[test]
fn a_capture_stage_that_hangs_is_not_hidden_by_the_other_cameras() {
    let folder = tempfile::tempdir().unwrap();
    let jig = three(folder.path());
    let seconds = Duration::from_secs;
    let look = |camera: usize, at: u64| jig.engine.viewpoints[camera].link.looked.now(seconds(at));
    (0..3).for_each(|camera| look(camera, 100));
    assert!(jig.engine.is_looked_for(seconds(104), None));
    look(0, 110);
    look(2, 110);
    assert!(!jig.engine.is_looked_for(seconds(111), None));
    assert!(!jig.engine.is_looked_for(seconds(111), Some(0)), "an inference of another camera");
    assert!(jig.engine.is_looked_for(seconds(111), Some(1)), "it has just given a frame");
    // There is nothing to look for any more.
    jig.engine.viewpoints[1].link.frames.close();
    assert!(jig.engine.is_looked_for(seconds(111), None));
}

/// The smallest network with something else at its end, as a model file of this task and with these labels.
fn model_with_another_end(
    folder: &Path,
    task: resight_model_file::Task,
    labels: &str,
    wire: impl FnOnce(&mut resight_runtime::tract::TypedModel) -> Vec<resight_runtime::tract::OutletId>,
) {
    use resight_model_file::{Expected, Golden, Labels};
    use resight_runtime::{Model, ModelParts, Sequential};
    let model = Model::from_bytes("m.tar", resight_fixtures::TINY_MODEL.to_vec()).unwrap();
    let mut graph = model.graph().clone();
    let outputs = wire(&mut graph);
    graph.select_output_outlets(&outputs).unwrap();
    let mut program =
        resight_runtime::Program::compile(&graph, model.layers(), &Target::reference()).unwrap();
    let input = model.golden()[0].input.clone();
    let outputs = program.run(&Sequential, &input).unwrap();
    let expected = match &task {
        resight_model_file::Task::Classes { .. } => {
            Expected::Logits(outputs.get(0).unwrap().slice::<f32>().unwrap().to_vec())
        }
        _ => Expected::Tensors(outputs.iter().map(|output| output.little_endian()).collect()),
    };
    let parts = ModelParts {
        name: "another",
        layers: model.layers(),
        graph: &graph,
        task,
        labels: &Labels::parse("", labels.as_bytes()).unwrap(),
        preprocessing: model.preprocessing(),
        provenance: model.provenance(),
        report: model.report(),
        golden: &[Golden { input, expected }],
    };
    parts.write(&folder.join("m.tar")).unwrap();
}

/// The node before the global average, and the average.
fn ends(graph: &resight_runtime::tract::TypedModel) -> [resight_runtime::tract::OutletId; 2] {
    let average =
        graph.nodes.iter().find(|node| node.op_is::<resight_runtime::layers::GlobalAverage>()).unwrap();
    [average.inputs[0], average.id.into()]
}

/// A model that finds anomalies: whatever is not zero.
fn model_of_anomalies(folder: &Path) {
    use resight_runtime::layers::{Anomaly, NearestNeighbour};
    use resight_runtime::tract::{IntoArcTensor, SpecialOps, Tensor};
    model_with_another_end(folder, resight_model_file::Task::Anomaly, "good\nanomaly\n", |graph| {
        let [features, _] = ends(graph);
        let channels = graph.outlet_fact(features).unwrap().shape.as_concrete().unwrap()[3];
        let memory = Tensor::from_shape(&[1, channels], &vec![0_i8; channels]).unwrap().into_arc_tensor();
        let map = graph.wire_node("map", NearestNeighbour { memory, scale: 0.02 }, &[features]).unwrap()[0];
        let anomaly = Anomaly { farthest: 2, threshold: 1.0, slope: 5.0 };
        let logits = graph.wire_node("anomaly", anomaly, &[map]).unwrap()[0];
        vec![logits, map]
    });
}

/// A model with the class `unknown`, of whatever is not like one taught picture.
fn model_with_unknown(folder: &Path) {
    use resight_runtime::layers::{Linear, Unknown};
    use resight_runtime::tract::{IntoArcTensor, SpecialOps, Tensor, tensor1};
    let labels: String =
        (0..10).map(|class| format!("thing_{class}\n")).chain(["unknown\n".into()]).collect();
    model_with_another_end(folder, resight_model_file::Task::default(), &labels, |graph| {
        let [_, average] = ends(graph);
        let logits = graph.output_outlets().unwrap()[0];
        let features = graph.outlet_fact(average).unwrap().shape.as_concrete().unwrap()[1];
        let products = Linear {
            weights: Tensor::from_shape(&[1, features], &vec![3_i8; features]).unwrap().into_arc_tensor(),
            bias: tensor1(&[0]).into_arc_tensor(),
            scale: tensor1(&[0.1_f32]).into_arc_tensor(),
            input_limit: i16::MAX,
        };
        let products = graph.wire_node("products", products, &[average]).unwrap()[0];
        let unknown = Unknown { zero_point: 0, nearest: 1, threshold: 0.5, slope: 20.0 };
        vec![graph.wire_node("unknown", unknown, &[average, products, logits]).unwrap()[0]]
    });
}

/// Writes a model into a folder.
type Make = fn(&Path);

#[test]
fn frames_allocate_nothing_with_what_was_taught() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(Make, &str); 2] = [(model_of_anomalies, "anomaly"), (model_with_unknown, "unknown")];
    for (write, class) in cases {
        write(folder.path());
        let text = configuration(1, "rgb24", "").replace("thing*", class);
        let mut jig = Jig::new(folder.path(), &text);
        let mut captured = Frame::new();
        let threads = jig.engine.network.threads();
        let mut frame = move || {
            halves(&mut captured);
            jig.put(0, &mut captured);
            jig.go_on();
            assert!(matches!(jig.step(), Step::Again));
            while jig.tell.pop().is_some() {}
        };
        let counts = threads.enter(|| {
            (0..10).for_each(|_| frame());
            allocation_counter::measure(|| (0..100).for_each(|_| frame()))
        });
        // What makes the frame is the test's own: the pixels, once each.
        let own = allocation_counter::measure(|| (0..100).for_each(|_| halves(&mut Frame::new())));
        assert!(counts.count_total <= own.count_total, "{class}: {} {}", counts.count_total, own.count_total);
    }
}

/// From the map to the status and the event, in shares of the frame.
#[test]
fn an_anomaly_is_shown_and_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    model_of_anomalies(folder.path());
    for (image, turned) in [("", false), ("[image]\nrotate = 90\nmirror = true\n", true)] {
        let text = configuration(1, "rgb24", image)
            .replace("thing*", "anomaly")
            .replace("pulse_ms = 1\n", "pulse_ms = 1\nthreshold = 0.001\n");
        let mut jig = Jig::new(folder.path(), &text);
        let mut captured = Frame::new();
        halves(&mut captured);
        jig.put(0, &mut captured);
        assert!(matches!(jig.step(), Step::Again));
        let seen = jig.reach.board.figures().anomalies;
        let [anomaly] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((anomaly.region.as_deref(), anomaly.map.len()), (None, anomaly.size[0] * anomaly.size[1]));
        // The centre of 64 x 48 pixels is seen, as high as the crop of the resized frame is.
        let [left, top, width, height] = anomaly.covers;
        assert!(
            (left + width / 2.0 - 0.5).abs() < 0.02 && (top + height / 2.0 - 0.5).abs() < 0.02,
            "{anomaly:?}"
        );
        assert!((width * 64.0 / (height * 48.0) - 1.0).abs() < 0.05, "{anomaly:?}");
        // The farthest place of the map is within the area that is told.
        let farthest =
            (0..anomaly.map.len()).max_by(|a, b| anomaly.map[*a].total_cmp(&anomaly.map[*b])).unwrap();
        let [row, column] = [farthest / anomaly.size[1], farthest % anomaly.size[1]];
        let x = left + width * (column as f64 + 0.5) / anomaly.size[1] as f64;
        let y = top + height * (row as f64 + 0.5) / anomaly.size[0] as f64;
        let area = anomaly.area;
        assert!(
            area[0] < x && x < area[0] + area[2] && area[1] < y && y < area[1] + area[3],
            "{turned} {anomaly:?}"
        );
        let event = jig.tell.pop().unwrap().json();
        assert_eq!((&event["name"], &event["rule"]), (&"anomaly".into(), &"any".into()), "{event}");
        let told: Vec<f32> = serde_json::from_value(event["area"].clone()).unwrap();
        assert!(told.iter().zip(area).all(|(told, area)| (f64::from(*told) - area).abs() < 1e-6), "{event}");
        assert!((event["score"].as_f64().unwrap() - anomaly.probability).abs() < 1e-6);
    }
}
