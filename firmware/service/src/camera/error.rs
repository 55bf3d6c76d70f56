//! Why a camera cannot be used.

use std::io;

use super::choice::ChoiceError;
use super::controls::ControlFault;
use super::ring::RingError;

/// Why a camera cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{device}: {cause}; {remedy}")]
pub(crate) struct CameraError {
    pub(crate) device: String,
    pub(crate) cause: CameraCause,
    pub(crate) remedy: String,
}

/// Why a camera cannot be used. Sizes are width and height, in pixels.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CameraCause {
    #[error("no such device")]
    Gone,
    #[error("permission denied")]
    Permission,
    /// By whom, as far as it can be seen.
    #[error("in use by {}", holders(.0))]
    Busy(Vec<String>),
    #[error("not a V4L2 device")]
    NoCamera,
    #[error("the USB bus has no bandwidth left for it")]
    Bandwidth,
    #[error("cannot {action}: the sensor is not connected to it ({error})")]
    Unconnected { action: &'static str, error: io::Error },
    #[error("cannot {action}: {error}")]
    System { action: &'static str, error: io::Error },
    #[error("there is no camera")]
    None,
    /// Why each does not; whether there are others that were not tried.
    #[error("no camera gives frames: {}{}", list(.refused), if *.others { "; the others have their turn next" } else { "" })]
    NoFrames { refused: Vec<CameraError>, others: bool },
    #[error("it gives {found} instead of {expected}")]
    Format { found: String, expected: String },
    #[error("it gives {}x{} instead of {}x{}", .found.0, .found.1, .expected.0, .expected.1)]
    Size { found: (u32, u32), expected: (u32, u32) },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("{card} ({driver}) gives no frames")]
    NoCapture { card: String, driver: String },
    #[error("{driver} brings in what the bridge {bridge} is sent")]
    Bridge { driver: String, bridge: String },
    #[error("{driver} gives the raw data of a sensor only")]
    Sensor { driver: String },
    #[error("this camera gives compressed video ({0}) only, no pictures")]
    Video(&'static str),
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    #[error("{}", list(.0))]
    Controls(Vec<ControlFault>),
    #[error("control {name} cannot be set to {value}: {error}")]
    Control { name: String, value: i64, error: io::Error },
    #[error(transparent)]
    Ring(RingError),
}

fn holders(found: &[String]) -> String {
    if found.is_empty() { "another program".into() } else { found.join(" and ") }
}

fn list(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A format of a driver that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("{format} comes in {found} buffers")]
    Buffers { format: String, found: usize },
    /// Bytes of a row, and its pixels.
    #[error("rows of {found} bytes for {width} pixels")]
    Row { found: u32, width: u32 },
    /// Bytes of a row.
    #[error("rows of {found} bytes in a plane that needs {expected}")]
    PlaneRow { found: usize, expected: usize },
}
