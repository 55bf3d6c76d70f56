//! What can be wrong with a recipe.

use resight_imaging::{ImagingError, Preprocessing};
use resight_model_file::ModelFileError;

/// Why a file is no recipe that can be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeCause {
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    NoText,
    /// It is no TOML, or has other keys.
    #[error("line {line}: {message}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value is wrong.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Its labels are wrong.
    #[error(transparent)]
    Labels(Box<ModelFileError>),
    /// A recipe of the program names a file that the program does not have.
    #[error("it is not built in")]
    NotBuiltIn,
    /// It is larger than any recipe; its bytes.
    #[error("{0} bytes are too many for a recipe or its labels")]
    TooLarge(u64),
}

/// A value of a recipe that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// What `resight fetch` should call it.
    #[error("name: `{}` is not made of a-z, 0-9, `-`, `_` and `.`", .0.escape_debug())]
    Name(String),
    /// Text of several lines, or none.
    #[error("{key}: one line of text is expected")]
    Line {
        /// The key.
        key: &'static str,
    },
    /// No percentage.
    #[error("{key}: 0 to 100 percent is expected")]
    Percent {
        /// The key.
        key: &'static str,
    },
    /// A name that may lead out of a folder.
    #[error("{key}: `{}` is not a plain file name", .found.escape_debug())]
    FileName {
        /// The key.
        key: &'static str,
        /// The name.
        found: String,
    },
    /// The network's file has another ending.
    #[error("network.file: `{0}` does not end with .onnx")]
    Extension(String),
    /// No size that a network can have.
    #[error("network.bytes: {found} is not 1 to {most}")]
    Bytes {
        /// The size that is given.
        found: u64,
        /// The largest that can be.
        most: u64,
    },
    /// No digest.
    #[error("network.sha256: 64 lower-case hexadecimal digits are expected")]
    Digest,
    /// No address.
    #[error("network.urls: at least one address is expected")]
    NoUrl,
    /// An address of another kind.
    #[error("network.urls: `{}` is not an https address", .0.escape_debug())]
    Url(String),
    /// One file would be written over another.
    #[error("network.file, labels.file and labels.notice must differ")]
    SameFile,
    /// Numbers that no preprocessing has.
    #[error("preprocessing: {0}")]
    Values(#[from] ImagingError),
    /// Another preprocessing than networks are quantised with.
    #[error(
        "preprocessing: `resight quantize` prepares images for a {} x {} network with {expected:?}; one that was \
         trained with anything else would recognise little", .expected.crop[0], .expected.crop[1]
    )]
    Preprocessing {
        /// What they are quantised with.
        expected: Box<Preprocessing>,
    },
}
