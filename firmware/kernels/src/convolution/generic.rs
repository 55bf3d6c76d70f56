//! The scalar reference: plain loops over the formula, no packing, no threads.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::choose::Target;
use super::packed::PackedConvolution;
use super::parameters::ConvolutionParameters;
use crate::geometry::Windows;
use crate::parts::Residual;
use crate::requantise::Requantisation;
use crate::{ConvolutionShape, KernelError, Parallel, Strided, StridedMut};

/// A convolution of any kernel size, stride, padding, dilation and groups.
#[derive(Debug)]
struct Generic {
    kernel: &'static str,
    windows: Windows,
    weights: Arc<[i8]>,
    requantisation: Arc<Requantisation>,
}

/// Copies a layer; the parameters are valid.
#[allow(clippy::unnecessary_wraps, reason = "other kernels need a CPU that has their instructions")]
pub(crate) fn pack(
    target: Target,
    parameters: &ConvolutionParameters<'_>,
) -> Option<Box<dyn PackedConvolution>> {
    Some(Box::new(Generic {
        kernel: target.kernel,
        windows: parameters.windows(),
        weights: parameters.weights.into(),
        requantisation: Arc::new(parameters.requantisation()),
    }))
}

impl Generic {
    fn accumulate(&self, input: Strided<'_>, [y, x]: [usize; 2], channel: usize, group: usize) -> i32 {
        let shape = &self.windows.shape;
        let depth = shape.group_channels();
        let group = group * depth..(group + 1) * depth;
        let mut weights = self.weights[channel * shape.depth()..].chunks_exact(depth);
        let [mut sum] = self.requantisation.start(channel);
        for ky in 0..shape.kernel[0] {
            let y = self.windows.position(0, y, ky);
            for kx in 0..shape.kernel[1] {
                let x = self.windows.position(1, x, kx);
                let pixel = self.windows.channels(input, [y, x], group.clone());
                // `chunks_exact` yields a tap for each (ky, kx): the weights were checked.
                let tap = weights.next().unwrap_or_default();
                sum += pixel.iter().zip(tap).map(|(&a, &w)| i32::from(a) * i32::from(w)).sum::<i32>();
            }
        }
        sum
    }
}

impl PackedConvolution for Generic {
    fn kernel(&self) -> &'static str {
        self.kernel
    }

    fn row_unit(&self) -> Option<usize> {
        Some(1)
    }

    fn with_rows(&self, shape: ConvolutionShape) -> Option<Box<dyn PackedConvolution>> {
        Some(Box::new(Self {
            kernel: self.kernel,
            windows: self.windows.with_shape(shape),
            weights: Arc::clone(&self.weights),
            requantisation: Arc::clone(&self.requantisation),
        }))
    }

    fn run(
        &self,
        _parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        mut output: StridedMut<'_>,
        _scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let shape = &self.windows.shape;
        let [_, width, channels] = shape.output();
        let group_outputs = shape.output_channels / shape.groups;
        for (pixel, output) in output.pixels_mut().enumerate() {
            let residual = residual.map(|residual| residual.pixel(pixel));
            for channel in 0..channels {
                let position = [pixel / width, pixel % width];
                let sum = self.accumulate(input, position, channel, channel / group_outputs);
                self.requantisation.finish(channel, &[sum], residual, output);
            }
        }
        Ok(())
    }
}
