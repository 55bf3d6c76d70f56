//! The status on a Unix socket in the runtime directory, for whoever may use it on this machine.
//!
//! An update is judged by it, so it depends on nothing that a stranger reaches: neither on the HTTP
//! server nor on a token. Whoever connects is told, and that is all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use resight_status::{SOCKET, Told};

use crate::runtime;
use crate::status::StatusBoard;
use crate::threads::{Role, caught, spawn};

/// How long somebody may take who reads nothing; others wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt to accept somebody.
const PAUSE: Duration = Duration::from_millis(200);

/// The stack of a thread that writes a status.
const STACK: usize = 128 << 10;

/// A socket; its file goes with it.
pub(crate) struct StatusSocket(PathBuf);

impl StatusSocket {
    /// Listens in the runtime directory, if there is one. What fails is told to the log: the service
    /// does without.
    pub(crate) fn start(configuration: &Path, board: Arc<StatusBoard>) -> Option<Self> {
        let folder = runtime::directory()?;
        let path = folder.join(SOCKET);
        match Self::listen(&path, configuration, board) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                log::error!("{error:#}; `resightd health` asks over HTTP");
                None
            }
        }
    }

    fn listen(path: &Path, configuration: &Path, board: Arc<StatusBoard>) -> Result<()> {
        let name = || format!("{}: cannot listen", path.display());
        // Of a process that was killed; the folder is this service's alone.
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).with_context(name)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(name)?;
        // As others know it, whatever links lead there.
        let configuration = fs::canonicalize(configuration).unwrap_or_else(|_| configuration.to_owned());
        let configuration = configuration.display().to_string();
        spawn("status", Role::Vital, Some(STACK), move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let told = caught("telling the status", || tell(&stream, &configuration, &board));
                        if let Err(error) = told {
                            log::debug!("the status on a socket: {error:#}");
                        }
                    }
                    Err(error) => {
                        log::warn!("the status on a socket: {error}");
                        thread::sleep(PAUSE);
                    }
                }
            }
        })?;
        Ok(())
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // Gone is gone.
        let _ = fs::remove_file(&self.0);
    }
}

fn tell(mut stream: &UnixStream, configuration: &str, board: &StatusBoard) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let told = Told { configuration: configuration.to_owned(), status: board.status() };
    Ok(stream.write_all(&serde_json::to_vec(&told)?)?)
}
