//! Inference, from a frame to what is judged, shown and told.

mod cameras;
mod classes;
mod maps;
mod models;
mod taught;

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

use models::{
    model, model_of_anomalies, model_of_boxes, model_of_channels, model_of_points, model_of_things,
    model_with_labels, model_with_unknown, output_map,
};

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
