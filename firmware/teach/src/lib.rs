//! Teaching an int8 network classes of its own from photographs.
//!
//! A trained network stays as it is; only its last layer is learnt anew, from the features that a
//! board will compute, the 16-bit global averages of the *int8* network, so that nothing learnt is
//! lost by quantising afterwards. No ONNX is needed, no training framework, no GPU: a board can do
//! it as well as a workstation.
//!
//! 1. [`Backbone`] cuts a network off behind its global average; [`Views`] varies photographs;
//!    [`Extractor::features`] computes their [`Features`].
//! 2. [`groups`] keeps together what is nearly the same picture.
//! 3. [`learn`] chooses the strength of regularisation by cross-validation, calibrates probabilities,
//!    finds out how well it works ([`Figures`]) and learns from all photographs.
//! 4. [`Rounded`] holds the weights in 8 bits; [`network`] makes the graph, [`golden`] its golden vectors.
//!
//! From photographs of good parts alone, [`inspect`] learns what is typical of the features of middle
//! stages, the [`Patches`]; [`inspection`] makes a network of it that says whether a picture is typical,
//! and where it is not.
//!
//! Everything follows from the photographs, the settings and their seeds: the same bits whatever the
//! threads.

mod anomaly;
mod backbone;
mod duplicates;
mod error;
mod features;
mod figures;
mod folds;
mod head;
mod learn;
mod memory;
mod random;
mod solver;
mod statistics;
mod views;

pub use anomaly::{
    ANOMALY, COMPONENTS, Comparison, Components, Coreset, DefectFigures, GOOD, Inspected, InspectionFigures,
    InspectionLesson, InspectionSettings, LEAST_GOOD, PatchExtractor, Patches, Places, Typical, inspect,
    inspection, inspection_golden,
};
pub use backbone::{Backbone, Extractor};
pub use duplicates::{REACH, SIDE, Thumbnail, groups, thumbnail};
pub use error::TeachError;
pub use features::{Features, Scaling};
pub use figures::{ClassFigures, Figures, UnknownFigures};
pub use folds::folds;
pub use head::{Rounded, UNKNOWN, golden, network};
pub use learn::{HeldOut, Learnt, Lesson, Settings, learn};
pub use memory::{Memory, NEAREST, nearest_of};
pub use random::Random;
pub use solver::{Exactness, Examples, Weights, logits};
pub use statistics::{Share, auroc, lower_quantile};
pub use views::Views;
