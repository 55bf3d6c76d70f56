//! Status and metrics over HTTP, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tiny_http::{Header, Method, Response, Server};

use crate::run::Shared;

/// Starts the server's thread.
///
/// # Errors
/// An address that cannot be listened on.
pub(crate) fn start(address: SocketAddr, shared: Arc<Shared>) -> Result<()> {
    let server = Server::http(address)
        .map_err(|error| anyhow!("cannot listen on {address}: {error}; choose another `output.http`"))?;
    log::info!("listening on http://{}", server.server_addr());
    thread::Builder::new().name("http".into()).spawn(move || {
        while !shared.stop.load(Ordering::SeqCst) {
            let Ok(request) = server.recv_timeout(Duration::from_millis(200)) else { continue };
            let Some(request) = request else { continue };
            let json = "application/json";
            let (code, kind, body) = match (request.method(), request.url()) {
                (Method::Get | Method::Head, "/status") => (200, json, shared.status().to_string()),
                (Method::Get | Method::Head, "/metrics") => {
                    (200, "text/plain; version=0.0.4", shared.prometheus())
                }
                (Method::Get | Method::Head, "/healthz") if shared.is_healthy() => {
                    (200, "text/plain", "ok\n".to_owned())
                }
                (Method::Get | Method::Head, "/healthz") => (503, "text/plain", "stale\n".to_owned()),
                (Method::Get | Method::Head, _) => {
                    (404, "text/plain", "there are /status, /metrics and /healthz\n".to_owned())
                }
                _ => (405, "text/plain", "only GET\n".to_owned()),
            };
            let header =
                Header::from_bytes("Content-Type", kind).expect("a name and a value of printable characters");
            let response = Response::from_string(body).with_status_code(code).with_header(header);
            if let Err(error) = request.respond(response) {
                log::debug!("answering over HTTP: {error}");
            }
        }
    })?;
    Ok(())
}
