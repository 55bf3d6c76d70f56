//! What the stages publish of one camera.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use resight_imaging::Rectangle;
use resight_status::{
    AnomalyFigures, CameraFigures, CameraState, Last, RegionFigures, RuleStatus, SourceState, SourceStatus,
    Times,
};

use crate::judge::{Bars, Counted, SeenMask, Standing};
use crate::names::{Names, SharedNames};
use crate::picture::FrameTap;
use crate::sync::lock;
use crate::telemetry::{self, CameraTelemetry};

/// How things stand with the rules of a camera, after the judge's last step.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) names: SharedNames,
    pub(crate) rules: Vec<(Bars, Standing)>,
    /// How many things rules have counted, in the order of the rules.
    pub(crate) counted: Vec<Counted>,
    pub(crate) stale: bool,
    /// Whether lines stay at their safe levels, whatever the rules say.
    pub(crate) dry_run: bool,
    /// Whether the configuration asks for that.
    pub(crate) dry_run_configured: bool,
}

impl Judged {
    /// Before anything was judged.
    pub(crate) fn nothing_yet(names: &SharedNames) -> Self {
        Self {
            names: names.clone(),
            rules: vec![],
            counted: vec![],
            stale: true,
            dry_run: false,
            dry_run_configured: false,
        }
    }

    /// Whether each rule is active, in their order.
    pub(crate) fn active(&self) -> impl Iterator<Item = bool> {
        self.rules.iter().map(|(_, standing)| standing.active)
    }

    /// How many things a rule has counted, by the names of their classes.
    pub(crate) fn counted(&self, rule: usize) -> impl Iterator<Item = (String, u64)> {
        let of_rule = self.counted.iter().filter(move |counted| counted.rule == rule);
        of_rule.map(|counted| (self.names.class(counted.class), counted.count))
    }

    /// How many things each rule has counted in all.
    pub(crate) fn totals(&self) -> impl Iterator<Item = u64> {
        let of = |rule: usize| self.counted.iter().filter(move |counted| counted.rule == rule);
        (0..self.rules.len()).map(move |rule| of(rule).map(|counted| counted.count).sum())
    }

    fn waits_for(&self, bars: Bars, standing: Standing, now: Duration) -> Vec<String> {
        let cooling = !standing.active && standing.ready_at > now;
        let causes = [
            (bars.switch, "switch"),
            (bars.input, "input"),
            (bars.hours, "hours"),
            (self.stale, "frames"),
            (cooling, "cooldown"),
        ];
        let mut found: Vec<String> =
            causes.into_iter().filter(|(waits, _)| *waits).map(|(_, name)| name.to_owned()).collect();
        if found.is_empty() && !standing.active {
            found.push("hits".to_owned());
        }
        found
    }

    /// Each rule, `now` since the start of the service.
    pub(super) fn rules(&self, now: Duration) -> impl Iterator<Item = RuleStatus> {
        let rules = self.names.rules.iter().zip(&self.rules).enumerate();
        rules.map(move |(index, (facts, (bars, standing)))| RuleStatus {
            facts: facts.clone(),
            camera: self.names.camera.clone(),
            armed: !bars.any(),
            switched_off: bars.switch,
            active: standing.active,
            waits_for: self.waits_for(*bars, *standing, now),
            ready_at_ms: standing.ready_at.as_millis() as u64,
            counted: self.counted(index).collect(),
        })
    }
}

/// How a source is doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SourceReport {
    pub(crate) path: String,
    /// Whether frames come from it since it was opened.
    pub(crate) streaming: bool,
    /// Why it was lost; until it is open again.
    pub(crate) error: Option<String>,
    pub(crate) ended: bool,
}

/// The likeliest class of a frame, its probability and the frame's number.
pub(crate) type LastSeen = (usize, f32, u64);

/// The likeliest class of a region as its score's number, its probability, and what it cost.
pub(crate) type RegionSeen = (usize, f32, Duration);

/// What is not typical in a frame, or in a region of it.
#[derive(Debug, Default)]
pub(crate) struct AnomalySeen {
    /// Height and width of the map.
    pub(crate) size: [usize; 2],
    /// How far each place is from what is typical, in thresholds, row by row of the frame.
    pub(crate) map: Vec<f32>,
    /// What the map covers, in shares of the frame; of a letterbox more than the frame.
    pub(crate) covers: Rectangle,
    /// What is around the farthest place, in shares of the frame.
    pub(crate) area: Rectangle,
    /// That there is an anomaly, `0..=1`.
    pub(crate) probability: f32,
}

impl AnomalySeen {
    /// Allocates nothing once it has held as much.
    fn copy(&mut self, other: &Self) {
        self.map.clone_from(&other.map);
        (self.size, self.covers, self.area) = (other.size, other.covers, other.area);
        self.probability = other.probability;
    }
}

/// Most rows and columns of a mask that is shown: a page at a distance needs no more.
const SHOWN: usize = 128;

/// The masks of a frame as they are shown, coarser than they were found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ShownMasks {
    /// The frame's number; 0 before there was one.
    pub(crate) frame: u64,
    /// One, or one for each region.
    pub(crate) masks: Vec<SeenMask>,
}

/// Every n-th row and column of a mask, so that it is no larger than what is shown.
fn thin(mask: &SeenMask, thinned: &mut SeenMask) {
    let [rows, columns] = mask.size;
    let step = rows.max(columns).div_ceil(SHOWN).max(1);
    thinned.size = [rows.div_ceil(step), columns.div_ceil(step)];
    let [left, top, width, height] = mask.covers;
    // The last step may reach beyond.
    let length = |cells: usize, of: usize, whole: f32| whole * (cells * step) as f32 / of.max(1) as f32;
    thinned.covers =
        [left, top, length(thinned.size[1], columns, width), length(thinned.size[0], rows, height)];
    thinned.classes.clear();
    for line in mask.classes.chunks_exact(columns.max(1)).step_by(step) {
        thinned.classes.extend(line.iter().step_by(step));
    }
}

/// See the module.
pub(crate) struct CameraBoard {
    pub(crate) start: Instant,
    pub(crate) telemetry: CameraTelemetry,
    /// Gives its frames to those who ask.
    pub(crate) tap: FrameTap,
    judged: Mutex<Arc<Judged>>,
    source: Mutex<SourceReport>,
    last: Mutex<Option<LastSeen>>,
    /// Empty where there are no regions.
    regions: Mutex<Vec<RegionSeen>>,
    /// Empty where no anomalies are looked for; else one, or one for each region.
    anomalies: Mutex<Vec<AnomalySeen>>,
    masks: Mutex<ShownMasks>,
}

impl CameraBoard {
    /// Before anything was judged; times are since `start`.
    pub(crate) fn new(start: Instant, names: &SharedNames) -> Self {
        let telemetry = CameraTelemetry::default();
        telemetry.stale.set(1);
        Self {
            start,
            telemetry,
            tap: FrameTap::default(),
            judged: Mutex::new(Arc::new(Judged::nothing_yet(names))),
            source: Mutex::default(),
            last: Mutex::default(),
            regions: Mutex::default(),
            anomalies: Mutex::default(),
            masks: Mutex::default(),
        }
    }

    /// Puts up what the judge says, and gives what was there.
    pub(crate) fn publish(&self, judged: Arc<Judged>) -> Arc<Judged> {
        std::mem::replace(&mut *lock(&self.judged), judged)
    }

    /// What the judge said last.
    pub(crate) fn judged(&self) -> Arc<Judged> {
        lock(&self.judged).clone()
    }

    /// What the running model and rules are called.
    pub(crate) fn names(&self) -> SharedNames {
        self.judged().names.clone()
    }

    pub(crate) fn set_last(&self, last: LastSeen) {
        *lock(&self.last) = Some(last);
    }

    /// Puts up what each region shows. Allocates nothing once it has held as many.
    pub(crate) fn set_regions(&self, seen: impl Iterator<Item = RegionSeen>) {
        let mut regions = lock(&self.regions);
        regions.clear();
        regions.extend(seen);
    }

    /// Puts up what is not typical. Allocates nothing once it has held as much.
    pub(crate) fn set_anomalies<'a>(&self, seen: impl Iterator<Item = &'a AnomalySeen>) {
        let mut kept = lock(&self.anomalies);
        let mut count = 0;
        for seen in seen {
            if count == kept.len() {
                kept.push(AnomalySeen::default());
            }
            kept[count].copy(seen);
            count += 1;
        }
        kept.truncate(count);
    }

    /// Puts up what each place belongs to, if the network says that. Allocates nothing once it has held as
    /// much.
    pub(crate) fn set_masks(&self, frame: u64, seen: &[SeenMask]) {
        if seen.is_empty() {
            return;
        }
        let mut shown = lock(&self.masks);
        shown.frame = frame;
        shown.masks.resize_with(seen.len(), SeenMask::default);
        shown.masks.iter_mut().zip(seen).for_each(|(shown, seen)| thin(seen, shown));
    }

    /// The masks of the last frame, if that is another than the one of this number.
    pub(crate) fn masks_after(&self, frame: u64) -> Option<ShownMasks> {
        let shown = lock(&self.masks);
        (shown.frame != frame).then(|| shown.clone())
    }

    /// Where the last frame was least typical, in the region of a score; nothing where no anomalies are
    /// looked for.
    pub(crate) fn area(&self, score: usize, names: &Names) -> Option<Rectangle> {
        let region = if names.view.regions.is_empty() { 0 } else { score / names.labels.len().max(1) };
        lock(&self.anomalies).get(region).map(|seen| seen.area)
    }

    pub(super) fn anomalies(&self, names: &Names) -> Vec<AnomalyFigures> {
        let kept = lock(&self.anomalies);
        let figures = kept.iter().enumerate().map(|(number, seen)| AnomalyFigures {
            region: names.view.regions.get(number).map(|region| region.name.clone()),
            probability: seen.probability.into(),
            area: seen.area.map(f64::from),
            covers: seen.covers.map(f64::from),
            size: seen.size,
            // More digits say no more.
            map: seen.map.iter().map(|far| (f64::from(*far) * 1e3).round() / 1e3).collect(),
        });
        figures.collect()
    }

    /// Changes what is known of the source.
    pub(crate) fn set_source(&self, change: impl FnOnce(&mut SourceReport)) {
        let mut source = lock(&self.source);
        change(&mut source);
        self.telemetry.source_up.set((source.streaming && !source.ended).into());
    }

    /// Since the start of the service.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn last(&self, names: &Names) -> Option<Last> {
        let (score, probability, frame) = (*lock(&self.last))?;
        Some(Last {
            class: names.place(score).0,
            name: names.label(score).map(str::to_owned),
            probability: probability.into(),
            frame,
        })
    }

    pub(super) fn regions(&self, names: &Names) -> Vec<RegionFigures> {
        let seen = lock(&self.regions).clone();
        let known = names.view.regions.iter().zip(seen);
        let figures = known.map(|(region, (score, probability, took))| RegionFigures {
            name: region.name.clone(),
            class: names.place(score).0,
            label: names.label(score).map(str::to_owned),
            probability: probability.into(),
            inference_ms: took.as_secs_f64() * 1e3,
        });
        figures.collect()
    }

    /// How the source is doing, where the judge says this of the frames.
    pub(super) fn source(&self, judged: &Judged) -> SourceStatus {
        let source = lock(&self.source).clone();
        let state = match &source {
            SourceReport { ended: true, .. } => SourceState::Ended,
            SourceReport { error: Some(_), .. } => SourceState::Lost,
            SourceReport { streaming: false, .. } => SourceState::Opening,
            _ if judged.stale => SourceState::Silent,
            _ => SourceState::Streaming,
        };
        SourceStatus { name: source.path, state, error: source.error }
    }

    /// As one of several cameras; `None` for one that has no name, because it is the only one.
    pub(super) fn state(&self) -> Option<CameraState> {
        let judged = self.judged();
        let name = judged.names.camera.clone()?;
        Some(CameraState { name, view: judged.names.view.clone(), source: self.source(&judged) })
    }

    /// The same of its figures; `counts` are those of this camera.
    pub(super) fn figures(
        &self,
        counts: serde_json::Map<String, serde_json::Value>,
    ) -> Option<CameraFigures> {
        let names = self.names();
        let telemetry = &self.telemetry;
        Some(CameraFigures {
            name: names.camera.clone()?,
            stale: telemetry.stale.is_set(),
            latency: times(&telemetry.latency.read()),
            line_write: times(&telemetry.line_write.read()),
            inference: times(&telemetry.inference.read()),
            last: self.last(&names),
            regions: self.regions(&names),
            anomalies: self.anomalies(&names),
            counts,
        })
    }
}

/// Times as they are shown.
pub(super) fn times(read: &telemetry::Times) -> Times {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Times {
        count: read.count,
        p50_ms: ms(read.quantile(0.5)),
        p95_ms: ms(read.quantile(0.95)),
        p99_ms: ms(read.quantile(0.99)),
        max_ms: ms(read.maximum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_shown_no_finer_than_can_be_seen_and_where_it_was() {
        let classes: Vec<u8> = (0..300_usize * 200).map(|index| (index % 200 / 100) as u8).collect();
        let mask = SeenMask { classes, size: [300, 200], covers: [0.0, 0.25, 1.0, 0.5] };
        let mut thinned = SeenMask::default();
        thin(&mask, &mut thinned);
        assert_eq!((thinned.size, thinned.classes.len()), ([100, 67], 6700));
        assert_eq!(thinned.covers, [0.0, 0.25, 201.0 / 200.0, 0.5]);
        let row: Vec<u8> = (0..67).map(|column| u8::from(column * 3 >= 100)).collect();
        assert!(thinned.classes.chunks_exact(67).all(|line| line == row));
        let small = SeenMask { classes: vec![1, 2], size: [1, 2], covers: [0.0, 0.0, 1.0, 1.0] };
        thin(&small, &mut thinned);
        assert_eq!(thinned, small);
    }
}
