use core::fmt::Debug;

use crate::parts::Residual;
use crate::{KernelError, Parallel, Strided, StridedMut};

/// A convolution as one kernel packs it.
pub(crate) trait PackedConvolution: Debug + Send + Sync {
    /// The name of the kernel, `{isa}_{tile}`.
    fn kernel(&self) -> &'static str;

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
