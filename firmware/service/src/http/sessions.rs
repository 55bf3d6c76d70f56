//! Browsers that have shown the token or the password once.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;

/// Sessions at the same time; the one that was used longest ago ends first.
const MOST: usize = 64;

/// How long a session lasts after it was used.
pub(super) const LASTS: Duration = Duration::from_hours(24);

/// Bytes of a session's secret.
const LENGTH: usize = 32;

/// What the names of all cookies begin with. A browser sends those of all ports of a host to each,
/// so the port follows, as the browser knows it.
const NAME: &str = "resight_";

struct Session {
    secret: String,
    used: Instant,
}

/// Kept in memory alone: a restart ends them.
#[derive(Default)]
pub(super) struct Sessions(Vec<Session>);

impl Sessions {
    /// Begins a session. Gives its secret; `None` if the system has no randomness.
    pub(super) fn begin(&mut self, now: Instant) -> Option<String> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).ok()?;
        let secret = bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.tidy(now);
        if self.0.len() == MOST {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, session)| session.used);
            let oldest = oldest.map_or(0, |(index, _)| index);
            self.0.remove(oldest);
        }
        self.0.push(Session { secret: secret.clone(), used: now });
        Some(secret)
    }

    /// Whether a cookie of these is a session's, which is used now.
    pub(super) fn knows(&mut self, cookies: &str, now: Instant) -> bool {
        self.tidy(now);
        // All are compared, so that the time tells nothing.
        let mut known = false;
        for given in secrets(cookies) {
            for session in &mut self.0 {
                if bool::from(session.secret.as_bytes().ct_eq(given.as_bytes())) {
                    session.used = now;
                    known = true;
                }
            }
        }
        known
    }

    /// Ends the sessions of these cookies.
    pub(super) fn end(&mut self, cookies: &str) {
        let is_one = |session: &Session| {
            secrets(cookies).any(|given| bool::from(session.secret.as_bytes().ct_eq(given.as_bytes())))
        };
        self.0.retain(|session| !is_one(session));
    }

    fn tidy(&mut self, now: Instant) {
        self.0.retain(|session| now.saturating_duration_since(session.used) < LASTS);
    }
}

/// The secrets in a field `Cookie`.
fn secrets(cookies: &str) -> impl Iterator<Item = &str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| name.starts_with(NAME)).map(|(_, secret)| secret)
}

/// The field `Set-Cookie` that keeps a session in a browser which knows the service by `host`; without
/// a secret, that ends it.
pub(super) fn cookie(secret: Option<&str>, host: &str, encrypted: bool) -> String {
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let port: String = port.chars().filter(char::is_ascii_digit).collect();
    let (value, age) = secret.map_or(("", 0), |secret| (secret, LASTS.as_secs()));
    let secure = if encrypted { "; Secure" } else { "" };
    format!("{NAME}{port}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_while_it_is_used_and_until_it_is_ended() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let secret = sessions.begin(start).unwrap();
        assert_eq!(secret.len(), 64);
        let cookies = format!("other=1; resight_8600={secret}; resight_8601=no");
        let later = start + LASTS.checked_sub(Duration::from_secs(1)).unwrap();
        assert!(sessions.knows(&cookies, later));
        assert!(sessions.knows(&cookies, later + Duration::from_secs(10)), "it was used");
        for wrong in ["", "resight_8600=", "resight_8600", &format!("other={secret}"), &cookies[..60]] {
            assert!(!sessions.knows(wrong, later), "{wrong}");
        }
        assert!(!sessions.knows(&cookies, later + 2 * LASTS));
        let secret = sessions.begin(start).unwrap();
        let cookies = format!("resight_={secret}");
        assert!(sessions.knows(&cookies, start));
        sessions.end(&cookies);
        assert!(!sessions.knows(&cookies, start));
    }

    #[test]
    fn sessions_are_limited() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let secrets: Vec<String> = (0..=MOST as u64)
            .map(|second| sessions.begin(start + Duration::from_secs(second)).unwrap())
            .collect();
        let knows = |sessions: &mut Sessions, index: usize| {
            sessions.knows(&format!("resight_={}", secrets[index]), start + Duration::from_secs(100))
        };
        assert!(!knows(&mut sessions, 0) && knows(&mut sessions, 1) && knows(&mut sessions, MOST));
        assert_eq!(sessions.0.len(), MOST);
    }

    #[test]
    fn cookies_are_kept_from_scripts_other_sites_and_other_ports() {
        assert_eq!(
            cookie(Some("abc"), "board.local:8600", true),
            "resight_8600=abc; Path=/; Max-Age=86400; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            cookie(None, "board.local", false),
            "resight_=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
        );
        assert!(cookie(None, "[::1]:86\u{e9}00; x=", false).starts_with("resight_8600=;"));
    }
}
