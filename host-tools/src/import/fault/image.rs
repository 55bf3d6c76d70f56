//! The image that a network is given.

use crate::import::limits::LimitFault;
use crate::import::names::{printable, shown};

const REMEDY: &str = "export it as [N, channels, height, width] with fixed channels, height and width, or give open height and width by `--input HxW`";

/// Why the inputs of a file are no image that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    #[error("the network has {0} inputs; only one image is supported")]
    Inputs(usize),
    #[error("the input `{name}` is no tensor; export with one image as input", name = printable(name))]
    NoTensor { name: String },
    #[error(
        "the input `{name}` has the type {found}; export the model with an f32 input",
        name = printable(name)
    )]
    Type { name: String, found: &'static str },
    #[error(
        "the input `{name}` has the dimensions {dims}; {REMEDY}",
        name = printable(name),
        dims = shown(dims)
    )]
    Dimensions { name: String, dims: Vec<Option<i64>> },
    #[error("the input `{name}`: {cause}; {REMEDY}", name = printable(name))]
    Limit { name: String, cause: LimitFault },
}
