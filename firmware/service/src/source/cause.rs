//! What can be wrong with what a source gives.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use resight_imaging::ImagingError;

use super::y4m_error::Y4mError;

/// Why what a source gives is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentCause {
    /// The path begins the message already.
    #[error(transparent)]
    Folder(#[from] ImagingError),
    #[error(transparent)]
    Pattern(#[from] glob::PatternError),
    #[error("no file fits this path; expected a folder of images, a file or a glob")]
    NoFile,
    #[error("none of the files is an image that can be decoded")]
    NoImage,
    #[error("there is no frame in it")]
    NoFrame,
    #[error("a rate is for files and folders; this comes at its own")]
    Rate,
    #[error("no frame for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error(transparent)]
    Y4m(#[from] Y4mError),
    #[error("the program cannot be started: {error}{remedy}")]
    Start { error: io::Error, remedy: &'static str },
    #[error("the program has ended ({0})")]
    Ended(ExitStatus),
    #[error("the program has closed its standard output")]
    Closed,
    #[error("{cause}; its last words: {said}")]
    Said { cause: Box<ContentCause>, said: String },
}
