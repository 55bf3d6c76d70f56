//! Why something cannot be taught.

use resight_runtime::RuntimeError;

/// Why something cannot be taught.
#[derive(Debug, thiserror::Error)]
pub enum TeachError {
    /// A network that has no features to learn from.
    #[error("{name}: {cause}")]
    Backbone {
        /// The network's name.
        name: String,
        /// What it lacks, and what to do.
        cause: String,
    },
    /// Too few photographs or classes.
    #[error("{0}")]
    Photographs(String),
    /// The network itself.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}
