use crate::{Isa, KernelError, Parallel, PoolShape};

/// Maximum over windows of an NHWC image; padding never wins. Scale and zero point pass
/// through unchanged.
#[derive(Debug)]
pub struct MaxPool {
    shape: PoolShape,
}

impl MaxPool {
    /// Checks the shape.
    ///
    /// # Errors
    /// What [`PoolShape::validate`] finds, or [`KernelError::Unavailable`].
    pub fn new(isa: Isa, shape: PoolShape) -> Result<Self, KernelError> {
        shape.validate()?;
        isa.check()?;
        Ok(Self { shape })
    }

    /// The geometry.
    pub fn shape(&self) -> &PoolShape {
        &self.shape
    }

    /// Computes the output from the input, both NHWC.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a buffer has another length than the shape asks for.
    pub fn run(&self, _parallel: &dyn Parallel, input: &[i8], output: &mut [i8]) -> Result<(), KernelError> {
        let [height, width, channels] = self.shape.input;
        let [output_height, output_width, _] = self.shape.output();
        KernelError::check("input", height * width * channels, input.len())?;
        KernelError::check("output", output_height * output_width * channels, output.len())?;
        let range = |position: usize, axis: usize, size: usize| {
            let start = position * self.shape.stride[axis];
            let end = (start + self.shape.kernel[axis]).saturating_sub(self.shape.padding[axis]).min(size);
            start.saturating_sub(self.shape.padding[axis])..end
        };
        for (pixel, output) in output.chunks_exact_mut(channels).enumerate() {
            output.fill(i8::MIN);
            for y in range(pixel / output_width, 0, height) {
                for x in range(pixel % output_width, 1, width) {
                    let start = (y * width + x) * channels;
                    for (out, &value) in output.iter_mut().zip(&input[start..start + channels]) {
                        *out = (*out).max(value);
                    }
                }
            }
        }
        Ok(())
    }
}
