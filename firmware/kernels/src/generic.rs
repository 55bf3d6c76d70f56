//! The scalar reference: plain loops over the formula, no packing, no threads.

use alloc::vec::Vec;

use crate::arithmetic::requantise;
use crate::convolution::Body;
use crate::{ConvolutionParameters, ConvolutionShape, KernelError, Parallel};

/// A convolution of any kernel size, stride, padding, dilation and groups.
#[derive(Debug)]
pub(crate) struct Convolution {
    shape: ConvolutionShape,
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: u32,
    residual_multiplier: i32,
    padding_value: Vec<i8>,
}

impl Convolution {
    pub(crate) fn new(parameters: &ConvolutionParameters<'_>) -> Self {
        Self {
            shape: parameters.shape.clone(),
            weights: parameters.weights.to_vec(),
            bias: parameters.bias.to_vec(),
            multiplier: parameters.multiplier.to_vec(),
            shift: parameters.shift,
            residual_multiplier: parameters.residual_multiplier.unwrap_or(0),
            padding_value: parameters.padding_value.to_vec(),
        }
    }

    fn accumulate(&self, input: &[i8], position: [usize; 2], channel: usize, group: usize) -> i32 {
        let shape = &self.shape;
        let [height, width, channels] = shape.input;
        let depth = shape.group_channels();
        let group = group * depth..(group + 1) * depth;
        let mut weights = self.weights[channel * shape.depth()..].chunks_exact(depth);
        let mut sum = self.bias[channel];
        for ky in 0..shape.kernel[0] {
            let y = (position[0] * shape.stride[0] + ky * shape.dilation[0]).checked_sub(shape.padding[0]);
            for kx in 0..shape.kernel[1] {
                let x =
                    (position[1] * shape.stride[1] + kx * shape.dilation[1]).checked_sub(shape.padding[1]);
                let pixel = match (y, x) {
                    (Some(y), Some(x)) if y < height && x < width => {
                        let start = (y * width + x) * channels;
                        &input[start + group.start..start + group.end]
                    }
                    _ => &self.padding_value[group.clone()],
                };
                // `chunks_exact` yields a tap for each (ky, kx): the weights were checked.
                let tap = weights.next().unwrap_or_default();
                sum += pixel.iter().zip(tap).map(|(&a, &w)| i32::from(a) * i32::from(w)).sum::<i32>();
            }
        }
        sum
    }
}

impl Body for Convolution {
    fn kernel(&self) -> &'static str {
        "generic"
    }

    fn scratch_len(&self, _threads: usize) -> usize {
        0
    }

    fn run(
        &self,
        _parallel: &dyn Parallel,
        input: &[i8],
        residual: Option<&[i8]>,
        output: &mut [i8],
        _scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [_, width, channels] = self.shape.output();
        let group_outputs = self.shape.output_channels / self.shape.groups;
        for (pixel, output) in output.chunks_exact_mut(channels).enumerate() {
            let (y, x) = (pixel / width, pixel % width);
            for (channel, out) in output.iter_mut().enumerate() {
                let accumulator = self.accumulate(input, [y, x], channel, channel / group_outputs);
                let residual = residual.map_or(0, |r| i32::from(r[pixel * channels + channel]));
                *out = requantise(
                    accumulator,
                    self.shift,
                    self.multiplier[channel],
                    self.residual_multiplier * residual,
                );
            }
        }
        Ok(())
    }
}
