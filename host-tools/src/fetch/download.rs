//! A download that can be interrupted anywhere, from servers that may do anything.
//!
//! The bytes go into `NAME.part`, which the next try continues, whatever address it comes from:
//! the sha256 alone decides whether a file is the right one, and only then does it get its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use resight_base::retry::Backoff;
use resight_model_file::sha256_of_file;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Error, Proxy, Timeout};

use super::error::FetchError;
use super::recipe::NetworkFile;

/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 10;
/// Fewer bytes than this in the time of a stall are one.
const LEAST_PER_STALL: u64 = 1024;
/// Longest pause before another try, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How patient a download is, and which way it goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Silence after which a connection is given up.
    pub stall: Duration,
    /// Time for finding a host and connecting to it.
    pub connect: Duration,
    /// Tries per address that bring less than 1 % of the file.
    pub attempts: u32,
    /// Pause before the second try; it doubles from there.
    pub backoff: Duration,
    /// The proxy to go through; by default the environment's.
    pub proxy: Option<Proxy>,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            stall: seconds(30),
            connect: seconds(15),
            attempts: 4,
            backoff: seconds(1),
            proxy: Proxy::try_from_env(),
        }
    }
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// An address is asked for the bytes from `from` on.
    Asking {
        /// The address, without secrets.
        url: &'a str,
        /// Bytes that are here already.
        from: u64,
    },
    /// This many bytes of the file are here.
    Progress(u64),
    /// A try failed and the same address gets another one.
    Retry {
        /// The address, without secrets.
        url: &'a str,
        /// What went wrong.
        cause: &'a str,
        /// How long it waits first.
        pause: Duration,
    },
    /// An address is given up.
    GivenUp {
        /// The address, without secrets.
        url: &'a str,
        /// What went wrong.
        cause: &'a str,
    },
}

/// How the file came to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    AlreadyThere,
    /// What an earlier run left was all of it.
    WasComplete,
    /// It was downloaded.
    Fetched {
        /// The address that sent the end of it, without secrets.
        url: String,
    },
}

/// Downloads `network` into `folder`, which is made where it is missing, from the first of
/// `sources` that has it. Whatever the sources do, no more than `network.bytes` are written.
///
/// `https` addresses are never redirected to `http`; certificates are checked against those of
/// the system, or of the file that `SSL_CERT_FILE` names.
///
/// # Errors
/// A file of that name with other contents, files that cannot be read or written, another
/// process at the same download, and sources of which none delivers the right file. What came
/// so far is kept for the next try unless it is wrong.
pub fn download(
    network: &NetworkFile,
    sources: &[String],
    folder: &Path,
    settings: &Settings,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, FetchError> {
    let path = folder.join(&network.file);
    if is_there(network, &path)? {
        return Ok(Outcome::AlreadyThere);
    }
    fs::create_dir_all(folder).map_err(|source| local(folder, "make the folder", source))?;
    let mut part = Part::open(folder.join(format!("{}.part", network.file)), network.bytes)?;
    if part.length == network.bytes {
        if part.sha256() == network.sha256 {
            part.take_name(&path)?;
            return Ok(Outcome::WasComplete);
        }
        part.clear()?;
    }
    let agent = agent(settings);
    let mut causes = vec![];
    for url in sources {
        let shown = without_secrets(url);
        let mut source =
            Source { url, shown: &shown, network, settings, agent: &agent, etag: None, whole: false };
        match source.deliver(&mut part, observer) {
            Ok(()) => {
                part.take_name(&path)?;
                return Ok(Outcome::Fetched { url: shown });
            }
            Err(Failure::Here(error)) => return Err(error),
            Err(Failure::Final(cause) | Failure::Passing { cause, .. }) => {
                observer(Event::GivenUp { url: &shown, cause: &cause });
                causes.push(format!("{shown}: {cause}"));
            }
        }
    }
    let kept = if part.length > 0 {
        format!("{} of {} bytes are kept for the next try. ", part.length, network.bytes)
    } else {
        part.remove()?;
        String::new()
    };
    Err(FetchError::Sources { file: path, causes: causes.join("; "), kept })
}

/// Whether the file is there and right.
fn is_there(network: &NetworkFile, path: &Path) -> Result<bool, FetchError> {
    let occupied = |cause: String| FetchError::Occupied { path: path.to_owned(), cause };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(local(path, "read", error)),
    };
    if !metadata.is_file() {
        return Err(occupied("not a regular file".into()));
    }
    if metadata.len() != network.bytes {
        return Err(occupied(format!("{} bytes instead of {}", metadata.len(), network.bytes)));
    }
    let sha256 = sha256_of_file(path).map_err(|error| FetchError::Local {
        path: path.to_owned(),
        action: "read",
        source: std::io::Error::other(error),
    })?;
    if sha256 != network.sha256 {
        return Err(occupied(format!("sha256 {sha256} instead of {}", network.sha256)));
    }
    Ok(true)
}

/// What has come so far, with its digest.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    digest: Sha256,
}

impl Part {
    /// Takes up what an earlier run left, unless it is longer than `limit`.
    fn open(path: PathBuf, limit: u64) -> Result<Self, FetchError> {
        let failed = |source| local(&path, "write", source);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let metadata = file.metadata().map_err(failed)?;
        // Between opening and locking, another process may have finished it and given it its name.
        if !fs::metadata(&path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()))
        {
            return Err(FetchError::Busy { path });
        }
        let mut part = Self { path, file, length: 0, digest: Sha256::new() };
        if metadata.len() > limit {
            part.clear()?;
            return Ok(part);
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = part.file.read(&mut buffer).map_err(|source| local(&part.path, "read", source))?;
            if count == 0 {
                return Ok(part);
            }
            part.digest.update(&buffer[..count]);
            part.length += count as u64;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|source| local(&self.path, "write", source))?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), FetchError> {
        let empty = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map_err(|source| local(&self.path, "write", source))?;
        self.digest = Sha256::new();
        self.length = 0;
        Ok(())
    }

    fn sha256(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Gives it its final name, even through a power failure.
    fn take_name(&self, path: &Path) -> Result<(), FetchError> {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let rename = || {
            self.file.sync_all()?;
            fs::rename(&self.path, path)?;
            File::open(folder)?.sync_all()
        };
        rename().map_err(|source| local(path, "write", source))
    }

    fn remove(&self) -> Result<(), FetchError> {
        fs::remove_file(&self.path).map_err(|source| local(&self.path, "remove", source))
    }
}

/// Why a try failed.
enum Failure {
    /// Something here: no source can help.
    Here(FetchError),
    /// This source will not have the file in a minute either.
    Final(String),
    /// The same source may be worth another try, after `pause` if it asked for one.
    Passing { cause: String, pause: Option<Duration> },
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Here(error)
    }
}

/// One address, and what is known of its file.
struct Source<'a> {
    url: &'a str,
    shown: &'a str,
    network: &'a NetworkFile,
    settings: &'a Settings,
    agent: &'a Agent,
    /// Of the file that the last try began; sent along so that a changed file comes whole.
    etag: Option<String>,
    /// It cannot send a part of its file.
    whole: bool,
}

impl Source<'_> {
    /// Completes `part`, with as many tries as the settings allow.
    fn deliver(&mut self, part: &mut Part, observer: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        let NetworkFile { bytes, sha256, .. } = self.network;
        let (mut failed, mut furthest, mut began_anew) = (0, part.length, false);
        let mut backoff = Backoff::new(self.settings.backoff, LONGEST_PAUSE);
        loop {
            let from = part.length;
            observer(Event::Asking { url: self.shown, from });
            let (cause, pause) = match self.attempt(part, observer) {
                Ok(()) if part.sha256() == *sha256 => return Ok(()),
                Ok(()) => {
                    let cause = format!("its file has sha256 {}, not {sha256}", part.sha256());
                    part.clear()?;
                    // The beginning may be of another file: once, it may come whole.
                    if from == 0 || began_anew {
                        return Err(Failure::Final(cause));
                    }
                    (began_anew, self.etag) = (true, None);
                    (cause, Some(Duration::ZERO))
                }
                Err(Failure::Passing { cause, pause }) => (cause, pause),
                Err(other) => return Err(other),
            };
            // A line that breaks now and then still gets there: only tries without progress count.
            if part.length >= furthest + bytes.div_ceil(100) {
                (furthest, failed) = (part.length, 0);
                backoff.reset();
            }
            failed += 1;
            if failed >= self.settings.attempts {
                return Err(Failure::Final(format!("{cause} ({failed} times)")));
            }
            let usual = backoff.pause();
            let pause = pause.unwrap_or(usual).min(LONGEST_PAUSE);
            observer(Event::Retry { url: self.shown, cause: &cause, pause });
            thread::sleep(pause);
        }
    }

    /// Asks once; `Ok` when all bytes have come.
    fn attempt(&mut self, part: &mut Part, observer: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        let bytes = self.network.bytes;
        let mut request = self.agent.get(self.url);
        if part.length > 0 && !self.whole {
            request = request.header("Range", format!("bytes={}-", part.length));
            if let Some(etag) = &self.etag {
                request = request.header("If-Range", etag);
            }
        }
        // Redirects included.
        let request = request.config().https_only(is_https(self.url)).build();
        let response = request.call().map_err(|error| self.failure(error))?;
        let headers = response.headers();
        let total = text(headers, "content-range").and_then(range_total);
        if let Some(total) = total.filter(|total| *total != bytes) {
            return Err(self.other_length(total));
        }
        let from = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let from = text(headers, "content-range").and_then(range_start);
                if from != Some(part.length) {
                    let cause = "answers with another part of the file than was asked for";
                    return Err(Failure::Final(cause.into()));
                }
                part.length
            }
            StatusCode::RANGE_NOT_SATISFIABLE if !self.whole => {
                self.whole = true;
                let cause = "cannot continue the file".to_owned();
                return Err(Failure::Passing { cause, pause: Some(Duration::ZERO) });
            }
            status => {
                let cause = format!("answers {status}");
                let passing = status.is_server_error() || [408, 425, 429].contains(&status.as_u16());
                let pause = text(headers, "retry-after")
                    .and_then(|seconds| seconds.parse().ok().map(Duration::from_secs));
                return Err(if passing { Failure::Passing { cause, pause } } else { Failure::Final(cause) });
            }
        };
        if let Some(kind) = text(headers, "content-type").filter(|kind| kind.starts_with("text/html")) {
            let cause = format!("answers with a web page ({kind}): a login, or a page about the file?");
            return Err(Failure::Final(cause));
        }
        let length = text(headers, "content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length != bytes - from) {
            return Err(self.other_length(from.saturating_add(length)));
        }
        // Only now: an answer that is of no use does not cost what is here.
        if from == 0 && part.length > 0 {
            part.clear()?;
        }
        self.etag = text(headers, "etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
        self.receive(response.into_body(), part, observer)
    }

    /// Reads what is left of the file, and not a byte more.
    fn receive(
        &self,
        body: Body,
        part: &mut Part,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let bytes = self.network.bytes;
        let mut reader = body.into_with_config().limit(u64::MAX).reader().take(bytes - part.length);
        let mut buffer = vec![0; 1 << 16];
        let (mut since, mut at_since) = (Instant::now(), part.length);
        while part.length < bytes {
            let count = reader.read(&mut buffer).map_err(|error| self.failure(Error::from(error)))?;
            if count == 0 {
                let cause = format!("the connection ended after {} of {bytes} bytes", part.length);
                return Err(Failure::Passing { cause, pause: None });
            }
            part.append(&buffer[..count])?;
            observer(Event::Progress(part.length));
            if since.elapsed() >= self.settings.stall {
                if part.length - at_since < LEAST_PER_STALL.min(bytes - at_since) {
                    let cause =
                        format!("less than {LEAST_PER_STALL} bytes came in {:?}", self.settings.stall);
                    return Err(Failure::Passing { cause, pause: None });
                }
                (since, at_since) = (Instant::now(), part.length);
            }
        }
        Ok(())
    }

    fn other_length(&self, length: u64) -> Failure {
        Failure::Final(format!("its file has {length} bytes, not {}", self.network.bytes))
    }

    /// What a failed request or read means.
    fn failure(&self, error: Error) -> Failure {
        let passing = |cause: String| Failure::Passing { cause, pause: None };
        let tls = |error: &rustls::Error| {
            Failure::Final(format!(
                "TLS: {error}; where a proxy re-encrypts, SSL_CERT_FILE names the file with its certificate"
            ))
        };
        match error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                passing(format!("no connection within {:?}", self.settings.connect))
            }
            Error::Timeout(_) => passing(format!("nothing came for {:?}", self.settings.stall)),
            Error::HostNotFound => passing("there is no such host, or no network".into()),
            Error::TooManyRedirects => Failure::Final(format!("redirects more than {MAX_REDIRECTS} times")),
            Error::RequireHttpsOnly(to) => {
                Failure::Final(format!("redirects to {}, which is not https", without_secrets(&to)))
            }
            Error::ConnectProxyFailed(cause) => {
                passing(format!("the proxy of HTTPS_PROXY or ALL_PROXY refuses: {cause}"))
            }
            Error::Rustls(error) => tls(&error),
            Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(error) => tls(error),
                None => passing(error.to_string()),
            },
            error @ (Error::BadUri(_) | Error::Http(_) | Error::Tls(_)) => Failure::Final(error.to_string()),
            error => passing(error.to_string()),
        }
    }
}

/// The client for all sources. Any of them may lead to `https`.
fn agent(settings: &Settings) -> Agent {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        log::warn!(
            "no certificates were found: install your system's ca-certificates, or name a file in SSL_CERT_FILE"
        );
    }
    let certificates: Vec<_> =
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&certificates));
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .proxy(settings.proxy.clone())
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        .user_agent(concat!("resight/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(settings.connect))
        .timeout_connect(Some(settings.connect))
        .timeout_recv_response(Some(settings.stall))
        .timeout_per_read(Some(settings.stall))
        .timeout_per_write(Some(settings.stall));
    config.build().new_agent()
}

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// The address without user, password and query, which may hold a token.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// First byte of `bytes 5-9/10`.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Total length of `bytes 5-9/10` or `bytes */10`.
fn range_total(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('/')?.1.trim().parse().ok()
}

fn local(path: &Path, action: &'static str, source: std::io::Error) -> FetchError {
    FetchError::Local { path: path.to_owned(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (url, shown) in [
            ("https://a.example/b/c.onnx", "https://a.example/b/c.onnx"),
            ("https://me:secret@a.example:8/b@c?token=1#x", "https://a.example:8/b@c"),
            ("https://me@a.example", "https://a.example"),
            ("http://a.example/?x=https://b@c", "http://a.example/"),
            ("a?b", "a"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn ranges_are_parsed() {
        for (range, start, total) in [
            ("bytes 5-9/10", Some(5), Some(10)),
            ("bytes 5-9/*", Some(5), None),
            ("bytes */10", None, Some(10)),
            ("items 5-9/10", None, None),
            ("bytes x-9/-1", None, None),
            ("", None, None),
        ] {
            assert_eq!((range_start(range), range_total(range)), (start, total), "{range}");
        }
    }
}
