//! How rows of activations become panels.

use core::arch::aarch64::{
    vld1_s8, vld1q_s8, vreinterpretq_s8_s64, vreinterpretq_s64_s8, vst1_s8, vst1q_s8, vzip1q_s64, vzip2q_s64,
};

/// Writes 16 bytes of each of four rows in turn: `[depth / 16][4 rows][16]`.
///
/// # Safety
/// `rows` has 4 pointers, each good for reading `depth` bytes, a multiple of 16; `panel` is good
/// for writing four times as many.
pub(super) unsafe fn interleave(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let &[a, b, c, d] = rows else { return };
    let mut panel = panel.cast::<i8>();
    for k in (0..depth).step_by(16) {
        // SAFETY: 16 bytes of each row, the next 64 of the panel.
        unsafe {
            let vectors = [a, b, c, d].map(|row| vld1q_s8(row.add(k)));
            for (index, vector) in vectors.into_iter().enumerate() {
                vst1q_s8(panel.add(16 * index), vector);
            }
            panel = panel.add(64);
        }
    }
}

/// Writes 8 bytes of each of six rows in turn: `[depth / 8][3 pairs][2 rows][8]`.
///
/// # Safety
/// `rows` has 6 pointers, each good for reading `depth` bytes, a multiple of 8; `panel` is good
/// for writing six times as many.
pub(super) unsafe fn pairs(rows: &[*const i8], depth: usize, panel: *mut u8) {
    const STEP: usize = 48;
    let &[a, b, c, d, e, f] = rows else { return };
    let mut panel = panel.cast::<i8>();
    let mut k = 0;
    // SAFETY: 16 bytes of each row make two steps of the panel, 8 bytes make one.
    unsafe {
        while k + 16 <= depth {
            let [a, b, c, d, e, f] = [a, b, c, d, e, f].map(|row| vreinterpretq_s64_s8(vld1q_s8(row.add(k))));
            for (index, (first, second)) in [(a, b), (c, d), (e, f)].into_iter().enumerate() {
                let to = panel.add(16 * index);
                vst1q_s8(to, vreinterpretq_s8_s64(vzip1q_s64(first, second)));
                vst1q_s8(to.add(STEP), vreinterpretq_s8_s64(vzip2q_s64(first, second)));
            }
            panel = panel.add(2 * STEP);
            k += 16;
        }
        if k < depth {
            for (index, row) in [a, b, c, d, e, f].into_iter().enumerate() {
                vst1_s8(panel.add(8 * index), vld1_s8(row.add(k)));
            }
        }
    }
}
