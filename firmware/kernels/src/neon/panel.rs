//! How rows of activations become panels.

use core::arch::aarch64::{
    vld1_s8, vld1q_s8, vreinterpretq_s8_s64, vreinterpretq_s64_s8, vst1_s8, vst1q_s8, vzip1q_s64, vzip2q_s64,
};
use core::arch::asm;

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
    let &[mut a, mut b, mut c, mut d, mut e, mut f] = rows else { return };
    let mut panel = panel.cast::<i8>();
    // SAFETY: 16 bytes of each row make two steps of the panel, 8 bytes make one.
    unsafe {
        if depth >= 32 {
            // Written out because compilers load each register by itself.
            asm!(
                "2:",
                "ldp q0, q1, [{a}], #32",
                "ldp q2, q3, [{b}], #32",
                "ldp q4, q5, [{c}], #32",
                "ldp q6, q7, [{d}], #32",
                "ldp q16, q17, [{e}], #32",
                "ldp q18, q19, [{f}], #32",
                "subs {steps}, {steps}, #1",
                "zip1 v20.2d, v0.2d, v2.2d",
                "zip1 v21.2d, v4.2d, v6.2d",
                "zip1 v22.2d, v16.2d, v18.2d",
                "zip2 v23.2d, v0.2d, v2.2d",
                "zip2 v24.2d, v4.2d, v6.2d",
                "zip2 v25.2d, v16.2d, v18.2d",
                "stp q20, q21, [{panel}], #192",
                "zip1 v26.2d, v1.2d, v3.2d",
                "zip1 v27.2d, v5.2d, v7.2d",
                "stp q22, q23, [{panel}, #-160]",
                "zip1 v28.2d, v17.2d, v19.2d",
                "zip2 v29.2d, v1.2d, v3.2d",
                "stp q24, q25, [{panel}, #-128]",
                "zip2 v30.2d, v5.2d, v7.2d",
                "zip2 v31.2d, v17.2d, v19.2d",
                "stp q26, q27, [{panel}, #-96]",
                "stp q28, q29, [{panel}, #-64]",
                "stp q30, q31, [{panel}, #-32]",
                "b.ne 2b",
                a = inout(reg) a,
                b = inout(reg) b,
                c = inout(reg) c,
                d = inout(reg) d,
                e = inout(reg) e,
                f = inout(reg) f,
                panel = inout(reg) panel,
                steps = inout(reg) depth / 32 => _,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
        if depth % 32 >= 16 {
            two_steps([a, b, c, d, e, f], panel);
            panel = panel.add(2 * STEP_BYTES);
            [a, b, c, d, e, f] = [a, b, c, d, e, f].map(|row| row.add(16));
        }
        if !depth.is_multiple_of(16) {
            for (index, row) in [a, b, c, d, e, f].into_iter().enumerate() {
                vst1_s8(panel.add(8 * index), vld1_s8(row));
            }
        }
    }
}

/// Bytes of the panel for 8 of depth.
const STEP_BYTES: usize = 48;

/// 16 of depth.
///
/// # Safety
/// 16 bytes of each row can be read, two steps of the panel written.
#[inline(always)]
unsafe fn two_steps(rows: [*const i8; 6], panel: *mut i8) {
    // SAFETY: as stated.
    unsafe {
        let [a, b, c, d, e, f] = rows.map(|row| vreinterpretq_s64_s8(vld1q_s8(row)));
        for (index, (first, second)) in [(a, b), (c, d), (e, f)].into_iter().enumerate() {
            let to = panel.add(16 * index);
            vst1q_s8(to, vreinterpretq_s8_s64(vzip1q_s64(first, second)));
            vst1q_s8(to.add(STEP_BYTES), vreinterpretq_s8_s64(vzip2q_s64(first, second)));
        }
    }
}
