//! From the bytes of a camera or an image file to the input of a network.
//!
//! Formats of cameras ([`ImageView`]), JPEG frames ([`FrameDecoder`]), image files ([`decode`]),
//! and resizing, cropping and normalising as torchvision does it ([`Preprocessor`]), byte for
//! byte the same on every machine.

mod bayer;
mod channels;
mod error;
mod files;
mod fit;
mod jpeg;
mod limits;
mod orientation;
mod pixels;
mod preprocessing;
mod resize;

pub use bayer::{BayerDepth, BayerOrder};
pub use channels::Channels;
pub use error::ImagingError;
pub use files::{check_folder, decode, decode_bytes, image_files, is_image_name};
pub use fit::Fit;
pub use image::RgbImage;
pub use jpeg::{FrameDecoder, with_huffman_tables};
pub use limits::{MAX_IMAGE_SIDE, MAX_INPUT_SIDE, MAX_STRIDE};
pub use orientation::{Orientation, Rotation};
pub use pixels::{Colours, ImageView, Matrix, PixelFormat, Range, Region};
pub use preprocessing::{InputTable, Preprocessing, Preprocessor};
