//! One photograph to teach with.

use std::path::Path;
use std::{fs, io};

use resight_imaging::{ImagingError, RgbImage, decode_photograph};

/// Why a photograph is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum PhotographError {
    #[error("{file}: cannot read: {error}")]
    Read { file: String, error: io::Error },
    #[error(transparent)]
    Image(#[from] ImagingError),
    /// Width and height, in pixels; the network's input as height and width.
    #[error(
        "{file}: {width} x {height} pixels; the network takes {} x {}, and of a picture below {least} it sees nothing \
         but blur: give a larger one", .input[1], .input[0]
    )]
    TooSmall { file: String, width: u32, height: u32, input: [u32; 2], least: u32 },
}

/// The photograph, if it can be read and shows enough.
pub(super) fn readable(path: &Path, crop: [u32; 2]) -> Result<RgbImage, PhotographError> {
    let file = path.display().to_string();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(PhotographError::Read { file, error }),
    };
    let image = decode_photograph(&file, &bytes)?.image;
    let [width, height] = [image.width(), image.height()];
    let least = crop[0].max(crop[1]) / 4;
    if width.min(height) < least {
        return Err(PhotographError::TooSmall { file, width, height, input: crop, least });
    }
    Ok(image)
}
