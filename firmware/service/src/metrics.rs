//! What the service counts, and its forms for people and for Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::Standings;
use crate::lines::InputList;
use crate::outputs::Counters;

/// Parts that each doubling is divided into: a bound is at most 1/8 above the value.
const PARTS: u64 = 8;

/// Buckets: 8 of one microsecond, then 8 for each doubling up to 2^40 microseconds.
const BUCKETS: usize = 8 * 38;

/// Times in buckets of a fixed number.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum: Duration,
    maximum: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum: Duration::ZERO, maximum: Duration::ZERO }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        let microseconds = time.as_micros() as u64;
        self.buckets[bucket(microseconds)] += 1;
        self.count += 1;
        self.sum += time;
        self.maximum = self.maximum.max(time);
    }

    /// A time that `share` of all are not above; at most 1/8 too large, the maximum exact.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Duration::from_micros(upper(index)).min(self.maximum);
            }
        }
        self.maximum
    }

    pub(crate) fn json(&self) -> Value {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        json!({
            "count": self.count,
            "p50_ms": ms(self.quantile(0.5)),
            "p95_ms": ms(self.quantile(0.95)),
            "p99_ms": ms(self.quantile(0.99)),
            "max_ms": ms(self.maximum),
        })
    }

    fn prometheus(&self, name: &str, help: &str, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} summary");
        for share in [0.5, 0.95, 0.99, 1.0] {
            let _ = writeln!(text, "{name}{{quantile=\"{share}\"}} {}", self.quantile(share).as_secs_f64());
        }
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {}", self.sum.as_secs_f64(), self.count);
    }
}

/// A label's value in Prometheus's format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let doubling = value.ilog2() - PARTS.ilog2();
    let index = PARTS * u64::from(doubling) + (value >> doubling);
    (index as usize).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < PARTS {
        return index;
    }
    let doubling = index / PARTS - 1;
    ((index % PARTS + PARTS + 1) << doubling) - 1
}

/// Everything counted since the start.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    pub(crate) frames: u64,
    pub(crate) dropped: u64,
    pub(crate) corrupt: u64,
    pub(crate) source_errors: u64,
    pub(crate) inferences: u64,
    pub(crate) inference_errors: u64,
    pub(crate) events: u64,
    pub(crate) events_lost: u64,
    pub(crate) line_errors: u64,
    pub(crate) lines_restored: u64,
    pub(crate) stale_periods: u64,
    pub(crate) reloads: u64,
    pub(crate) reloads_refused: u64,
    /// No frame was classified for too long, or none yet.
    pub(crate) stale: bool,
    /// Of the hottest sensor, degrees Celsius.
    pub(crate) temperature: Option<f64>,
    /// From a frame's arrival until the lines show it.
    pub(crate) latency: Histogram,
    /// From the decision of the rules until the last line that changed is written.
    pub(crate) line_write: Histogram,
    /// Preprocessing and network.
    pub(crate) inference: Histogram,
    /// The likeliest class of the last frame, its probability and the frame's number.
    pub(crate) last: Option<(usize, f32, u64)>,
}

impl Metrics {
    fn counters(&self) -> [(&'static str, &'static str, u64); 13] {
        [
            ("frames", "Frames that came from the source.", self.frames),
            ("dropped", "Frames replaced by newer ones before they were classified.", self.dropped),
            ("corrupt", "Frames that could not be decoded.", self.corrupt),
            ("source_errors", "Failures of the source.", self.source_errors),
            ("inferences", "Frames classified.", self.inferences),
            ("inference_errors", "Frames that the network refused.", self.inference_errors),
            ("events", "Events.", self.events),
            ("events_lost", "Events that nobody read in time.", self.events_lost),
            ("line_errors", "Failed writes to lines, and attempts to open them again.", self.line_errors),
            ("lines_restored", "Lines that were taken away and opened again.", self.lines_restored),
            ("stale_periods", "Times that frames stopped coming.", self.stale_periods),
            ("reloads", "Configurations applied while running.", self.reloads),
            ("reloads_refused", "Configurations refused while running.", self.reloads_refused),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let mut value: Value =
            self.counters().into_iter().map(|(name, _, count)| (name.to_owned(), json!(count))).collect();
        value["stale"] = json!(self.stale);
        value["latency"] = self.latency.json();
        value["line_write"] = self.line_write.json();
        value["inference"] = self.inference.json();
        value
    }

    /// Prometheus's text format, version 0.0.4.
    pub(crate) fn prometheus<'a>(
        &self,
        outputs: &Counters,
        inputs: &InputList,
        lines: impl Iterator<Item = (&'a str, Option<bool>)>,
        standings: &Standings,
        viewers: usize,
    ) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let dry_run = u64::from(standings.is_dry());
        let own = [
            ("viewers", "Viewers over HTTP.", viewers as u64),
            ("dry_run", "Whether lines stay at their safe levels, whatever the rules say.", dry_run),
        ];
        for (name, help, value) in outputs.gauges().chain(own) {
            let name = format!("resight_{name}");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        for (name, help, count) in self.counters().into_iter().chain(outputs.list()) {
            let name = format!("resight_{name}_total");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}");
        }
        let name = "resight_stale";
        let help = "Whether frames have stopped coming.";
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}", u8::from(self.stale));
        let name = "resight_temperature_celsius";
        let temperature = self.temperature.map_or_else(|| "NaN".to_owned(), |celsius| celsius.to_string());
        let _ = writeln!(text, "# HELP {name} Of the hottest sensor; NaN where there is none.");
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {temperature}");
        let name = "resight_line_active";
        let _ = writeln!(text, "# HELP {name} Whether a line is active; NaN after a failed write.");
        let _ = writeln!(text, "# TYPE {name} gauge");
        for (line, level) in lines {
            let line = escaped(line);
            let level = level.map_or("NaN", |active| if active { "1" } else { "0" });
            let _ = writeln!(text, "{name}{{line=\"{line}\"}} {level}");
        }
        let mut rules = |name: &str, help: &str, values: &mut dyn Iterator<Item = (&str, bool)>| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (rule, value) in values {
                let _ = writeln!(text, "{name}{{rule=\"{}\"}} {}", escaped(rule), u8::from(value));
            }
        };
        let mut active = standings.rules().map(|(rule, active, _)| (rule, active));
        rules("resight_rule_active", "Whether a rule is active.", &mut active);
        let mut armed = standings.rules().map(|(rule, _, armed)| (rule, armed));
        rules("resight_rule_armed", "Whether a rule may act.", &mut armed);
        let name = "resight_input_active";
        let _ = writeln!(text, "# HELP {name} Whether an input is active; NaN while it is taken away.");
        let _ = writeln!(text, "# TYPE {name} gauge");
        for input in inputs.iter() {
            let level = input.level().map_or("NaN", |active| if active { "1" } else { "0" });
            let _ = writeln!(text, "{name}{{input=\"{}\"}} {level}", escaped(input.name()));
        }
        let name = "resight_input_errors_total";
        let _ = writeln!(text, "# HELP {name} Times that an input was lost or could not be opened again.");
        let _ = writeln!(text, "# TYPE {name} counter");
        for input in inputs.iter() {
            let _ = writeln!(text, "{name}{{input=\"{}\"}} {}", escaped(input.name()), input.errors());
        }
        let help = "From a frame's arrival until the lines show it.";
        self.latency.prometheus("resight_latency_seconds", help, &mut text);
        let help = "From the decision of the rules until the last line that changed is written.";
        self.line_write.prometheus("resight_line_write_seconds", help, &mut text);
        self.inference.prometheus("resight_inference_seconds", "Preprocessing and network.", &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper(index)), index);
            assert_eq!(bucket(upper(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn quantiles_are_near_the_sorted_ones(mut times in prop::collection::vec(0..10_000_000u64, 1..300)) {
            let mut histogram = Histogram::default();
            for time in &times {
                histogram.add(Duration::from_micros(*time));
            }
            times.sort_unstable();
            for share in [0.5, 0.95, 0.99, 1.0] {
                let exact = times[(share * times.len() as f64).ceil() as usize - 1];
                let found = histogram.quantile(share).as_micros() as u64;
                prop_assert!(found >= exact && found <= exact + exact / 8 + 1, "{share}: {found}, {exact}");
            }
        }
    }
}
