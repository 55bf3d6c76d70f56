//! Asks the running service how fast it classifies: what an update is judged by.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use resight_status::{SOCKET, Status, ask, ask_socket};

use crate::config::Config;
use crate::http::{HttpConfig, token};
use crate::runtime;
use crate::secret::Secret;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where systemd makes runtime directories.
const RUNTIME: &str = "/run";

/// Whom to ask.
enum Way {
    Socket(PathBuf),
    Http(SocketAddr, Option<Secret>),
}

impl Way {
    /// The way to the service that runs with this configuration: its socket, or else over HTTP.
    fn find(file: &Path, config: &Config) -> Result<Self> {
        let wanted = std::fs::canonicalize(file).with_context(|| file.display().to_string())?;
        for socket in sockets() {
            match ask_socket(&socket, PATIENCE) {
                Ok(told) if Path::new(&told.configuration) == wanted => return Ok(Self::Socket(socket)),
                Ok(told) => log::debug!("{}: runs with {}", socket.display(), told.configuration),
                Err(error) => log::debug!("{error}"),
            }
        }
        let nobody = || {
            format!(
                "{}: no service with this configuration answers on a socket in {RUNTIME}; does it run, and may \
                 this user ask it?",
                file.display()
            )
        };
        let http = config.output.http.as_ref().filter(|http| http.tls.is_none()).with_context(nobody)?;
        Ok(Self::Http(reachable(http), token(http)?))
    }

    fn status(&self) -> Result<Status> {
        Ok(match self {
            Self::Socket(path) => ask_socket(path, PATIENCE)?.status,
            Self::Http(address, token) => ask(*address, token.as_ref().map(Secret::text), PATIENCE)?,
        })
    }
}

/// Sockets of services, as far as this user sees them.
fn sockets() -> Vec<PathBuf> {
    let own = runtime::directory().map(|folder| folder.join(SOCKET));
    let patterns = [format!("{RUNTIME}/resight*/{SOCKET}"), format!("{RUNTIME}/resight/*/{SOCKET}")];
    let found =
        patterns.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().filter_map(Result::ok);
    own.into_iter().chain(found).collect()
}

/// Where to connect to for an address that is listened on.
fn reachable(http: &HttpConfig) -> SocketAddr {
    let mut address = http.address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

/// Whether the running service classifies at least `least` frames in a second, measured over
/// so many seconds. Gives what was measured, as text.
///
/// # Errors
/// A service that does not answer, has no frames or is too slow.
pub(crate) fn health(file: &Path, seconds: u64, least: f64) -> Result<String> {
    let config = Config::load(file)?;
    let way = Way::find(file, &config)?;
    let before = way.status()?;
    let start = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let after = way.status()?;
    let elapsed = start.elapsed().as_secs_f64();
    let stale = after.figures.camera_figures.iter().filter(|camera| camera.stale);
    let stale: Vec<&str> = stale.map(|camera| camera.name.as_str()).collect();
    let of = if stale.is_empty() { String::new() } else { format!(" of {}", stale.join(", ")) };
    ensure!(!after.figures.stale, "the service has no frames{of}; is the source there? see its log");
    // With `on_change` in [pace], a frame that shows nothing new is judged by the scores of the last one.
    let count = |status: &Status| {
        let classified = status.count("inferences").context("the answer has no `inferences`")?;
        anyhow::Ok(classified + status.count("unchanged").unwrap_or(0))
    };
    let Some(frames) = count(&after)?.checked_sub(count(&before)?) else {
        bail!("the service was started again within these {seconds} s; see its log");
    };
    let rate = frames as f64 / elapsed;
    ensure!(
        frames > 0 && rate >= least,
        "{rate:.2} frames/s over {seconds} s, {least} are demanded; `resightd bench` and `resightd doctor` \
         show what the board can do"
    );
    Ok(format!("{rate:.2} frames/s over {seconds} s"))
}
