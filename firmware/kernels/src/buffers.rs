//! The memory that the parts of a layer have in common.

use crate::parts::{Residual, Shared};
use crate::{Strided, StridedMut};

/// What the parts of a layer read and write.
pub(crate) struct Buffers<'a> {
    pub(crate) input: Strided<'a>,
    pub(crate) residual: Option<Residual<'a>>,
    /// The first channel of the first pixel.
    pub(crate) output: Shared<'a, i8>,
    /// Elements from one pixel of the output to the next.
    pub(crate) output_stride: usize,
}

impl<'a> Buffers<'a> {
    pub(crate) fn new(input: Strided<'a>, residual: Option<Residual<'a>>, output: StridedMut<'a>) -> Self {
        let output_stride = output.stride();
        Self { input, residual, output: output.shared(), output_stride }
    }
}

impl Buffers<'_> {
    /// As [`Residual::place`], also of a residual that lies in the output.
    #[inline(always)]
    pub(crate) fn residual(&self, pixel: usize, channel: usize) -> (*const i8, usize) {
        match self.residual {
            Some(Residual { in_output: true, stride, .. }) => {
                (self.output.get().wrapping_add(pixel * stride + channel), stride)
            }
            residual => Residual::place(residual, pixel, channel),
        }
    }
}
