//! int8 residual networks: tract operators, model file, preprocessing, execution.
//!
//! The host tools and the board use this crate alike, so what was measured on the host is,
//! bit for bit, what the board computes.

mod archive;
mod bayer;
mod caches;
mod classes;
mod error;
mod graph_text;
mod jpeg;
mod labels;
mod model;
pub mod nnef;
pub mod operators;
mod pixels;
mod preprocessing;
mod program;
mod resize;
mod signature;
mod threads;

use std::env;

pub use archive::{
    Archive, ArchiveBuilder, Calibration, FORMAT_VERSION, FileFormat, GRAPH, Golden, Manifest, MemberInfo,
    Provenance, sha256_of_file, sha256_of_image_files, write_atomically,
};
pub use bayer::{BayerDepth, BayerOrder};
pub use caches::cache_sizes;
pub use classes::{Prediction, predictions, softmax, top_k};
pub use error::NetworkError;
pub use jpeg::{FrameDecoder, with_huffman_tables};
pub use labels::{LabelledImage, Labels, image_files, labelled_images};
pub use model::{Classifier, Model, ModelParts};
pub use pixels::{Colours, ImageView, MAX_STRIDE, Matrix, PixelFormat, Range, Region};
pub use preprocessing::{
    InputTable, MAX_IMAGE_SIDE, MAX_INPUT_SIDE, Orientation, Preprocessing, Preprocessor, RgbImage, Rotation,
    decode, decode_bytes,
};
pub use program::{Program, StepInfo};
pub use resight_kernels::{CacheSizes, Isa};
pub use signature::{PrivateKey, PublicKey, Signature, signature_path};
pub use threads::{ThreadError, ThreadPool, ThreadSettings};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "RESIGHT_ISA";

/// The instruction set that `RESIGHT_ISA` names, or the best one of this CPU.
///
/// # Errors
/// A name that is unknown or that this CPU cannot run; there is no silent fallback.
pub fn isa_from_environment() -> Result<Isa, NetworkError> {
    let name = env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty());
    Ok(Isa::select(name.as_deref())?)
}
