//! Events on standard output.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::output::{EVENTS, Output, OutputList, find};
use super::settings::OutputConfig;
use super::worker::Worker;
use crate::queue::Queue;
use crate::reach::Reach;
use crate::telemetry::Telemetry;

/// A thread that writes, and what may wait for it.
struct StandardOutput {
    worker: Worker<Arc<str>, EVENTS>,
    telemetry: Arc<Telemetry>,
}

pub(super) fn open(
    config: &OutputConfig,
    old: &OutputList,
    reach: &Reach,
) -> Result<Option<Arc<dyn Output>>> {
    if !config.events {
        return Ok(None);
    }
    if let Some(same) = find::<StandardOutput>(old) {
        return Ok(Some(same));
    }
    let worker = Worker::spawn("events", write_all)?;
    Ok(Some(Arc::new(StandardOutput { worker, telemetry: reach.telemetry.clone() })))
}

impl Output for StandardOutput {
    fn event(&self, line: &Arc<str>) {
        if !self.worker.send(line.clone()) {
            self.telemetry.stdout_dropped.one_more();
        }
    }

    fn close(&self, deadline: Instant) {
        self.worker.close(deadline);
    }
}

fn write_all(lines: &Queue<Arc<str>, EVENTS>) {
    let mut output = io::stdout();
    while let Some(line) = lines.wait() {
        if let Err(error) = output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
            log::error!("events cannot be written to standard output: {error}");
        }
    }
}
