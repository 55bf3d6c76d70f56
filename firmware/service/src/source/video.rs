//! Frames out of a stream of bytes.

use std::time::{Duration, Instant};

use resight_imaging::{Colours, PixelFormat};

use super::cause::ContentCause;
use super::mjpeg::{is_between, jpeg_piece};
use super::pace::Pace;
use super::piece::Piece;
use super::reading::More;
use super::settings::{MAX_FRAME, StreamFormat};
use super::stream::{Stream, StreamKind};
use super::y4m::{Y4mHeader, y4m_piece};
use super::y4m_error::Y4mError;
use crate::frame::{Frame, FrameFormat, Next, Source, SourceError};

enum Layout {
    /// How far the bytes of the next image were looked at.
    Mjpeg(usize),
    Y4m(Option<Y4mHeader>),
    Raw {
        format: PixelFormat,
        width: u32,
        height: u32,
        stride: u32,
        bytes: usize,
    },
}

impl Layout {
    fn new(format: StreamFormat) -> Self {
        match format {
            StreamFormat::Mjpeg => Self::Mjpeg(0),
            StreamFormat::Y4m => Self::Y4m(None),
            StreamFormat::Raw { format, width, height, stride } => {
                Self::Raw { format, width, height, stride, bytes: format.frame_bytes(height, stride) }
            }
        }
    }
}

/// See the module.
pub(super) struct Video {
    stream: Stream,
    layout: Layout,
    pace: Pace,
    /// Whether any frame was seen since the last start: an empty file must not spin.
    seen: bool,
    /// Whether it was said that frames are interlaced.
    told: bool,
    /// Without a frame for so long, it is of no use.
    silence: Option<Duration>,
    /// When the last frame came, or when it was opened.
    last: Instant,
}

impl Source for Video {
    fn next(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError> {
        let next = self.look(frame, wait)?;
        if let Some(silence) = self.silence {
            if next == Next::Frame {
                self.last = frame.arrival;
            } else if self.last.elapsed() > silence {
                return Err(self.stream.silent(silence));
            }
        }
        Ok(next)
    }
}

impl Video {
    pub(super) fn new(
        stream: Stream,
        format: StreamFormat,
        rate: Option<f64>,
        silence: Option<Duration>,
    ) -> Self {
        Self {
            stream,
            layout: Layout::new(format),
            pace: Pace::new(rate),
            seen: false,
            told: false,
            silence,
            last: Instant::now(),
        }
    }

    /// Looks for a frame.
    fn look(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError> {
        let deadline = Instant::now() + wait;
        let mut has_read = false;
        loop {
            match self.piece()? {
                Piece::Between(bytes) => self.stream.take(bytes),
                Piece::Frame(range, whole) => {
                    if !self.pace.reached(deadline.saturating_duration_since(Instant::now())) {
                        return Ok(Next::Nothing);
                    }
                    frame.arrival = Instant::now();
                    self.copy(range, frame);
                    self.stream.take(whole);
                    self.seen = true;
                    return Ok(Next::Frame);
                }
                Piece::Rubbish(bytes) => {
                    self.stream.take(bytes);
                    // It may have grown far beyond what frames need.
                    self.stream.shrink();
                    return Ok(Next::Corrupt(format!(
                        "{}: {bytes} bytes belong to no frame",
                        self.stream.path()
                    )));
                }
                // Even while bytes come: a frame that never ends must not keep us here.
                Piece::More if has_read && Instant::now() >= deadline => return Ok(Next::Nothing),
                Piece::More => match self.stream.more(deadline)? {
                    More::Bytes(_) => has_read = true,
                    More::Nothing if Instant::now() < deadline => {}
                    More::Nothing => return Ok(Next::Nothing),
                    More::End => {
                        if let Some(next) = self.end(frame, deadline)? {
                            return Ok(next);
                        }
                    }
                },
            }
        }
    }

    /// At the end of the bytes; `None` if they begin again.
    fn end(&mut self, frame: &mut Frame, deadline: Instant) -> Result<Option<Next>, SourceError> {
        // What is left is taken next, or the end is seen again.
        if let Some(rest) = self.last_image() {
            frame.arrival = Instant::now();
            self.copy(0..rest, frame);
            self.stream.take(rest);
            self.seen = true;
            return Ok(Some(Next::Frame));
        }
        let rest = if self.ends_well() { 0 } else { self.stream.bytes().len() };
        if !self.stream.restart()? {
            return Ok(Some(if rest > 0 { self.cut_off(rest) } else { Next::End }));
        }
        match &mut self.layout {
            Layout::Mjpeg(seen) => *seen = 0,
            Layout::Y4m(header) => *header = None,
            Layout::Raw { .. } => {}
        }
        if self.stream.kind() == StreamKind::File && !std::mem::take(&mut self.seen) {
            let cause = ContentCause::NoFrame;
            return Err(SourceError::Content { path: self.stream.path().to_owned(), cause });
        }
        if rest > 0 {
            return Ok(Some(self.cut_off(rest)));
        }
        if self.stream.kind() == StreamKind::Fifo {
            // Some kernels report the end again at once until there is a writer.
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(10)));
            return Ok(Some(Next::Nothing));
        }
        Ok(None)
    }

    /// The length of an image at the end that lacks its end: whether its scan is whole, the decoder
    /// sees. Some cameras never write an end of image.
    fn last_image(&self) -> Option<usize> {
        let bytes = self.stream.bytes();
        let is_image = matches!(self.layout, Layout::Mjpeg(_)) && bytes.starts_with(&[0xff, 0xd8, 0xff]);
        is_image.then_some(bytes.len())
    }

    /// Whether what is left at the end is no part of a frame.
    fn ends_well(&self) -> bool {
        matches!(self.layout, Layout::Mjpeg(_)) && is_between(self.stream.bytes())
    }

    fn cut_off(&self, bytes: usize) -> Next {
        Next::Corrupt(format!("{}: the last frame is cut off after {bytes} bytes", self.stream.path()))
    }

    fn piece(&mut self) -> Result<Piece, SourceError> {
        let refuse = |cause: Y4mError| SourceError::Content {
            path: self.stream.path().to_owned(),
            cause: cause.into(),
        };
        let bytes = self.stream.bytes();
        let piece = match &mut self.layout {
            Layout::Mjpeg(seen) => {
                let piece = jpeg_piece(bytes, seen);
                if piece != Piece::More || bytes.len() > MAX_FRAME {
                    *seen = 0;
                }
                piece
            }
            Layout::Raw { bytes: needed, .. } if bytes.len() >= *needed => Piece::Frame(0..*needed, *needed),
            Layout::Raw { .. } => return Ok(Piece::More),
            Layout::Y4m(header) => {
                let is_pipe = self.stream.kind() != StreamKind::File;
                y4m_piece(bytes, header, is_pipe).map_err(refuse)?
            }
        };
        if piece == Piece::More && self.stream.bytes().len() > MAX_FRAME {
            return Ok(Piece::Rubbish(self.stream.bytes().len()));
        }
        Ok(piece)
    }

    fn copy(&mut self, range: std::ops::Range<usize>, frame: &mut Frame) {
        let bytes = &self.stream.bytes()[range];
        match &self.layout {
            // There is no piece before the header.
            Layout::Mjpeg(_) | Layout::Y4m(None) => {
                frame.bytes.clear();
                frame.bytes.extend_from_slice(bytes);
                frame.format = FrameFormat::Jpeg;
                (frame.width, frame.height, frame.stride) = (0, 0, 0);
            }
            Layout::Y4m(Some(header)) => {
                let (width, height) = (header.width, header.height);
                let Some(fields) = header.fields else {
                    frame.fill(bytes, (header.format, header.colours), (width, height, width));
                    return;
                };
                frame.fill(&[], (header.format, header.colours), (width, fields.height(height), width));
                fields.first(bytes, header.format, height, width, &mut frame.bytes);
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!(
                        "{}: interlaced: of each frame one of the two half pictures is used",
                        self.stream.path()
                    );
                }
            }
            &Layout::Raw { format, width, height, stride, .. } => {
                frame.fill(bytes, (format, Colours::default()), (width, height, stride));
            }
        }
    }
}
