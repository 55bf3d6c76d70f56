//! Networks from the web: recipes that say where they lie, and a download that trusts no server.

pub mod download;
mod error;
pub mod recipe;
mod recipe_cause;

pub use download::{Event, Outcome, Settings, download};
pub use error::FetchError;
pub use recipe::{Loaded, Recipe};
pub use recipe_cause::RecipeCause;
