//! A camera as inference sees it: its frames, what is looked at in them, and how often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resight_imaging::{Fit, ImagingError, Region, Rotation};
use resight_model_file::Labels;
use resight_runtime::{Bounds, Head, Model, TiledBoxes};
use resight_status::{RegionView, RuleFacts, RulePlace, View};

use super::capture::CameraLink;
use super::sight::Sight;
use crate::camera::Wanted;
use crate::config::{Config, RegionConfig, ViewpointConfig};
use crate::frame::Frame;
use crate::judge::{BoxCondition, Happening, Mode, Rule, SeenBox, SeenMask, SeenPoint};
use crate::lines::InputList;
use crate::names::{Names, SharedNames};
use crate::pace::Pace;

/// Classes of a rule whose names are shown.
const CLASSES: usize = 8;

/// See the module.
pub(crate) struct Viewpoint {
    pub(crate) link: Arc<CameraLink>,
    /// What a camera's frames should hold.
    pub(crate) wanted: Wanted,
    /// One at least; of tiles all of a part before those of the next.
    pub(super) sights: Vec<Sight>,
    /// The boxes of the tiles of each part; none where parts are looked at as a whole.
    pub(super) tiled: Vec<TiledBoxes>,
    pub(super) inputs: InputList,
    pub(super) names: SharedNames,
    /// A pause is no longer than half of it.
    pub(super) stale: Duration,
    pub(super) pace: Pace,
    pub(super) memory: Memory,
}

/// What outlives a reload.
pub(super) struct Memory {
    pub(super) frame: Frame,
    /// The last scores.
    pub(super) scores: Vec<f32>,
    /// The last boxes, the likeliest first.
    pub(super) boxes: Vec<SeenBox>,
    /// The last masks, one for each part that is looked at.
    pub(super) masks: Vec<SeenMask>,
    /// The last points, one class after another, the surest of each first.
    pub(super) points: Vec<SeenPoint>,
    /// Whether a frame was classified.
    pub(super) ready: bool,
    /// When the next may be.
    pub(super) next: Instant,
}

impl Viewpoint {
    pub(super) fn new(
        config: &ViewpointConfig,
        model: &Model,
        names: SharedNames,
        link: Arc<CameraLink>,
    ) -> Result<Self, ImagingError> {
        Ok(Self {
            link,
            wanted: wanted(config, model),
            sights: sights(config, model)?,
            tiled: tiled(config),
            inputs: [].into(),
            names,
            stale: config.stale,
            pace: Pace::new(config.pace.clone()),
            memory: Memory {
                frame: Frame::new(),
                scores: vec![],
                boxes: vec![],
                masks: vec![],
                points: vec![],
                ready: false,
                next: Instant::now(),
            },
        })
    }

    /// How many looks each part takes: its tiles.
    pub(super) fn tiles(&self) -> usize {
        if self.tiled.is_empty() { 1 } else { self.sights.len() / self.tiled.len() }
    }

    /// Whether it has a frame that may be classified now.
    pub(super) fn waits(&self, now: Instant) -> bool {
        now >= self.memory.next && !self.link.frames.has_room()
    }

    /// When it has one, though not yet.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        (!self.link.frames.has_room()).then_some(self.memory.next)
    }

    /// Whether frames are classified only when an input becomes active.
    pub(super) fn is_triggered(&self) -> bool {
        self.inputs.iter().any(|input| input.is_trigger())
    }

    /// Whether the frame is to be classified for the rules; `camera` is the number of this camera.
    pub(super) fn is_wanted(&self, camera: usize) -> bool {
        let mut answered = false;
        for input in self.inputs.iter().filter(|input| input.is_trigger()) {
            // Each must know that this frame is there.
            answered |= input.answer(camera, self.memory.frame.arrival);
        }
        answered || !self.is_triggered()
    }
}

/// What those who show a camera are told of its configuration and the model.
pub(super) fn names(
    config: &Config,
    camera: &ViewpointConfig,
    model: &Model,
    isa: &'static str,
    rules: &[Rule],
) -> SharedNames {
    Arc::new(Names {
        camera: camera.name.clone(),
        model: model.name().to_owned(),
        isa,
        rules: rules.iter().map(|rule| facts(config, model.labels(), rule)).collect(),
        labels: model.labels().clone(),
        colours: match model.head() {
            Head::Mask(head) => (0..head.classes()).map(|class| head.colour(class)).collect(),
            _ => vec![],
        },
        links: match model.head() {
            Head::Points(head) => {
                head.decoder().fields.as_ref().map(|fields| fields.links.clone()).unwrap_or_default()
            }
            _ => vec![],
        },
        view: view(camera, model),
    })
}

/// What is looked at.
fn sights(config: &ViewpointConfig, model: &Model) -> Result<Vec<Sight>, ImagingError> {
    let orientation = config.image.orientation;
    let sight = |region: Region| Sight::new(model, region, orientation, config.pace.on_change);
    looks(config).map(sight).collect()
}

/// The tiles of each part, if there are any, as shares of the frame.
fn tiled(config: &ViewpointConfig) -> Vec<TiledBoxes> {
    let bounds = |Region { left, top, width, height }: Region| Bounds {
        left,
        top,
        right: left + width,
        bottom: top + height,
    };
    let tiles = config.image.tiles;
    let of_part = |part: Region| tiles.map(|tiles| TiledBoxes::new(tiles.parts(part).map(bounds)));
    parts(config).filter_map(of_part).collect()
}

/// What the network looks at: the parts of a frame, or the tiles of each.
fn looks(config: &ViewpointConfig) -> impl Iterator<Item = Region> {
    let tiles = config.image.tiles;
    parts(config).flat_map(move |part| {
        let whole = tiles.is_none().then_some(part);
        tiles.into_iter().flat_map(move |tiles| tiles.parts(part)).chain(whole)
    })
}

/// The parts of a frame that the network sees: one at least.
fn parts(config: &ViewpointConfig) -> impl Iterator<Item = Region> {
    let only = config.regions.is_empty().then_some(config.image.region);
    config.regions.iter().map(|region| region.area).chain(only)
}

/// What a camera's frames should hold for that.
fn wanted(config: &ViewpointConfig, model: &Model) -> Wanted {
    let side = model.preprocessing().resize_shorter;
    let larger =
        |a: Wanted, b: Wanted| Wanted { width: a.width.max(b.width), height: a.height.max(b.height) };
    let each = looks(config).map(|area| Wanted::new(side, area));
    each.reduce(larger).unwrap_or(Wanted::new(side, config.image.region))
}

/// What the page shows of a rule's configuration.
fn facts(config: &Config, labels: &Labels, rule: &Rule) -> RuleFacts {
    let (mode, pulse_ms) = match rule.mode {
        Mode::Level => ("level", None),
        Mode::Pulse(length) => ("pulse", Some(length.as_millis() as u64)),
        Mode::Toggle => ("toggle", None),
    };
    let count = labels.len().max(1);
    let classes = rule.classes.iter().filter_map(|score| labels.name(score % count));
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
        place: place(&rule.boxes),
    }
}

/// Where a rule looks; `None` where that is everywhere.
fn place(condition: &BoxCondition) -> Option<RulePlace> {
    let crossing = match condition.happening {
        Happening::Crosses(line) => Some(line),
        Happening::Stays(_) => None,
    };
    let place = RulePlace {
        zone: condition.zone.clone(),
        crossing: crossing.map(|line| line.ends),
        direction: crossing.and_then(|line| line.direction).map(|direction| direction.name().to_owned()),
        dwell_s: match condition.happening {
            Happening::Stays(least) if !least.is_zero() => Some(least.as_secs_f64()),
            _ => None,
        },
        count: (condition.count > 1).then_some(condition.count),
        least_size: (condition.least_size > 0.0).then_some(condition.least_size),
    };
    (place != RulePlace::default()).then_some(place)
}

/// Which part of a frame the network sees.
fn view(config: &ViewpointConfig, model: &Model) -> View {
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
        tiles: config.image.tiles.map(|tiles| tiles.size()),
        finds: match model.head() {
            Head::Boxes(_) => Some("boxes".to_owned()),
            Head::Mask(_) => Some("mask".to_owned()),
            _ => None,
        },
    }
}
