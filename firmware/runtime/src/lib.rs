//! Running int8 networks: layers as tract operators, their NNEF form, compiled programs, heads,
//! compute threads.
//!
//! The host tools and the board use this crate alike, so what was measured on the host is,
//! bit for bit, what the board computes.
//!
//! ```
//! use std::path::Path;
//!
//! use resight_imaging::{ImageView, RgbImage};
//! use resight_runtime::{Classifier, Model, RuntimeError, Target, ThreadSettings};
//!
//! fn main() -> Result<(), RuntimeError> {
//!     // The network of marker cards that comes with resight.
//!     let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/markers/markers.resight.tar");
//!     let model = Model::load(&file)?;
//!
//!     // Asked once: the kernels of this CPU, or those that RESIGHT_ISA names.
//!     let target = Target::of_this_machine()?;
//!     let mut classifier = Classifier::new(&model, &target, ThreadSettings::default())?;
//!     // This machine computes what the model file says, bit for bit.
//!     classifier.self_test(&model)?;
//!
//!     // A camera's frame, an image file (`resight_imaging::decode`), or a wall:
//!     let image = RgbImage::from_pixel(640, 480, [120, 130, 140].into());
//!     let head = classifier.head();
//!     let logits = classifier.classify(&ImageView::of(&image)?)?;
//!     let best = head.predictions(logits, 1)[0];
//!     assert_eq!(model.labels().name(best.class), Some("nothing"));
//!     assert!(best.probability > 0.9);
//!     Ok(())
//! }
//! ```

#![allow(
    clippy::inline_always,
    reason = "loops must be compiled inside of the function that enables their instructions"
)]

mod arena;
mod bands;
mod caches;
mod classifier;
mod direction;
mod embedder;
mod error;
mod fixed_point;
mod heads;
mod joins;
mod layer;
pub mod layers;
mod locator;
mod model;
pub mod nnef;
mod part;
mod plan;
mod program;
mod quantisation;
mod target;
mod tensors;
mod threads;
mod tiles;
mod wiring;

pub use classifier::Classifier;
pub use direction::{cosine, normalise};
pub use embedder::Embedder;
pub use error::{ModelCause, RuntimeError};
pub use heads::{
    AnomalousArea, Bounds, BoxHead, Classes, Detection, Detections, Embedding, Head, HeadError, Inspection,
    MaskHead, Point, PointHead, Points, Prediction, predictions, sigmoid, softmax, top_k,
};
pub use layer::{Description, Layer, PackedLayer, one_input, two_inputs};
pub use layers::Layers;
pub use locator::{Found, Locator};
pub use model::{Model, ModelParts};
pub use plan::plan;
pub use program::{Outputs, Program, StepInfo};
pub use quantisation::Quantisation;
pub use resight_kernels::{CacheSizes, Isa, Parallel, Sequential};
pub use target::{ISA_VARIABLE, Target, isa_from_environment};
pub use tensors::{Element, Inputs, Output, TensorFact, TensorView, Value};
pub use threads::{ThreadError, ThreadPool, ThreadSettings};
pub use tiles::{TiledBoxes, Tiling};

/// What a layer outside of this crate is written with: tract's types and functions.
pub mod tract {
    #[doc(hidden)]
    pub use crate::layer::{cost, evaluate, output_facts, state};
    pub use tract_nnef::ast::Parameter;
    pub use tract_nnef::internal::*;
    pub use tract_nnef::ser::{array, ints};
}
