//! Judges the release that is to replace the running one, by the running one's key.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use resight_model_file::{Archive, PublicKey, sha256_of_file};

use crate::config::ModelFiles;

/// What `resight deploy` and the package give the files.
const CONFIGURATION: &str = "resightd.toml";
const PROGRAM: &str = "resightd";

/// Where the package has its program, which the package manager has vouched for.
const PACKAGED: &str = "/usr/bin/resightd";

/// Checks that the key of the configuration `running`, if it names one, is demanded by the release
/// in the folder `release` too and has signed its model and its program. Gives what was found.
///
/// # Errors
/// A file that cannot be read, another key or none, a signature that is missing or wrong.
pub(crate) fn verify(running: &Path, release: &Path) -> Result<String> {
    let Some(key) = ModelFiles::load(running)?.public_key else {
        return Ok(format!("{}: no key is demanded", running.display()));
    };
    let key = PublicKey::read(&key)?;
    let next = release.join(CONFIGURATION);
    let files = ModelFiles::load(&next)?;
    let other = files.public_key.as_deref().map(PublicKey::read).transpose()?;
    ensure!(
        other == Some(key),
        "{}: model.public_key is not key {}, which signs the releases of this board; to replace it, use \
         `resight deploy --replace-key`",
        next.display(),
        key.fingerprint()
    );
    Archive::read(&files.model)?.check_signature(&key)?;
    let program = release.join(PROGRAM);
    if !is_trusted(&program)? {
        key.check_program(&program)?;
    }
    Ok(format!("{}: signed by key {}", release.display(), key.fingerprint()))
}

/// Whether a program is one that runs here already.
fn is_trusted(program: &Path) -> Result<bool> {
    let sum = sha256_of_file(program)?;
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    // One that is not there is like no other.
    Ok([this.as_path(), Path::new(PACKAGED)]
        .iter()
        .any(|path| sha256_of_file(path).is_ok_and(|other| other == sum)))
}
