//! Depthwise convolutions: one input and one output channel in each group.
//!
//! As a matrix product they would be a diagonal: of a tile of 16 channels, fifteen sixteenths
//! multiply zeros. Here the lanes of a vector are channels, and nothing is packed but the weights.

mod pixels;
mod plain;

use alloc::boxed::Box;

use super::choose::Target;
use super::packed::PackedConvolution;
use super::parameters::ConvolutionParameters;

pub(crate) use pixels::{CHANNELS, Pixel, PixelKernel};

/// Packs a depthwise layer, whose parameters are valid.
pub(crate) fn pack<K: PixelKernel>(
    target: Target,
    parameters: &ConvolutionParameters<'_>,
) -> Option<Box<dyn PackedConvolution>> {
    let kernel = K::new()?;
    let pixels = pixels::pack(kernel, target.kernel, parameters);
    Some(pixels.unwrap_or_else(|| plain::pack(target, parameters)))
}
