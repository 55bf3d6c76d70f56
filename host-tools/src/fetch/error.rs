//! Why a network cannot be fetched.

use std::path::PathBuf;

use super::recipe_cause::RecipeCause;

/// Why a network could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No recipe has that name.
    #[error("{name}: no such recipe; there are {known}, and a path to a .toml file works too")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All that exist.
        known: String,
    },
    /// A file is not a recipe.
    #[error("{path}: not a recipe that can be used: {cause}", path = path.display())]
    Recipe {
        /// The recipe.
        path: PathBuf,
        /// What is wrong.
        cause: RecipeCause,
    },
    /// A file here cannot be read or written.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Local {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `write` and the like.
        action: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another file has the name.
    #[error(
        "{path}: another file is there ({cause}); move it away, or choose another folder with --output",
        path = path.display()
    )]
    Occupied {
        /// The file.
        path: PathBuf,
        /// How it differs.
        cause: String,
    },
    /// Another process is downloading the same file.
    #[error("{path}: another `resight fetch` is writing it; wait for it, or choose another folder with --output", path = path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
    /// No source delivered the file.
    #[error(
        "{file}: could not be fetched. {causes}. {kept}Try again later, name a copy with --mirror, or put the file \
         there by other means and run this again, which checks it",
        file = file.display()
    )]
    Sources {
        /// The file that was to be written.
        file: PathBuf,
        /// Each address with its cause.
        causes: String,
        /// What is left for the next try, or nothing.
        kept: String,
    },
}
