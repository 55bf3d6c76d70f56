//! Who is answered, and what answers share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use tokio::sync::Notify;

use super::attempts::Attempts;
use super::keys::Keys;
use super::places::Places;
use super::sessions::Sessions;
use super::settings::HttpConfig;
use crate::reach::Reach;
use crate::secret::Secret;
use crate::sync::lock;

/// Who is answered.
pub(crate) struct Access {
    keys: Keys,
    /// Those who have shown a key. Whoever is answered otherwise has others.
    sessions: Mutex<Sessions>,
    /// Names that a request may use; `None` for any.
    hosts: Option<Vec<String>>,
    /// Whether they may switch dry run and rules.
    pub(super) switches: bool,
    /// How connections are encrypted, if they are.
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// Whether somebody is answered.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Welcome,
    /// Nothing that would tell who it is, or something wrong.
    Unknown,
    /// Wrong too often: for so long nothing is looked at.
    Barred(Duration),
}

/// What somebody shows.
pub(super) enum Shown<'a> {
    /// The field `Authorization`.
    Authorization(&'a [u8]),
    /// What was typed into the page.
    Typed(&'a [u8]),
}

impl Access {
    pub(crate) fn new(config: &HttpConfig, keys: Keys, tls: Option<Arc<ServerConfig>>) -> Self {
        let hosts = config.address.ip().is_loopback().then(|| config.hosts.clone());
        Self { keys, sessions: Mutex::default(), hosts, switches: config.switches, tls }
    }

    /// Whether the request's `Host` is this machine. A page from elsewhere whose name was made
    /// to resolve to a loopback address still sends its own name.
    pub(super) fn knows_host(&self, host: Option<&str>) -> bool {
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

    /// Whether everybody is answered.
    pub(super) fn is_open(&self) -> bool {
        self.keys.token.is_none() && self.keys.password.is_none()
    }

    /// Whether a cookie of these is one of a session.
    pub(super) fn knows_cookies(&self, cookies: Option<&str>) -> bool {
        cookies.is_some_and(|cookies| lock(&self.sessions).knows(cookies, Instant::now()))
    }

    /// Begins a session. Gives its secret; `None` if the system has no randomness.
    pub(super) fn begin_session(&self) -> Option<String> {
        lock(&self.sessions).begin(Instant::now())
    }

    /// Ends the session of these cookies.
    pub(super) fn end_session(&self, cookies: &str) {
        lock(&self.sessions).end(cookies);
    }

    /// Whether `shown` is the token or the password. Who is wrong too often has to wait.
    pub(super) fn admit(&self, shown: &Shown<'_>, address: IpAddr, attempts: &mut Attempts) -> Verdict {
        let now = Instant::now();
        if let Some(wait) = attempts.barred(address, now) {
            return Verdict::Barred(wait);
        }
        match self.is_right(shown, address, attempts, now) {
            Ok(true) => {
                attempts.was_right(address);
                Verdict::Welcome
            }
            Ok(false) => {
                let (Shown::Typed(given) | Shown::Authorization(given)) = shown;
                attempts.was_wrong(address, given, now);
                Verdict::Unknown
            }
            Err(wait) => Verdict::Barred(wait),
        }
    }

    fn is_right(
        &self,
        shown: &Shown<'_>,
        address: IpAddr,
        attempts: &mut Attempts,
        now: Instant,
    ) -> Result<bool, Duration> {
        let (given, may_be_password) = match shown {
            Shown::Typed(given) => (given.to_vec(), true),
            Shown::Authorization(value) => match credentials(value) {
                Some(found) => found,
                None => return Ok(false),
            },
        };
        if self.keys.token.as_ref().is_some_and(|token: &Secret| token.matches(&given)) {
            return Ok(true);
        }
        let Some(password) = self.keys.password.as_ref().filter(|_| may_be_password) else {
            return Ok(false);
        };
        if password.is_last(&given) {
            return Ok(true);
        }
        // Strangers must not keep the processor busy, and not this machine out.
        if !address.to_canonical().is_loopback() {
            attempts.take_password(now)?;
        }
        Ok(password.matches(&given))
    }
}

/// What `Authorization` shows, and whether that may be the password: a bearer has a token, and the
/// scheme `Basic` either of both, with any name.
fn credentials(authorization: &[u8]) -> Option<(Vec<u8>, bool)> {
    let end = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, given) = (&authorization[..end], authorization[end..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some((given.to_vec(), false));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = STANDARD.decode(given).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((pair[colon + 1..].to_vec(), true))
}

/// What all connections of a server share.
pub(super) struct Context {
    pub(super) access: Mutex<Arc<Access>>,
    pub(super) stop: AtomicBool,
    /// Rung when it is to stop.
    pub(super) bell: Notify,
    pub(super) places: Mutex<Places>,
    pub(super) attempts: Mutex<Attempts>,
    pub(super) reach: Reach,
}

impl Context {
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || (self.reach.stopping)()
    }

    /// Whether this still says who is answered.
    pub(super) fn is_current(&self, access: &Arc<Access>) -> bool {
        Arc::ptr_eq(&lock(&self.access), access)
    }
}

#[cfg(test)]
mod tests {
    use super::super::password::Password;
    use super::*;

    fn access(address: &str, hosts: &[&str], keys: Keys) -> Access {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let config = HttpConfig { hosts, ..HttpConfig::at(address.parse().unwrap()) };
        Access::new(&config, keys, None)
    }

    fn admitted(access: &Access, authorization: &str) -> Verdict {
        let shown = Shown::Authorization(authorization.as_bytes());
        access.admit(&shown, "10.0.0.1".parse().unwrap(), &mut Attempts::default())
    }

    #[test]
    fn a_foreign_name_for_loopback_is_refused() {
        let access = access("127.0.0.1:80", &["board.local"], Keys::default());
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
        let token = Some(Secret::token("0123456789abcdef").unwrap());
        let access = access("0.0.0.0:80", &[], Keys { token, password: None });
        assert!(access.knows_host(Some("board.example")) && access.knows_host(None));
        for right in [
            "Bearer 0123456789abcdef",
            "bearer  0123456789abcdef",
            // `printf resight:0123456789abcdef | base64`
            "Basic cmVzaWdodDowMTIzNDU2Nzg5YWJjZGVm",
            "basic OjAxMjM0NTY3ODlhYmNkZWY=",
        ] {
            assert_eq!(admitted(&access, right), Verdict::Welcome, "{right}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeg",
            "Basic MDEyMzQ1Njc4OWFiY2RlZg==",
            "Digest 0123456789abcdef",
        ] {
            assert_eq!(admitted(&access, wrong), Verdict::Unknown, "{wrong}");
        }
    }

    #[test]
    fn a_password_is_typed_or_basic_and_never_a_bearer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), Password::hash("open sesame").unwrap()).unwrap();
        let password = Some(Password::read(file.path()).unwrap());
        let access = access("0.0.0.0:80", &[], Keys { token: None, password: password.map(Arc::new) });
        // `printf camera:open\ sesame | base64`
        assert_eq!(admitted(&access, "Basic Y2FtZXJhOm9wZW4gc2VzYW1l"), Verdict::Welcome);
        assert_eq!(admitted(&access, "Bearer open sesame"), Verdict::Unknown);
        let (mut attempts, stranger) = (Attempts::default(), "10.0.0.1".parse().unwrap());
        let mut typed = |text: &str| access.admit(&Shown::Typed(text.as_bytes()), stranger, &mut attempts);
        assert_eq!(typed("open sesame"), Verdict::Welcome);
        // The same again is no other guess.
        assert!((0..3).all(|_| typed("old one") == Verdict::Unknown));
        assert!((1..10).all(|index| typed(&format!("wrong {index}")) == Verdict::Unknown));
        // Not even the right one is looked at, or guessing would go on.
        assert!(matches!(typed("open sesame"), Verdict::Barred(wait) if wait > Duration::from_secs(30)));
    }
}
