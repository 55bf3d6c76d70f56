//! What is configured of outputs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Names the environment variable that holds the token of the HTTP server.
pub(crate) const TOKEN_VARIABLE: &str = "RESIGHT_HTTP_TOKEN";

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

/// Where the HTTP server listens, and for whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpConfig {
    pub(crate) address: SocketAddr,
    /// The file with the token that a request must show. Without it the environment's
    /// [`TOKEN_VARIABLE`] holds the token; one of both or a password is there unless on loopback.
    pub(crate) token_file: Option<PathBuf>,
    /// The file with the hash of the password, which may be shown instead.
    pub(crate) password_file: Option<PathBuf>,
    /// How connections are encrypted, if they are.
    pub(crate) tls: Option<TlsConfig>,
    /// Names that requests may use on loopback besides loopback's own; in small letters.
    pub(crate) hosts: Vec<String>,
    /// Whether dry run and rules may be switched.
    pub(crate) switches: bool,
}

#[cfg(test)]
impl HttpConfig {
    /// Nothing but an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, token_file: None, password_file: None, tls: None, hosts: vec![], switches: true }
    }
}

/// Whose certificate the HTTP server shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TlsConfig {
    /// One of its own, in the state directory.
    Own,
    /// The user's, as PEM.
    Files { certificate: PathBuf, key: PathBuf },
}

/// Pictures of what made rules active.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SnapshotConfig {
    pub(crate) folder: PathBuf,
    /// Most bytes of all snapshots together.
    pub(crate) max_bytes: u64,
    /// Names of the rules; all if `None`.
    pub(crate) rules: Option<Vec<String>>,
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
