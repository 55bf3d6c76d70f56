//! Tables of 256 results with AVX-512 VBMI: `vpermi2b` looks 64 values up in 128 of them at a time.

use core::arch::x86_64::*;

use super::detect::detected;

const LANES: usize = 64;

/// Proof that the CPU has AVX-512 VBMI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86Vbmi(());

impl X86Vbmi {
    /// Itself, when the running CPU has the instructions.
    pub(crate) fn new() -> Option<Self> {
        detected!("avx512f", "avx512bw", "avx512vbmi").then_some(Self(()))
    }

    /// Looks values up; there are as many results.
    pub(crate) fn look_up(self, table: &[i8; 256], input: &[i8], output: &mut [i8]) {
        let Self(()) = self;
        // SAFETY: owning a value proves that the CPU has the instructions.
        unsafe { look_up(table, input, output) }
    }
}

/// # Safety
/// The CPU has AVX-512 VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn look_up(table: &[i8; 256], input: &[i8], output: &mut [i8]) {
    // SAFETY: 64 of 256 bytes.
    let quarter = |first: usize| unsafe { _mm512_loadu_epi8(table[first..first + LANES].as_ptr()) };
    // The results of -128 on, and those of 0 on: the lower 7 bits of a value are its place in its half.
    let [a, b, c, d] = [quarter(0), quarter(64), quarter(128), quarter(192)];
    for (input, output) in input.chunks(LANES).zip(output.chunks_mut(LANES)) {
        let count = input.len().min(output.len()) as u32;
        let mask = u64::MAX >> (u64::BITS - count);
        // SAFETY: as many bytes are read and written as both have.
        unsafe {
            let values = _mm512_maskz_loadu_epi8(mask, input.as_ptr());
            let negative = _mm512_permutex2var_epi8(a, values, b);
            let positive = _mm512_permutex2var_epi8(c, values, d);
            let results = _mm512_mask_blend_epi8(_mm512_movepi8_mask(values), positive, negative);
            _mm512_mask_storeu_epi8(output.as_mut_ptr(), mask, results);
        }
    }
}
