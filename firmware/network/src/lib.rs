//! int8 residual networks as tract operators.

mod classes;
mod error;
mod preprocessing;
mod resize;

pub use classes::{Prediction, predictions, softmax, top_k};
pub use error::NetworkError;
pub use preprocessing::{
    InputTable, MAX_IMAGE_SIDE, MAX_INPUT_SIDE, Preprocessing, Preprocessor, RgbImage, RgbView, decode,
    decode_bytes,
};
