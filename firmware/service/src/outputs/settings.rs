//! What is configured of outputs.

use std::path::PathBuf;
use std::time::Duration;

use crate::http::HttpConfig;
use crate::picture::Shows;

/// What leaves the service besides lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputConfig {
    /// Whether events are written to standard output.
    pub(crate) events: bool,
    /// The Unix socket that events are written to.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) http: Option<HttpConfig>,
    pub(crate) snapshots: Option<SnapshotConfig>,
    pub(crate) mqtt: Option<MqttConfig>,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { events: true, socket: None, http: None, snapshots: None, mqtt: None }
    }
}

/// Pictures of what made rules active.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SnapshotConfig {
    pub(crate) folder: PathBuf,
    /// Most bytes of all snapshots together.
    pub(crate) max_bytes: u64,
    /// Names of the rules; all if `None`.
    pub(crate) rules: Option<Vec<String>>,
    /// What they show of a frame in which something was found.
    pub(crate) shows: Shows,
}

/// A broker, and what it is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MqttConfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the connection uses TLS.
    pub(crate) encrypted: bool,
    /// The certificates to trust, as PEM; the system's if `None`.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) client_id: String,
    /// What all topics but those of discovery begin with.
    pub(crate) topic: String,
    /// What topics of Home Assistant's discovery begin with.
    pub(crate) discovery: Option<String>,
    pub(crate) keep_alive: Duration,
}
