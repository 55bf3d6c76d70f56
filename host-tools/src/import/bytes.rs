//! The bytes of files, of which not too many are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::limits::MAX_FILE_BYTES;

/// Why the bytes of a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}", path = path.display())]
pub struct BytesError {
    pub(super) path: PathBuf,
    pub(super) cause: BytesFault,
}

/// What is wrong with a file whose bytes are read. The message goes on after its name.
#[derive(Debug, thiserror::Error)]
pub enum BytesFault {
    #[error(transparent)]
    System(#[from] std::io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("has {0} bytes, fewer than the model refers to")]
    Short(u64),
    #[error("{0} bytes are more than the {MAX_FILE_BYTES} that are read")]
    TooMany(u64),
    #[error("became shorter while it was read")]
    Shortened,
}

/// How many bytes are to be read where it is `length` from `offset`, or all that follow; refuses a file that
/// has them not.
pub(super) fn check(path: &Path, offset: u64, length: Option<u64>) -> Result<u64, BytesError> {
    available(path, offset, length).map_err(|cause| BytesError { path: path.into(), cause })
}

/// Reads `length` bytes from `offset`, or all that follow.
pub(super) fn read(path: &Path, offset: u64, length: Option<u64>) -> Result<Vec<u8>, BytesError> {
    let bytes = available(path, offset, length).and_then(|length| part(path, offset, length));
    bytes.map_err(|cause| BytesError { path: path.into(), cause })
}

fn available(path: &Path, offset: u64, length: Option<u64>) -> Result<u64, BytesFault> {
    // Before opening: opening a FIFO would wait for its writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(BytesFault::NotRegular);
    }
    let available = metadata.len().checked_sub(offset);
    let length = available.and_then(|a| length.unwrap_or(a).le(&a).then(|| length.unwrap_or(a)));
    let length = length.ok_or(BytesFault::Short(metadata.len()))?;
    if length > MAX_FILE_BYTES {
        return Err(BytesFault::TooMany(length));
    }
    Ok(length)
}

fn part(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, BytesFault> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(BytesFault::Shortened);
    }
    Ok(bytes)
}
