//! What plain loops are compiled for.

use crate::KernelError;
use crate::plain::Loop;

use crate::lookup;
#[cfg(target_arch = "aarch64")]
use crate::neon;
#[cfg(target_arch = "x86_64")]
use crate::{
    convolution::tiled::Microkernel,
    x86::{X86Avx2, X86Vbmi},
};

/// The vector instructions that the layers without a micro-kernel of their own are compiled for: maximum
/// pool, average, linear, sums and their kind. Their loops are plain enough for the compiler to vectorise;
/// on aarch64 it may always use NEON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    #[cfg(target_arch = "aarch64")]
    neon: bool,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<X86Avx2>,
    #[cfg(target_arch = "x86_64")]
    vbmi: Option<X86Vbmi>,
}

impl Vectors {
    /// What the compiler takes by itself.
    pub(crate) const BASELINE: Self = Self {
        #[cfg(target_arch = "aarch64")]
        neon: false,
        #[cfg(target_arch = "x86_64")]
        avx2: None,
        #[cfg(target_arch = "x86_64")]
        vbmi: None,
    };

    /// NEON, on aarch64.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(clippy::needless_update, reason = "elsewhere there are other fields")
    )]
    pub(crate) fn neon() -> Self {
        Self {
            #[cfg(target_arch = "aarch64")]
            neon: true,
            ..Self::BASELINE
        }
    }

    /// AVX2, where the running CPU has it.
    pub(crate) fn avx2() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: X86Avx2::new(),
            ..Self::BASELINE
        }
    }

    /// AVX2 and of AVX-512 what the running CPU has.
    pub(crate) fn avx512() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            vbmi: X86Vbmi::new(),
            ..Self::avx2()
        }
    }

    /// The results of a table for values; there are as many.
    #[inline(always)]
    #[cfg_attr(
        not(any(target_arch = "aarch64", target_arch = "x86_64")),
        expect(clippy::unused_self, reason = "the same call everywhere")
    )]
    pub(crate) fn look_up(self, table: &[i8; 256], input: &[i8], output: &mut [i8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(vbmi) = self.vbmi {
            return vbmi.look_up(table, input, output);
        }
        #[cfg(target_arch = "aarch64")]
        if self.neon {
            let (input, output) = neon::look_up(table, input, output);
            return lookup::look_up(table, input, output);
        }
        lookup::look_up(table, input, output);
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
