//! Who is answered, and what answers share.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::places::Places;
use crate::outputs::{HttpConfig, Reach, Secret};
use crate::sync::lock;

/// Who is answered.
pub(crate) struct Access {
    pub(super) token: Option<Secret>,
    /// Names that a request may use; `None` for any.
    hosts: Option<Vec<String>>,
    /// Whether they may switch dry run and rules.
    pub(super) switches: bool,
}

impl Access {
    pub(crate) fn new(config: &HttpConfig, token: Option<Secret>) -> Self {
        let hosts = config.address.ip().is_loopback().then(|| config.hosts.clone());
        Self { token, hosts, switches: config.switches }
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

    pub(super) fn knows_token(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = authorization.and_then(|value| value.split_at_checked(7));
        given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(given.trim_ascii())
        })
    }
}

/// What the threads of a server share.
pub(super) struct Context {
    pub(super) access: Mutex<Arc<Access>>,
    pub(super) stop: AtomicBool,
    pub(super) places: Mutex<Places>,
    pub(super) reach: Reach,
    /// Rung in the kernel when it is to stop.
    pub(super) bell: Option<OwnedFd>,
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
