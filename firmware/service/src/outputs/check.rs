//! The files that a configuration names, read before the service starts.

use anyhow::{Context as _, Result};

use super::settings::OutputConfig;
use crate::http::TlsConfig;
use crate::secret::{Secret, small_file, unchecked, unreadable_for_others};

/// Reads the files that a configuration names, as the service will. Gives what is to be noted of them.
///
/// # Errors
/// A file that is missing, empty, too large or holds no token or certificate.
pub(crate) fn check(config: &OutputConfig) -> Result<Vec<String>> {
    let http = config.http.as_ref();
    let token = http.and_then(|http| http.token_file.as_deref());
    let hash = http.and_then(|http| http.password_file.as_deref());
    let key = http.and_then(|http| match &http.tls {
        Some(TlsConfig::Files { key, .. }) => Some(key.as_path()),
        _ => None,
    });
    let mqtt = config.mqtt.as_ref();
    let password = mqtt.and_then(|mqtt| mqtt.password_file.as_deref());
    let authorities = mqtt.and_then(|mqtt| mqtt.ca_file.as_deref());
    let mut notes = vec![];
    for (path, is_token) in [(token, true), (hash, false), (key, false), (password, false)] {
        let Some(path) = path else { continue };
        if let Some(note) = unchecked(path) {
            notes.push(note);
            continue;
        }
        let secret = Secret::read(path)?;
        if is_token {
            Secret::token(secret.text()).with_context(|| path.display().to_string())?;
        }
        notes.extend(unreadable_for_others(path));
    }
    if let Some(path) = authorities {
        match unchecked(path) {
            Some(note) => notes.push(note),
            None => drop(small_file(path)?),
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::http::HttpConfig;

    #[test]
    fn the_files_of_secrets_are_read_before_the_service_needs_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let config = OutputConfig {
            http: Some(HttpConfig {
                token_file: Some(path.clone()),
                ..HttpConfig::at("127.0.0.1:1".parse().unwrap())
            }),
            ..OutputConfig::default()
        };
        let error = format!("{:#}", check(&config).unwrap_err());
        assert!(error.contains("token") && error.contains("No such file"), "{error}");
        fs::write(&path, "short").unwrap();
        assert!(format!("{:#}", check(&config).unwrap_err()).contains("needs 16 or more"));
        fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(check(&config).unwrap(), Vec::<String>::new());
    }
}
