//! The page, status, metrics, the last frame and live events over HTTP.
//!
//! A server of our own, because the small ones that there are let slow clients take threads and memory
//! without limit: here connections, header, body and time are bounded.

mod access;
mod connection;
mod page;
mod places;
mod stream;

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use serde_json::{Value, json};

pub(crate) use self::access::Access;
use self::access::Context;
use self::connection::{MAX_BODY, Request, Response, Wrong, read, write};
use self::stream::{classes, stream};
use crate::judge::{Switch, SwitchError};
use crate::live::VIEWERS;
use crate::outputs::Reach;
use crate::sync::lock;
use crate::threads::{Role, caught, spawn};

/// How often a server looks whether it should stop, where the kernel cannot tell it.
const TICK: Duration = Duration::from_millis(200);

/// How long a request waits for the next frame.
const FRAME_WAIT: Duration = Duration::from_secs(2);

/// The answers need no more; 2 MiB each would be reserved otherwise.
const STACK: usize = 512 << 10;

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

/// A listening server. It takes no more connections once this is dropped.
pub(crate) struct Server(Arc<Context>);

impl Server {
    /// Listens at an address and answers what comes in.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub(crate) fn start(address: SocketAddr, access: Arc<Access>, reach: Reach) -> Result<Self> {
        let name = || format!("cannot listen on {address}; choose another `output.http`");
        let listener = TcpListener::bind(address).with_context(name)?;
        // A client may be gone before it is accepted.
        listener.set_nonblocking(true).with_context(name)?;
        log::info!("listening on http://{}", listener.local_addr().with_context(name)?);
        let context = Arc::new(Context {
            access: Mutex::new(access),
            stop: AtomicBool::new(false),
            places: Mutex::default(),
            reach,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok(),
        });
        let server = Self(context.clone());
        spawn("http", Role::Vital, Some(STACK), move || serve(&listener, &context))?;
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
        if let Some(bell) = &self.0.bell {
            // A counter that is full wakes all the same.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }
}

fn serve(listener: &TcpListener, context: &Arc<Context>) {
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    while !context.stop.load(Ordering::SeqCst) {
        // Interrupted or not, both are looked at afterwards.
        let _ = match &context.bell {
            Some(bell) => {
                poll(&mut [PollFd::new(listener, PollFlags::IN), PollFd::new(bell, PollFlags::IN)], None)
            }
            None => poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick)),
        };
        match listener.accept() {
            Ok((stream, address)) => accept(stream, address.ip(), context),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("a connection over HTTP could not be accepted: {error}");
                thread::sleep(TICK);
            }
        }
    }
}

/// Has a place as long as it lives.
struct Place(Arc<Context>, IpAddr);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0.places).give_back(self.1);
    }
}

fn accept(stream: TcpStream, address: IpAddr, context: &Arc<Context>) {
    if !lock(&context.places).take(address) {
        context.reach.telemetry.http_refused.one_more();
        log::warn!("a connection over HTTP from {address} was refused, there are enough already");
        return;
    }
    let place = Place(context.clone(), address);
    let started = spawn("http client", Role::Caught, Some(STACK), move || {
        let answer = || {
            converse(&stream, &place.0);
            Ok(())
        };
        if let Err(error) = caught("answering over HTTP", answer) {
            log::error!("{error:#}");
        }
    });
    if let Err(error) = started {
        log::warn!("no thread for a connection over HTTP: {error:#}");
    }
}

/// Reads one request and answers it.
fn converse(stream: &TcpStream, context: &Context) {
    let telemetry = &context.reach.telemetry;
    let failed = |code, text| {
        telemetry.http_errors.one_more();
        // Counted already, whether or not it hears of it.
        let _ = write(stream, &Response::text(code, text), false);
    };
    let (response, head_only) = match read(stream) {
        Ok(request) => {
            telemetry.http_requests.one_more();
            let access = lock(&context.access).clone();
            match answer(&request, &access, &context.reach) {
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
    let result = if let Some(viewer) = context.reach.live.watch() {
        self::stream(stream, viewer, access, context)
    } else {
        context.reach.telemetry.http_refused.one_more();
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
            context.reach.telemetry.http_errors.one_more();
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

fn answer(request: &Request, access: &Access, reach: &Reach) -> Answer {
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
        reach.telemetry.http_unauthorised.one_more();
        return Answer::Whole(refused);
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    Answer::Whole(match (path, page) {
        ("/switches", _) if request.method == "POST" => switch(request, access, reach),
        ("/switches", _) => Response::text(405, "only POST\n").with("Allow", "POST"),
        _ if !reads => Response::text(405, "only GET\n").with("Allow", "GET, HEAD"),
        (_, Some(page)) => page,
        ("/status", _) => Response::new(200, "application/json", json_text(&reach.board.status())),
        ("/metrics", _) => {
            Response::new(200, "text/plain; version=0.0.4", reach.board.prometheus().into_bytes())
        }
        ("/healthz", _) if reach.board.is_healthy() => Response::text(200, "ok\n"),
        ("/healthz", _) => Response::text(503, "stale\n"),
        ("/frame.jpg", _) => frame(reach),
        ("/events", _) if request.method == "HEAD" => Response::new(200, "text/event-stream", &b""[..]),
        ("/events", _) => return Answer::Stream,
        _ => {
            let there = "there are /, /status, /metrics, /healthz, /frame.jpg, /events and /switches\n";
            Response::text(404, there)
        }
    })
}

/// The next frame, and what the network saw in it.
fn frame(reach: &Reach) -> Response {
    let Some(seen) = reach.tap.next(FRAME_WAIT) else {
        return Response::text(503, "no frame came in time\n");
    };
    match seen.jpeg() {
        Ok(jpeg) => {
            let shown = json!({ "frame": seen.number(), "top": classes(&seen.top, &reach.board.names()) });
            Response::new(200, "image/jpeg", jpeg.to_vec()).with("Resight-Frame", ascii(&shown))
        }
        Err(error) => Response::text(500, &format!("{error}\n")),
    }
}

/// A status as JSON. It has no map whose keys are no text, so nothing can be wrong with it.
fn json_text(status: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(status).unwrap_or_default()
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

fn switch(request: &Request, access: &Access, reach: &Reach) -> Response {
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
    match (reach.switch)(&switch) {
        Ok(()) => {
            reach.telemetry.http_switched.one_more();
            Response::new(200, "application/json", json_text(&reach.board.state()))
        }
        Err(error @ SwitchError::NoRule(_)) => Response::text(404, &format!("{error}\n")),
        Err(error @ SwitchError::Configured) => Response::text(409, &format!("{error}\n")),
        Err(error @ SwitchError::Busy) => Response::text(503, &format!("{error}\n")),
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
    use crate::outputs::{HttpConfig, Secret};

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
