//! What plain loops are compiled for.

use crate::{KernelError, Loop};

#[cfg(target_arch = "x86_64")]
use crate::{convolution::tiled::Microkernel, x86::X86Avx2};

/// The vector instructions that the layers without a micro-kernel of their own are compiled for:
/// depthwise convolutions, maximum pool, average, linear. Their loops are plain enough for the compiler
/// to vectorise; on aarch64 it may always use NEON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    #[cfg(target_arch = "x86_64")]
    avx2: Option<X86Avx2>,
}

impl Vectors {
    /// Those that every CPU of the architecture has.
    pub(crate) const BASELINE: Self = Self {
        #[cfg(target_arch = "x86_64")]
        avx2: None,
    };

    /// AVX2 where the running CPU has it.
    pub(crate) fn avx2() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: X86Avx2::new(),
        }
    }

    /// Calls `body`, whose loops must be `inline(always)`.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(clippy::unused_self, reason = "the same call everywhere"))]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2.vectorise(body);
        }
        body()
    }

    /// Computes a part of an output.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(clippy::unused_self, reason = "the same call everywhere"))]
    pub(crate) fn run_loop<T>(
        self,
        body: &impl Loop<T>,
        first: usize,
        output: &mut [T],
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2.run_loop(body, first, output, scratch);
        }
        body.run(first, output, scratch)
    }

    /// The products of rows of weights, as long as `input`, with the inputs: several rows share the loads of
    /// these.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(clippy::unused_self, reason = "the same call everywhere"))]
    pub(crate) fn products<const N: usize>(self, rows: [&[i8]; N], input: &[i16]) -> [i32; N] {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2.products(rows, input);
        }
        let rows = rows.map(|row| &row[..input.len()]);
        let mut sums = [0; N];
        for (index, &value) in input.iter().enumerate() {
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum += i32::from(row[index]) * i32::from(value);
            }
        }
        sums
    }
}
