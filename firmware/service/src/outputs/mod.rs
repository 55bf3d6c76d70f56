//! What leaves the service besides lines: events, pictures, status.
//!
//! Nothing here holds up the inference thread or another output: every queue is bounded, what
//! does not fit is dropped and counted.

mod event;
mod mqtt;
mod picture;
mod remedy;
mod secret;
mod snapshots;
mod socket;
mod worker;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};

pub(crate) use self::event::{About, Event, EventKind, Names};
use self::mqtt::{Mqtt, Settings};
pub(crate) use self::picture::FrameTap;
use self::picture::Picture;
pub(crate) use self::remedy::unresolved;
pub(crate) use self::secret::Secret;
use self::snapshots::{Snapshot, Snapshots};
use self::socket::EventSocket;
use self::worker::Worker;
use crate::config::{HttpConfig, OutputConfig, TOKEN_VARIABLE};
use crate::http::{Access, Server};
use crate::queue::{Popped, Queue};
use crate::run::{Shared, lock};
use crate::source::Frame;
use crate::triggers::Change;

/// Events that may wait for a slow reader.
const EVENTS: usize = 256;

/// From the rules to the thread of the outputs.
pub(crate) type Events = Queue<Event, EVENTS>;

/// How long the last events may take.
const FLUSH: Duration = Duration::from_secs(1);

/// How often outputs are looked after when there are no events.
const TICK: Duration = Duration::from_millis(100);

macro_rules! counters {
    ($($name:ident $help:literal)*) => {
        /// What the outputs count; see [`list`](Self::list) for the meanings.
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            /// Whether the source gives frames.
            pub(crate) source_up: AtomicU64,
            /// Readers of the socket now.
            pub(crate) socket_readers: AtomicU64,
            /// Whether a broker is connected now.
            pub(crate) mqtt_connected: AtomicU64,
        }

        impl Counters {
            /// Name, meaning and count of each counter.
            pub(crate) fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name.load(Ordering::Relaxed)),)*].into_iter()
            }
        }
    };
}

counters! {
    stdout_dropped "Events dropped because standard output took none."
    socket_dropped "Events that a slow reader of the socket missed."
    socket_disconnected "Readers of the socket that took nothing and were disconnected."
    socket_refused "Readers of the socket that were one too many."
    snapshots_written "Snapshots."
    snapshots_dropped "Snapshots dropped because the disk was too slow."
    snapshot_errors "Snapshots that could not be written."
    mqtt_dropped "Events dropped because the broker took none."
    mqtt_errors "Failures of the connection to the broker."
    http_requests "Requests over HTTP that were answered."
    http_unauthorised "Requests over HTTP without the token, for a foreign host or by a foreign page."
    http_refused "Connections over HTTP that were one too many."
    http_missed "Events that a slow viewer over HTTP missed."
    http_switched "Switches of dry run and of rules over HTTP."
    http_errors "Connections over HTTP that were too slow, too long or broken."
}

impl Counters {
    /// Name, meaning and value of each gauge.
    pub(crate) fn gauges(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let load = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        [
            ("source_up", "Whether the source is open and has given a frame.", load(&self.source_up)),
            ("socket_readers", "Readers of the socket.", load(&self.socket_readers)),
            ("mqtt_connected", "Whether the broker is connected.", load(&self.mqtt_connected)),
        ]
        .into_iter()
    }
}

/// All outputs of a configuration. A reload makes new ones and keeps what did not change.
#[derive(Default)]
pub(crate) struct Outputs {
    stdout: Option<Arc<Worker<Arc<str>, EVENTS>>>,
    socket: Option<Arc<EventSocket>>,
    snapshots: Option<Arc<Snapshots>>,
    mqtt: Option<Arc<Mqtt>>,
    http: Option<Arc<Http>>,
}

/// The HTTP server, and what it was made from.
struct Http {
    config: HttpConfig,
    token: Option<Secret>,
    access: Arc<Access>,
    server: Arc<Server>,
}

impl Outputs {
    /// Opens what `config` asks for; what is the same in `old` is taken over.
    ///
    /// # Errors
    /// An address or path that cannot be used, and secrets that cannot be read. `old` still works then.
    pub(crate) fn open(config: &OutputConfig, old: &Self, shared: &Arc<Shared>) -> Result<Self> {
        let counters = &shared.counters;
        let stdout = match &old.stdout {
            _ if !config.events => None,
            Some(stdout) => Some(stdout.clone()),
            None => Some(Arc::new(Worker::spawn("events", write_to_stdout)?)),
        };
        let socket = match (&config.socket, &old.socket) {
            (None, _) => None,
            (Some(path), Some(socket)) if socket.path() == path => Some(socket.clone()),
            (Some(path), _) => Some(Arc::new(EventSocket::open(path, counters.clone())?)),
        };
        let snapshots = match (&config.snapshots, &old.snapshots) {
            (None, _) => None,
            (Some(config), Some(snapshots)) if snapshots.config() == config => Some(snapshots.clone()),
            (Some(config), _) => Some(Arc::new(Snapshots::open(config, counters.clone())?)),
        };
        let mqtt = match config.mqtt.as_ref().map(Settings::read).transpose()? {
            None => None,
            Some(settings) => match &old.mqtt {
                Some(mqtt) if *mqtt.settings() == settings => Some(mqtt.clone()),
                old => Some(Arc::new(Mqtt::open(settings, old.as_deref(), counters.clone())?)),
            },
        };
        let http =
            config.http.as_ref().map(|config| open_http(config, old.http.as_ref(), shared)).transpose()?;
        Ok(Self { stdout, socket, snapshots, mqtt, http })
    }

    /// Puts these in the place of those that ran.
    pub(crate) fn install(self, shared: &Shared) {
        if let Some(http) = &self.http {
            http.server.set_access(http.access.clone());
        }
        *lock(&shared.outputs) = Arc::new(self);
    }

    /// Takes a snapshot for each rule that became active, of `changes` that `frame` caused. Copies
    /// the frame only if there are any.
    pub(crate) fn take_snapshots(&self, changes: &[Change], frame: &Frame, names: &Names) {
        let Some(snapshots) = &self.snapshots else { return };
        let mut picture = None;
        for change in changes.iter().filter(|change| change.active) {
            let Some(rule) = names.rules.get(change.rule).filter(|rule| snapshots.wants(rule)) else {
                continue;
            };
            snapshots.take(Snapshot {
                picture: picture.get_or_insert_with(|| Arc::new(Picture::of(frame))).clone(),
                rule: rule.clone(),
                class: names.labels.name(change.class).unwrap_or_default().to_owned(),
                score: change.score,
                wall: SystemTime::now(),
            });
        }
    }

    fn write(&self, event: &Event, shared: &Shared) {
        if self.stdout.is_none() && self.socket.is_none() && self.mqtt.is_none() && self.http.is_none() {
            return;
        }
        let line: Arc<str> = format!("{}\n", event.json()).into();
        if self.http.is_some() {
            shared.live.event(line.clone());
        }
        if let Some(socket) = &self.socket {
            socket.write(&line);
        }
        if let Some(mqtt) = &self.mqtt {
            mqtt.write(&line);
        }
        if let Some(stdout) = &self.stdout
            && !stdout.send(line)
        {
            shared.counters.stdout_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tick(&self, shared: &Shared) {
        if let Some(socket) = &self.socket {
            socket.tick();
        }
        let mut connected = false;
        if let Some(mqtt) = &self.mqtt {
            let levels = shared.lines.levels();
            mqtt.tick(&shared.names(), levels.iter().map(|(name, level)| (name.as_str(), *level)));
            connected = mqtt.is_connected();
        }
        shared.counters.mqtt_connected.store(connected.into(), Ordering::Relaxed);
    }

    /// Gives the last events a moment.
    fn close(&self) {
        let deadline = Instant::now() + FLUSH;
        if let Some(stdout) = &self.stdout {
            stdout.close(deadline);
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.close(deadline);
        }
        if let Some(mqtt) = &self.mqtt {
            mqtt.close(deadline);
        }
    }
}

/// The token that requests must show, from its file or from the environment.
///
/// # Errors
/// A file that cannot be read, and a token that is none.
pub(crate) fn token(config: &HttpConfig) -> Result<Option<Secret>> {
    match &config.token_file {
        Some(path) => {
            let secret = Secret::read(path)?;
            Ok(Some(Secret::token(secret.text()).with_context(|| path.display().to_string())?))
        }
        None => std::env::var(TOKEN_VARIABLE)
            .ok()
            .map(|token| Secret::token(&token).context(TOKEN_VARIABLE))
            .transpose(),
    }
}

fn open_http(config: &HttpConfig, old: Option<&Arc<Http>>, shared: &Arc<Shared>) -> Result<Arc<Http>> {
    let token = token(config)?;
    if let Some(old) = old.filter(|old| old.config == *config && old.token == token) {
        return Ok(old.clone());
    }
    let access = Arc::new(Access::new(config, token.clone()));
    // The same address stays open, whatever else changes.
    let server = match old.filter(|old| old.config.address == config.address) {
        Some(old) => old.server.clone(),
        None => Arc::new(Server::start(config.address, access.clone(), shared.clone())?),
    };
    Ok(Arc::new(Http { config: config.clone(), token, access, server }))
}

fn write_to_stdout(lines: &Queue<Arc<str>, EVENTS>) {
    let mut output = io::stdout();
    while let Some(line) = lines.wait() {
        if let Err(error) = output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
            log::error!("events cannot be written to standard output: {error}");
        }
    }
}

/// Gives events to the outputs that there are at the time, until there are no more.
pub(crate) fn dispatch(shared: &Shared) {
    loop {
        let event = shared.events.pop(TICK);
        let outputs = lock(&shared.outputs).clone();
        match event {
            Popped::Item(event) => outputs.write(&event, shared),
            Popped::Nothing => {}
            Popped::Closed => {
                outputs.tick(shared);
                outputs.close();
                return;
            }
        }
        outputs.tick(shared);
    }
}
