//! The inference stage: frames in, observations out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use jiff::tz::TimeZone;
use resight_imaging::{FrameDecoder, ImagingError};
use resight_model_file::Activation;
use resight_runtime::{Head, Inspection, Model, RuntimeError, Target};

use super::capture::CameraLink;
use super::mailbox::{CameraRules, JudgeMail, Judgement, NewRules, Slot, Taken};
use super::network::{Network, Says};
use super::turns::Turns;
use super::viewpoint::{Memory, Viewpoint, names};
use crate::config::Config;
use crate::judge::{Finding, LineFacts, Observation, Rule, Rules, SeenBox, SeenMask, Triggers, local_zone};
use crate::lines::{InputList, LineList};
use crate::names::{Prefix, SharedNames};
use crate::notify::Notify;
use crate::pace::Pace;
use crate::picture::SnapshotTap;
use crate::status::StatusBoard;
use crate::sync::Bell;

/// How often systemd is told that all is well though no frame comes.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Still waiting for the first frame: give us 15 more seconds.
const EXTEND_START: &str = "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=no frame yet";

/// The network with the cameras that share it.
pub(crate) struct Engine {
    network: Network,
    /// One for all, because one frame after another is decoded.
    decoder: FrameDecoder,
    /// One at least.
    pub(crate) viewpoints: Vec<Viewpoint>,
}

/// What a reload replaces, but the sources.
pub(crate) struct Program {
    pub(crate) engine: Engine,
    pub(crate) rules: NewRules,
}

impl Program {
    /// Loads the model, runs its golden vectors and resolves the rules. The lines and inputs are set
    /// later by [`wire`](Self::wire). `link` gives where the stages meet about a camera, by its number.
    ///
    /// # Errors
    /// A model that cannot be used, rules that name no class of it.
    pub(crate) fn load(
        path: &Path,
        config: &Config,
        mut link: impl FnMut(usize, &SharedNames) -> Arc<CameraLink>,
    ) -> Result<Self> {
        let model = config.load_model()?;
        let rules = checked(path, &model, config.rules(path, model.labels())?)?;
        ensure!(
            matches!(model.head(), Head::Boxes(_))
                || config.cameras.iter().all(|camera| camera.image.tiles.is_none()),
            "{}: `tiles` in [image] is for networks that find boxes, which {} does not; [[region]] has several parts \
             looked at one by one",
            path.display(),
            model.file()
        );
        let target = Target::of_this_machine()?;
        let isa = target.isa;
        let network = Network::tested(&model, &target, config.threads)?;
        log::info!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len());
        let (mut viewpoints, mut cameras) = (vec![], vec![]);
        for (number, (camera, rules)) in config.cameras.iter().zip(rules).enumerate() {
            let names = names(config, camera, &model, isa.name(), &rules);
            let link = link(number, &names);
            cameras.push(CameraRules {
                rules: judged_rules(config, camera.stale, rules),
                names: names.clone(),
                board: link.board.clone(),
            });
            viewpoints.push(Viewpoint::new(camera, &model, names, link)?);
        }
        let engine = Engine { network, decoder: FrameDecoder::default(), viewpoints };
        Ok(Self { engine, rules: NewRules { cameras, lines: [].into(), inputs: [].into() } })
    }

    /// Connects the rules with their lines and inputs, both in the order of the configuration.
    pub(crate) fn wire(&mut self, lines: LineList, inputs: InputList) {
        for input in inputs.iter() {
            input.set_cameras(self.engine.viewpoints.len());
        }
        for viewpoint in &mut self.engine.viewpoints {
            viewpoint.inputs = inputs.clone();
        }
        (self.rules.lines, self.rules.inputs) = (lines, inputs);
    }
}

/// The rules, if the model can judge them.
///
/// # Errors
/// Conditions on boxes where the network finds none, or on several things where it finds one.
pub(super) fn checked(path: &Path, model: &Model, rules: Vec<Vec<Rule>>) -> Result<Vec<Vec<Rule>>> {
    let is_of_boxes = |rule: &Rule| rule.boxes.is_of_boxes() || rule.boxes.is_of_several();
    let unfit = |rule: &&Rule| match model.head() {
        Head::Boxes(_) => false,
        Head::Points(_) => rule.boxes.is_of_boxes(),
        Head::Mask(_) => is_of_boxes(rule),
        _ => is_of_boxes(rule) || !rule.boxes.zone.is_empty(),
    };
    let of_several = |rule: &&Rule| match model.head() {
        Head::Points(head) => rule.boxes.is_of_several() && head.decoder().fields.is_none(),
        _ => false,
    };
    let (file, model_file) = (path.display(), model.file());
    if let Some(Rule { name, .. }) = rules.iter().flatten().find(of_several) {
        bail!(
            "{file}: rule `{name}` has `count`, which is for networks that find boxes, or the points of several \
             things; {model_file} finds those of one: leave it out"
        );
    }
    if let Some(Rule { name: rule, .. }) = rules.iter().flatten().find(unfit) {
        let model = model_file;
        bail!(
            "{file}: rule `{rule}` has `least_size`, `count`, `dwell_s` or `crossing`, which are for networks that find \
             boxes, or `zone`, which is for those, for masks and for points; {model} does not say so where things are"
        );
    }
    Ok(rules)
}

/// A camera's rules as the judge takes them.
fn judged_rules(config: &Config, stale: Duration, rules: Vec<Rule>) -> Rules {
    let zone = if rules.iter().any(|rule| rule.hours.is_some()) { local_zone() } else { TimeZone::UTC };
    let line = |line: &crate::lines::LineConfig| LineFacts { name: line.name.clone(), safe: line.safe };
    Rules {
        triggers: Triggers::new(rules),
        lines: config.lines.iter().map(line).collect(),
        inputs: config.inputs.iter().map(|input| input.name.clone()).collect(),
        zone,
        stale,
        dry_run: config.dry_run,
        tracking: config.tracking,
    }
}

impl Engine {
    /// Looks at the frame of a camera. Its scores are those of the classes of what is looked at, one after
    /// another; they stay for what shows nothing new. Gives how many are new.
    fn classify(&mut self, camera: usize) -> Result<usize, RuntimeError> {
        let Self { network, decoder, viewpoints } = self;
        let viewpoint = &mut viewpoints[camera];
        // Whoever asks for a single frame does not want to know what another one showed.
        let must = viewpoint.is_triggered();
        let tiles = viewpoint.tiles();
        let Viewpoint { sights, tiled, memory, .. } = viewpoint;
        let Memory { frame, scores, boxes, masks, points, .. } = memory;
        let image = frame.image(decoder)?;
        let classes = network.classes();
        scores.resize(classes * sights.len() / tiles, 0.0);
        boxes.reserve((network.most() * sights.len()).saturating_sub(boxes.len()));
        for tiled in tiled.iter_mut() {
            tiled.reserve(network.most() * tiles);
        }
        if network.mask().is_some() {
            masks.resize_with(sights.len(), SeenMask::default);
        }
        points.reserve((network.most_points() * sights.len()).saturating_sub(points.len()));
        let (threads, most_points, mut new) = (network.threads(), network.most_points(), 0);
        for (look, sight) in sights.iter_mut().enumerate() {
            let begin = Instant::now();
            let number = look / tiles;
            let Some(scores) = scores.chunks_exact_mut(classes).nth(number) else { continue };
            let Some(input) = sight.look(&*threads, &image, must)? else { continue };
            network.look(input, scores)?;
            if let Some(inspection) = network.inspection() {
                let probability = scores.get(Inspection::ANOMALY).copied().unwrap_or_default();
                sight.inspected(&image, inspection, network.map(), probability);
            }
            sight.classified(begin.elapsed());
            new += 1;
            if let (Some((found, size)), Some(seen)) = (network.mask(), masks.get_mut(number)) {
                sight.masked(found, size, seen);
            }
            if let Some(found) = network.points() {
                let first = number * classes;
                // Those of other parts of the frame stay.
                points.retain(|point| !(first..first + classes).contains(&point.class));
                // No more things than points.
                let firsts = [first, number * most_points];
                points.extend(found.iter().map(|found| sight.seen_point(firsts, found)));
                points.sort_unstable_by(|a, b| a.class.cmp(&b.class).then(b.score.total_cmp(&a.score)));
            }
            let Some(found) = network.boxes() else { continue };
            let found = found.iter().map(|found| sight.seen(found));
            match tiled.get_mut(number) {
                None => put(boxes, number, classes, found),
                Some(tiled) => tiled.replace(look % tiles, found.map(SeenBox::detection)),
            }
        }
        for ((number, tiled), scores) in tiled.iter_mut().enumerate().zip(scores.chunks_exact_mut(classes)) {
            let Some(merged) = tiled.merge_changed() else { continue };
            scores.fill(0.0);
            for found in merged {
                scores[found.class] = scores[found.class].max(found.score);
            }
            put(boxes, number, classes, merged.iter().map(SeenBox::of));
        }
        Ok(new)
    }

    /// Whether the capture stage of each camera has looked for a frame of late, but that of `except`;
    /// `now` is since the start of the service.
    fn is_looked_for(&self, now: Duration, except: Option<usize>) -> bool {
        let others = self.viewpoints.iter().enumerate().filter(|(camera, _)| Some(*camera) != except);
        others.map(|(_, viewpoint)| &viewpoint.link).all(|link| {
            // There is nothing to look for when the frames are at their end.
            link.frames.is_done() || link.looked.is_recent(now)
        })
    }

    /// Goes on with what another one had seen of the same cameras.
    fn take_over(&mut self, other: &mut Self) {
        for viewpoint in &mut self.viewpoints {
            let before = other.viewpoints.iter_mut().find(|old| Arc::ptr_eq(&old.link, &viewpoint.link));
            if let Some(before) = before {
                std::mem::swap(&mut viewpoint.memory, &mut before.memory);
            }
        }
    }
}

/// Puts the boxes of a part in the place of those that it had. Those of other parts stay; classes of all
/// parts stand one behind the other.
fn put(boxes: &mut Vec<SeenBox>, part: usize, classes: usize, found: impl Iterator<Item = SeenBox>) {
    boxes.retain(|seen| seen.class / classes != part);
    boxes.extend(found.map(|seen| SeenBox { class: part * classes + seen.class, ..seen }));
    boxes.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.class.cmp(&b.class)));
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
    /// Rung when a camera has a frame.
    pub(crate) filled: Arc<Bell>,
    pub(crate) programs: Arc<Slot<Program>>,
    pub(crate) snapshots: Arc<SnapshotTap>,
    pub(crate) notify: Arc<Notify>,
}

/// See the module.
pub(crate) struct InferStage<J> {
    reach: Reach,
    judging: J,
    turns: Turns,
    /// Memory of an observation, while it is not at the judge.
    judgement: Option<Judgement>,
    /// Whether a frame was classified.
    ready: bool,
    /// Whether systemd knows.
    told: bool,
    /// When systemd was last told that all is well though nothing is classified.
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
    /// For so many cameras.
    pub(crate) fn new(reach: Reach, judging: J, cameras: usize) -> Self {
        Self {
            reach,
            judging,
            turns: Turns::new(cameras),
            judgement: None,
            ready: false,
            told: false,
            idle: Instant::now(),
        }
    }

    /// Looks for one frame and has it judged.
    pub(crate) fn step(&mut self, engine: &mut Engine) -> Step {
        if let Some(program) = self.reach.programs.take() {
            return Step::Program(Box::new(program));
        }
        let now = Instant::now();
        let Some(camera) = self.turns.next(|camera| engine.viewpoints[camera].waits(now)) else {
            if engine.viewpoints.iter().all(|viewpoint| viewpoint.link.frames.is_done()) {
                return Step::End;
            }
            self.idle(engine);
            let paused = engine.viewpoints.iter().filter_map(Viewpoint::waits_until).min();
            let longest = now + IDLE_INTERVAL;
            return Step::Wait(paused.map_or(longest, |paused| paused.min(longest)));
        };
        let viewpoint = &mut engine.viewpoints[camera];
        if viewpoint.link.frames.take(&mut viewpoint.memory.frame) != Taken::Frame {
            return Step::Again;
        }
        let going = if viewpoint.is_wanted(camera) {
            self.classify(engine, camera, true)
        } else if !viewpoint.memory.ready {
            // The first is classified all the same, to know that everything works.
            self.classify(engine, camera, false)
        } else {
            self.turns.had(camera, 0);
            self.idle(engine);
            self.judge(&mut engine.viewpoints[camera], camera, None)
        };
        if going { Step::Again } else { Step::End }
    }

    /// Classifies a camera's frame, for the rules or only to see that it can be done. `false` if nobody
    /// judges any more.
    fn classify(&mut self, engine: &mut Engine, camera: usize, for_rules: bool) -> bool {
        let begin = Instant::now();
        let result = engine.classify(camera);
        self.turns.had(camera, *result.as_ref().unwrap_or(&1));
        let new = match result {
            Ok(new) => new,
            Err(error) => {
                self.refused(engine, camera, &error);
                return true;
            }
        };
        let took = begin.elapsed();
        let says = for_rules.then(|| engine.network.says());
        let viewpoint = &mut engine.viewpoints[camera];
        // A long pause after a long inference is no reason to give up the lines.
        viewpoint.memory.next = begin + viewpoint.pace.interval(took).min(viewpoint.stale / 2);
        // Before the rules are judged: an event says where.
        let anomalies = viewpoint.sights.iter().filter_map(|sight| sight.anomaly.as_ref());
        viewpoint.link.board.set_anomalies(anomalies);
        viewpoint.link.board.set_masks(viewpoint.memory.frame.number, &viewpoint.memory.masks);
        if !self.judge(viewpoint, camera, says) {
            return false;
        }
        self.show(&engine.viewpoints[camera], engine.network.classes());
        let viewpoint = &mut engine.viewpoints[camera];
        let telemetry = &viewpoint.link.board.telemetry;
        if new == 0 {
            // The watchdog hears of inferences, and that nothing is amiss between them.
            telemetry.unchanged.one_more();
            self.idle(engine);
            return true;
        }
        telemetry.inference.add(took);
        telemetry.inferences.one_more();
        let name = viewpoint.names.prefix();
        cool(&mut viewpoint.pace, name, self.reach.board.telemetry.temperature_celsius.value());
        if !std::mem::replace(&mut viewpoint.memory.ready, true) {
            let tiles = viewpoint.tiles();
            let regions = viewpoint.sights.len() / tiles;
            let mut of = if regions > 1 { format!(", {regions} regions") } else { String::new() };
            if tiles > 1 {
                of += &format!(", {tiles} tiles");
            }
            let took = took.as_secs_f64() * 1e3;
            log::info!("{name}ready: first frame classified in {took:.1} ms{of}");
        }
        self.ready = true;
        // Again with the next frame if systemd's queue was full: nothing else says it.
        self.told = self.told || self.reach.notify.send("READY=1");
        // This camera was looked for, or it had no frame.
        if engine.is_looked_for(self.reach.board.now(), Some(camera)) {
            self.reach.notify.send("WATCHDOG=1");
        }
        true
    }

    /// Shows what was seen to those who want to know.
    fn show(&self, viewpoint: &Viewpoint, classes: usize) {
        let Viewpoint { link, names, sights, memory: Memory { frame, scores, .. }, .. } = viewpoint;
        if let Some(judgement) = &self.judgement
            && !judgement.snapshots.is_empty()
        {
            self.reach.snapshots.take(&judgement.snapshots, frame, names);
        }
        link.board.tap.pass(frame, scores);
        let (best, probability) = likeliest(scores);
        link.board.set_last((best, probability, frame.number));
        if !names.view.regions.is_empty() {
            let parts = scores.chunks_exact(classes).zip(sights.chunks(viewpoint.tiles())).enumerate();
            link.board.set_regions(parts.map(|(number, (scores, sights))| {
                let (class, probability) = likeliest(scores);
                (number * classes + class, probability, sights.iter().map(|sight| sight.took).sum())
            }));
        }
    }

    /// The frame of a camera could not be classified.
    fn refused(&mut self, engine: &Engine, camera: usize, error: &RuntimeError) {
        let viewpoint = &engine.viewpoints[camera];
        let telemetry = &viewpoint.link.board.telemetry;
        if matches!(error, RuntimeError::Imaging(ImagingError::Image { .. } | ImagingError::Preprocessing(_)))
        {
            telemetry.corrupt.one_more();
            // Rubbish from the source is as good as no frame: a restart would not help.
            self.idle(engine);
        } else {
            telemetry.inference_errors.one_more();
        }
        log::error!("{}frame {}: {error}", viewpoint.names.prefix(), viewpoint.memory.frame.number);
    }

    /// Has a camera's frame judged, by its scores, which this made, or only as one that came.
    fn judge(&mut self, viewpoint: &mut Viewpoint, camera: usize, says: Option<Says>) -> bool {
        let start = viewpoint.link.board.start;
        let Memory { frame, scores, boxes, masks, points, .. } = &mut viewpoint.memory;
        let finding = match says {
            None => Finding::Unseen,
            Some(Says::Boxes) => Finding::Boxes(std::mem::take(scores), std::mem::take(boxes)),
            Some(Says::Masks) => Finding::Masks(std::mem::take(scores), std::mem::take(masks)),
            Some(Says::Points) => Finding::Points(std::mem::take(scores), std::mem::take(points)),
            Some(Says::Classes(Activation::Softmax)) => Finding::Classes(std::mem::take(scores)),
            Some(Says::Classes(Activation::Sigmoid)) => Finding::Independent(std::mem::take(scores)),
        };
        let observation = Observation {
            frame: frame.number,
            arrival: frame.arrival.saturating_duration_since(start),
            finding,
        };
        let snapshots = self.judgement.take().map_or_else(Vec::new, |old| old.snapshots);
        let Some(mut judged) = self.judging.judge(Judgement { camera, observation, snapshots }) else {
            return false;
        };
        let finding = std::mem::replace(&mut judged.observation.finding, Finding::Unseen);
        let judged_memory = finding.into_memory();
        *scores = judged_memory.scores.unwrap_or(std::mem::take(scores));
        *boxes = judged_memory.boxes.unwrap_or(std::mem::take(boxes));
        *masks = judged_memory.masks.unwrap_or(std::mem::take(masks));
        *points = judged_memory.points.unwrap_or(std::mem::take(points));
        self.judgement = Some(judged);
        true
    }

    /// Nothing to classify: tells systemd that all is well, if it is. That no frame comes is
    /// no reason to be restarted, which would not bring a camera back; but the capture
    /// stages must have looked for one, so that their hanging is noticed.
    fn idle(&mut self, engine: &Engine) {
        let alive = engine.is_looked_for(self.reach.board.now(), None);
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
fn cool(pace: &mut Pace, camera: Prefix<'_>, celsius: Option<f64>) {
    if let Some(celsius) = celsius
        && pace.temperature(celsius)
    {
        match pace.limit() {
            Some(rate) => log::warn!("{camera}{celsius:.1} °C: {rate} inferences per second at most"),
            None => log::info!("{camera}{celsius:.1} °C: no limit by temperature any more"),
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
    let bell = stage.reach.filled.clone();
    loop {
        let threads = engine.network.threads();
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
        let Program { engine: mut new, rules } = *program;
        stage.judging.replace(rules);
        settled();
        new.take_over(&mut engine);
        stage.turns = Turns::new(new.viewpoints.len());
        engine = new;
    }
}

#[cfg(test)]
#[path = "infer_tests/mod.rs"]
mod tests;
