//! What can be wrong with the header of a Y4M stream.

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
