//! What can be wrong with what a source gives.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use resight_imaging::ImagingError;

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

/// Why bytes begin no Y4M stream that can be read. Sizes are in pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Y4mError {
    /// Bytes that were searched for the end of the header.
    #[error("not Y4M: a header of over {0} bytes")]
    LongHeader(usize),
    #[error("not Y4M: its header is no text")]
    NoText,
    #[error("not Y4M: it does not begin with YUV4MPEG2")]
    OtherBegin,
    #[error("width `{0}`")]
    Width(String),
    #[error("height `{0}`")]
    Height(String),
    #[error("Y4M colours `{0}`; expected 420, 422, 444 or mono with 8 bits")]
    Colours(String),
    #[error("Y4M frames of {width} x {height}")]
    Size { width: u32, height: u32 },
    /// Bytes of a frame.
    #[error("Y4M frames of {found} bytes; up to {most} can be read")]
    FrameSize { found: usize, most: usize },
}
