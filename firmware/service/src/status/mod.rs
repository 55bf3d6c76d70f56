//! The status board: what the stages publish, and what is made of it for those who look.
//!
//! Each stage puts up what it knows and goes on; nobody asks a stage for anything. What the judge
//! knows is one `Arc` for each camera that is swapped, so that neither who looks nor who publishes
//! waits for longer than that.

mod camera;
mod exposition;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use resight_status::{FORMAT, Figures, SourceState, SourceStatus, State, Status};
use serde_json::{Map, Value, json};

use self::camera::times;
pub(crate) use self::camera::{AnomalySeen, CameraBoard, Judged, SourceReport};
use self::exposition::Exposition;
use crate::judge::{Bars, Standing};
use crate::lines::{InputList, Lines};
use crate::sync::lock;
use crate::telemetry::{
    CameraTelemetry, Counter, Entry, Gauge, Histogram, Registry, Telemetry, Times, Values,
};
use crate::version::VERSION;

/// Cameras in the order of their configuration: one at least.
pub(crate) type CameraBoards = Arc<[Arc<CameraBoard>]>;

/// See the module.
pub(crate) struct StatusBoard {
    pub(crate) start: Instant,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) lines: Arc<Lines>,
    cameras: Mutex<CameraBoards>,
    inputs: Mutex<InputList>,
}

impl StatusBoard {
    pub(crate) fn new(
        start: Instant,
        telemetry: Arc<Telemetry>,
        lines: Arc<Lines>,
        cameras: CameraBoards,
    ) -> Self {
        Self { start, telemetry, lines, cameras: Mutex::new(cameras), inputs: Mutex::new([].into()) }
    }

    pub(crate) fn set_cameras(&self, cameras: CameraBoards) {
        *lock(&self.cameras) = cameras;
    }

    pub(crate) fn cameras(&self) -> CameraBoards {
        lock(&self.cameras).clone()
    }

    /// The camera of this name, or without one the first.
    pub(crate) fn camera(&self, name: Option<&str>) -> Option<Arc<CameraBoard>> {
        let cameras = self.cameras();
        let is_meant = |camera: &&Arc<CameraBoard>| {
            name.is_none_or(|name| camera.names().camera.as_deref() == Some(name))
        };
        cameras.iter().find(is_meant).cloned()
    }

    pub(crate) fn set_inputs(&self, inputs: InputList) {
        *lock(&self.inputs) = inputs;
    }

    pub(crate) fn inputs(&self) -> InputList {
        lock(&self.inputs).clone()
    }

    /// Since the start of the service.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether frames of any camera are missing.
    pub(crate) fn is_any_stale(&self) -> bool {
        self.cameras().iter().any(|camera| camera.telemetry.stale.is_set())
    }

    /// Names of the cameras whose frames are missing, as far as they have names.
    pub(crate) fn stale_cameras(&self) -> Vec<String> {
        let cameras = self.cameras();
        let stale = cameras.iter().filter(|camera| camera.telemetry.stale.is_set());
        stale.filter_map(|camera| camera.names().camera.clone()).collect()
    }

    /// What is counted of each camera, of all together.
    pub(crate) fn sum(&self, of: fn(&CameraTelemetry) -> &Counter) -> u64 {
        self.cameras().iter().map(|camera| of(&camera.telemetry).count()).sum()
    }

    /// Times of each camera, of all together.
    pub(crate) fn times(&self, of: fn(&CameraTelemetry) -> &Histogram) -> Times {
        Times::of(self.cameras().iter().map(|camera| of(&camera.telemetry)))
    }

    /// Everything.
    pub(crate) fn status(&self) -> Status {
        Status { state: self.state(), figures: self.figures() }
    }

    /// What changes with each frame.
    pub(crate) fn figures(&self) -> Figures {
        let cameras = self.cameras();
        let registry = self.registry(&cameras);
        let together = |of| times(&self.times(of));
        let only = only(&cameras);
        let figures =
            |(index, camera): (usize, &Arc<CameraBoard>)| camera.figures(counts_of(&registry, index));
        Figures {
            stale: self.is_any_stale(),
            latency: together(|camera| &camera.latency),
            line_write: together(|camera| &camera.line_write),
            inference: together(|camera| &camera.inference),
            uptime_s: self.now().as_secs_f64(),
            temperature_c: self.telemetry.temperature_celsius.value(),
            last: only.and_then(|camera| camera.last(&camera.names())),
            regions: only.map_or_else(Vec::new, |camera| camera.regions(&camera.names())),
            anomalies: only.map_or_else(Vec::new, |camera| camera.anomalies(&camera.names())),
            camera_figures: cameras.iter().enumerate().filter_map(figures).collect(),
            counts: counts(&registry),
        }
    }

    /// What changes now and then: model, source, rules, lines, inputs.
    pub(crate) fn state(&self) -> State {
        let cameras = self.cameras();
        let judged: Vec<Arc<Judged>> = cameras.iter().map(|camera| camera.judged()).collect();
        let first = judged.first();
        let sources = cameras.iter().zip(&judged).map(|(camera, judged)| (camera.source(judged), judged));
        let names = first.map(|judged| &judged.names);
        State {
            format: FORMAT,
            version: VERSION.clone(),
            model: names.map_or_else(String::new, |names| names.model.clone()),
            kernels: names.map_or("", |names| names.isa).to_owned(),
            view: names.map(|names| names.view.clone()).unwrap_or_default(),
            source: worst(sources),
            dry_run: judged.iter().any(|judged| judged.dry_run),
            dry_run_configured: judged.iter().any(|judged| judged.dry_run_configured),
            rules: judged.iter().flat_map(|judged| judged.rules(self.now())).collect(),
            lines: self.lines.levels().into_iter().collect(),
            inputs: self.inputs().iter().map(|input| (input.name().to_owned(), input.level())).collect(),
            cameras: cameras.iter().filter_map(|camera| camera.state()).collect(),
            switches: None,
        }
    }

    /// What `/metrics` shows: Prometheus's text format, version 0.0.4.
    pub(crate) fn prometheus(&self) -> String {
        let cameras = self.cameras();
        let registry = self.registry(&cameras);
        let judged: Vec<Arc<Judged>> = cameras.iter().map(|camera| camera.judged()).collect();
        let names: Vec<Option<&str>> = judged.iter().map(|judged| judged.names.camera.as_deref()).collect();
        let mut text = Exposition::default();
        for entry in registry.gauges().iter().chain(&registry.flags()) {
            text.entry(entry, "", "gauge", &names, |gauge| gauge.value().to_string());
        }
        let occasional = occasional(&registry);
        for entry in registry.counters().iter().chain(&occasional) {
            text.entry(entry, "_total", "counter", &names, |counter| counter.count().to_string());
        }
        for entry in &registry.measures() {
            text.entry(entry, "", "gauge", &names, |measure| measure.value().unwrap_or(f64::NAN).to_string());
        }
        let levels = self.lines.levels();
        let levels = levels.iter().map(|(name, level)| (name.as_str(), known(*level)));
        text.each("resight_line_active", LINE_HELP, "gauge", "line", levels);
        text.rules("resight_rule_active", "Whether a rule is active.", &judged, |_, standing| {
            standing.active
        });
        text.rules("resight_rule_armed", "Whether a rule may act.", &judged, |bars, _| !bars.any());
        text.counted(&judged);
        let inputs = self.inputs();
        let levels = inputs.iter().map(|input| (input.name(), known(input.level())));
        text.each("resight_input_active", INPUT_HELP, "gauge", "input", levels);
        let errors = inputs.iter().map(|input| (input.name(), input.errors() as f64));
        text.each("resight_input_errors_total", ERRORS_HELP, "counter", "input", errors);
        for entry in &registry.histograms() {
            let name = format!("resight_{}_seconds", entry.name);
            text.head(&name, entry.help, "summary");
            for (camera, times) in names.iter().zip(entry.values.iter()) {
                text.summary(&name, *camera, &times.read());
            }
        }
        text.0
    }

    fn registry<'a>(&'a self, cameras: &'a CameraBoards) -> Registry<'a> {
        let cameras = cameras.iter().map(|camera| &camera.telemetry).collect();
        Registry { service: &self.telemetry, cameras }
    }
}

/// The only camera, which has no name.
fn only(cameras: &CameraBoards) -> Option<&Arc<CameraBoard>> {
    cameras.first().filter(|camera| camera.names().camera.is_none())
}

/// The source that is worst off, of equals the first; with its camera's name where there are several.
fn worst<'j>(sources: impl Iterator<Item = (SourceStatus, &'j Arc<Judged>)>) -> SourceStatus {
    let rank = |state: SourceState| match state {
        SourceState::Streaming => 0,
        SourceState::Ended => 1,
        SourceState::Opening => 2,
        SourceState::Silent => 3,
        SourceState::Lost => 4,
    };
    let worse = |worst: (SourceStatus, _), other: (SourceStatus, _)| {
        if rank(other.0.state) > rank(worst.0.state) { other } else { worst }
    };
    let Some((mut source, judged)) = sources.reduce(worse) else {
        return SourceStatus { name: String::new(), state: SourceState::Opening, error: None };
    };
    if let Some(camera) = &judged.names.camera {
        source.name = format!("{camera}: {}", source.name);
    }
    source
}

/// What is counted only where it happens.
fn occasional<'a>(registry: &Registry<'a>) -> Vec<Entry<'a, Counter>> {
    let mut entries = registry.occasional();
    entries.retain(|entry| entry.values.iter().any(|counter| counter.count() > 0));
    entries
}

/// What is counted, of all cameras together.
fn counts(registry: &Registry<'_>) -> Map<String, Value> {
    let counters = registry.counters().into_iter().chain(occasional(registry));
    let sum = |entry: Entry<'_, Counter>| -> (String, Value) {
        let sum: u64 = entry.values.iter().map(Counter::count).sum();
        (entry.name.to_owned(), json!(sum))
    };
    // What is so of all.
    let least = |entry: Entry<'_, Gauge>| {
        let least = entry.values.iter().map(Gauge::value).min();
        (entry.name.to_owned(), json!(least.unwrap_or(0)))
    };
    counters.map(sum).chain(registry.gauges().into_iter().map(least)).collect()
}

/// What is counted of one camera.
fn counts_of(registry: &Registry<'_>, camera: usize) -> Map<String, Value> {
    fn of<'a, T>(values: &Values<'a, T>, camera: usize) -> Option<&'a T> {
        match values {
            Values::Each(each) => each.get(camera).copied(),
            Values::One(_) => None,
        }
    }
    let counters = registry.counters().into_iter().chain(occasional(registry));
    let counters =
        counters.filter_map(|entry| Some((entry.name.to_owned(), json!(of(&entry.values, camera)?.count()))));
    let gauges = registry
        .gauges()
        .into_iter()
        .filter_map(|entry| Some((entry.name.to_owned(), json!(of(&entry.values, camera)?.value()))));
    counters.chain(gauges).collect()
}

const COUNTED_HELP: &str = "Things that a rule has counted, of a network that finds boxes.";
const LINE_HELP: &str = "Whether a line is active; NaN after a failed write.";
const INPUT_HELP: &str = "Whether an input is active; NaN while it is taken away.";
const ERRORS_HELP: &str = "Times that an input was lost or could not be opened again.";

fn known(level: Option<bool>) -> f64 {
    level.map_or(f64::NAN, |active| f64::from(u8::from(active)))
}

impl Exposition {
    /// An entry of the registry, of each camera where it is one of cameras.
    fn entry<T>(
        &mut self,
        entry: &Entry<'_, T>,
        ending: &str,
        kind: &str,
        cameras: &[Option<&str>],
        value: impl Fn(&T) -> String,
    ) {
        let name = format!("resight_{}{ending}", entry.name);
        self.head(&name, entry.help, kind);
        match &entry.values {
            Values::One(one) => self.value(&name, &[], &value(one)),
            Values::Each(each) => {
                for (camera, of) in cameras.iter().zip(each) {
                    self.value(&name, &[("camera", *camera)], &value(of));
                }
            }
        }
    }

    fn each<'a>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        label: &'static str,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) {
        self.head(name, help, kind);
        for (of, value) in values {
            self.value(name, &[(label, Some(of))], &value);
        }
    }

    /// What rules have counted, by class; nothing where none has.
    fn counted(&mut self, judged: &[Arc<Judged>]) {
        if judged.iter().all(|judged| judged.counted.is_empty()) {
            return;
        }
        let name = "resight_rule_counted_total";
        self.head(name, COUNTED_HELP, "counter");
        for judged in judged {
            for (index, facts) in judged.names.rules.iter().enumerate() {
                for (class, count) in judged.counted(index) {
                    let labels = [
                        ("camera", judged.names.camera.as_deref()),
                        ("rule", Some(facts.name.as_str())),
                        ("class", Some(class.as_str())),
                    ];
                    self.value(name, &labels, &count);
                }
            }
        }
    }

    fn rules(
        &mut self,
        name: &str,
        help: &str,
        judged: &[Arc<Judged>],
        holds: impl Fn(Bars, Standing) -> bool,
    ) {
        self.head(name, help, "gauge");
        for judged in judged {
            for (facts, (bars, standing)) in judged.names.rules.iter().zip(&judged.rules) {
                let labels =
                    [("camera", judged.names.camera.as_deref()), ("rule", Some(facts.name.as_str()))];
                self.value(name, &labels, &f64::from(u8::from(holds(*bars, *standing))));
            }
        }
    }
}
