//! Everything that can go wrong with an image.

use resight_base::files::FileError;

use crate::scan::IncompleteScan;

/// An error of this crate. The message is one line and names the file, the cause and, where
/// there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagingError {
    /// A file or folder cannot be read, or is none.
    #[error(transparent)]
    File(#[from] FileError),
    /// An image cannot be decoded.
    #[error("{file}: cannot decode the image: {cause}")]
    Image {
        /// The file.
        file: String,
        /// Why.
        cause: ImageCause,
    },
    /// Preprocessing was given something that it cannot hold.
    #[error("preprocessing: {0}")]
    Preprocessing(String),
}

/// Why an image cannot be decoded. Sizes are in pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageCause {
    /// A folder where a file is expected.
    #[error("it is a folder, not a regular file; name the images in it")]
    Folder,
    /// A pipe, a socket or a device.
    #[error("not a regular file")]
    NotRegular,
    /// The file has more bytes than are read.
    #[error("the file is over {} MiB", .limit >> 20)]
    FileSize {
        /// The most that are read, in bytes.
        limit: u64,
    },
    /// The data is of another format.
    #[error("neither PNG, JPEG nor WebP{}", .found.map(|found| format!(" but {found}")).unwrap_or_default())]
    Format {
        /// What it is instead and what to do about it, where that is known.
        found: Option<&'static str>,
    },
    /// The data is no JPEG image, where only that is taken.
    #[error("not a JPEG image")]
    NotJpeg,
    /// A scan of a JPEG image is not all there.
    #[error(transparent)]
    Scan(#[from] IncompleteScan),
    /// The decoder met something that no encoder writes.
    #[error("the JPEG data is damaged or not all there ({0})")]
    Damaged(String),
    /// What the decoder says of a header, or of an image that is no JPEG.
    #[error("{0}")]
    Decoder(String),
    /// The header names no size.
    #[error("the image has no size")]
    NoSize,
    /// A side is zero.
    #[error("the image has no pixels")]
    NoPixels,
    /// The header claims more than is taken, or than the data can hold.
    #[error("its header claims {width} x {height} pixels, {most} are possible")]
    TooLarge {
        /// The width that it claims.
        width: u64,
        /// The height that it claims.
        height: u64,
        /// The most pixels that are possible.
        most: u64,
    },
}

/// A name in a command line that is none of those expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// Of [`Channels`](crate::Channels).
    #[error("`{0}` is not rgb, bgr or gray")]
    Channels(String),
    /// Of [`Fit`](crate::Fit).
    #[error("`{0}` is not crop, squash or letterbox")]
    Fit(String),
    /// Of [`Interpolation`](crate::Interpolation).
    #[error("`{found}` is not one of {}", .expected.join(", "))]
    Interpolation {
        /// What is written.
        found: String,
        /// What may be.
        expected: Vec<&'static str>,
    },
}
