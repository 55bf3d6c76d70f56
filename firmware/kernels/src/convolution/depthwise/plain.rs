//! Depthwise convolutions in plain loops, of which the compiler makes vectors: for any number of channels
//! and any window.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::convolution::choose::Target;
use crate::convolution::packed::PackedConvolution;
use crate::convolution::parameters::ConvolutionParameters;
use crate::geometry::Windows;
use crate::parts::Residual;
use crate::requantise::Requantisation;
use crate::vectors::Vectors;
use crate::{KernelError, Parallel, Strided, StridedMut};

/// Channels whose accumulators stay in registers: half of NEON's.
const CHANNELS: usize = 64;
/// For those that are left, the lanes of a vector of bytes.
const FEWER_CHANNELS: usize = 16;

/// A depthwise convolution for any instruction set.
#[derive(Debug)]
struct Plain {
    kernel: &'static str,
    vectors: Vectors,
    windows: Windows,
    /// `[kernel y][kernel x][channel]`.
    weights: Vec<i8>,
    requantisation: Requantisation,
}

/// Packs the weights of a depthwise layer; the parameters are valid.
pub(super) fn pack(target: Target, parameters: &ConvolutionParameters<'_>) -> Box<dyn PackedConvolution> {
    let taps = parameters.shape.depth();
    let channel = |tap| parameters.weights.iter().skip(tap).step_by(taps).copied();
    Box::new(Plain {
        kernel: target.kernel,
        vectors: target.vectors,
        windows: parameters.windows(),
        weights: (0..taps).flat_map(channel).collect(),
        requantisation: parameters.requantisation(),
    })
}

impl Plain {
    /// Computes the pixels of the output from `first` on.
    #[inline(always)]
    fn pixels(
        &self,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        first: usize,
        mut output: StridedMut<'_>,
    ) {
        let [_, width, channels] = self.windows.shape.output();
        for (pixel, output) in (first..).zip(output.pixels_mut()) {
            let position = [pixel / width, pixel % width];
            let residual = residual.map(|residual| residual.pixel(pixel));
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
        input: Strided<'_>,
        residual: Option<&[i8]>,
        [y, x]: [usize; 2],
        channel: usize,
        output: &mut [i8],
    ) {
        let shape = &self.windows.shape;
        let channels = shape.input[2];
        let mut sums: [i32; N] = self.requantisation.start(channel);
        let mut weights = &self.weights[channel..];
        for ky in 0..shape.kernel[0] {
            let y = self.windows.position(0, y, ky);
            for kx in 0..shape.kernel[1] {
                let x = self.windows.position(1, x, kx);
                let values = self.windows.channels(input, [y, x], channel..channel + N);
                for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(&weights[..N]) {
                    // Fits 16 bits, as weights stop at -127: the compiler may multiply bytes.
                    *sum += i32::from(i16::from(value) * i16::from(weight));
                }
                weights = weights.get(channels..).unwrap_or_default();
            }
        }
        self.requantisation.finish(channel, &sums, residual, output);
    }
}

impl PackedConvolution for Plain {
    fn kernel(&self) -> &'static str {
        self.kernel
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        output: StridedMut<'_>,
        _scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [_, width, _] = self.windows.shape.output();
        output.split_rows(parallel, width, &|first, pixels| {
            self.vectors.run(|| self.pixels(input, residual, first, pixels));
        });
        Ok(())
    }
}
