//! What plain loops are.

use crate::KernelError;

/// What computes an output of elements `T`, any part of it by itself.
pub trait Loop<T>: Sync {
    /// Elements of the output that are computed together, such as a pixel or a row: parts are whole
    /// numbers of them.
    fn unit(&self) -> usize {
        1
    }

    /// How many values go into an element of the output, about.
    fn steps(&self) -> usize {
        1
    }

    /// Bytes of scratch memory that a part needs.
    fn scratch(&self) -> usize {
        0
    }

    /// Computes the units from `first` on, with [`scratch`](Self::scratch) bytes that start at a cache line
    /// and have any content.
    ///
    /// It must be `#[inline(always)]`, with all that it calls in its loops: what is not is compiled for the
    /// least CPU of the architecture.
    ///
    /// # Errors
    /// What a layer finds in its input only while it runs.
    fn run(&self, first: usize, output: &mut [T], scratch: &mut [u8]) -> Result<(), KernelError>;
}
