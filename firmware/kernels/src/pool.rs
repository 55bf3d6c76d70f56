use core::ops::Range;

use crate::parts::split;
use crate::vectors::Vectors;
use crate::{Isa, KernelError, Parallel, PoolShape};

/// Channels that are compared at a time: a cache line.
const CHANNELS: usize = 64;
/// As many of an image that has fewer.
const FEW_CHANNELS: usize = 16;

/// Maximum over windows of an NHWC image; padding never wins. Scale and zero point pass
/// through unchanged.
#[derive(Debug)]
pub struct MaxPool {
    shape: PoolShape,
    vectors: Vectors,
}

impl MaxPool {
    /// Checks the shape.
    ///
    /// # Errors
    /// What [`PoolShape::validate`] finds, or [`KernelError::Unavailable`].
    pub fn new(isa: Isa, shape: PoolShape) -> Result<Self, KernelError> {
        shape.validate()?;
        isa.check()?;
        Ok(Self { shape, vectors: isa.vectors() })
    }

    /// The geometry.
    pub fn shape(&self) -> &PoolShape {
        &self.shape
    }

    /// The same pool for some rows of its output alone; none where all of its input would be padding.
    pub fn band(&self, rows: Range<usize>) -> Option<Self> {
        Some(Self { shape: self.shape.band(rows)?.0, vectors: self.vectors })
    }

    /// The rows of the input that a [`band`](Self::band) takes.
    pub fn band_input(&self, rows: Range<usize>) -> Option<Range<usize>> {
        Some(self.shape.band(rows)?.1)
    }

    /// Computes the output from the input, both NHWC.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a buffer has another length than the shape asks for.
    pub fn run(&self, parallel: &dyn Parallel, input: &[i8], output: &mut [i8]) -> Result<(), KernelError> {
        let [height, width, channels] = self.shape.input;
        let [output_height, output_width, _] = self.shape.output();
        KernelError::check("input", height * width * channels, input.len())?;
        KernelError::check("output", output_height * output_width * channels, output.len())?;
        split(parallel, parallel.threads(), output, output_width * channels, &|first, rows| {
            self.vectors.run(|| self.rows(input, first, rows));
        });
        Ok(())
    }

    /// Positions of the input, along an axis, that the window of an output position covers.
    fn window(&self, position: usize, axis: usize) -> Range<usize> {
        let start = position * self.shape.stride[axis];
        let end = (start + self.shape.kernel[axis]).saturating_sub(self.shape.padding[axis]);
        start.saturating_sub(self.shape.padding[axis])..end.min(self.shape.input[axis])
    }

    /// Computes whole rows of the output, from `first` on.
    #[inline(always)]
    fn rows(&self, input: &[i8], first: usize, output: &mut [i8]) {
        let channels = self.shape.input[2];
        let output_width = self.shape.output()[1];
        for (pixel, output) in output.chunks_exact_mut(channels).enumerate() {
            let rows = self.window(first + pixel / output_width, 0);
            let columns = self.window(pixel % output_width, 1);
            if channels >= CHANNELS {
                self.blocks::<CHANNELS>(input, rows, columns, output);
            } else if channels >= FEW_CHANNELS {
                self.blocks::<FEW_CHANNELS>(input, rows, columns, output);
            } else {
                self.blocks::<1>(input, rows, columns, output);
            }
        }
    }

    /// Computes a pixel of the output, at least `N` channels, from the input in these rows and columns, `N`
    /// channels at a time. The last ones overlap those before them: a maximum may be taken twice.
    #[inline(always)]
    fn blocks<const N: usize>(
        &self,
        input: &[i8],
        rows: Range<usize>,
        columns: Range<usize>,
        output: &mut [i8],
    ) {
        let [_, width, channels] = self.shape.input;
        for first in (0..channels).step_by(N) {
            let channel = first.min(channels - N);
            let mut largest = [i8::MIN; N];
            for y in rows.clone() {
                // One bound for a row of the window.
                let row =
                    &input[(y * width + columns.start) * channels..(y * width + columns.end) * channels];
                for pixel in row.chunks_exact(channels) {
                    for (largest, &value) in largest.iter_mut().zip(&pixel[channel..][..N]) {
                        *largest = (*largest).max(value);
                    }
                }
            }
            output[channel..][..N].copy_from_slice(&largest);
        }
    }
}
