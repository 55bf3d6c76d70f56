//! A line in memory: its changes go to the log.

use super::port::{OutputLine, WriteError};
use super::settings::LineConfig;

pub(super) struct Virtual {
    name: String,
    active_low: bool,
}

impl Virtual {
    pub(super) fn open(config: &LineConfig, high: bool) -> Self {
        let line = Self { name: config.name.clone(), active_low: config.active_low };
        line.show(high);
        line
    }

    fn show(&self, high: bool) {
        let state = if high == self.active_low { "inactive" } else { "active" };
        let level = if high { "high" } else { "low" };
        log::info!("virtual line {}: {state} ({level})", self.name);
    }
}

impl OutputLine for Virtual {
    fn set(&self, high: bool) -> Result<(), WriteError> {
        self.show(high);
        Ok(())
    }
}
