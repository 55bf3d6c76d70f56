//! The inference stage: frames in, observations out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::tz::TimeZone;
use resight_imaging::{Fit, FrameDecoder, ImagingError, Region, Rotation};
use resight_model_file::Activation;
use resight_runtime::{Classifier, Model, RuntimeError, Target};
use resight_status::{RegionView, RuleFacts, View};

use super::capture::Looked;
use super::mailbox::{FrameSlot, JudgeMail, Judgement, NewRules, Slot, Taken};
use super::sight::Sight;
use crate::camera::Wanted;
use crate::config::{Config, RegionConfig};
use crate::frame::Frame;
use crate::judge::{Finding, LineFacts, Mode, Observation, Rule, Rules, Triggers, local_zone};
use crate::lines::{InputList, LineList};
use crate::names::{Names, SharedNames};
use crate::notify::Notify;
use crate::pace::Pace;
use crate::picture::{FrameTap, SnapshotTap};
use crate::status::StatusBoard;

/// How often systemd is told that all is well though no frame comes.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Still waiting for the first frame: give us 15 more seconds.
const EXTEND_START: &str = "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=no frame yet";

/// Classes of a rule whose names are shown.
const CLASSES: usize = 8;

/// The network with what surrounds it.
pub(crate) struct Engine {
    classifier: Classifier,
    decoder: FrameDecoder,
    /// One at least.
    sights: Vec<Sight>,
    /// What a camera's frames should hold.
    pub(crate) wanted: Wanted,
    inputs: InputList,
    names: SharedNames,
    /// A pause is no longer than half of it.
    stale: Duration,
    pace: Pace,
}

/// What a reload replaces, but the source.
pub(crate) struct Program {
    pub(crate) engine: Engine,
    pub(crate) rules: NewRules,
}

impl Program {
    /// Loads the model, runs its golden vectors and resolves the rules. The lines and inputs are set
    /// later by [`wire`](Self::wire).
    ///
    /// # Errors
    /// A model that cannot be used, rules that name no class of it.
    pub(crate) fn load(path: &Path, config: &Config) -> Result<Self> {
        let model = config.load_model()?;
        let rules = config.rules(path, model.labels())?;
        let target = Target::of_this_machine()?;
        let isa = target.isa;
        let mut classifier = Classifier::new(&model, &target, config.threads)?;
        classifier.self_test(&model)?;
        log::info!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len());
        let zone = if rules.iter().any(|rule| rule.hours.is_some()) { local_zone() } else { TimeZone::UTC };
        let names = Arc::new(Names {
            model: model.name().to_owned(),
            isa: isa.name(),
            rules: rules.iter().map(|rule| facts(config, &model, rule)).collect(),
            labels: model.labels().clone(),
            view: view(config, &model),
        });
        let engine = Engine {
            classifier,
            decoder: FrameDecoder::default(),
            sights: sights(config, &model)?,
            wanted: wanted(config, &model),
            inputs: [].into(),
            names: names.clone(),
            stale: config.stale,
            pace: Pace::new(config.pace.clone()),
        };
        let line = |line: &crate::lines::LineConfig| LineFacts { name: line.name.clone(), safe: line.safe };
        let rules = Rules {
            triggers: Triggers::new(rules),
            lines: config.lines.iter().map(line).collect(),
            inputs: config.inputs.iter().map(|input| input.name.clone()).collect(),
            zone,
            stale: config.stale,
            dry_run: config.dry_run,
        };
        Ok(Self { engine, rules: NewRules { rules, lines: [].into(), inputs: [].into(), names } })
    }

    /// Connects the rules with their lines and inputs, both in the order of the configuration.
    pub(crate) fn wire(&mut self, lines: LineList, inputs: InputList) {
        self.engine.inputs = inputs.clone();
        (self.rules.lines, self.rules.inputs) = (lines, inputs);
    }
}

impl Engine {
    /// The scores of the classes of what is looked at, one after another; `scores` holds the last ones,
    /// which stay for what shows nothing new. Gives how many are new.
    fn classify(&mut self, frame: &Frame, scores: &mut Vec<f32>) -> Result<usize, RuntimeError> {
        // Whoever asks for a single frame does not want to know what another one showed.
        let must = self.is_triggered();
        let image = frame.image(&mut self.decoder)?;
        let classes = self.classifier.classes();
        scores.resize(classes * self.sights.len(), 0.0);
        let (head, threads, mut new) = (self.classifier.head(), self.classifier.threads(), 0);
        for (sight, scores) in self.sights.iter_mut().zip(scores.chunks_exact_mut(classes)) {
            let begin = Instant::now();
            let Some(input) = sight.look(&*threads, &image, must)? else { continue };
            scores.copy_from_slice(self.classifier.logits(input)?);
            head.probabilities(scores);
            sight.classified(begin.elapsed());
            new += 1;
        }
        Ok(new)
    }

    /// Whether frames are classified only when an input becomes active.
    fn is_triggered(&self) -> bool {
        self.inputs.iter().any(|input| input.is_trigger())
    }

    /// Whether a frame is to be classified for the rules.
    fn is_wanted(&self, frame: &Frame) -> bool {
        let mut answered = false;
        for input in self.inputs.iter().filter(|input| input.is_trigger()) {
            // Each must know that this frame is there.
            answered |= input.answer(frame.arrival);
        }
        answered || !self.is_triggered()
    }
}

/// What is looked at.
fn sights(config: &Config, model: &Model) -> Result<Vec<Sight>> {
    let orientation = config.image.orientation;
    let sight = |region: Region| Sight::new(model, region, orientation, config.pace.on_change);
    Ok(areas(config).map(sight).collect::<Result<_, _>>()?)
}

/// The parts of a frame that the network sees: one at least.
fn areas(config: &Config) -> impl Iterator<Item = Region> {
    let only = config.regions.is_empty().then_some(config.image.region);
    config.regions.iter().map(|region| region.area).chain(only)
}

/// What a camera's frames should hold for that.
fn wanted(config: &Config, model: &Model) -> Wanted {
    let side = model.preprocessing().resize_shorter;
    let larger =
        |a: Wanted, b: Wanted| Wanted { width: a.width.max(b.width), height: a.height.max(b.height) };
    let each = areas(config).map(|area| Wanted::new(side, area));
    each.reduce(larger).unwrap_or(Wanted::new(side, config.image.region))
}

/// What the page shows of a rule's configuration.
fn facts(config: &Config, model: &Model, rule: &Rule) -> RuleFacts {
    let (mode, pulse_ms) = match rule.mode {
        Mode::Level => ("level", None),
        Mode::Pulse(length) => ("pulse", Some(length.as_millis() as u64)),
        Mode::Toggle => ("toggle", None),
    };
    let count = model.labels().len().max(1);
    let classes = rule.classes.iter().filter_map(|score| model.labels().name(score % count));
    RuleFacts {
        name: rule.name.clone(),
        classes: classes.take(CLASSES).map(str::to_owned).collect(),
        class_count: rule.classes.len(),
        threshold: rule.threshold.into(),
        hits: rule.hits,
        frames: rule.frames,
        mode: mode.to_owned(),
        pulse_ms,
        armed_by: rule.armed_by.map(|input| config.inputs[input].name.clone()),
        lines: rule.lines.iter().map(|line| config.lines[*line].name.clone()).collect(),
    }
}

/// Which part of a frame the network sees.
fn view(config: &Config, model: &Model) -> View {
    let shares = |area: Region| [area.left, area.top, area.width, area.height].map(f64::from);
    let region = |region: &RegionConfig| RegionView { name: region.name.clone(), area: shares(region.area) };
    let orientation = config.image.orientation;
    let preprocessing = model.preprocessing();
    View {
        region: shares(config.image.region),
        rotate: match orientation.rotation {
            Rotation::Upright => 0,
            Rotation::Clockwise => 90,
            Rotation::Half => 180,
            Rotation::Counterclockwise => 270,
        },
        mirror: orientation.mirror,
        resize_shorter: preprocessing.resize_shorter,
        crop: preprocessing.crop,
        fit: (preprocessing.fit != Fit::Crop).then(|| preprocessing.fit.name().to_owned()),
        regions: config.regions.iter().map(region).collect(),
    }
}

/// Who judges observations.
pub(crate) trait Judging {
    /// Has a frame judged; `None` if nobody does any more.
    fn judge(&mut self, judgement: Judgement) -> Option<Judgement>;

    /// Goes on with other rules.
    fn replace(&mut self, rules: NewRules);
}

impl Judging for Arc<JudgeMail> {
    fn judge(&mut self, judgement: Judgement) -> Option<Judgement> {
        JudgeMail::judge(self, judgement)
    }

    fn replace(&mut self, rules: NewRules) {
        JudgeMail::replace(self, rules);
    }
}

/// What the stage reaches besides the judge.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) board: Arc<StatusBoard>,
    pub(crate) frames: Arc<FrameSlot>,
    pub(crate) programs: Arc<Slot<Program>>,
    pub(crate) tap: Arc<FrameTap>,
    pub(crate) snapshots: Arc<SnapshotTap>,
    pub(crate) looked: Arc<Looked>,
    pub(crate) notify: Arc<Notify>,
}

/// See the module.
pub(crate) struct InferStage<J> {
    reach: Reach,
    judging: J,
    frame: Frame,
    /// Memory of an observation, while it is not at the judge.
    judgement: Option<Judgement>,
    scores: Vec<f32>,
    /// Whether a frame was classified yet.
    ready: bool,
    /// Whether systemd was told so.
    told: bool,
    /// When the next frame may be classified.
    next: Instant,
    /// When systemd was last told that all is well though no frame came.
    idle: Instant,
}

/// What the stage does next.
pub(crate) enum Step {
    /// Look again at once.
    Again,
    /// Look again when the bell rings, at this time at the latest.
    Wait(Instant),
    /// Go on with another program.
    Program(Box<Program>),
    /// There are no more frames, or nobody judges them.
    End,
}

impl<J: Judging> InferStage<J> {
    pub(crate) fn new(reach: Reach, judging: J) -> Self {
        let now = Instant::now();
        Self {
            reach,
            judging,
            frame: Frame::new(),
            judgement: None,
            scores: vec![],
            ready: false,
            told: false,
            next: now,
            idle: now,
        }
    }

    /// Looks for one frame and has it judged.
    pub(crate) fn step(&mut self, engine: &mut Engine) -> Step {
        if let Some(program) = self.reach.programs.take() {
            return Step::Program(Box::new(program));
        }
        let now = Instant::now();
        if now < self.next {
            self.idle();
            return Step::Wait(self.next.min(self.idle + IDLE_INTERVAL));
        }
        let going = match self.reach.frames.take(&mut self.frame) {
            Taken::Frame if engine.is_wanted(&self.frame) => self.classify(engine, true),
            // The first is classified all the same, to know that everything works.
            Taken::Frame if !self.ready => self.classify(engine, false),
            Taken::Frame => {
                self.idle();
                self.judge(None)
            }
            Taken::Nothing => {
                self.idle();
                return Step::Wait(now + IDLE_INTERVAL);
            }
            Taken::Closed => false,
        };
        if going { Step::Again } else { Step::End }
    }

    /// Classifies the frame, for the rules or only to see that it can be done. `false` if nobody
    /// judges any more.
    fn classify(&mut self, engine: &mut Engine, for_rules: bool) -> bool {
        let board = self.reach.board.clone();
        let begin = Instant::now();
        let new = match engine.classify(&self.frame, &mut self.scores) {
            Ok(new) => new,
            Err(error) => {
                self.refused(&error);
                return true;
            }
        };
        let took = begin.elapsed();
        // A long pause after a long inference is no reason to give up the lines.
        self.next = begin + engine.pace.interval(took).min(engine.stale / 2);
        if !self.judge(for_rules.then(|| engine.classifier.head().activation())) {
            return false;
        }
        if let Some(judgement) = &self.judgement
            && !judgement.snapshots.is_empty()
        {
            self.reach.snapshots.take(&judgement.snapshots, &self.frame, &engine.names);
        }
        self.reach.tap.pass(&self.frame, &self.scores);
        let (best, probability) = likeliest(&self.scores);
        board.set_last((best, probability, self.frame.number));
        if !engine.names.view.regions.is_empty() {
            let classes = engine.classifier.classes();
            let parts = self.scores.chunks_exact(classes).zip(&engine.sights).enumerate();
            board.set_regions(parts.map(|(number, (scores, sight))| {
                let (class, probability) = likeliest(scores);
                (number * classes + class, probability, sight.took)
            }));
        }
        if new == 0 {
            // The watchdog hears of inferences, and that nothing is amiss between them.
            board.telemetry.unchanged.one_more();
            self.idle();
            return true;
        }
        board.telemetry.inference.add(took);
        board.telemetry.inferences.one_more();
        cool(&mut engine.pace, board.telemetry.temperature_celsius.value());
        if !std::mem::replace(&mut self.ready, true) {
            let regions = engine.sights.len();
            let of = if regions > 1 { format!(", {regions} regions") } else { String::new() };
            log::info!("ready: first frame classified in {:.1} ms{of}", took.as_secs_f64() * 1e3);
        }
        // Again with the next frame if systemd's queue was full: nothing else says it.
        self.told = self.told || self.reach.notify.send("READY=1");
        self.reach.notify.send("WATCHDOG=1");
        true
    }

    /// The frame could not be classified.
    fn refused(&mut self, error: &RuntimeError) {
        let telemetry = &self.reach.board.telemetry;
        if matches!(error, RuntimeError::Imaging(ImagingError::Image { .. } | ImagingError::Preprocessing(_)))
        {
            telemetry.corrupt.one_more();
            // Rubbish from the source is as good as no frame: a restart would not help.
            self.idle();
        } else {
            telemetry.inference_errors.one_more();
        }
        log::error!("frame {}: {error}", self.frame.number);
    }

    /// Has the frame judged, by its scores, which this made, or only as one that came.
    fn judge(&mut self, classified: Option<Activation>) -> bool {
        let start = self.reach.board.start;
        let finding = match classified {
            None => Finding::Unseen,
            Some(Activation::Softmax) => Finding::Classes(std::mem::take(&mut self.scores)),
            Some(Activation::Sigmoid) => Finding::Independent(std::mem::take(&mut self.scores)),
        };
        let observation = Observation {
            frame: self.frame.number,
            arrival: self.frame.arrival.saturating_duration_since(start),
            finding,
        };
        let snapshots = self.judgement.take().map_or_else(Vec::new, |old| old.snapshots);
        let Some(mut judged) = self.judging.judge(Judgement { observation, snapshots }) else {
            return false;
        };
        let finding = std::mem::replace(&mut judged.observation.finding, Finding::Unseen);
        if let Some(scores) = finding.into_scores() {
            self.scores = scores;
        }
        self.judgement = Some(judged);
        true
    }

    /// Nothing to classify: tells systemd that all is well, if it is. That no frame comes is
    /// no reason to be restarted, which would not bring the camera back; but the capture
    /// stage must have looked for one, so that its hanging is noticed.
    fn idle(&mut self) {
        let alive = self.reach.looked.is_recent(self.reach.board.now());
        if alive && self.idle.elapsed() >= IDLE_INTERVAL {
            self.idle = Instant::now();
            self.reach.notify.send(if self.ready { "WATCHDOG=1" } else { EXTEND_START });
        }
    }
}

/// The likeliest class, of equals the first, and its probability.
fn likeliest(scores: &[f32]) -> (usize, f32) {
    let likelier = |best, class| if scores[class] > scores[best] { class } else { best };
    let best = (0..scores.len()).fold(0, likelier);
    (best, scores.get(best).copied().unwrap_or_default())
}

/// Keeps the pace that the temperature asks for.
fn cool(pace: &mut Pace, celsius: Option<f64>) {
    if let Some(celsius) = celsius
        && pace.temperature(celsius)
    {
        match pace.limit() {
            Some(rate) => log::warn!("{celsius:.1} °C: {rate} inferences per second at most"),
            None => log::info!("{celsius:.1} °C: no limit by temperature any more"),
        }
    }
}

/// The thread. `settled` is called when another program's lines are the only ones.
pub(crate) fn run<J: Judging + Send>(
    mut stage: InferStage<J>,
    mut engine: Engine,
    stop: impl Fn() -> bool + Sync,
    settled: impl Fn(),
) {
    let bell = stage.reach.frames.filled.clone();
    loop {
        let threads = engine.classifier.threads();
        // On a compute thread: handing over each inference would allocate now and then.
        let next = threads.enter(|| {
            while !stop() {
                match stage.step(&mut engine) {
                    Step::Again => {}
                    Step::Wait(until) => bell.wait(Some(until)),
                    Step::Program(program) => return Some(program),
                    Step::End => return None,
                }
            }
            None
        });
        let Some(program) = next else { return };
        let Program { engine: new, rules } = *program;
        stage.judging.replace(rules);
        settled();
        engine = new;
    }
}

#[cfg(test)]
#[path = "infer_tests.rs"]
mod tests;
