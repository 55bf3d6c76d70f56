//! Reading files of bounded size and replacing files whole.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// What is wrong with a file or a folder. The message is one line and begins with its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{file}: cannot {action}: {cause}")]
    System {
        /// The file or folder.
        file: String,
        /// What was attempted, as an infinitive: "read", "write".
        action: &'static str,
        /// The operating system's reason.
        cause: io::Error,
    },
    /// A line of a text file is wrong.
    #[error("{file}, line {line}: {cause}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// The file or folder is wrong as a whole.
    #[error("{file}: {cause}")]
    Content {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl FileError {
    /// A [`System`](Self::System) error about `path`.
    pub fn system(path: &Path, action: &'static str, cause: io::Error) -> Self {
        Self::System { file: path.display().to_string(), action, cause }
    }

    /// A [`Line`](Self::Line) error; lines count from 1.
    pub fn line(file: &str, line: usize, cause: impl Into<String>) -> Self {
        Self::Line { file: file.to_owned(), line, cause: cause.into() }
    }

    /// A [`Content`](Self::Content) error.
    pub fn content(file: &str, cause: impl Into<String>) -> Self {
        Self::Content { file: file.to_owned(), cause: cause.into() }
    }
}

/// Reads a regular file of at most `most` bytes; `too_large` is the cause of the refusal of
/// a larger one.
///
/// # Errors
/// A file that cannot be read, is not a regular file or is larger.
pub fn read_bounded(path: &Path, most: u64, too_large: &str) -> Result<Vec<u8>, FileError> {
    let cannot_read = |error| FileError::system(path, "read", error);
    // Before opening: a named pipe would block for ever.
    if !fs::metadata(path).map_err(cannot_read)?.is_file() {
        return Err(FileError::content(&path.display().to_string(), "not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(cannot_read)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > most {
        return Err(FileError::content(&path.display().to_string(), too_large));
    }
    Ok(bytes)
}

/// Writes a file so that it is there whole or not at all, even after a power failure: into a
/// temporary file of the same folder, which then takes the name.
///
/// # Errors
/// Whatever `write` or the operating system reports; then nothing is left behind, and a file
/// that was there is untouched.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let attempt = || {
        let mut file = beside(path)?;
        let mut buffer = BufWriter::new(file.as_file_mut());
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|error| FileError::system(path, "write", error))?;
    let folder = folder_of(path);
    // The file is complete; only that its name survives a power failure depends on this, and
    // not every file system can do it.
    if let Err(error) = fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        log::debug!("{}: cannot flush the folder: {error}", folder.display());
    }
    Ok(())
}

/// Checks that [`write_atomically`] could write `path` now, for those who compute for minutes
/// before they do.
///
/// # Errors
/// A folder that is missing or takes no new file, and a `path` that is a folder.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    let attempt = || {
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; name a file in it"));
        }
        beside(path).map(drop)
    };
    attempt().map_err(|error| FileError::system(path, "write", error))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A new file in the folder of `path`, which goes when it is dropped.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".resight-").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Like any new file: the process's mask decides.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    if !folder.is_dir() {
        let cause = format!("there is no folder {}; make it first", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, cause));
    }
    // Without the temporary name, which nobody asked for.
    builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, |file| file.write_all(b"first")).unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the sec")?;
            Err(io::Error::other("the disk is full"))
        })
        .unwrap_err();
        assert!(error.to_string().ends_with("/file: cannot write: the disk is full"), "{error}");
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"first".to_vec(), vec!["file".to_owned()])
        );
        let error = write_atomically(&path.join("below"), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("there is no folder") && error.contains("make it first"), "{error}");
    }

    #[test]
    fn only_regular_files_up_to_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1234").unwrap();
        let read =
            |path: &Path, most| read_bounded(path, most, "too long").map_err(|error| error.to_string());
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(read(&path, 3).unwrap_err().ends_with("/file: too long"));
        assert!(read(folder.path(), 4).unwrap_err().ends_with(": not a regular file"));
        assert!(read(&folder.path().join("none"), 4).unwrap_err().contains("/none: cannot read: "));
    }
}
