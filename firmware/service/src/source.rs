//! Where frames come from.

pub(crate) mod cause;
mod command;
mod images;
mod mjpeg;
mod pace;
mod piece;
mod reading;
mod said;
mod settings;
mod stream;
mod video;
mod watched;
mod y4m;
mod y4m_error;

pub(crate) use self::cause::ContentCause;
use self::command::Program;
pub(crate) use self::command::missing_program;
use self::images::{Images, NewImages};
pub(crate) use self::settings::{CommandConfig, MAX_FRAME, SourceConfig, SourceKind, StreamFormat};
use self::stream::{Stream, StreamKind};
use self::video::Video;
use crate::camera::{Camera, Wanted};
use crate::frame::{Source, SourceError};

/// Opens a source. A camera is asked for frames that hold what is wanted. `live` is set when frames come on their own and must not be waited for.
///
/// # Errors
/// A file or camera that is missing or not what the configuration says, a program that cannot be started.
pub(crate) fn open(config: &SourceConfig, wanted: Wanted) -> Result<(Box<dyn Source>, bool), SourceError> {
    match &config.kind {
        SourceKind::Camera(camera) => Ok((Box::new(Camera::open(camera, wanted)?), true)),
        // Each picture is waited for: they come seldom, and none may be missed.
        SourceKind::Images { watch: true } => Ok((Box::new(NewImages::open(config)?), false)),
        SourceKind::Images { watch: false } => Ok((Box::new(Images::open(config)?), config.rate.is_some())),
        SourceKind::Stream(format) => {
            let stream = Stream::open(config)?;
            let is_file = stream.kind() == StreamKind::File;
            if config.rate.is_some() && !is_file {
                return Err(SourceError::Content { path: config.path.clone(), cause: ContentCause::Rate });
            }
            let live = !is_file || config.rate.is_some();
            Ok((Box::new(Video::new(stream, *format, config.rate, None)), live))
        }
        SourceKind::Command(command) => {
            let stream = Stream::of(Program::start(&config.path, &command.arguments)?);
            Ok((Box::new(Video::new(stream, command.format, None, Some(command.silence))), true))
        }
    }
}

#[cfg(test)]
#[path = "source/tests.rs"]
mod tests;
