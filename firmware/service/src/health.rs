//! Asks the running service how fast it classifies: what an update is judged by.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::config::Config;
use crate::outputs;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Where the service of this configuration answers, and the header that it wants to see.
fn address(file: &Path, config: &Config) -> Result<(SocketAddr, String)> {
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
    let header = outputs::token(http)?
        .map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.text()));
    Ok((address, header))
}

/// Whether the running service classifies at least `least` frames in a second, measured over
/// so many seconds. Gives what was measured, as text.
///
/// # Errors
/// A service that does not answer, has no frames or is too slow.
pub(crate) fn health(file: &Path, seconds: u64, least: f64) -> Result<String> {
    let config = Config::load(file)?;
    let (address, header) = address(file, &config)?;
    let before = status(address, &header)?;
    let start = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let after = status(address, &header)?;
    let elapsed = start.elapsed().as_secs_f64();
    ensure!(after["stale"] == false, "the service has no frames; is the source there? see its log");
    let count = |value: &Value| value["inferences"].as_u64().context("the answer has no `inferences`");
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

fn status(address: SocketAddr, header: &str) -> Result<Value> {
    let ask = || -> Result<Value> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET /status HTTP/1.1\r\nHost: {address}\r\n{header}Connection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer over HTTP")?;
        let code = head.split(' ').nth(1).unwrap_or_default();
        ensure!(code == "200", "the answer was {code}");
        Ok(serde_json::from_str(body)?)
    };
    ask().with_context(|| format!("http://{address}/status: the service does not answer"))
}
