//! `[output]`: what leaves the service besides lines.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::reader::{Reader, Section};

/// What leaves the service besides lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputConfig {
    /// Whether events are written to standard output.
    pub(crate) events: bool,
    /// Where the HTTP server listens.
    pub(crate) http: Option<SocketAddr>,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { events: true, http: None }
    }
}

impl<'i> Reader<'i> {
    pub(super) fn output(&mut self, mut section: Section<'_, 'i>) -> OutputConfig {
        let events = self.optional(&mut section, "events", "true or false", DeValue::as_bool).unwrap_or(true);
        let expected = "a loopback address with a port, such as \"127.0.0.1:8600\"";
        let http = self.optional(&mut section, "http", expected, |value| {
            value.as_str()?.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
        });
        self.finish(&section);
        OutputConfig { events, http }
    }
}
