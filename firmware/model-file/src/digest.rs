//! Checksums.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use resight_base::files::FileError;
use resight_base::text::hex;
use sha2::{Digest, Sha256};

/// The sha256 of a file, 64 lower-case hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, FileError> {
    let cannot_read = |error| FileError::system(path, "read", error);
    let mut file = BufReader::new(fs::File::open(path).map_err(cannot_read)?);
    let mut digest = Sha256::new();
    loop {
        let bytes = file.fill_buf().map_err(cannot_read)?;
        if bytes.is_empty() {
            break;
        }
        digest.update(bytes);
        let length = bytes.len();
        file.consume(length);
    }
    Ok(hex(&digest.finalize()))
}

/// The sha256 of `bytes`, 64 lower-case hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
