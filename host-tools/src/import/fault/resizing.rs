//! `Resize` and `Upsample`.

use crate::import::names::printable;

/// Why an image cannot be resized.
#[derive(Debug, thiserror::Error)]
pub enum ResizeFault {
    #[error("it resizes by `{mode}`; only nearest and linear are supported", mode = printable(mode))]
    Mode { mode: String },
    #[error("it makes {made} channels of {channels}; only height and width can be resized")]
    Channels { made: usize, channels: usize },
    #[error("it makes the image smaller with antialias, which is not supported; use average pooling")]
    Antialias,
    #[error(
        "its coordinate_transformation_mode is `{mode}`; half_pixel, pytorch_half_pixel, align_corners and asymmetric \
         are supported",
        mode = printable(mode)
    )]
    Transformation { mode: String },
    #[error("its nearest_mode is `{mode}`, which is unknown", mode = printable(mode))]
    Nearest { mode: String },
    #[error("its sizes are no constants; export with fixed shapes and constant folding")]
    Computed,
    #[error("its sizes are not from 1 to 65536; export with fixed shapes and constant folding")]
    Sizes,
}
