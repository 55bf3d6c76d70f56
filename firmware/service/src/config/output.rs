//! `[output]`: what leaves the service besides lines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Reader, Section, integer, patterns, text};
use super::rule::RuleConfig;
use crate::http::{HttpConfig, TOKEN_VARIABLE, TlsConfig};
use crate::outputs::{MqttConfig, OutputConfig, SnapshotConfig};
use crate::secret::CREDENTIALS;

/// Scheme, host and port of `mqtt://host:1883` or `mqtts://host:8883`.
fn broker(value: &DeValue<'_>) -> Option<(bool, String, u16)> {
    let url = value.as_str()?;
    let (encrypted, rest) = match url.split_once("://")? {
        ("mqtt", rest) => (false, rest),
        ("mqtts", rest) => (true, rest),
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let default = if encrypted { 8883 } else { 1883 };
    let (host, port) = match rest.rsplit_once(':') {
        // The colon of an IPv6 address without a port.
        Some((_, after)) if after.ends_with(']') => (rest, default),
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (rest, default),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    (!host.is_empty() && host.chars().all(plain)).then(|| (encrypted, host.to_owned(), port))
}

/// A topic without wildcards and empty levels.
fn topic(value: &DeValue<'_>) -> Option<String> {
    text(value).filter(|topic| {
        topic.len() <= 200
            && topic.split('/').all(|level| !level.is_empty())
            && !topic.contains(|c: char| "+#$".contains(c) || c.is_control())
    })
}

impl<'i> Reader<'i> {
    pub(super) fn output(
        &mut self,
        mut section: Section<'_, 'i>,
        folder: &Path,
        rules: &[RuleConfig],
    ) -> OutputConfig {
        let events = self.optional(&mut section, "events", "true or false", DeValue::as_bool).unwrap_or(true);
        let socket = self.optional(&mut section, "socket", "the path of a Unix socket", text);
        let http = self.http(&mut section, folder);
        let snapshots = self
            .table(&mut section, "snapshots", "output.snapshots")
            .and_then(|section| self.snapshots(section, folder, rules));
        let mqtt =
            self.table(&mut section, "mqtt", "output.mqtt").and_then(|section| self.mqtt(section, folder));
        self.finish(&section);
        OutputConfig { events, socket: socket.map(|path| folder.join(path)), http, snapshots, mqtt }
    }

    /// A table in a table.
    fn table<'t>(
        &mut self,
        section: &mut Section<'t, 'i>,
        key: &'static str,
        name: &str,
    ) -> Option<Section<'t, 'i>> {
        let value = section.take(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mistake(&value.span(), name, format!("expected a table [{name}]"));
        }
        Some(Section::new(table?, value.span(), name))
    }

    /// Refuses a secret in the configuration, which everybody may read.
    fn no_secret(&mut self, section: &mut Section<'_, 'i>, key: &str, remedy: &str) {
        if let Some(position) = section.entries.iter().position(|(name, ..)| *name == key) {
            let (_, _, span) = section.entries.swap_remove(position);
            let cause = format!("not in this file, which others may read; {remedy}");
            self.mistake(&span, &section.key(key), cause);
        }
    }

    fn http(&mut self, section: &mut Section<'_, 'i>, folder: &Path) -> Option<HttpConfig> {
        let remedy = format!(
            "write it into a file and name that as `token_file`, or set the environment's {TOKEN_VARIABLE}"
        );
        self.no_secret(section, "token", &remedy);
        let remedy =
            "let `resightd password` make its hash, write that into a file and name it as `password_file`";
        self.no_secret(section, "password", remedy);
        let span = section.entries.iter().find(|(name, ..)| *name == "http").map(|entry| entry.1.span());
        let address =
            self.optional(section, "http", "an address with a port, such as \"127.0.0.1:8600\"", |value| {
                value.as_str()?.parse().ok()
            });
        let token_file = self.optional(section, "token_file", "the path of a file", text);
        let password_file = self.optional(section, "password_file", "the path of a file", text);
        let tls = self.tls(section, folder);
        let expected = "a list of names, such as [\"board.local\"]";
        let hosts = self.optional(section, "hosts", expected, patterns).unwrap_or_default();
        let switches = self.optional(section, "switches", "true or false", DeValue::as_bool).unwrap_or(true);
        let address: SocketAddr = address?;
        let without_token = token_file.is_none() && password_file.is_none() && !self.surroundings.has_token;
        if without_token && !address.ip().is_loopback() {
            let cause = format!(
                "others reach this address, so it needs a `token_file`, a `password_file` or {TOKEN_VARIABLE} in the \
                 environment; expected these or a loopback address, such as \"127.0.0.1:8600\""
            );
            self.mistake(&span.unwrap_or_default(), &section.key("http"), cause);
        }
        let hosts = hosts.into_iter().map(|(host, _)| host.to_ascii_lowercase()).collect();
        let [token_file, password_file] =
            [token_file, password_file].map(|file| file.map(|path| beside(folder, &path)));
        Some(HttpConfig { address, token_file, password_file, tls, hosts, switches })
    }

    /// Whether connections over HTTP are encrypted, and with whose certificate.
    fn tls(&mut self, section: &mut Section<'_, 'i>, folder: &Path) -> Option<TlsConfig> {
        let span = section.span.clone();
        let own = self.optional(section, "tls", "true or false", DeValue::as_bool);
        let certificate = self.optional(section, "certificate_file", "the path of a PEM file", text);
        let key = self.optional(section, "key_file", "the path of a PEM file", text);
        match (own, certificate, key) {
            (Some(false), Some(_), _) | (Some(false), _, Some(_)) => {
                let cause =
                    "false, but there is a `certificate_file` or a `key_file`; expected one or the other";
                self.mistake(&span, &section.key("tls"), cause);
                None
            }
            (_, Some(certificate), Some(key)) => Some(TlsConfig::Files {
                certificate: beside(folder, &certificate),
                key: beside(folder, &key),
            }),
            (_, Some(_), None) => {
                self.mistake(&span, &section.key("key_file"), "missing; a certificate needs its private key");
                None
            }
            (_, None, Some(_)) => {
                let cause = "missing; a private key needs its certificate";
                self.mistake(&span, &section.key("certificate_file"), cause);
                None
            }
            (Some(true), None, None) => Some(TlsConfig::Own),
            _ => None,
        }
    }

    fn snapshots(
        &mut self,
        mut section: Section<'_, 'i>,
        folder: &Path,
        rules: &[RuleConfig],
    ) -> Option<SnapshotConfig> {
        let path = self.required(&mut section, "folder", "the path of a folder", text);
        let expected = "a whole number of megabytes from 1 to 1000000";
        let max_mb = self.optional(&mut section, "max_mb", expected, |value| {
            integer(value).filter(|megabytes| (1..=1_000_000).contains(megabytes))
        });
        let chosen = self.optional(&mut section, "rules", "a list of names of rules", patterns);
        for (rule, at) in chosen.iter().flatten() {
            if !rules.iter().any(|known| known.rule.name == *rule) {
                let cause = format!("there is no valid [[rule]] `{rule}`");
                self.mistake(at, &section.key("rules"), cause);
            }
        }
        self.finish(&section);
        Some(SnapshotConfig {
            folder: folder.join(path?),
            max_bytes: max_mb.unwrap_or(100) as u64 * 1_000_000,
            rules: chosen.map(|chosen| chosen.into_iter().map(|(rule, _)| rule).collect()),
        })
    }

    fn mqtt(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<MqttConfig> {
        self.no_secret(&mut section, "password", "write it into a file and name that as `password_file`");
        let expected =
            "\"mqtt://host:1883\" or \"mqtts://host:8883\"; name and password have keys of their own";
        let broker = self.required(&mut section, "url", expected, broker);
        let user = self.optional(&mut section, "username", "a name", text);
        let password_file = self.optional(&mut section, "password_file", "the path of a file", text);
        let span = section.entries.iter().find(|(name, ..)| *name == "ca_file").map(|entry| entry.1.span());
        let ca_file = self.optional(&mut section, "ca_file", "the path of a PEM file", text);
        if let Some(span) = span.filter(|_| broker.as_ref().is_some_and(|(encrypted, ..)| !encrypted)) {
            self.mistake(&span, &section.key("ca_file"), "only for a url that begins with mqtts://");
        }
        let client_id =
            self.optional(&mut section, "client_id", "up to 64 letters, digits, - and _", |value| {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                text(value).filter(|id| id.len() <= 64 && id.chars().all(plain))
            });
        let expected = "a topic without +, # and empty levels, such as \"resight\"";
        let prefix = self.optional(&mut section, "topic", expected, topic);
        let discovery =
            self.optional(&mut section, "home_assistant", "true or false", DeValue::as_bool).unwrap_or(false);
        let discovery_prefix = self.optional(&mut section, "discovery_topic", expected, topic);
        let keep_alive = self.optional(&mut section, "keep_alive_s", "seconds, 5 to 3600", |value| {
            integer(value).filter(|seconds| (5..=3600).contains(seconds))
        });
        if user.is_none() && password_file.is_some() {
            self.mistake(&section.span.clone(), &section.key("username"), "missing; a password needs a name");
        }
        self.finish(&section);
        let (encrypted, host, port) = broker?;
        Some(MqttConfig {
            host,
            port,
            encrypted,
            ca_file: ca_file.map(|path| beside(folder, &path)),
            username: user,
            password_file: password_file.map(|path| beside(folder, &path)),
            client_id: client_id.unwrap_or_else(|| format!("resight-{}", self.surroundings.host)),
            topic: prefix.unwrap_or_else(|| format!("resight/{}", self.surroundings.host)),
            discovery: discovery.then(|| discovery_prefix.unwrap_or_else(|| "homeassistant".into())),
            keep_alive: Duration::from_secs(keep_alive.unwrap_or(30) as u64),
        })
    }
}

/// A path that starts from the configuration's folder, unless it is absolute or a credential of
/// systemd's.
fn beside(folder: &Path, path: &str) -> PathBuf {
    let path = Path::new(path);
    if path.starts_with(CREDENTIALS) { path.to_owned() } else { folder.join(path) }
}
