//! A frame, and what gives frames: below every source and whoever uses one.

use std::io;
use std::time::{Duration, Instant};

use resight_imaging::{Colours, FrameDecoder, ImageView, ImagingError, PixelFormat};

use crate::camera::error::CameraError;
use crate::source::cause::ContentCause;

/// How the bytes of a frame make an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameFormat {
    Jpeg,
    Pixels(PixelFormat, Colours),
}

/// An image as its source gave it. It is decoded where it is used, and only then.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Planes one after another, or a JPEG image.
    pub(crate) bytes: Vec<u8>,
    pub(crate) format: FrameFormat,
    /// In pixels; of a JPEG image, its own header counts, and zero is unknown.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Bytes of a row of the first plane.
    pub(crate) stride: u32,
    /// Counted from 1.
    pub(crate) number: u64,
    /// When it was taken, or its last byte read.
    pub(crate) arrival: Instant,
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![],
            format: FrameFormat::Pixels(PixelFormat::Rgb24, Colours::default()),
            width: 0,
            height: 0,
            stride: 0,
            number: 0,
            arrival: Instant::now(),
        }
    }

    /// The image.
    ///
    /// # Errors
    /// Bytes that make none.
    pub(crate) fn image<'a>(&'a self, decoder: &'a mut FrameDecoder) -> Result<ImageView<'a>, ImagingError> {
        match self.format {
            FrameFormat::Jpeg => {
                // Cameras round sizes, but not by so much.
                let agreed = 2 * u64::from(self.width) * u64::from(self.height);
                decoder.decode("JPEG frame", &self.bytes, if agreed == 0 { u64::MAX } else { agreed })
            }
            FrameFormat::Pixels(format, colours) => {
                ImageView::new(&self.bytes, format, colours, [self.height, self.width], self.stride)
            }
        }
    }

    /// Takes over pixels.
    pub(crate) fn fill(
        &mut self,
        bytes: &[u8],
        (format, colours): (PixelFormat, Colours),
        (width, height, stride): (u32, u32, u32),
    ) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.format = FrameFormat::Pixels(format, colours);
        (self.width, self.height, self.stride) = (width, height, stride);
    }
}

/// What a source has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A frame was written.
    Frame,
    /// Nothing within the time given.
    Nothing,
    /// A frame that cannot be used, and why.
    Corrupt(String),
    /// There will be no more.
    End,
}

/// Frames, one after another.
pub(crate) trait Source: Send {
    /// Writes the next frame's pixels and size. Returns after `wait`, a little more at most.
    ///
    /// # Errors
    /// What makes the source useless; it is opened again then.
    fn next(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError>;

    /// Frames that were lost before they came here, since the last call.
    fn dropped(&mut self) -> u64 {
        0
    }
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{path}: cannot {action} the source: {cause}")]
    File { path: String, action: &'static str, cause: io::Error },
    #[error("{path}: {cause}")]
    Content { path: String, cause: ContentCause },
    #[error(transparent)]
    Camera(#[from] CameraError),
}
