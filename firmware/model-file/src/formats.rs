//! Formats that files have which are given to us by mistake.

use std::fmt;

/// A format that files have which are given to us by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// What our model files are, among others.
    Tar,
    /// What PyTorch saves, among others.
    Zip,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// HDF5, which Keras saves.
    Hdf5,
    /// A page of the web, of a login perhaps.
    Html,
    /// What Git puts in the place of a large file that it has not fetched.
    GitLfsPointer,
}

impl FileFormat {
    /// Recognises it by its first bytes (300 are enough).
    pub fn of(bytes: &[u8]) -> Option<Self> {
        const MAGIC_OFFSET: usize = 257;
        if bytes.get(MAGIC_OFFSET..MAGIC_OFFSET + 5) == Some(b"ustar") {
            return Some(Self::Tar);
        }
        let known: [(&[u8], Self); 9] = [
            (b"PK\x03\x04", Self::Zip),
            (b"\x1f\x8b", Self::Gzip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\x89PNG", Self::Png),
            (b"\xff\xd8\xff", Self::Jpeg),
            (b"\x89HDF", Self::Hdf5),
            (b"<!doctype html", Self::Html),
            (b"<html", Self::Html),
            (b"version https://git-lfs", Self::GitLfsPointer),
        ];
        let begins = |magic: &[u8]| bytes.get(..magic.len()).is_some_and(|b| b.eq_ignore_ascii_case(magic));
        known.into_iter().find(|(magic, _)| begins(magic)).map(|(_, format)| format)
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "a tar archive",
            Self::Zip => "a zip archive",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
            Self::Png => "a PNG image",
            Self::Jpeg => "a JPEG image",
            Self::Hdf5 => "an HDF5 file",
            Self::Html => "a web page",
            Self::GitLfsPointer => "a pointer of Git LFS to a file that was not fetched",
        })
    }
}

/// Whether the bytes begin as the ONNX files of all known exporters: field 1, the version of
/// the representation, a small number, then another field of a model.
pub(crate) fn looks_like_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
}
