//! What requests over HTTP must show.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::password::Password;
use super::settings::{HttpConfig, TOKEN_VARIABLE};
use crate::secret::Secret;

/// What requests must show: one of them, if there are any.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Keys {
    pub(crate) token: Option<Secret>,
    pub(crate) password: Option<Arc<Password>>,
}

impl Keys {
    /// # Errors
    /// Files that cannot be read, and what is no token or no password.
    pub(crate) fn read(config: &HttpConfig) -> Result<Self> {
        let password = config.password_file.as_deref().map(Password::read).transpose()?;
        Ok(Self { token: token(config)?, password: password.map(Arc::new) })
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
