//! States and events for an MQTT broker.
//!
//! Two threads: the one that all outputs share puts together what is to be told and queues it
//! without waiting; the connection's own waits for the broker. States are kept by what the
//! broker was last told, so they come again after every loss of the connection.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use heapless::Deque;
use resight_base::{retry::Backoff, wait};
use rumqttc::{
    Client, Connection, Event, LastWill, MqttOptions, Outgoing, Packet, QoS, Request, TlsConfiguration,
    Transport,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::mqtt_states::{States, availability};
use super::multicast_dns::{is_multicast_name, resolve};
use super::output::{Output, OutputList, find};
use super::remedy::remedy;
use super::settings::{MqttConfig, OutputConfig};
use crate::names::SharedNames;
use crate::reach::Reach;
use crate::secret::{Secret, small_file};
use crate::sync::{Bell, lock};
use crate::telemetry::Telemetry;
use crate::threads::{Role, spawn};
use crate::wake::Wake;

/// Events that may wait for the broker; then the oldest go.
const EVENTS: usize = 256;

/// Messages handed to the connection and not yet sent.
const REQUESTS: usize = 64;

/// Pauses between two attempts to connect.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Those where somebody else takes the place each time: two boards do so no faster.
const LONG_PAUSES: Backoff = Backoff::new(Duration::from_secs(8), Duration::from_mins(5));

/// A connection that lives so long is none that somebody else takes away.
const STEADY: Duration = Duration::from_mins(1);

/// So many that do not are a sign that somebody else connects under the same name, to whom the broker
/// gives the place each time.
const CLASHES: u32 = 3;

/// How soon a connection that had no room may have some.
const ROOM: Duration = Duration::from_millis(100);

/// How long a broker may take to end a connection after the farewell.
const FAREWELL: Duration = Duration::from_millis(300);

/// How often a waiting thread looks whether it may go on.
const TICK: Duration = Duration::from_millis(50);

/// Where Debian and its relatives keep the certificates that everybody trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Everything a connection is made from, the contents of files included.
#[derive(Clone, PartialEq)]
pub(super) struct Settings {
    config: MqttConfig,
    password: Option<Secret>,
    authorities: Option<Vec<u8>>,
}

impl Settings {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// Files that are missing, empty or hold no certificates.
    pub(super) fn read(config: &MqttConfig) -> Result<Self> {
        let path = config.ca_file.as_deref().unwrap_or(SYSTEM_AUTHORITIES.as_ref());
        let remedy = "`output.mqtt.ca_file` names the certificates to trust";
        let settings = Self {
            config: config.clone(),
            password: config.password_file.as_deref().map(Secret::read).transpose()?,
            authorities: config.encrypted.then(|| small_file(path).context(remedy)).transpose()?,
        };
        settings.tls(None).with_context(|| path.display().to_string())?;
        Ok(settings)
    }

    /// The client's TLS. With a name, the certificate must be for that one, whatever is connected to.
    fn tls(&self, name: Option<&str>) -> Result<Option<ClientConfig>> {
        let Some(pem) = &self.authorities else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        // One odd certificate of the system's many is no reason to trust none.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
        if roots.is_empty() {
            bail!("no certificates; a PEM file with the authority's certificate is needed");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let Some(name) = name else {
            return Ok(Some(builder.with_root_certificates(roots).with_no_client_auth()));
        };
        let verifier = ForName::new(roots, provider, name)?;
        Ok(Some(
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth(),
        ))
    }

    /// With the address of the host, if it is known already.
    fn options(&self, address: Option<IpAddr>) -> Result<MqttOptions> {
        let config = &self.config;
        let host = match address {
            None => config.host.clone(),
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(address) => address.to_string(),
        };
        let mut options = MqttOptions::new(&config.client_id, host, config.port);
        options.set_keep_alive(config.keep_alive).set_max_packet_size(64 << 10, 1 << 20);
        options.set_last_will(LastWill::new(availability(&self.config), "offline", QoS::AtLeastOnce, true));
        if let Some(user) = &config.username {
            options.set_credentials(user, self.password.as_ref().map_or("", Secret::text));
        }
        if let Some(tls) = self.tls(address.map(|_| config.host.as_str()))? {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
        }
        Ok(options)
    }
}

/// What the two threads share.
#[derive(Default)]
struct Link {
    stop: AtomicBool,
    finished: AtomicBool,
    /// How often the broker has accepted a connection.
    connections: AtomicU64,
    connected: AtomicBool,
    events: Mutex<Deque<Arc<str>, EVENTS>>,
    /// Rung for the connection's thread.
    bell: Bell,
}

impl Link {
    fn set_connected(&self, connected: bool, telemetry: &Telemetry, wake: &Wake) {
        self.connected.store(connected, Ordering::SeqCst);
        telemetry.mqtt_connected.set(connected.into());
        wake.ring();
    }
}

/// A broker that is told states and events.
pub(super) struct Mqtt {
    settings: Settings,
    client: Client,
    link: Arc<Link>,
    states: Mutex<States>,
    telemetry: Arc<Telemetry>,
}

pub(super) fn open(
    config: &OutputConfig,
    old: &OutputList,
    reach: &Reach,
) -> Result<Option<Arc<dyn Output>>> {
    let Some(config) = &config.mqtt else { return Ok(None) };
    let (settings, old) = (Settings::read(config)?, find::<Mqtt>(old));
    if let Some(same) = old.as_ref().filter(|old| old.settings == settings) {
        return Ok(Some(same.clone()));
    }
    let wake = reach.wake.clone();
    Ok(Some(Arc::new(Mqtt::open(settings, old.as_deref(), reach.telemetry.clone(), wake)?)))
}

impl Output for Mqtt {
    fn event(&self, line: &Arc<str>) {
        self.write(line);
    }

    fn tick(&self, reach: &Reach) -> Option<Instant> {
        let judged: Vec<_> = reach.board.cameras().iter().map(|camera| camera.judged()).collect();
        let names: Vec<&SharedNames> = judged.iter().map(|judged| &judged.names).collect();
        let levels = reach.board.lines.levels();
        let levels = levels.iter().map(|(name, level)| (name.as_str(), *level));
        self.look(&names, judged.iter().flat_map(|judged| judged.active().zip(judged.totals())), levels)
    }

    fn close(&self, deadline: Instant) {
        self.end(deadline);
    }
}

impl Mqtt {
    /// Starts the connection's thread; it connects when that of `old` has ended.
    ///
    /// # Errors
    /// A system without room for a thread.
    fn open(
        settings: Settings,
        old: Option<&Self>,
        telemetry: Arc<Telemetry>,
        wake: Arc<Wake>,
    ) -> Result<Self> {
        let (client, connection) = Client::new(settings.options(None)?, REQUESTS);
        let link = Arc::new(Link::default());
        let before = old.map(|old| old.link.clone());
        let work = {
            let (link, telemetry) = (link.clone(), telemetry.clone());
            let settings = settings.clone();
            move || {
                // The farewell of one must not follow the greeting of the other.
                while before.as_ref().is_some_and(|old| !old.finished.load(Ordering::SeqCst))
                    && !link.stop.load(Ordering::SeqCst)
                {
                    link.bell.wait(Some(Instant::now() + TICK));
                }
                converse(connection, &settings, &link, &telemetry, &wake);
                link.set_connected(false, &telemetry, &wake);
                link.finished.store(true, Ordering::SeqCst);
            }
        };
        spawn("mqtt", Role::Vital, None, work)?;
        Ok(Self { settings, client, link, states: Mutex::default(), telemetry })
    }

    fn is_connected(&self) -> bool {
        self.link.connected.load(Ordering::SeqCst)
    }

    /// Queues an event.
    fn write(&self, line: &Arc<str>) {
        let mut events = lock(&self.link.events);
        if events.is_full() {
            events.pop_front();
            self.telemetry.mqtt_dropped.one_more();
        }
        // There is room.
        let _ = events.push_back(line.clone());
    }

    /// Tells the broker what has changed, as far as there is room. Gives when to go on.
    fn look<'a>(
        &self,
        names: &[&SharedNames],
        rules: impl Iterator<Item = (bool, u64)>,
        levels: impl Iterator<Item = (&'a str, Option<bool>)>,
    ) -> Option<Instant> {
        let mut states = lock(&self.states);
        states.look(&self.settings.config, names, rules, levels);
        if !self.is_connected() {
            return None;
        }
        states.tell(self.link.connections.load(Ordering::SeqCst), |topic, payload| {
            self.client.try_publish(topic, QoS::AtLeastOnce, true, payload).is_ok()
        });
        let mut events = lock(&self.link.events);
        while let Some(line) = events.front() {
            let topic = format!("{}/event", self.settings.config.topic);
            if self.client.try_publish(topic, QoS::AtLeastOnce, false, line.trim_end()).is_err() {
                return Some(Instant::now() + ROOM);
            }
            events.pop_front();
        }
        (!states.settled).then(|| Instant::now() + ROOM)
    }

    /// Says farewell. What is queued before is still sent if the broker takes it.
    fn stop(&self) {
        if self.link.stop.swap(true, Ordering::SeqCst) {
            return;
        }
        self.link.bell.ring();
        if !self.is_connected() {
            return;
        }
        // Without room the broker sends the last will.
        let _ =
            self.client.try_publish(availability(&self.settings.config), QoS::AtLeastOnce, true, "offline");
        let _ = self.client.try_disconnect();
    }

    fn end(&self, deadline: Instant) {
        self.stop();
        wait::until(deadline, TICK / 10, || !self.is_connected());
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How long to wait before the next attempt to connect.
#[derive(Debug)]
struct Patience {
    pauses: Backoff,
    /// Connections in a row that the broker accepted and that ended soon.
    short: u32,
}

impl Patience {
    fn new() -> Self {
        Self { pauses: PAUSES, short: 0 }
    }

    /// The pause now that a connection has ended, which the broker had accepted so long ago, or not at
    /// all; and whether it looks as if somebody else connects under the same name.
    fn after(&mut self, lived: Option<Duration>) -> (Duration, bool) {
        match lived {
            Some(lived) if lived >= STEADY => *self = Self::new(),
            Some(_) => self.short += 1,
            None if self.short >= CLASHES => *self = Self::new(),
            None => self.short = 0,
        }
        if self.short == CLASHES {
            self.pauses = LONG_PAUSES;
        }
        (self.pauses.pause(), self.short >= CLASHES)
    }
}

/// Accepts certificates that are for a name, though an address was connected to.
#[derive(Debug)]
struct ForName {
    usual: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ForName {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>, name: &str) -> Result<Self> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let name = name.trim_end_matches('.').to_owned();
        Ok(Self { usual, name: ServerName::try_from(name)? })
    }
}

impl ServerCertVerifier for ForName {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _connected: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.usual.verify_server_cert(own, between, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Where a name in `.local` is now, for the next attempt: the library asks the system alone.
fn locate(connection: &mut Connection, settings: &Settings) {
    let MqttConfig { host, port, .. } = &settings.config;
    if is_multicast_name(host)
        && let Ok(address) = resolve(host, *port)
        && let Ok(options) = settings.options(Some(address.ip()))
    {
        connection.eventloop.mqtt_options = options;
    }
}

fn converse(
    mut connection: Connection,
    settings: &Settings,
    link: &Link,
    telemetry: &Telemetry,
    wake: &Wake,
) {
    let MqttConfig { host, port, client_id, .. } = &settings.config;
    let broker = &format!("{host}:{port}");
    let mut patience = Patience::new();
    // When the broker accepted the connection that there is.
    let mut since: Option<Instant> = None;
    locate(&mut connection, settings);
    loop {
        if link.stop.load(Ordering::SeqCst) && !link.connected.load(Ordering::SeqCst) {
            return;
        }
        match connection.recv() {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                since = Some(Instant::now());
                link.connections.fetch_add(1, Ordering::SeqCst);
                link.set_connected(true, telemetry, wake);
                log::info!("MQTT: connected to {broker}");
            }
            Err(_) => return,
            Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) => {
                // Who closes while something is still to be read takes back what was sent.
                let until = Instant::now() + FAREWELL;
                let left = || until.saturating_duration_since(Instant::now());
                while !left().is_zero() && matches!(connection.recv_timeout(left()), Ok(Ok(_))) {}
                return;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                link.set_connected(false, telemetry, wake);
                if link.stop.load(Ordering::SeqCst) {
                    return;
                }
                telemetry.mqtt_errors.one_more();
                let error = error.to_string();
                let remedy = remedy(&error, broker);
                let (pause, clash) = patience.after(since.take().map(|since| since.elapsed()));
                let clash = if clash {
                    format!(
                        "; it takes the connection away again and again: does another board have the client_id \
                         `{client_id}` too? Give each its own in [output.mqtt]"
                    )
                } else {
                    String::new()
                };
                log::warn!("MQTT: {broker}: {error}{remedy}{clash}; next attempt in {} s", pause.as_secs());
                keep_events(&mut connection, link, telemetry);
                let due = Instant::now() + pause;
                while Instant::now() < due && !link.stop.load(Ordering::SeqCst) {
                    link.bell.wait(Some(due));
                }
                locate(&mut connection, settings);
            }
        }
    }
}

/// Takes back the events that the broker has not confirmed. States are made anew instead.
fn keep_events(connection: &mut Connection, link: &Link, telemetry: &Telemetry) {
    let mut events = lock(&link.events);
    for request in connection.eventloop.pending.drain(..).rev() {
        let Request::Publish(publish) = request else { continue };
        if publish.retain {
            continue;
        }
        if events.push_front(String::from_utf8_lossy(&publish.payload).into()).is_err() {
            telemetry.mqtt_dropped.one_more();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::mqtt_fixtures::{config, names};

    fn settings(discovery: Option<&str>) -> Settings {
        Settings::read(&config(discovery)).unwrap()
    }

    #[test]
    fn somebody_who_takes_the_place_again_and_again_is_suspected_and_waited_for() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::new();
        // A broker that is not there.
        let pauses: Vec<_> = (0..7).map(|_| patience.after(None)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(|pause| (seconds(pause), false)));
        // It is back, for an hour.
        assert_eq!(patience.after(Some(seconds(3600))), (seconds(1), false));
        let found: Vec<_> = (0..9).map(|_| patience.after(Some(seconds(2)))).collect();
        let right = [(2, false), (4, false), (8, true), (16, true), (32, true), (64, true), (128, true)];
        assert_eq!(found[..7], right.map(|(pause, clash)| (seconds(pause), clash)));
        assert_eq!(found[8], (seconds(300), true));
        assert_eq!(patience.after(Some(seconds(61))), (seconds(1), false));
    }

    #[test]
    fn a_certificate_must_be_for_the_name_though_an_address_is_connected_to() {
        let own = rcgen::generate_simple_self_signed(["box.local".to_owned()]).unwrap();
        let certificate = own.cert.der().clone();
        let accepted = |name: &str| {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let address = ServerName::try_from("192.0.2.9").unwrap();
            ForName::new(roots, provider, name)
                .unwrap()
                .verify_server_cert(&certificate, &[], &address, &[], UnixTime::now())
                .map_err(|error| error.to_string())
        };
        accepted("box.local").unwrap();
        accepted("Box.local.").unwrap();
        let error = accepted("other.local").unwrap_err();
        assert!(error.contains("not valid for"), "{error}");
    }

    #[test]
    fn without_a_broker_the_oldest_events_go() {
        let telemetry = Arc::new(Telemetry::default());
        let mqtt = Mqtt::open(settings(None), None, telemetry.clone(), Arc::default()).unwrap();
        for index in 0..EVENTS + 10 {
            mqtt.write(&format!("{index}\n").into());
        }
        mqtt.look(&[&names(&["cat"])], [(false, 0)].into_iter(), [].into_iter());
        assert_eq!(telemetry.mqtt_dropped.count(), 10);
        assert_eq!(&**lock(&mqtt.link.events).front().unwrap(), "10\n");
        let link = mqtt.link.clone();
        drop(mqtt);
        let deadline = Instant::now() + Duration::from_secs(30);
        assert!(wait::until(deadline, TICK, || link.finished.load(Ordering::SeqCst)));
    }
}
