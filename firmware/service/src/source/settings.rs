//! What is configured of a source.

use std::time::Duration;

use resight_base::retry::Backoff;
use resight_imaging::PixelFormat;

use crate::camera::CameraConfig;

/// Largest frame of a stream, in bytes.
pub(crate) const MAX_FRAME: usize = 64 << 20;

/// Where frames come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceConfig {
    pub(crate) kind: SourceKind,
    /// A file, folder, glob or FIFO; `-` is standard input. Of a camera, its device; of a command, the
    /// program, for its arguments may hold a password.
    pub(crate) path: String,
    /// Whether a file or a folder starts again at its end.
    pub(crate) repeat: bool,
    /// Frames per second of a file or a folder; without it each waits for the one before.
    pub(crate) rate: Option<f64>,
}

/// What gives the frames.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceKind {
    Camera(CameraConfig),
    /// Those of a folder or glob, or those that a folder gets from now on.
    Images {
        watch: bool,
    },
    Stream(StreamFormat),
    Command(CommandConfig),
}

/// How frames follow each other in a stream of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StreamFormat {
    Mjpeg,
    Y4m,
    Raw { format: PixelFormat, width: u32, height: u32, stride: u32 },
}

/// A program that writes frames to its standard output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandConfig {
    /// The program, and what it is given.
    pub(crate) arguments: Vec<String>,
    pub(crate) format: StreamFormat,
    /// Without a frame for so long, it is ended and started again.
    pub(crate) silence: Duration,
}

impl SourceConfig {
    /// Whether it may be missing at the start and come later.
    pub(crate) fn may_come_later(&self) -> bool {
        matches!(self.kind, SourceKind::Camera(_) | SourceKind::Command(_))
    }

    /// Whether something has to be ended with the service.
    pub(crate) fn must_be_ended(&self) -> bool {
        matches!(self.kind, SourceKind::Command(_))
    }

    /// The pauses between two attempts to open it.
    pub(crate) fn backoff(&self) -> Backoff {
        match self.kind {
            // Each attempt is a process.
            SourceKind::Command(_) => Backoff::new(Duration::from_millis(500), Duration::from_secs(10)),
            _ => Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
        }
    }

    /// How long it must have given frames for the next pause to be the first one again.
    pub(crate) fn trial(&self) -> Duration {
        match self.kind {
            // One that ends after each frame must not be started for each.
            SourceKind::Command(_) => Duration::from_secs(10),
            _ => Duration::ZERO,
        }
    }
}
