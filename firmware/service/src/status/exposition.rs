//! The text that Prometheus reads, version 0.0.4.

use std::fmt::{Display, Write as _};

use crate::telemetry;

/// Text for Prometheus. Writing to a string cannot fail.
#[derive(Default)]
pub(super) struct Exposition(pub(super) String);

/// Names of labels with their values; those without a value are left out.
pub(super) type Labels<'l> = [(&'static str, Option<&'l str>)];

impl Exposition {
    /// Begins what is shown under a name.
    pub(super) fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value of it.
    pub(super) fn value(&mut self, name: &str, labels: &Labels<'_>, value: &dyn Display) {
        let labels = labels.iter().filter_map(|(label, of)| {
            let of = (*of)?.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            Some(format!("{label}=\"{of}\""))
        });
        let labels: Vec<String> = labels.collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// Times, as one summary of it.
    pub(super) fn summary(&mut self, name: &str, camera: Option<&str>, times: &telemetry::Times) {
        for share in [0.5, 0.95, 0.99, 1.0] {
            let quantile = times.quantile(share).as_secs_f64();
            let labels = [("camera", camera), ("quantile", Some(&*share.to_string()))];
            self.value(name, &labels, &quantile);
        }
        let labels = [("camera", camera)];
        self.value(&format!("{name}_sum"), &labels, &times.sum.as_secs_f64());
        self.value(&format!("{name}_count"), &labels, &times.count);
    }
}
