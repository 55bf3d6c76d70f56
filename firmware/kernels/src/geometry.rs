//! Where the windows of a convolution lie in its input.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{ConvolutionShape, Strided};

/// The windows of a convolution, and what they read outside of the image.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(crate) shape: ConvolutionShape,
    /// One per input channel.
    pub(crate) padding_value: Vec<i8>,
}

impl Windows {
    /// Windows of another shape, with the same padding.
    pub(crate) fn with_shape(&self, shape: ConvolutionShape) -> Self {
        Self { shape, padding_value: self.padding_value.clone() }
    }

    /// Where a tap of the window of an output position falls along an axis. What lies above or left of
    /// the image becomes a huge position, so that one comparison finds all that is outside of it.
    #[inline(always)]
    pub(crate) fn position(&self, axis: usize, output: usize, tap: usize) -> usize {
        let shape = &self.shape;
        (output * shape.stride[axis] + tap * shape.dilation[axis]).wrapping_sub(shape.padding[axis])
    }

    /// The number of the pixel at `[y, x]`, when that is inside of the image.
    #[inline(always)]
    pub(crate) fn index(&self, [y, x]: [usize; 2]) -> Option<usize> {
        let [height, width, _] = self.shape.input;
        (y < height && x < width).then(|| y * width + x)
    }

    /// Some channels at `[y, x]` of the image, or of the padding.
    #[inline(always)]
    pub(crate) fn channels<'a>(
        &'a self,
        input: Strided<'a>,
        position: [usize; 2],
        channels: Range<usize>,
    ) -> &'a [i8] {
        match self.index(position) {
            Some(index) => &input.pixel(index)[channels],
            None => &self.padding_value[channels],
        }
    }

    /// Rows or columns of the image from the first tap of a window to its last.
    pub(crate) fn extent(&self, axis: usize) -> usize {
        self.shape.window(axis)
    }
}
