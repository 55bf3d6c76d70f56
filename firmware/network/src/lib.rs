//! int8 residual networks as tract operators.

mod archive;
mod classes;
mod error;
mod labels;
mod preprocessing;
mod resize;

pub use archive::{
    Archive, ArchiveBuilder, Calibration, FORMAT_VERSION, GRAPH, Golden, Manifest, MemberInfo, Provenance,
    sha256_of_file, sha256_of_image_files, write_atomically,
};
pub use classes::{Prediction, predictions, softmax, top_k};
pub use error::NetworkError;
pub use labels::{LabelledImage, Labels, image_files, labelled_images};
pub use preprocessing::{
    InputTable, MAX_IMAGE_SIDE, MAX_INPUT_SIDE, Preprocessing, Preprocessor, RgbImage, RgbView, decode,
    decode_bytes,
};
