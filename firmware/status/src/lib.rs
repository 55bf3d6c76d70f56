//! `/status` of a running resightd as a type, for those who write it and those who read it.
//!
//! What a reader does not know it ignores, and what a later version might leave out has a default, so
//! that a reader and a service of different versions understand each other.

mod client;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::client::{ClientError, ask, ask_socket};

/// The form that this version writes. It grows when a field changes its meaning or goes.
pub const FORMAT: u32 = 1;

/// Name of the Unix socket in the service's runtime directory that tells whoever connects.
pub const SOCKET: &str = "status.sock";

/// What [`SOCKET`] tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The configuration that the service runs with: its path without links.
    pub configuration: String,
    /// Everything.
    pub status: Status,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    /// What changes now and then.
    pub state: State,
    #[serde(flatten)]
    /// What changes with each frame.
    pub figures: Figures,
}

impl Status {
    /// Reads an answer.
    ///
    /// # Errors
    /// Text that is no status.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// A number that the service counts, by its name, such as `inferences`.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.figures.counts.get(name).and_then(Value::as_u64)
    }
}

/// What changes now and then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// See [`FORMAT`]; 0 from services before there was one.
    #[serde(default)]
    pub format: u32,
    /// Of the program.
    pub version: String,
    /// The model's name.
    pub model: String,
    /// Name of the kernels that run it.
    pub kernels: String,
    /// Which part of a frame the network sees.
    pub view: View,
    /// How the source is doing.
    pub source: SourceStatus,
    /// Whether lines stay at their safe levels, whatever the rules say.
    pub dry_run: bool,
    /// Whether the configuration asks for that.
    pub dry_run_configured: bool,
    /// In the order of the configuration.
    pub rules: Vec<RuleStatus>,
    /// Whether each line is active; `None` after a failed write.
    pub lines: BTreeMap<String, Option<bool>>,
    /// Whether each input is active; `None` while it is unknown.
    pub inputs: BTreeMap<String, Option<bool>>,
    /// Each camera, where there are several; `view` is the first one's then, and `source` the one that is
    /// worst off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<CameraState>,
    /// Whether the reader may switch dry run and rules; only where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<bool>,
}

/// What changes now and then of one of several cameras.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraState {
    /// What it is called.
    pub name: String,
    /// Which part of a frame of it the network sees.
    pub view: View,
    /// How its source is doing.
    pub source: SourceStatus,
}

/// Which part of a frame the network sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Left, top, width and height, as shares of the frame.
    pub region: [f64; 4],
    /// Degrees clockwise: 0, 90, 180 or 270.
    pub rotate: u16,
    /// Whether left and right change places.
    pub mirror: bool,
    /// What the shorter side is resized to, in pixels.
    pub resize_shorter: u32,
    /// Height and width of what is cut out then, in pixels.
    pub crop: [u32; 2],
    /// How the region becomes as large as that where nothing is cut off: `squash` or `letterbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
    /// The parts that the network sees one by one, where there are several; `region` is the whole then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionView>,
    /// Rows and columns of the tiles that each of these parts is looked at in, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<[usize; 2]>,
    /// `boxes` or `mask`, of a network that says where things are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finds: Option<String>,
}

/// A part of each frame that is classified by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionView {
    /// What it is called.
    pub name: String,
    /// Left, top, width and height, as shares of the frame.
    pub area: [f64; 4],
}

/// How the source is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its path, or what it is called.
    pub name: String,
    /// What it does.
    pub state: SourceState,
    /// Why it was lost, until it is open again.
    pub error: Option<String>,
}

/// What the source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Not yet open, or without a frame since.
    Opening,
    /// Frames come.
    Streaming,
    /// Frames have stopped coming.
    Silent,
    /// It cannot be opened or read, and is tried again.
    Lost,
    /// There are no more frames.
    Ended,
}

/// A rule as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleFacts {
    /// What it is called.
    pub name: String,
    /// Names of the first of its classes.
    pub classes: Vec<String>,
    /// How many they are.
    pub class_count: usize,
    /// What the sum of their probabilities must reach, `0..=1`.
    pub threshold: f64,
    /// Hits needed.
    pub hits: usize,
    /// Frames looked at.
    pub frames: usize,
    /// `level`, `pulse` or `toggle`.
    pub mode: String,
    /// How long a pulse is.
    pub pulse_ms: Option<u64>,
    /// Name of the input without which it does not act.
    pub armed_by: Option<String>,
    /// Names of its lines.
    pub lines: Vec<String>,
    /// Which boxes or which part of a mask it looks at, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<RulePlace>,
}

/// Where a rule looks, of a network that says where things are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RulePlace {
    /// Corners `[x, y]` of its zone, as shares of the picture; none where it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zone: Vec<[f32; 2]>,
    /// The ends of the line that is crossed, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crossing: Option<[[f32; 2]; 2]>,
    /// `up`, `down`, `left` or `right`; `None` is either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// How long a thing must stay, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dwell_s: Option<f64>,
    /// How many boxes there must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// The least share of the picture that a box must cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_size: Option<f32>,
}

/// A rule, and how things stand with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    #[serde(flatten)]
    /// As it is configured.
    pub facts: RuleFacts,
    /// The camera that it is about, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Whether it may act.
    pub armed: bool,
    /// Whether somebody has disarmed it.
    pub switched_off: bool,
    /// Whether it is active.
    pub active: bool,
    /// What keeps it from being active: `switch`, `input`, `hours`, `frames`, `cooldown`, `hits`.
    pub waits_for: Vec<String>,
    /// When its cooldown is over, since the start of the service.
    pub ready_at_ms: u64,
    /// How many things it has counted since the service began, by class, of a network that finds boxes:
    /// each that is followed and has been where the rule looks, for as long as it must stay; of a line each
    /// crossing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counted: BTreeMap<String, u64>,
}

/// What changes with each frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Whether no frame was classified for too long, or none yet; of several cameras, whether that is so
    /// of any.
    pub stale: bool,
    /// From a frame's arrival until the lines show it.
    pub latency: Times,
    /// From the decision of the rules until the last line that changed is written.
    pub line_write: Times,
    /// Preprocessing and network.
    pub inference: Times,
    /// Since the start of the service.
    pub uptime_s: f64,
    /// Of the hottest sensor, degrees Celsius.
    pub temperature_c: Option<f64>,
    /// What the last frame showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// What the last frame showed in each region, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionFigures>,
    /// What was not typical in the last frame, of a model that looks for that; one for each region, where
    /// there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<AnomalyFigures>,
    /// Each camera, where there are several; the other figures are those of all of them together then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub camera_figures: Vec<CameraFigures>,
    /// Everything that is counted, by name; of another version also what this one does not know.
    #[serde(flatten)]
    pub counts: Map<String, Value>,
}

/// What changes with each frame of one of several cameras.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraFigures {
    /// What it is called.
    pub name: String,
    /// Whether no frame of it was classified for too long, or none yet.
    pub stale: bool,
    /// From a frame's arrival until the lines show it.
    pub latency: Times,
    /// From the decision of the rules until the last line that changed is written.
    pub line_write: Times,
    /// Preprocessing and network.
    pub inference: Times,
    /// What its last frame showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// What that showed in each region, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionFigures>,
    /// What was not typical in its last frame, of a model that looks for that; one for each region, where
    /// there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<AnomalyFigures>,
    /// What is counted of it, by name.
    #[serde(flatten)]
    pub counts: Map<String, Value>,
}

/// Some times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Half of them are not above.
    pub p50_ms: f64,
    /// 95 of 100 are not above.
    pub p95_ms: f64,
    /// 99 of 100 are not above.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The likeliest class of a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Its index.
    pub class: usize,
    /// What the model calls it.
    pub name: Option<String>,
    /// `0..=1`.
    pub probability: f64,
    /// The frame's number.
    pub frame: u64,
}

/// What a region shows, and what that costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionFigures {
    /// What it is called.
    pub name: String,
    /// Index of its likeliest class.
    pub class: usize,
    /// What the model calls that.
    pub label: Option<String>,
    /// `0..=1`.
    pub probability: f64,
    /// Preprocessing and network, the last time that it was classified.
    pub inference_ms: f64,
}

/// What is not typical in a frame, or in a region of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyFigures {
    /// The region, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// That there is an anomaly, `0..=1`: the score of the class `anomaly`.
    pub probability: f64,
    /// What is around the place that is least typical: left, top, width and height, as shares of the frame.
    pub area: [f64; 4],
    /// What the map covers, likewise; margins of a letterbox lie beyond the frame.
    pub covers: [f64; 4],
    /// Height and width of the map.
    pub size: [usize; 2],
    /// How far each place is from what is typical, row by row; the threshold is 1.
    pub map: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of a service before this type was there.
    const BEFORE: &str = include_str!("../tests/status-before.json");

    #[test]
    fn what_an_earlier_service_says_is_understood_and_written_the_same() {
        let status = Status::parse(BEFORE).unwrap();
        assert_eq!(status.state.format, 0);
        assert_eq!(status.state.source.state, SourceState::Streaming);
        assert!(status.count("inferences").unwrap() > 0);
        assert_eq!(status.count("no such number"), None);
        let before: Value = serde_json::from_str(BEFORE).unwrap();
        let mut now = serde_json::to_value(&status).unwrap();
        assert_eq!(now.as_object_mut().unwrap().remove("format"), Some(0.into()));
        assert_eq!(now, before);
    }

    #[test]
    fn what_a_later_service_adds_is_ignored() {
        let later = BEFORE.replacen('{', "{\"format\": 9, \"weather\": {\"rain\": [1, \"x\"]},", 1);
        let status = Status::parse(&later).unwrap();
        assert_eq!(status.state.format, 9);
        assert_eq!(status.count("weather"), None);
    }
}
