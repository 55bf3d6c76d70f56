//! Tables of 256 results: `tbl` and `tbx` look 16 values up in 64 of them at a time.

use core::arch::aarch64::{
    uint8x16x4_t, vdupq_n_u8, vld1q_u8, vld1q_u8_x4, vqtbl4q_u8, vqtbx4q_u8, vst1q_u8, vsubq_u8,
};

/// Results that `tbl` takes.
const QUARTER: usize = 64;

/// Looks values up, of which the first are whole vectors; the rest is left for others.
pub(crate) fn look_up<'a>(
    table: &[i8; 256],
    input: &'a [i8],
    output: &'a mut [i8],
) -> (&'a [i8], &'a mut [i8]) {
    let ((inputs, input), (outputs, output)) = (input.as_chunks::<16>(), output.as_chunks_mut::<16>());
    // The results of the values as unsigned bytes: those of 0 and more come first.
    let quarter = |first: usize| -> uint8x16x4_t {
        // SAFETY: 64 of 256 bytes; NEON belongs to aarch64.
        unsafe { vld1q_u8_x4(table[first..first + QUARTER].as_ptr().cast()) }
    };
    let quarters = [128, 192, 0, 64].map(quarter);
    for (input, output) in inputs.iter().zip(outputs) {
        // SAFETY: 16 bytes are read and written; NEON belongs to aarch64.
        unsafe {
            let value = vld1q_u8(input.as_ptr().cast());
            let mut result = vqtbl4q_u8(quarters[0], value);
            for (place, quarter) in quarters.into_iter().enumerate().skip(1) {
                // What is outside of the quarter stays.
                let value = vsubq_u8(value, vdupq_n_u8((place * QUARTER) as u8));
                result = vqtbx4q_u8(result, quarter, value);
            }
            vst1q_u8(output.as_mut_ptr().cast(), result);
        }
    }
    (input, output)
}
