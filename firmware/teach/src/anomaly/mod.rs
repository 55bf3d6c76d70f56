//! What is typical of pictures of good parts, so that a board sees where another one is not.
//!
//! 1. [`Patches`] keeps the part of a network that gives the features of middle stages, averaged over
//!    neighbouring places and side by side.
//! 2. [`Components`] makes few numbers of them, in 8 bits.
//! 3. What is typical of them is found [by place](Places), for parts that lie alike in all pictures, or
//!    as a [memory](Coreset) of patches that may be anywhere.
//! 4. [`inspect`] does it all, finds the threshold from pictures that it did not learn from, and
//!    [`inspection`] makes the network.

mod components;
mod coreset;
mod graph;
mod learn;
mod patches;
mod places;

pub use components::{COMPONENTS, Components};
pub use coreset::Coreset;
pub use graph::{inspection, inspection_golden};
pub use learn::{
    ANOMALY, Comparison, DefectFigures, GOOD, Inspected, InspectionFigures, InspectionLesson,
    InspectionSettings, LEAST_GOOD, Typical, inspect,
};
pub use patches::{PatchExtractor, Patches};
pub use places::Places;
