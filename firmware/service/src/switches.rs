//! What people switch while the service runs: dry run, and single rules.
//!
//! Under systemd they outlive a crash and a restart, because systemd keeps the service's runtime
//! directory then: a watchdog must not set in motion what somebody has stopped. After a stop or
//! a reboot the configuration alone counts.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::judge::Switches;
use crate::runtime;

fn parse(bytes: &[u8]) -> Option<Switches> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let name = |name: &Value| name.as_str().map(str::to_owned);
    Some(Switches {
        dry_run: value["dry_run"].as_bool()?,
        disarmed: value["disarmed"].as_array()?.iter().map(name).collect::<Option<_>>()?,
    })
}

/// Where switches are kept.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// `None` if nobody would start the service again.
    file: Option<PathBuf>,
}

impl Keeper {
    /// The first runtime directory that systemd has made.
    pub(crate) fn from_environment() -> Self {
        Self { file: runtime::directory().map(|folder| folder.join("switches.json")) }
    }

    /// What was kept. If that cannot be read, dry run is the safe choice.
    pub(crate) fn restore(&self) -> Switches {
        let Some(file) = &self.file else { return Switches::default() };
        let read = match fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Switches::default(),
            Err(error) => Err(error.to_string()),
            Ok(bytes) => parse(&bytes).ok_or_else(|| "it is damaged".to_owned()),
        };
        read.unwrap_or_else(|cause| {
            log::error!(
                "{}: what was switched before the restart cannot be read: {cause}; beginning with dry run",
                file.display()
            );
            Switches { dry_run: true, ..Switches::default() }
        })
    }

    /// Keeps `switches` for after a restart, in place of what was kept.
    pub(crate) fn keep(&self, switches: &Switches) {
        let Some(file) = &self.file else { return };
        let text = json!({ "dry_run": switches.dry_run, "disarmed": switches.disarmed }).to_string();
        if let Err(error) = runtime::replace(file, &text) {
            log::error!("{}: a restart will forget what was switched: {error}", file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_come_back_and_damaged_ones_mean_dry_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switches.json");
        let keeper = Keeper { file: Some(file.clone()) };
        assert_eq!(keeper.restore(), Switches::default());
        let switches = Switches { dry_run: false, disarmed: vec!["a \"b\"".into(), "ü".into()] };
        keeper.keep(&switches);
        assert_eq!(keeper.restore(), switches);
        let on = Switches { dry_run: true, disarmed: vec![] };
        for damaged in ["", "{\"dry_run\": true", "{\"dry_run\": 1, \"disarmed\": []}", "[]"] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(keeper.restore(), on, "{damaged}");
        }
        // Nothing is kept without a place, and a place that is gone stops nothing.
        Keeper::default().keep(&switches);
        drop(folder);
        keeper.keep(&switches);
    }
}
