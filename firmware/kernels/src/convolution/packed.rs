use alloc::boxed::Box;
use core::fmt::Debug;

use crate::parts::Residual;
use crate::{ConvolutionShape, KernelError, Parallel, Strided, StridedMut};

/// A convolution as one kernel packs it.
pub(crate) trait PackedConvolution: Debug + Send + Sync {
    /// The name of the kernel, `{isa}_{tile}`.
    fn kernel(&self) -> &'static str;

    /// The same layer for a shape that differs in its rows and their padding alone; it shares the weights.
    fn with_rows(&self, _shape: ConvolutionShape) -> Option<Box<dyn PackedConvolution>> {
        None
    }

    /// Rows of output that are best computed together; none where it has no other [rows](Self::with_rows).
    fn row_unit(&self) -> Option<usize> {
        None
    }

    /// Whether each residual is read before the output at its place is written, and never again.
    fn adds_in_place(&self) -> bool {
        false
    }

    /// Bytes of scratch memory with so many threads.
    fn scratch_len(&self, _threads: usize) -> usize {
        0
    }

    /// Computes the output; the lengths of all buffers have been checked.
    fn run(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        output: StridedMut<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError>;
}
