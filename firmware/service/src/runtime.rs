//! Files in the runtime directory that systemd keeps for the service while it is started again:
//! what a process that was killed leaves to the next one and to `resightd safe`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The first runtime directory that systemd has made; `None` if nobody would start the service
/// again.
pub(crate) fn directory() -> Option<PathBuf> {
    first_of("RUNTIME_DIRECTORY")
}

/// Where the service keeps what outlives it: the folder that systemd has made, or the user's own.
pub(crate) fn state_directory() -> Option<PathBuf> {
    first_of("STATE_DIRECTORY").or_else(|| {
        let own = first_of("XDG_STATE_HOME").or_else(|| Some(first_of("HOME")?.join(".local/state")));
        Some(own?.join("resight"))
    })
}

/// Where a service that somebody else runs may keep it.
pub(crate) fn state_directories() -> Vec<PathBuf> {
    let packaged = first_of("STATE_DIRECTORY").is_none().then(|| PathBuf::from("/var/lib/resight"));
    packaged.into_iter().chain(state_directory()).collect()
}

fn first_of(variable: &str) -> Option<PathBuf> {
    let directories = std::env::var_os(variable)?;
    let first = directories.as_bytes().split(|byte| *byte == b':').next()?;
    let folder = Path::new(OsStr::from_bytes(first));
    folder.is_absolute().then(|| folder.to_owned())
}

/// Replaces the content of `file` at once, so that a reader finds the old or the new.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn replace(file: &Path, content: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    // What a process left that was killed. A symbolic link there is no way to another file.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).open(&new)?.write_all(content.as_bytes())?;
    fs::rename(new, file)
}

/// The configurations whose lines this process may drive: the running one, and while a reload is
/// under way the next one too. They may be gone from the disk, or be other ones there, when
/// `resightd safe` must find the lines of a process that was killed.
#[derive(Debug, Default)]
pub(crate) struct LinesInUse {
    folder: Option<PathBuf>,
}

impl LinesInUse {
    pub(crate) fn from_environment() -> Self {
        Self { folder: directory() }
    }

    /// Writes down the configuration that the service starts with.
    pub(crate) fn start(&self, configuration: &str) {
        let Some([running, next]) = self.files() else { return };
        // Not that of an earlier process, if this one's cannot be written.
        let forgotten = if_there(fs::remove_file(&running)).and(if_there(fs::remove_file(next)));
        report(&running, replace(&running, configuration).and(forgotten));
    }

    /// Writes down the configuration of a reload, beside the running one.
    pub(crate) fn prepare(&self, configuration: &str) {
        let Some([_, next]) = self.files() else { return };
        report(&next, replace(&next, configuration));
    }

    /// The reload is done: its lines are the only ones.
    pub(crate) fn settle(&self) {
        let Some([running, next]) = self.files() else { return };
        report(&running, if_there(fs::rename(next, &running)));
    }

    /// What was written down, as far as it is there.
    pub(crate) fn found(&self) -> Vec<PathBuf> {
        self.files().into_iter().flatten().filter(|file| file.exists()).collect()
    }

    fn files(&self) -> Option<[PathBuf; 2]> {
        let folder = self.folder.as_ref()?;
        Some(["running.toml", "next.toml"].map(|name| folder.join(name)))
    }
}

fn if_there(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn report(file: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        log::error!(
            "{}: cannot be written: {error}; after a crash only the lines of the configuration's own file \
             are put to their safe levels",
            file.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_has_two_configurations_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let in_use = LinesInUse { folder: Some(folder.path().to_owned()) };
        let texts = || -> Vec<String> {
            in_use.found().iter().map(|file| fs::read_to_string(file).unwrap()).collect()
        };
        assert!(in_use.found().is_empty());
        in_use.start("first");
        assert_eq!(texts(), ["first"]);
        in_use.prepare("second");
        assert_eq!(texts(), ["first", "second"]);
        // Killed meanwhile.
        in_use.start("second");
        assert_eq!(texts(), ["second"]);
        in_use.prepare("third");
        in_use.settle();
        assert_eq!(texts(), ["third"]);
    }

    #[test]
    fn without_a_runtime_directory_nothing_is_written() {
        let in_use = LinesInUse::default();
        in_use.start("first");
        in_use.prepare("second");
        in_use.settle();
        assert!(in_use.found().is_empty());
    }
}
