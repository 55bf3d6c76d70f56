//! What is told of rules and frames.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use resight_imaging::Rectangle;
use serde_json::{Value, json};

use crate::judge::{EventKind, Place};
use crate::names::SharedNames;

/// One line of output, names still to be filled in.
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// Since the start of the service.
    pub(crate) monotonic: Duration,
    pub(crate) wall: SystemTime,
    pub(crate) frame: u64,
    pub(crate) latency: Duration,
    /// Whether the lines stay at their safe levels.
    pub(crate) dry_run: bool,
    /// Where a frame is least typical, in shares of it, of a model that looks for that.
    pub(crate) area: Option<Rectangle>,
    pub(crate) names: SharedNames,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        let mut value = json!({
            "monotonic_ms": self.monotonic.as_secs_f64() * 1e3,
            "wall_ms": self.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            "frame": self.frame,
        });
        // Dry run is all cameras'.
        if let Some(camera) =
            self.names.camera.as_ref().filter(|_| !matches!(self.kind, EventKind::DryRun(_)))
        {
            value["camera"] = json!(camera);
        }
        match &self.kind {
            EventKind::Rule(change) => {
                value["event"] = json!(if change.active { "active" } else { "inactive" });
                value["rule"] = json!(self.names.rule(change.rule));
                let (class, region) = self.names.place(change.class);
                value["class"] = json!(class);
                value["name"] = json!(self.names.label(change.class));
                if let Some(region) = region {
                    value["region"] = json!(region);
                }
                value["score"] = json!(change.score);
                if let Some(area) = self.area {
                    value["area"] = json!(area);
                }
                match change.place {
                    Some(Place::Box(edges)) => value["box"] = json!(edges),
                    Some(Place::Point(place)) => value["point"] = json!(place),
                    None => {}
                }
                if let Some(track) = change.track {
                    value["track"] = json!(track);
                }
                value["latency_ms"] = json!(self.latency.as_secs_f64() * 1e3);
                if self.dry_run {
                    value["dry_run"] = json!(true);
                }
            }
            EventKind::Stale => value["event"] = json!("stale"),
            EventKind::Recovered => value["event"] = json!("recovered"),
            EventKind::DryRun(on) => value["event"] = json!(if *on { "dry_run" } else { "dry_run_over" }),
            EventKind::Switched { rule, armed } => {
                value["event"] = json!(if *armed { "armed" } else { "disarmed" });
                value["rule"] = json!(self.names.rule(*rule));
            }
        }
        value
    }
}
