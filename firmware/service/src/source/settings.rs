//! What is configured of a source.

use resight_imaging::PixelFormat;

use crate::camera::CameraConfig;

/// Largest frame of a stream, in bytes.
pub(crate) const MAX_FRAME: usize = 64 << 20;

/// Where frames come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceConfig {
    pub(crate) kind: SourceKind,
    /// A file, folder, glob or FIFO; `-` is standard input. Of a camera, its device.
    pub(crate) path: String,
    /// Whether a file or a folder starts again at its end.
    pub(crate) repeat: bool,
    /// Frames per second of a file or a folder; without it each waits for the one before.
    pub(crate) rate: Option<f64>,
}

/// How frames are stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceKind {
    Camera(CameraConfig),
    /// Those of a folder or glob, or those that a folder gets from now on.
    Images {
        watch: bool,
    },
    Mjpeg,
    Y4m,
    Raw {
        format: PixelFormat,
        width: u32,
        height: u32,
        stride: u32,
    },
}

impl SourceConfig {
    /// Whether it may be missing at the start and come later.
    pub(crate) fn may_come_later(&self) -> bool {
        matches!(self.kind, SourceKind::Camera(_))
    }
}
