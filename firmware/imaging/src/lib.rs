//! From the bytes of a camera or an image file to the input of a network.
//!
//! Formats of cameras ([`ImageView`]), JPEG frames ([`FrameDecoder`]), image files ([`decode`]),
//! and resizing, cropping and normalising as torchvision does it ([`Preprocessor`]), byte for
//! byte the same on every machine.

mod bands;
mod bayer;
mod channels;
mod colours;
mod error;
mod fit;
mod folders;
mod interlaced;
mod interpolation;
mod jpeg;
mod limits;
pub mod markers;
mod orientation;
mod photograph;
mod pixels;
mod preprocessing;
mod profile;
mod rectangle;
mod region;
mod resize;
mod scan;

pub use bayer::{BayerDepth, BayerOrder};
pub use channels::Channels;
pub use colours::{Colours, Matrix, Range};
pub use error::{ImageCause, ImagingError, UnknownName};
pub use fit::Fit;
pub use folders::{ImageFolder, check_folder, image_files, is_image_name};
pub use image::RgbImage;
pub use interlaced::Fields;
pub use interpolation::Interpolation;
pub use jpeg::{FrameDecoder, with_huffman_tables};
pub use limits::{MAX_FRAME_PIXELS, MAX_IMAGE_SIDE, MAX_INPUT_SIDE, MAX_STRIDE};
pub use orientation::{Orientation, Rotation};
pub use photograph::{
    ColourProfile, Photograph, Treatment, TreatmentCounts, decode, decode_bytes, decode_photograph,
    read_photograph, read_photograph_up_to,
};
pub use pixels::{ImageView, PixelFormat};
pub use preprocessing::{InputTable, Placement, Preprocessing, Preprocessor};
pub use rectangle::{Rectangle, clipped, within};
pub use region::Region;
pub use scan::IncompleteScan;
