//! Passwords and tokens.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use subtle::ConstantTimeEq as _;

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

/// What a path of a credential begins with: files that systemd gives this service alone
/// (`LoadCredential=`), in a folder whose name it knows only when it starts.
pub(crate) const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY";

/// Where systemd looks for the credentials of the packaged unit.
const STORE: &str = "/etc/credstore";

/// Where a file is: in systemd's folder if its path begins with [`CREDENTIALS`].
///
/// # Errors
/// A credential in a process that was given none.
fn located(path: &Path) -> Result<Cow<'_, Path>> {
    located_in(path, std::env::var_os(&CREDENTIALS[1..]))
}

fn located_in(path: &Path, credentials: Option<OsString>) -> Result<Cow<'_, Path>> {
    let Ok(name) = path.strip_prefix(CREDENTIALS) else { return Ok(path.into()) };
    match credentials.filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(Path::new(&folder).join(name).into()),
        None => bail!(
            "{}: systemd has given this process no credentials; `LoadCredential=` in its unit does",
            path.display()
        ),
    }
}

/// What there is to say of a file that cannot be looked at here.
pub(crate) fn unchecked(path: &Path) -> Option<String> {
    if let Ok(name) = path.strip_prefix(CREDENTIALS)
        && located(path).is_err()
    {
        let stored = Path::new(STORE).join(name);
        let missing = if stored.exists() {
            String::new()
        } else {
            format!(", from {}, which is not there", stored.display())
        };
        return Some(format!("{}: systemd gives it to the service alone{missing}", path.display()));
    }
    let denied = fs::File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    denied.then(|| format!("{}: not checked, this user may not read it", path.display()))
}

/// Says so of a file that only root can read: the packaged service is somebody else.
pub(crate) fn unreadable_for_others(path: &Path) -> Option<String> {
    let metadata = fs::metadata(located(path).ok()?).ok()?;
    let only_root = metadata.uid() == 0 && metadata.mode() & 0o044 == 0;
    (only_root && !path.starts_with(CREDENTIALS)).then(|| {
        format!(
            "{}: only root can read it, and the packaged service is not root: put it into {STORE} and name it as \
             `{CREDENTIALS}/NAME`, see docs/service.md",
            path.display()
        )
    })
}

/// Reads a regular file that is not large.
///
/// # Errors
/// A file that is missing, unreadable or too large.
pub(crate) fn small_file(path: &Path) -> Result<Vec<u8>> {
    let path = &*located(path)?;
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
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = String::from_utf8(small_file(path)?).with_context(|| path.display().to_string())?;
        if text.trim().is_empty() {
            bail!("{}: empty", path.display());
        }
        if fs::metadata(located(path)?).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
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
        self.0.as_bytes().ct_eq(other).into()
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
    fn credentials_are_where_systemd_says() {
        let path = Path::new("$CREDENTIALS_DIRECTORY/resight-token");
        let found = located_in(path, Some("/run/credentials/resightd.service".into())).unwrap();
        assert_eq!(&*found, Path::new("/run/credentials/resightd.service/resight-token"));
        let error = located_in(path, None).unwrap_err().to_string();
        assert!(error.contains("$CREDENTIALS_DIRECTORY/resight-token: systemd has given"), "{error}");
        let plain = Path::new("/etc/resight/token");
        assert_eq!(&*located_in(plain, None).unwrap(), plain);
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
