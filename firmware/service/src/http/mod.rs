//! The page, status, metrics, the last frame and live events over HTTP.
//!
//! A server of our own, because the small ones that there are let slow clients take threads and memory
//! without limit: here connections, header, body and time are bounded.

mod connection;
mod page;
mod stream;

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use self::connection::{MAX_BODY, Request, Response, Wrong, read, write};
use self::stream::{classes, stream};
use crate::config::HttpConfig;
use crate::control::{Switch, SwitchError};
use crate::live::VIEWERS;
use crate::outputs::Secret;
use crate::run::{Shared, lock};

/// Connections at the same time: all viewers with their pictures, and others.
const CONNECTIONS: usize = 4 * VIEWERS;

/// How often a server looks whether it should stop.
const TICK: Duration = Duration::from_millis(200);

/// How long a request waits for the next frame.
const FRAME_WAIT: Duration = Duration::from_secs(2);

/// The answers need no more; 2 MiB each would be reserved otherwise.
const STACK: usize = 512 << 10;

/// Who is answered.
pub(crate) struct Access {
    token: Option<Secret>,
    /// Names that a request may use; `None` for any.
    hosts: Option<Vec<String>>,
    /// Whether they may switch dry run and rules.
    switches: bool,
}

impl Access {
    pub(crate) fn new(config: &HttpConfig, token: Option<Secret>) -> Self {
        let hosts = config.address.ip().is_loopback().then(|| config.hosts.clone());
        Self { token, hosts, switches: config.switches }
    }

    /// Whether the request's `Host` is this machine. A page from elsewhere whose name was made
    /// to resolve to a loopback address still sends its own name.
    fn knows_host(&self, host: Option<&str>) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let Some(host) = host.map(str::to_ascii_lowercase) else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host.as_str(),
        };
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name == "localhost"
            || address.is_ok_and(|address| address.is_loopback())
            || hosts.iter().any(|known| known == name)
    }

    fn knows_token(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = authorization.and_then(|value| value.split_at_checked(7));
        given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(given.trim_ascii())
        })
    }
}

/// Whether no page from elsewhere makes the request. Such a page could act for whoever looks at
/// it: a browser sends requests to loopback for every page that it shows.
fn is_own_page(request: &Request) -> bool {
    match (&request.fetch_site, &request.origin) {
        // What a browser says here, no page can change.
        (Some(site), _) => site == b"same-origin",
        // Not told over plain HTTP beyond loopback.
        (None, Some(origin)) => {
            let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            origin.is_some_and(|origin| request.host.as_ref().is_some_and(|host| host.as_bytes() == origin))
        }
        // No browser.
        (None, None) => true,
    }
}

/// What the threads of a server share.
struct Context {
    access: Mutex<Arc<Access>>,
    stop: AtomicBool,
    open: AtomicUsize,
    shared: Arc<Shared>,
}

impl Context {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.shared.stopping()
    }

    /// Whether this still says who is answered.
    fn is_current(&self, access: &Arc<Access>) -> bool {
        Arc::ptr_eq(&lock(&self.access), access)
    }
}

/// A listening server. It takes no more connections once this is dropped.
pub(crate) struct Server(Arc<Context>);

impl Server {
    /// Listens at an address and answers what comes in.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub(crate) fn start(address: SocketAddr, access: Arc<Access>, shared: Arc<Shared>) -> Result<Self> {
        let name = || format!("cannot listen on {address}; choose another `output.http`");
        let listener = TcpListener::bind(address).with_context(name)?;
        // A client may be gone before it is accepted.
        listener.set_nonblocking(true).with_context(name)?;
        log::info!("listening on http://{}", listener.local_addr().with_context(name)?);
        let context = Arc::new(Context {
            access: Mutex::new(access),
            stop: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            shared,
        });
        let server = Self(context.clone());
        thread::Builder::new()
            .name("http".into())
            .spawn(move || serve(&listener, &context))
            .context("cannot start thread http")?;
        Ok(server)
    }

    /// Changes who is answered from now on. Those who watch come again.
    pub(crate) fn set_access(&self, access: Arc<Access>) {
        *lock(&self.0.access) = access;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

fn serve(listener: &TcpListener, context: &Arc<Context>) {
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    while !context.stop.load(Ordering::SeqCst) {
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick));
        match listener.accept() {
            Ok((stream, _)) => accept(stream, context),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("a connection over HTTP could not be accepted: {error}");
                thread::sleep(TICK);
            }
        }
    }
}

/// Counts a connection as long as it lives.
struct Place(Arc<Context>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn accept(stream: TcpStream, context: &Arc<Context>) {
    let before = context.open.fetch_add(1, Ordering::SeqCst);
    let place = Place(context.clone());
    if before >= CONNECTIONS {
        context.shared.counters.http_refused.fetch_add(1, Ordering::Relaxed);
        log::warn!("a connection over HTTP was refused, there are {before} already");
        return;
    }
    let started = thread::Builder::new().name("http client".into()).stack_size(STACK).spawn(move || {
        converse(&stream, &place.0);
    });
    if let Err(error) = started {
        log::warn!("no thread for a connection over HTTP: {error}");
    }
}

/// Reads one request and answers it.
fn converse(stream: &TcpStream, context: &Context) {
    let counters = &context.shared.counters;
    let failed = |code, text| {
        counters.http_errors.fetch_add(1, Ordering::Relaxed);
        // Counted already, whether or not it hears of it.
        let _ = write(stream, &Response::text(code, text), false);
    };
    let (response, head_only) = match read(stream) {
        Ok(request) => {
            counters.http_requests.fetch_add(1, Ordering::Relaxed);
            let access = lock(&context.access).clone();
            match answer(&request, &access, &context.shared) {
                Answer::Whole(response) => (response, request.method == "HEAD"),
                Answer::Stream => return watch(stream, &access, context),
            }
        }
        Err(Wrong::Gone) => return,
        Err(Wrong::Slow) => return failed(408, "the request took too long\n"),
        Err(Wrong::Large) => return failed(431, "the request's header is too large\n"),
        Err(Wrong::Malformed) => return failed(400, "not HTTP/1\n"),
    };
    finish(write(stream, &response, head_only), context);
}

fn watch(stream: &TcpStream, access: &Arc<Access>, context: &Context) {
    let result = if let Some(viewer) = context.shared.live.watch() {
        self::stream(stream, viewer, access, context)
    } else {
        context.shared.counters.http_refused.fetch_add(1, Ordering::Relaxed);
        let response = Response::text(503, &format!("there are {VIEWERS} viewers already\n"));
        write(stream, &response, false)
    };
    finish(result, context);
}

fn finish(result: io::Result<()>, context: &Context) {
    match result {
        // Viewers may leave at any time.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            log::debug!("answering over HTTP: {error}");
        }
        Err(error) => {
            context.shared.counters.http_errors.fetch_add(1, Ordering::Relaxed);
            log::debug!("answering over HTTP: {error}");
        }
        Ok(()) => {}
    }
}

enum Answer {
    Whole(Response),
    /// Live events without end.
    Stream,
}

fn answer(request: &Request, access: &Access, shared: &Shared) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    let page = page::file(path);
    let refused = if !access.knows_host(request.host.as_deref()) {
        Some(Response::text(421, "this host is not in `output.hosts`\n"))
    } else if page.is_none() && !access.knows_token(request.authorization.as_deref()) {
        let response = Response::text(401, "Authorization: Bearer TOKEN is needed\n");
        Some(response.with("WWW-Authenticate", "Bearer"))
    } else if path == "/switches" && request.method == "POST" && !is_own_page(request) {
        Some(Response::text(403, "pages from elsewhere may not switch anything\n"))
    } else {
        None
    };
    if let Some(refused) = refused {
        shared.counters.http_unauthorised.fetch_add(1, Ordering::Relaxed);
        return Answer::Whole(refused);
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    Answer::Whole(match (path, page) {
        ("/switches", _) if request.method == "POST" => switch(request, access, shared),
        ("/switches", _) => Response::text(405, "only POST\n").with("Allow", "POST"),
        _ if !reads => Response::text(405, "only GET\n").with("Allow", "GET, HEAD"),
        (_, Some(page)) => page,
        ("/status", _) => Response::new(200, "application/json", shared.status().to_string().into_bytes()),
        ("/metrics", _) => Response::new(200, "text/plain; version=0.0.4", shared.prometheus().into_bytes()),
        ("/healthz", _) if shared.is_healthy() => Response::text(200, "ok\n"),
        ("/healthz", _) => Response::text(503, "stale\n"),
        ("/frame.jpg", _) => frame(shared),
        ("/events", _) if request.method == "HEAD" => Response::new(200, "text/event-stream", &b""[..]),
        ("/events", _) => return Answer::Stream,
        _ => {
            let there = "there are /, /status, /metrics, /healthz, /frame.jpg, /events and /switches\n";
            Response::text(404, there)
        }
    })
}

/// The next frame, and what the network saw in it.
fn frame(shared: &Shared) -> Response {
    let Some(seen) = shared.tap.next(FRAME_WAIT) else {
        return Response::text(503, "no frame came in time\n");
    };
    match seen.jpeg() {
        Ok(jpeg) => {
            let shown = json!({ "frame": seen.number(), "top": classes(&seen.top, &shared.names()) });
            Response::new(200, "image/jpeg", jpeg.to_vec()).with("Resight-Frame", ascii(&shown))
        }
        Err(error) => Response::text(500, &format!("{error}\n")),
    }
}

/// JSON that a header can hold.
fn ascii(value: &Value) -> String {
    let mut text = String::new();
    let mut units = [0; 2];
    for character in value.to_string().chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

fn switch(request: &Request, access: &Access, shared: &Shared) -> Response {
    if !access.switches {
        return Response::text(403, "`switches` in [output] is false\n");
    }
    match request.length {
        None => return Response::text(411, "Content-Length is needed\n"),
        Some(length) if length > MAX_BODY => return Response::text(413, "the body is too large\n"),
        Some(_) => {}
    }
    // Forms of pages from elsewhere can send any other type without being asked.
    let is_json = |kind: &[u8]| {
        kind.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii) == Some(&b"application/json"[..])
    };
    if !request.content_type.as_deref().is_some_and(is_json) {
        return Response::text(415, "Content-Type: application/json is needed\n");
    }
    let Some(switch) = wanted(&request.body) else {
        let expected = "expected {\"dry_run\": true} or {\"rule\": NAME, \"armed\": true}, or false\n";
        return Response::text(400, expected);
    };
    match shared.switch(&switch) {
        Ok(()) => {
            shared.counters.http_switched.fetch_add(1, Ordering::Relaxed);
            Response::new(200, "application/json", shared.state().to_string().into_bytes())
        }
        Err(error @ SwitchError::NoRule(_)) => Response::text(404, &format!("{error}\n")),
        Err(error @ SwitchError::Configured) => Response::text(409, &format!("{error}\n")),
    }
}

/// What a request wants to switch; nothing else may be in it.
fn wanted(body: &[u8]) -> Option<Switch> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let value = value.as_object()?;
    match (value.len(), value.get("dry_run"), value.get("rule"), value.get("armed")) {
        (1, Some(on), ..) => Some(Switch::DryRun(on.as_bool()?)),
        (2, None, Some(name), Some(armed)) => {
            Some(Switch::Rule { name: name.as_str()?.to_owned(), armed: armed.as_bool()? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, hosts: &[&str]) -> Access {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Access::new(
            &HttpConfig { address: address.parse().unwrap(), token_file: None, hosts, switches: true },
            None,
        )
    }

    #[test]
    fn a_foreign_name_for_loopback_is_refused() {
        let access = access("127.0.0.1:80", &["board.local"]);
        for host in
            ["localhost", "LOCALHOST:8600", "127.0.0.1", "127.1.2.3:1", "[::1]:8600", "board.local:80"]
        {
            assert!(access.knows_host(Some(host)), "{host}");
        }
        for host in ["evil.example", "evil.example:8600", "192.168.1.2", "localhost.evil.example", "", "a:b"]
        {
            assert!(!access.knows_host(Some(host)), "{host}");
        }
        assert!(!access.knows_host(None));
    }

    #[test]
    fn elsewhere_the_token_decides() {
        let mut access = access("0.0.0.0:80", &[]);
        access.token = Some(Secret::token("0123456789abcdef").unwrap());
        assert!(access.knows_host(Some("board.example")) && access.knows_host(None));
        assert!(access.knows_token(Some(b"Bearer 0123456789abcdef")));
        assert!(access.knows_token(Some(b"bearer  0123456789abcdef")));
        for given in ["", "Bearer", "Bearer ", "Basic 0123456789abcdef", "Bearer 0123456789abcdeg"] {
            assert!(!access.knows_token(Some(given.as_bytes())), "{given}");
        }
        assert!(!access.knows_token(None));
    }

    fn request(fields: &[(&str, &str)]) -> Request {
        let field = |wanted: &str| {
            fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_bytes().to_vec())
        };
        Request {
            method: "POST".into(),
            target: "/switches".into(),
            host: Some("127.0.0.1:8600".into()),
            authorization: None,
            origin: field("origin"),
            fetch_site: field("site"),
            content_type: None,
            length: None,
            body: vec![],
        }
    }

    #[test]
    fn pages_from_elsewhere_are_told_from_our_own() {
        let table: [(&[_], _); 10] = [
            (&[], true),
            (&[("site", "same-origin"), ("origin", "http://127.0.0.1:8600")], true),
            // Behind a proxy that changes the host.
            (&[("site", "same-origin"), ("origin", "https://board.example")], true),
            (&[("site", "same-site"), ("origin", "http://127.0.0.1:8600")], false),
            (&[("site", "cross-site")], false),
            (&[("site", "none")], false),
            (&[("origin", "http://127.0.0.1:8600")], true),
            (&[("origin", "http://127.0.0.1:9000")], false),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "null")], false),
        ];
        for (fields, expected) in table {
            assert_eq!(is_own_page(&request(fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn only_whole_switches_are_understood() {
        let rule = |armed| Some(Switch::Rule { name: "a".into(), armed });
        let table = [
            ("{\"dry_run\": true}", Some(Switch::DryRun(true))),
            ("{\"armed\": false, \"rule\": \"a\"}", rule(false)),
            ("{\"rule\": \"a\", \"armed\": true}", rule(true)),
            ("{\"rule\": \"a\"}", None),
            ("{\"rule\": \"a\", \"armed\": 1}", None),
            ("{\"rule\": \"a\", \"armed\": true, \"dry_run\": false}", None),
            ("{\"dry_run\": true, \"other\": 1}", None),
            ("{\"dry_run\": \"true\"}", None),
            ("[]", None),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(wanted(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn names_of_classes_fit_into_a_header() {
        assert_eq!(ascii(&json!(["Kätzchen", "a\nb", "🐈"])), r#"["K\u00e4tzchen","a\nb","\ud83d\udc08"]"#);
    }
}
