//! The protocol of `sd_notify`: datagrams to the socket that systemd names.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// systemd, or nobody.
#[derive(Debug)]
pub(crate) struct Notify(Option<UnixDatagram>);

impl Notify {
    /// The socket of `NOTIFY_SOCKET`; without one, nothing is ever sent.
    pub(crate) fn from_environment() -> Self {
        Self(env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            let connect = || {
                let address = match name.strip_prefix('@') {
                    Some(name) => SocketAddr::from_abstract_name(name)?,
                    None => SocketAddr::from_pathname(&name)?,
                };
                let socket = UnixDatagram::unbound()?;
                socket.connect_addr(&address)?;
                // A manager that does not read must not hold up the lines.
                socket.set_nonblocking(true)?;
                Ok(socket)
            };
            let socket: std::io::Result<UnixDatagram> = connect();
            socket.inspect_err(|error| log::warn!("NOTIFY_SOCKET {name}: {error}")).ok()
        }))
    }

    /// Tells nobody.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    /// Sends a state such as `READY=1`. `false` if there is somebody who could not be told.
    pub(crate) fn send(&self, state: &str) -> bool {
        let Some(socket) = &self.0 else { return true };
        socket.send(state.as_bytes()).inspect_err(|error| log::debug!("notifying systemd: {error}")).is_ok()
    }
}
