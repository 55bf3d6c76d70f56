//! Passwords and tokens.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Largest file of a secret or of certificates, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Least characters of a token.
const TOKEN_LENGTH: usize = 16;

/// A password or token. It never appears in messages.
#[derive(Clone, PartialEq)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads a regular file that is not large.
///
/// # Errors
/// A file that is missing, unreadable or too large.
pub(super) fn small_file(path: &Path) -> Result<Vec<u8>> {
    let name = || path.display().to_string();
    let metadata = fs::metadata(path).with_context(name)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        bail!("{}: not a regular file of up to 4 MiB", path.display());
    }
    fs::read(path).with_context(name)
}

impl Secret {
    /// The text of a file, without white space around it.
    ///
    /// # Errors
    /// A file that cannot be read, is empty or no text.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = String::from_utf8(small_file(path)?).with_context(|| path.display().to_string())?;
        if text.trim().is_empty() {
            bail!("{}: empty", path.display());
        }
        if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
            log::warn!("{}: others may use this secret; `chmod o= FILE` stops that", path.display());
        }
        Ok(Self(text.trim().to_owned()))
    }

    /// A token that is hard to guess and fits into a header.
    ///
    /// # Errors
    /// Short ones, and characters that a header cannot hold.
    pub(crate) fn token(text: &str) -> Result<Self> {
        if text.len() < TOKEN_LENGTH || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!(
                "the token needs {TOKEN_LENGTH} or more printable characters without spaces; \
                 `openssl rand -hex 32` makes one"
            );
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same; the time this takes tells nothing but the length.
    pub(crate) fn matches(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let pairs = own.iter().zip(other);
        let difference = pairs.fold(0, |difference, (own, other)| black_box(difference | (own ^ other)));
        own.len() == other.len() && difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_matches() {
        let token = Secret::token("0123456789abcdef").unwrap();
        assert!(token.matches(b"0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(!token.matches(other.as_bytes()), "{other}");
        }
        for wrong in ["short", "with spaces in the middle"] {
            let error = Secret::token(wrong).unwrap_err().to_string();
            assert!(error.contains("16") && !error.contains(wrong), "{error}");
        }
        assert_eq!(format!("{token:?}"), "Secret");
    }

    #[test]
    fn a_file_is_trimmed_and_an_empty_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, " open sesame\n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().text(), "open sesame");
        fs::write(&path, "\n").unwrap();
        assert!(Secret::read(&path).unwrap_err().to_string().contains("empty"));
        let error = Secret::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file of up to 4 MiB"), "{error}");
    }
}
