//! Status, metrics and the last frame over HTTP.
//!
//! A server of our own, because the small ones that there are let slow clients take threads and memory
//! without limit: here connections, header, body and time are bounded.

mod connection;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::connection::{Request, Response, Wrong, read, write};
use crate::config::HttpConfig;
use crate::outputs::Secret;
use crate::run::{Shared, lock};

/// Connections at the same time.
const CONNECTIONS: usize = 16;

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
}

impl Access {
    pub(crate) fn new(config: &HttpConfig, token: Option<Secret>) -> Self {
        let hosts = config.address.ip().is_loopback().then(|| config.hosts.clone());
        Self { token, hosts }
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

/// A listening server. It takes no more connections once this is dropped.
pub(crate) struct Server {
    access: Arc<Mutex<Arc<Access>>>,
    stop: Arc<AtomicBool>,
}

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
        let stop = Arc::new(AtomicBool::new(false));
        let access = Arc::new(Mutex::new(access));
        let server = Self { access: access.clone(), stop: stop.clone() };
        thread::Builder::new()
            .name("http".into())
            .spawn(move || serve(&listener, &stop, &access, &shared))
            .context("cannot start thread http")?;
        Ok(server)
    }

    /// Changes who is answered from now on.
    pub(crate) fn set_access(&self, access: Arc<Access>) {
        *lock(&self.access) = access;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool, access: &Mutex<Arc<Access>>, shared: &Arc<Shared>) {
    let open = Arc::new(AtomicUsize::new(0));
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    while !stop.load(Ordering::SeqCst) {
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick));
        match listener.accept() {
            Ok((stream, _)) => accept(stream, &open, lock(access).clone(), shared),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("a connection over HTTP could not be accepted: {error}");
                thread::sleep(TICK);
            }
        }
    }
}

/// Counts a connection as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn accept(stream: TcpStream, open: &Arc<AtomicUsize>, access: Arc<Access>, shared: &Arc<Shared>) {
    let before = open.fetch_add(1, Ordering::SeqCst);
    let place = Place(open.clone());
    if before >= CONNECTIONS {
        shared.counters.http_refused.fetch_add(1, Ordering::Relaxed);
        log::warn!("a connection over HTTP was refused, there are {before} already");
        return;
    }
    let shared = shared.clone();
    let started = thread::Builder::new().name("http client".into()).stack_size(STACK).spawn(move || {
        let _place = place;
        converse(&stream, &access, &shared);
    });
    if let Err(error) = started {
        log::warn!("no thread for a connection over HTTP: {error}");
    }
}

/// Reads one request and answers it.
fn converse(stream: &TcpStream, access: &Access, shared: &Shared) {
    let counters = &shared.counters;
    let (response, head_only) = match read(stream) {
        Ok(request) => {
            counters.http_requests.fetch_add(1, Ordering::Relaxed);
            (answer(&request, access, shared), request.method == "HEAD")
        }
        Err(Wrong::Gone) => return,
        Err(Wrong::Slow) => {
            counters.http_errors.fetch_add(1, Ordering::Relaxed);
            (Response::text(408, "the request took too long\n"), false)
        }
        Err(Wrong::Large) => {
            counters.http_errors.fetch_add(1, Ordering::Relaxed);
            (Response::text(431, "the request's header is too large\n"), false)
        }
        Err(Wrong::Malformed) => {
            counters.http_errors.fetch_add(1, Ordering::Relaxed);
            (Response::text(400, "not HTTP/1\n"), false)
        }
    };
    if let Err(error) = write(stream, &response, head_only) {
        counters.http_errors.fetch_add(1, Ordering::Relaxed);
        log::debug!("answering over HTTP: {error}");
    }
}

fn answer(request: &Request, access: &Access, shared: &Shared) -> Response {
    let refused = if !access.knows_host(request.host.as_deref()) {
        Some(Response::text(421, "this host is not in `output.hosts`\n"))
    } else if !access.knows_token(request.authorization.as_deref()) {
        Some(Response::text(401, "Authorization: Bearer TOKEN is needed\n"))
    } else {
        None
    };
    if let Some(refused) = refused {
        shared.counters.http_unauthorised.fetch_add(1, Ordering::Relaxed);
        return refused;
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Response::text(405, "only GET\n");
    }
    let path = request.target.split('?').next().unwrap_or_default();
    match path {
        "/status" => Response::new(200, "application/json", shared.status().to_string().into_bytes()),
        "/metrics" => Response::new(200, "text/plain; version=0.0.4", shared.prometheus().into_bytes()),
        "/healthz" if shared.is_healthy() => Response::text(200, "ok\n"),
        "/healthz" => Response::text(503, "stale\n"),
        "/frame.jpg" => match shared.tap.next(FRAME_WAIT).map(|picture| picture.jpeg()) {
            Some(Ok(jpeg)) => Response::new(200, "image/jpeg", jpeg),
            Some(Err(error)) => Response::text(500, &format!("{error:#}\n")),
            None => Response::text(503, "no frame came in time\n"),
        },
        _ => Response::text(404, "there are /status, /metrics, /healthz and /frame.jpg\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, hosts: &[&str]) -> Access {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Access::new(&HttpConfig { address: address.parse().unwrap(), token_file: None, hosts }, None)
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
}
