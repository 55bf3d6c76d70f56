//! What is configured of the HTTP server.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Names the environment variable that holds the token of the HTTP server.
pub(crate) const TOKEN_VARIABLE: &str = "RESIGHT_HTTP_TOKEN";

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
