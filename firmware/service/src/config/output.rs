//! `[output]`: what leaves the service besides lines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::key::{Expected, FILE, Key, NAME, PEM, Table};
use super::reader::{Reader, Section, integer, patterns, text};
use super::rule::RuleConfig;
use crate::http::{HttpConfig, TOKEN_VARIABLE, TlsConfig};
use crate::outputs::{MqttConfig, OutputConfig, SnapshotConfig};
use crate::picture::Shows;
use crate::secret::CREDENTIALS;

const EVENTS: Key =
    Key::set("events", "true", Expected::Boolean, "One line of JSON on standard output for each event.");
const SOCKET: Key = Key::shown(
    "socket",
    "\"/run/resight/events.sock\"",
    Expected::Words("the path of a Unix socket"),
    "The same lines for every reader of a Unix socket (mode 0660).",
);
const HTTP: Key = Key::set(
    "http",
    "\"127.0.0.1:8600\"",
    Expected::Words("an address with a port, such as \"127.0.0.1:8600\""),
    "The page, /status, /metrics, /healthz, /frame.jpg, /stream.mjpg and /events. Any but a loopback address needs a \
     token or a password.",
);
const SWITCHES: Key = Key::shown(
    "switches",
    "false",
    Expected::Boolean,
    "Whether those who may see the page may also switch: dry run, and arm and disarm rules.",
);
const TOKEN_FILE: Key = Key::shown(
    "token_file",
    "\"$CREDENTIALS_DIRECTORY/resight-token\"",
    FILE,
    "A file with the token that requests show (Authorization: Bearer TOKEN), 16 characters or more; or set \
     RESIGHT_HTTP_TOKEN in the service's environment. `openssl rand -hex 32` makes one.",
);
const PASSWORD_FILE: Key = Key::shown(
    "password_file",
    "\"$CREDENTIALS_DIRECTORY/resight-http-password\"",
    FILE,
    "A file with the hash of a password that may be shown instead; `resightd password` makes it.",
);
const TLS: Key = Key::shown(
    "tls",
    "true",
    Expected::Boolean,
    "Encrypts connections (https://) with a certificate that the service makes at its first start; its fingerprint is \
     in the log, and `resightd fingerprint FILE` shows it.",
);
const CERTIFICATE_FILE: Key = Key::shown(
    "certificate_file",
    "\"/etc/resight/tls.crt\"",
    PEM,
    "Encrypts them with your own certificate.",
);
const KEY_FILE: Key = Key::shown(
    "key_file",
    "\"$CREDENTIALS_DIRECTORY/resight-tls-key\"",
    PEM,
    "The private key of that certificate.",
);
const HOSTS: Key = Key::shown(
    "hosts",
    "[\"board.local\"]",
    Expected::Words("a list of names, such as [\"board.local\"]"),
    "Names that requests on loopback may use besides localhost, behind a proxy for example.",
);

pub(super) const OUTPUT: Table = Table::set(
    "[output]",
    "",
    &[EVENTS, SOCKET, HTTP, SWITCHES, TOKEN_FILE, PASSWORD_FILE, TLS, CERTIFICATE_FILE, KEY_FILE, HOSTS],
);

const FOLDER: Key = Key::set(
    "folder",
    "\"/var/lib/resight/snapshots\"",
    Expected::Words("the path of a folder"),
    "Where they are kept.",
);
const MAX_MB: Key = Key::set(
    "max_mb",
    "100",
    Expected::Words("a whole number of megabytes from 1 to 1000000"),
    "The oldest go when all together would exceed this.",
);
const RULES: Key = Key::set(
    "rules",
    "[\"cat\"]",
    Expected::Words("a list of names of rules"),
    "Whose; all rules' if left out.",
);

const SHOWS: Key = Key::shown(
    "shows",
    "\"thing\"",
    Expected::OneOf(&["frame", "thing", "marked"]),
    "Of networks that find boxes: the whole frame, as it came (the default), the likeliest thing of the rule cut out of \
     it, or the frame with a mark round that thing.",
);

pub(super) const SNAPSHOTS: Table = Table::shown(
    "[output.snapshots]",
    "A picture of each frame that makes a rule active.",
    &[FOLDER, MAX_MB, RULES, SHOWS],
);

const TOPIC_NAME: Expected = Expected::Words("a topic without +, # and empty levels, such as \"resight\"");
const URL: Key = Key::set(
    "url",
    "\"mqtts://broker.example:8883\"",
    Expected::Words(
        "\"mqtt://host:1883\" or \"mqtts://host:8883\"; name and password have keys of their own",
    ),
    "\"mqtt://\" is not encrypted, \"mqtts://\" is. The port is 1883 or 8883 if left out.",
);
const USERNAME: Key = Key::set("username", "\"resight\"", NAME, "The name that the broker knows.");
const MQTT_PASSWORD_FILE: Key = Key::set(
    "password_file",
    "\"$CREDENTIALS_DIRECTORY/resight-mqtt-password\"",
    FILE,
    "Its password, in a file of its own, because this one may be read by others.",
);
const CA_FILE: Key =
    Key::set("ca_file", "\"/etc/resight/ca.pem\"", PEM, "Certificates to trust instead of the system's.");
const CLIENT_ID: Key = Key::set(
    "client_id",
    "\"resight-porch\"",
    Expected::Words("up to 64 letters, digits, - and _"),
    "Contains the host's name if left out, so that several boards can share a broker.",
);
const TOPIC: Key =
    Key::set("topic", "\"resight/porch\"", TOPIC_NAME, "What all topics begin with; likewise.");
const HOME_ASSISTANT: Key =
    Key::set("home_assistant", "true", Expected::Boolean, "Makes rules and lines appear in Home Assistant.");
const DISCOVERY_TOPIC: Key = Key::set(
    "discovery_topic",
    "\"homeassistant\"",
    TOPIC_NAME,
    "The topic below which that looks for them.",
);
const KEEP_ALIVE_S: Key = Key::set(
    "keep_alive_s",
    "30",
    Expected::Words("seconds, 5 to 3600"),
    "The broker says that the service is gone after one and a half times as long without a word.",
);

pub(super) const MQTT: Table = Table::shown(
    "[output.mqtt]",
    "States of rules and lines (retained), events and availability for an MQTT broker.",
    &[
        URL,
        USERNAME,
        MQTT_PASSWORD_FILE,
        CA_FILE,
        CLIENT_ID,
        TOPIC,
        HOME_ASSISTANT,
        DISCOVERY_TOPIC,
        KEEP_ALIVE_S,
    ],
);

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
        let events = self.flag(&mut section, &EVENTS).unwrap_or(true);
        let socket = self.text_of(&mut section, &SOCKET);
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
        let address = self.optional(section, &HTTP, |value| value.as_str()?.parse().ok());
        let token_file = self.text_of(section, &TOKEN_FILE);
        let password_file = self.text_of(section, &PASSWORD_FILE);
        let tls = self.tls(section, folder);
        let hosts = self.optional(section, &HOSTS, patterns).unwrap_or_default();
        let switches = self.flag(section, &SWITCHES).unwrap_or(true);
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
        let own = self.flag(section, &TLS);
        let certificate = self.text_of(section, &CERTIFICATE_FILE);
        let key = self.text_of(section, &KEY_FILE);
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
        let path = self.required(&mut section, &FOLDER, text);
        let max_mb = self.optional(&mut section, &MAX_MB, |value| {
            integer(value).filter(|megabytes| (1..=1_000_000).contains(megabytes))
        });
        let chosen = self.optional(&mut section, &RULES, patterns);
        let shows = self.optional(&mut section, &SHOWS, |value| match text(value)?.as_str() {
            "frame" => Some(Shows::Frame),
            "thing" => Some(Shows::Thing),
            "marked" => Some(Shows::Marked),
            _ => None,
        });
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
            shows: shows.unwrap_or_default(),
        })
    }

    fn mqtt(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<MqttConfig> {
        self.no_secret(&mut section, "password", "write it into a file and name that as `password_file`");
        let broker = self.required(&mut section, &URL, broker);
        let user = self.text_of(&mut section, &USERNAME);
        let password_file = self.text_of(&mut section, &MQTT_PASSWORD_FILE);
        let span = section.entries.iter().find(|(name, ..)| *name == "ca_file").map(|entry| entry.1.span());
        let ca_file = self.text_of(&mut section, &CA_FILE);
        if let Some(span) = span.filter(|_| broker.as_ref().is_some_and(|(encrypted, ..)| !encrypted)) {
            self.mistake(&span, &section.key("ca_file"), "only for a url that begins with mqtts://");
        }
        let client_id = self.optional(&mut section, &CLIENT_ID, |value| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            text(value).filter(|id| id.len() <= 64 && id.chars().all(plain))
        });
        let prefix = self.optional(&mut section, &TOPIC, topic);
        let discovery = self.flag(&mut section, &HOME_ASSISTANT).unwrap_or(false);
        let discovery_prefix = self.optional(&mut section, &DISCOVERY_TOPIC, topic);
        let keep_alive = self.optional(&mut section, &KEEP_ALIVE_S, |value| {
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
