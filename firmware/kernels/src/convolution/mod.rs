//! Convolutions: what they are made from, which kernel runs them, and the kernels that are the same
//! for several instruction sets.

pub(crate) mod choose;
pub(crate) mod depthwise;
mod facade;
pub(crate) mod generic;
pub(crate) mod packed;
mod parameters;
pub(crate) mod tiled;
pub(crate) mod winograd;

pub use facade::Convolution;
pub use parameters::ConvolutionParameters;
