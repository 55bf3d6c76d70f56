//! Everything that can go wrong with a model, an image, labels or an evaluation folder.

use std::io;
use std::path::Path;

/// An error of this crate. The message is one line and names the file, the cause and, where
/// there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The graph is not an int8 network of ours.
    #[error("{0}")]
    Graph(String),
    /// A kernel refused its parameters or the CPU lacks its instructions.
    #[error(transparent)]
    Kernel(#[from] resight_kernels::KernelError),
    /// The compute threads cannot be started.
    #[error(transparent)]
    Threads(#[from] crate::ThreadError),
    /// The operating system refused to read or write a file.
    #[error("{file}: cannot {action}: {cause}")]
    File {
        /// The file or folder.
        file: String,
        /// What was attempted, as an infinitive: "read", "write".
        action: &'static str,
        /// The operating system's reason.
        cause: io::Error,
    },
    /// The file is no model file at all.
    #[error("{file} is not a resight model: {cause}; make one with `resight quantize`")]
    NotAModel {
        /// The file.
        file: String,
        /// What it is instead.
        cause: String,
    },
    /// The model file was cut off.
    #[error("{file} is truncated: {cause}; copy it again from where it came")]
    Truncated {
        /// The file.
        file: String,
        /// What is missing.
        cause: String,
    },
    /// The model file was altered or made by somebody who does not follow the format.
    #[error("{file} is damaged: {cause}; copy it again or make it anew with `resight quantize`")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// One member of a model file is wrong.
    #[error("{file}: member {member}: {cause}")]
    Member {
        /// The file.
        file: String,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The model file is of a later format.
    #[error(
        "{file} has model format {version}, this program reads format {supported}: update resight here, \
         or make the model with a resight as old as this one"
    )]
    FutureFormat {
        /// The file.
        file: String,
        /// The version that its manifest gives.
        version: u64,
        /// The version that this program reads.
        supported: u64,
    },
    /// The file is not signed, or not by whom it must be.
    #[error("{file}: signature: {cause}")]
    Signature {
        /// The file.
        file: String,
        /// What is wrong with its signature.
        cause: String,
    },
    /// A key file is wrong.
    #[error("{file}: key: {cause}")]
    Key {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
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
    /// A text file or a folder is wrong as a whole.
    #[error("{file}: {cause}")]
    Content {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An image cannot be decoded.
    #[error("{file}: cannot decode the image: {cause}")]
    Image {
        /// The file.
        file: String,
        /// Why.
        cause: String,
    },
    /// Preprocessing was given something that it cannot hold.
    #[error("preprocessing: {0}")]
    Preprocessing(String),
}

impl NetworkError {
    /// A [`NetworkError::File`] about `path`.
    pub(crate) fn file(path: &Path, action: &'static str, cause: io::Error) -> Self {
        NetworkError::File { file: path.display().to_string(), action, cause }
    }
}

/// `text` without anything that would break a one-line message: control characters are
/// escaped and long text is cut.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 240;
    let mut result: String = text.chars().take(LONGEST).flat_map(escape).collect();
    if text.chars().nth(LONGEST).is_some() {
        result.push('…');
    }
    result
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = (!character.is_control()).then_some(character);
    escaped.into_iter().flatten().chain(plain)
}
