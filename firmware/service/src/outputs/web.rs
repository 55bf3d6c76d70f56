//! The page, the status and live events over HTTP.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::output::{Output, OutputList, Reach, find};
use super::secret::Secret;
use super::settings::{HttpConfig, OutputConfig, TOKEN_VARIABLE};
use crate::http::{Access, Server};
use crate::live::Live;

/// The HTTP server, and what it was made from.
struct Web {
    config: HttpConfig,
    token: Option<Secret>,
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
    let (token, old) = (token(config)?, find::<Web>(old));
    if let Some(same) = old.as_ref().filter(|old| old.config == *config && old.token == token) {
        return Ok(Some(same.clone()));
    }
    let access = Arc::new(Access::new(config, token.clone()));
    // The same address stays open, whatever else changes.
    let server = match old.filter(|old| old.config.address == config.address) {
        Some(old) => old.server.clone(),
        None => Arc::new(Server::start(config.address, access.clone(), reach.clone())?),
    };
    Ok(Some(Arc::new(Web { config: config.clone(), token, access, server, live: reach.live.clone() })))
}

impl Output for Web {
    fn begin(self: Arc<Self>) {
        self.server.set_access(self.access.clone());
    }

    fn event(&self, line: &Arc<str>) {
        self.live.event(line.clone());
    }
}

/// The token that requests must show, from its file or from the environment.
///
/// # Errors
/// A file that cannot be read, and a token that is none.
pub(crate) fn token(config: &HttpConfig) -> Result<Option<Secret>> {
    match &config.token_file {
        Some(path) => {
            let secret = Secret::read(path)?;
            Ok(Some(Secret::token(secret.text()).with_context(|| path.display().to_string())?))
        }
        None => std::env::var(TOKEN_VARIABLE)
            .ok()
            .map(|token| Secret::token(&token).context(TOKEN_VARIABLE))
            .transpose(),
    }
}
