//! Asks the running service how fast it classifies: what an update is judged by.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use resight_status::{Status, ask};

use crate::config::Config;
use crate::outputs::{self, Secret};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the service of this configuration answers, and the token that it wants to see.
fn address(file: &Path, config: &Config) -> Result<(SocketAddr, Option<Secret>)> {
    let http = config.output.http.as_ref().with_context(|| {
        format!("{}: there is no `http` in [output]; set it to 127.0.0.1:8600", file.display())
    })?;
    let mut address = http.address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    Ok((address, outputs::token(http)?))
}

/// Whether the running service classifies at least `least` frames in a second, measured over
/// so many seconds. Gives what was measured, as text.
///
/// # Errors
/// A service that does not answer, has no frames or is too slow.
pub(crate) fn health(file: &Path, seconds: u64, least: f64) -> Result<String> {
    let config = Config::load(file)?;
    let (address, token) = address(file, &config)?;
    let status = || ask(address, token.as_ref().map(Secret::text), PATIENCE);
    let before = status()?;
    let start = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let after = status()?;
    let elapsed = start.elapsed().as_secs_f64();
    ensure!(!after.figures.stale, "the service has no frames; is the source there? see its log");
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
