//! The page, the status and live events over HTTP.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::output::{Output, OutputList, find};
use super::settings::OutputConfig;
use crate::http::{Access, HttpConfig, Identity, Keys, Password, Server, TlsConfig};
use crate::live::Live;
use crate::reach::Reach;

/// The HTTP server, and what it was made from.
struct Web {
    config: HttpConfig,
    keys: Keys,
    identity: Option<Identity>,
    access: Arc<Access>,
    server: Arc<Server>,
    live: Arc<Live>,
}

pub(super) fn open(
    config: &OutputConfig,
    old: &OutputList,
    reach: &Reach,
) -> Result<Option<Arc<dyn Output>>> {
    let Some(config) = &config.http else { return Ok(None) };
    let (keys, identity, old) = (Keys::read(config)?, Identity::open(config)?, find::<Web>(old));
    let is_same = |old: &&Arc<Web>| old.config == *config && old.keys == keys && old.identity == identity;
    if let Some(same) = old.as_ref().filter(is_same) {
        return Ok(Some(same.clone()));
    }
    match &identity {
        Some(identity) => log::info!("the certificate's SHA-256 is {}", identity.fingerprint()),
        None if !config.address.ip().is_loopback() => {
            log::warn!(
                "others reach {} without encryption; `tls = true` in [output] adds it",
                config.address
            );
        }
        None => {}
    }
    let tls = identity.as_ref().map(Identity::server).transpose()?;
    let access = Arc::new(Access::new(config, keys.clone(), tls));
    // The same address stays open, whatever else changes.
    let server = match old.filter(|old| old.config.address == config.address) {
        Some(old) => old.server.clone(),
        None => Arc::new(Server::start(config.address, access.clone(), reach.clone())?),
    };
    let (config, live) = (config.clone(), reach.live.clone());
    Ok(Some(Arc::new(Web { config, keys, identity, access, server, live })))
}

/// Reads what the configuration names, as far as whoever checks may read it.
///
/// # Errors
/// What is wrong with files that are there.
pub(crate) fn check(config: &HttpConfig) -> Result<()> {
    let is_readable = |path: &Path| File::open(path).is_ok();
    if let Some(password) = config.password_file.as_deref().filter(|path| is_readable(path)) {
        Password::read(password)?;
    }
    match &config.tls {
        Some(TlsConfig::Files { certificate, key }) if is_readable(certificate) && is_readable(key) => {
            Identity::open(config).map(drop)
        }
        _ => Ok(()),
    }
}

impl Output for Web {
    fn begin(self: Arc<Self>) {
        self.server.set_access(self.access.clone());
    }

    fn event(&self, line: &Arc<str>) {
        self.live.event(line.clone());
    }
}
