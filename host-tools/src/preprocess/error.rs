//! Why no preprocessing could be found.

use std::path::PathBuf;

/// Why the preprocessing of a network is unknown or unusable.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// A file of preprocessing cannot be used.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The network cannot be given this.
    #[error("preprocessing from {origin}: {cause}")]
    Unfit {
        /// Where it came from.
        origin: String,
        /// Why not.
        cause: String,
    },
}
