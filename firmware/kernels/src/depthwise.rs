//! Depthwise convolutions: one input and one output channel in each group.
//!
//! As a matrix product they would be a diagonal: of a tile of 16 channels, fifteen sixteenths
//! multiply zeros. Here the lanes of a vector are channels, and nothing is packed but the
//! weights. The loops are plain; the compiler makes vectors of them.

use alloc::vec::Vec;
use core::array;

use crate::arithmetic::requantise;
use crate::convolution::Body;
use crate::dispatch::Vectors;
use crate::tiled::split;
use crate::{ConvolutionParameters, ConvolutionShape, Isa, KernelError, Parallel};

/// Channels whose accumulators stay in registers: half of NEON's.
const CHANNELS: usize = 64;
/// For those that are left, the lanes of a vector of bytes.
const FEWER_CHANNELS: usize = 16;

/// A depthwise convolution for any instruction set.
#[derive(Debug)]
pub(crate) struct Depthwise {
    name: &'static str,
    vectors: Vectors,
    shape: ConvolutionShape,
    /// `[kernel y][kernel x][channel]`.
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: u32,
    residual_multiplier: i32,
    padding_value: Vec<i8>,
}

impl Depthwise {
    /// Packs the weights of a depthwise layer; the parameters have been validated.
    pub(crate) fn new(name: &'static str, isa: Isa, parameters: &ConvolutionParameters<'_>) -> Self {
        let shape = &parameters.shape;
        let taps = shape.depth();
        let channel = |tap| parameters.weights.iter().skip(tap).step_by(taps).copied();
        Self {
            name,
            vectors: Vectors::new(isa),
            weights: (0..taps).flat_map(channel).collect(),
            bias: parameters.bias.to_vec(),
            multiplier: parameters.multiplier.to_vec(),
            shift: parameters.shift,
            residual_multiplier: parameters.residual_multiplier.unwrap_or(0),
            padding_value: parameters.padding_value.to_vec(),
            shape: shape.clone(),
        }
    }

    /// Computes whole rows of the output, from `first` on.
    #[inline(always)]
    fn rows(&self, input: &[i8], residual: Option<&[i8]>, first: usize, output: &mut [i8]) {
        let [_, width, channels] = self.shape.output();
        let first = first * width;
        for (pixel, output) in (first..).zip(output.chunks_exact_mut(channels)) {
            let position = [pixel / width, pixel % width];
            let residual = residual.map(|residual| &residual[pixel * channels..][..channels]);
            let mut channel = 0;
            while channel + CHANNELS <= channels {
                self.block::<CHANNELS>(input, residual, position, channel, output);
                channel += CHANNELS;
            }
            while channel < channels {
                if channels < FEWER_CHANNELS {
                    self.block::<1>(input, residual, position, channel, output);
                    channel += 1;
                } else {
                    // The last block overlaps the one before it.
                    let start = channel.min(channels - FEWER_CHANNELS);
                    self.block::<FEWER_CHANNELS>(input, residual, position, start, output);
                    channel += FEWER_CHANNELS;
                }
            }
        }
    }

    /// Computes `N` channels of one pixel.
    #[inline(always)]
    fn block<const N: usize>(
        &self,
        input: &[i8],
        residual: Option<&[i8]>,
        [y, x]: [usize; 2],
        channel: usize,
        output: &mut [i8],
    ) {
        let shape = &self.shape;
        let [height, width, channels] = shape.input;
        let mut sums: [i32; N] = array::from_fn(|lane| self.bias[channel..channel + N][lane]);
        let mut weights = &self.weights[channel..];
        for ky in 0..shape.kernel[0] {
            // A position above or left of the image becomes a huge one.
            let y = (y * shape.stride[0] + ky * shape.dilation[0]).wrapping_sub(shape.padding[0]);
            for kx in 0..shape.kernel[1] {
                let x = (x * shape.stride[1] + kx * shape.dilation[1]).wrapping_sub(shape.padding[1]);
                let values = if y < height && x < width {
                    &input[(y * width + x) * channels + channel..][..N]
                } else {
                    &self.padding_value[channel..][..N]
                };
                for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(&weights[..N]) {
                    // Fits 16 bits, as weights stop at -127: the compiler may multiply bytes.
                    *sum += i32::from(i16::from(value) * i16::from(weight));
                }
                weights = weights.get(channels..).unwrap_or_default();
            }
        }
        let multiplier = &self.multiplier[channel..][..N];
        let output = &mut output[channel..][..N];
        if let Some(residual) = residual {
            let residual = &residual[channel..][..N];
            for lane in 0..N {
                let residual = self.residual_multiplier * i32::from(residual[lane]);
                output[lane] = requantise(sums[lane], self.shift, multiplier[lane], residual);
            }
        } else {
            for lane in 0..N {
                output[lane] = requantise(sums[lane], self.shift, multiplier[lane], 0);
            }
        }
    }
}

impl Body for Depthwise {
    fn kernel(&self) -> &'static str {
        self.name
    }

    fn scratch_len(&self, _threads: usize) -> usize {
        0
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        input: &[i8],
        residual: Option<&[i8]>,
        output: &mut [i8],
        _scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [_, width, channels] = self.shape.output();
        split(parallel, parallel.threads(), output, width * channels, &|first, rows| {
            self.vectors.run(|| self.rows(input, residual, first, rows));
        });
        Ok(())
    }
}
