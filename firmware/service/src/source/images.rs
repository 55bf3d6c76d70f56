//! Pictures as a source: those of a folder, or those that a folder gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use resight_imaging::{
    Colours, MAX_FRAME_PIXELS, Photograph, PixelFormat, image_files, read_photograph_up_to,
};

use super::cause::ContentCause;
use super::pace::Pace;
use super::settings::SourceConfig;
use super::watched::Watched;
use crate::frame::{Frame, Next, Source, SourceError};

/// PNG and JPEG files.
pub(super) struct Images {
    path: String,
    files: Vec<PathBuf>,
    position: usize,
    repeat: bool,
    pace: Pace,
    /// Whether any could be decoded since the last start: rubbish alone must not spin.
    seen: bool,
}

impl Images {
    pub(super) fn open(config: &SourceConfig) -> Result<Self, SourceError> {
        let refuse = |cause: ContentCause| SourceError::Content { path: config.path.clone(), cause };
        let files = if fs::metadata(&config.path).is_ok_and(|metadata| metadata.is_dir()) {
            // The message names the folder already.
            image_files(config.path.as_ref()).map_err(|error| refuse(error.into()))?
        } else {
            let paths = glob::glob(&config.path).map_err(|error| refuse(error.into()))?;
            paths.filter_map(Result::ok).filter(|path| path.is_file()).collect()
        };
        if files.is_empty() {
            return Err(refuse(ContentCause::NoFile));
        }
        Ok(Self {
            path: config.path.clone(),
            files,
            position: 0,
            repeat: config.repeat,
            pace: Pace::new(config.rate),
            seen: false,
        })
    }
}

impl Source for Images {
    fn next(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError> {
        if self.position == self.files.len() {
            if !self.repeat {
                return Ok(Next::End);
            }
            if !std::mem::take(&mut self.seen) {
                let cause = ContentCause::NoImage;
                return Err(SourceError::Content { path: self.path.clone(), cause });
            }
            self.position = 0;
        }
        if !self.pace.reached(wait) {
            return Ok(Next::Nothing);
        }
        self.position += 1;
        let next = read(&self.files[self.position - 1], frame);
        self.seen |= next == Next::Frame;
        Ok(next)
    }
}

/// Reads a picture into a frame.
fn read(file: &Path, frame: &mut Frame) -> Next {
    let Photograph { image, treatment } = match read_photograph_up_to(file, MAX_FRAME_PIXELS) {
        Ok(photograph) => photograph,
        Err(error) => return Next::Corrupt(error.to_string()),
    };
    let treatment = treatment.to_string();
    if !treatment.is_empty() {
        log::info!("{}: {treatment}", file.display());
    }
    let (width, height) = image.dimensions();
    frame.fill(&[], (PixelFormat::Rgb24, Colours::default()), (width, height, width * 3));
    frame.bytes = image.into_raw();
    frame.arrival = Instant::now();
    Next::Frame
}

/// The pictures that a folder gets.
pub(super) struct NewImages {
    path: String,
    watched: Watched,
}

impl NewImages {
    pub(super) fn open(config: &SourceConfig) -> Result<Self, SourceError> {
        let path = config.path.clone();
        match Watched::open(path.as_ref()) {
            Ok(watched) => Ok(Self { path, watched }),
            Err(cause) => Err(SourceError::File { path, action: "watch", cause }),
        }
    }
}

impl Source for NewImages {
    fn next(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError> {
        match self.watched.next(wait) {
            Ok(None) => Ok(Next::Nothing),
            Ok(Some(file)) => Ok(read(&file, frame)),
            Err(cause) => Err(SourceError::File { path: self.path.clone(), action: "watch", cause }),
        }
    }

    fn dropped(&mut self) -> u64 {
        self.watched.dropped()
    }
}
