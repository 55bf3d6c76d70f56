//! Why no preprocessing could be found.

use std::path::PathBuf;

use resight_imaging::{Channels, ImagingError};

/// What to do about a kernel that is not known.
const CHOOSE: &str = "and bicubic is nearest to lanczos and hamming: write that";

/// Why the preprocessing of a network is unknown or unusable.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// A file of preprocessing cannot be used.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: FileCause,
    },
    /// The network cannot be given this.
    #[error("preprocessing from {origin}: {cause}")]
    Unfit {
        /// Where it came from.
        origin: String,
        /// Why not.
        cause: UnfitCause,
    },
}

/// Why a network cannot be given what it is said to be given.
#[derive(Debug, thiserror::Error)]
pub enum UnfitCause {
    /// Pictures have another number of channels than the network takes.
    #[error("the network takes {expected} channels, `{}` pictures have {}", .found.name(), .found.count())]
    ChannelCount {
        /// How many the network takes.
        expected: usize,
        /// What pictures have.
        found: Channels,
    },
    /// The network takes its channels in an order that no picture has.
    #[error("the network takes its input's channels in the order {0:?}; only red and blue can be exchanged")]
    ChannelOrder(Vec<usize>),
    /// A number is out of its range.
    #[error(transparent)]
    Values(#[from] ImagingError),
}

/// What is wrong with a file that should say what a network is given.
#[derive(Debug, thiserror::Error)]
pub enum FileCause {
    /// There is no such file, and it is no name either.
    #[error("neither a file nor one of {}", .names.join(", "))]
    NoFile {
        /// The names that there are.
        names: Vec<&'static str>,
    },
    /// The operating system refused.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// It is too large.
    #[error("it has more than {most} bytes; it is no description of preprocessing")]
    Size {
        /// The most bytes that are read.
        most: u64,
    },
    /// It is something else.
    #[error("it is no JSON: {0}")]
    NoJson(serde_json::Error),
    /// It has none of the formats that are known.
    #[error(
        "it holds neither `image_mean` (transformers), `pretrained_cfg` (timm) nor `resize_shorter` and `mean` \
         (preprocessing.json); name one of those files, or give --mean, --std and --scale"
    )]
    UnknownFormat,
    /// A value is of another type, or missing.
    #[error(transparent)]
    Json(serde_json::Error),
    /// A number is out of its range.
    #[error(transparent)]
    Values(#[from] ImagingError),
    /// A value is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A value has another number of numbers than there are channels.
    #[error("`{key}` has {found} values, not 1 or 3")]
    Count {
        /// Its name.
        key: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A crop would be larger than its picture, or far smaller.
    #[error("`{key}` makes a crop of {crop} of a picture of {resized}")]
    Crop {
        /// The value that says so.
        key: &'static str,
        /// The side of the crop, in the unit of `resized`.
        crop: f64,
        /// The side of the picture.
        resized: f64,
    },
    /// A way of cropping that is not known.
    #[error("`crop_mode` is {0:?}; center, squash and border are known")]
    CropMode(String),
    /// A kernel that is not known, of timm.
    #[error("`interpolation` is {0:?}; bilinear, bicubic and box are known, {CHOOSE}")]
    Interpolation(String),
    /// A kernel that is not known, by Pillow's number.
    #[error(
        "`resample` is {0}; of Pillow's numbers 2 (bilinear), 3 (bicubic) and 4 (box) are known, {CHOOSE}"
    )]
    Resample(i64),
}
