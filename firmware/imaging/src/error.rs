//! Everything that can go wrong with an image.

use resight_base::files::FileError;

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
        cause: String,
    },
    /// Preprocessing was given something that it cannot hold.
    #[error("preprocessing: {0}")]
    Preprocessing(String),
}
