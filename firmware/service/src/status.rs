//! The status board: what the stages publish, and what is made of it for those who look.
//!
//! Each stage puts up what it knows and goes on; nobody asks a stage for anything. What the judge
//! knows is one `Arc` that is swapped, so that neither who looks nor who publishes waits for longer
//! than that.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use resight_status::{
    FORMAT, Figures, Last, RegionFigures, RuleStatus, SourceState, SourceStatus, State, Status, Times,
};
use serde_json::json;

use crate::judge::{Bars, Standing};
use crate::lines::{InputList, Lines};
use crate::names::SharedNames;
use crate::sync::lock;
use crate::telemetry::{self, Telemetry};
use crate::version::VERSION;

/// How things stand with the rules, after the judge's last step.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) names: SharedNames,
    pub(crate) rules: Vec<(Bars, Standing)>,
    pub(crate) stale: bool,
    /// Whether lines stay at their safe levels, whatever the rules say.
    pub(crate) dry_run: bool,
    /// Whether the configuration asks for that.
    pub(crate) dry_run_configured: bool,
}

impl Judged {
    /// Whether each rule is active, in their order.
    pub(crate) fn active(&self) -> impl Iterator<Item = bool> {
        self.rules.iter().map(|(_, standing)| standing.active)
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

    fn rules(&self, now: Duration) -> Vec<RuleStatus> {
        let rules = self.names.rules.iter().zip(&self.rules);
        rules
            .map(|(facts, (bars, standing))| RuleStatus {
                facts: facts.clone(),
                armed: !bars.any(),
                switched_off: bars.switch,
                active: standing.active,
                waits_for: self.waits_for(*bars, *standing, now),
                ready_at_ms: standing.ready_at.as_millis() as u64,
            })
            .collect()
    }
}

/// How the source is doing.
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

/// See the module.
pub(crate) struct StatusBoard {
    pub(crate) start: Instant,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) lines: Arc<Lines>,
    judged: Mutex<Arc<Judged>>,
    inputs: Mutex<InputList>,
    source: Mutex<SourceReport>,
    last: Mutex<Option<LastSeen>>,
    /// Empty where there are no regions.
    regions: Mutex<Vec<RegionSeen>>,
}

impl StatusBoard {
    pub(crate) fn new(start: Instant, telemetry: Arc<Telemetry>, lines: Arc<Lines>, judged: Judged) -> Self {
        Self {
            start,
            telemetry,
            lines,
            judged: Mutex::new(Arc::new(judged)),
            inputs: Mutex::new([].into()),
            source: Mutex::default(),
            last: Mutex::default(),
            regions: Mutex::default(),
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

    pub(crate) fn set_inputs(&self, inputs: InputList) {
        *lock(&self.inputs) = inputs;
    }

    pub(crate) fn inputs(&self) -> InputList {
        lock(&self.inputs).clone()
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

    fn regions(&self, names: &SharedNames) -> Vec<RegionFigures> {
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

    /// Whether frames are being classified.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.telemetry.stale.is_set()
    }

    /// Everything.
    pub(crate) fn status(&self) -> Status {
        Status { state: self.state(), figures: self.figures() }
    }

    /// What changes with each frame.
    pub(crate) fn figures(&self) -> Figures {
        let telemetry = &*self.telemetry;
        let occasional = telemetry.occasional().filter(|entry| entry.value.count() > 0);
        let counters = telemetry.counters().chain(occasional).map(|entry| (entry.name, entry.value.count()));
        let gauges = telemetry.gauges().map(|entry| (entry.name, entry.value.value()));
        let counts = counters.chain(gauges).map(|(name, count)| (name.to_owned(), json!(count)));
        let last = *lock(&self.last);
        let names = self.names();
        let last = last.map(|(score, probability, frame)| Last {
            class: names.place(score).0,
            name: names.label(score).map(str::to_owned),
            probability: probability.into(),
            frame,
        });
        Figures {
            stale: telemetry.stale.is_set(),
            latency: times(&telemetry.latency.read()),
            line_write: times(&telemetry.line_write.read()),
            inference: times(&telemetry.inference.read()),
            uptime_s: self.now().as_secs_f64(),
            temperature_c: telemetry.temperature_celsius.value(),
            last,
            regions: self.regions(&names),
            counts: counts.collect(),
        }
    }

    /// What changes now and then: model, source, rules, lines, inputs.
    pub(crate) fn state(&self) -> State {
        let judged = self.judged();
        let names = &judged.names;
        let source = lock(&self.source).clone();
        let state = match &source {
            SourceReport { ended: true, .. } => SourceState::Ended,
            SourceReport { error: Some(_), .. } => SourceState::Lost,
            SourceReport { streaming: false, .. } => SourceState::Opening,
            _ if judged.stale => SourceState::Silent,
            _ => SourceState::Streaming,
        };
        State {
            format: FORMAT,
            version: VERSION.clone(),
            model: names.model.clone(),
            kernels: names.isa.to_owned(),
            view: names.view.clone(),
            source: SourceStatus { name: source.path, state, error: source.error },
            dry_run: judged.dry_run,
            dry_run_configured: judged.dry_run_configured,
            rules: judged.rules(self.now()),
            lines: self.lines.levels().into_iter().collect(),
            inputs: self.inputs().iter().map(|input| (input.name().to_owned(), input.level())).collect(),
            switches: None,
        }
    }

    /// What `/metrics` shows: Prometheus's text format, version 0.0.4.
    pub(crate) fn prometheus(&self) -> String {
        let mut text = Exposition::default();
        let telemetry = &*self.telemetry;
        for entry in telemetry.gauges().chain(telemetry.flags()) {
            text.one(&format!("resight_{}", entry.name), entry.help, "gauge", &entry.value.value());
        }
        let occasional = telemetry.occasional().filter(|entry| entry.value.count() > 0);
        for entry in telemetry.counters().chain(occasional) {
            let name = format!("resight_{}_total", entry.name);
            text.one(&name, entry.help, "counter", &entry.value.count());
        }
        for entry in telemetry.measures() {
            let value = entry.value.value().unwrap_or(f64::NAN);
            text.one(&format!("resight_{}", entry.name), entry.help, "gauge", &value);
        }
        let levels = self.lines.levels();
        let levels = levels.iter().map(|(name, level)| (name.as_str(), known(*level)));
        text.each("resight_line_active", LINE_HELP, "gauge", "line", levels);
        let judged = self.judged();
        let rules = || judged.names.rules.iter().map(|facts| facts.name.as_str()).zip(&judged.rules);
        let active = rules().map(|(name, (_, standing))| (name, f64::from(u8::from(standing.active))));
        text.each("resight_rule_active", "Whether a rule is active.", "gauge", "rule", active);
        let armed = rules().map(|(name, (bars, _))| (name, f64::from(u8::from(!bars.any()))));
        text.each("resight_rule_armed", "Whether a rule may act.", "gauge", "rule", armed);
        let inputs = self.inputs();
        let levels = inputs.iter().map(|input| (input.name(), known(input.level())));
        text.each("resight_input_active", INPUT_HELP, "gauge", "input", levels);
        let errors = inputs.iter().map(|input| (input.name(), input.errors() as f64));
        text.each("resight_input_errors_total", ERRORS_HELP, "counter", "input", errors);
        for entry in telemetry.histograms() {
            text.summary(&format!("resight_{}_seconds", entry.name), entry.help, &entry.value.read());
        }
        text.0
    }
}

const LINE_HELP: &str = "Whether a line is active; NaN after a failed write.";
const INPUT_HELP: &str = "Whether an input is active; NaN while it is taken away.";
const ERRORS_HELP: &str = "Times that an input was lost or could not be opened again.";

fn known(level: Option<bool>) -> f64 {
    level.map_or(f64::NAN, |active| f64::from(u8::from(active)))
}

fn times(read: &telemetry::Times) -> Times {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Times {
        count: read.count,
        p50_ms: ms(read.quantile(0.5)),
        p95_ms: ms(read.quantile(0.95)),
        p99_ms: ms(read.quantile(0.99)),
        max_ms: ms(read.maximum),
    }
}

/// Text for Prometheus. Writing to a string cannot fail.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, help: &str, kind: &str, value: &dyn std::fmt::Display) {
        self.head(name, help, kind);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn each<'a>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) {
        self.head(name, help, kind);
        for (of, value) in values {
            let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    fn summary(&mut self, name: &str, help: &str, times: &telemetry::Times) {
        self.head(name, help, "summary");
        for share in [0.5, 0.95, 0.99, 1.0] {
            let quantile = times.quantile(share).as_secs_f64();
            let _ = writeln!(self.0, "{name}{{quantile=\"{share}\"}} {quantile}");
        }
        let _ = writeln!(self.0, "{name}_sum {}\n{name}_count {}", times.sum.as_secs_f64(), times.count);
    }
}
