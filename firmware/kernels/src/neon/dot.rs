//! `neon_dot`: `sdot` by element, 6 pixels x 16 channels.
//!
//! 24 accumulators, 6 registers with 16 activations of one pixel each, 2 registers of weights:
//! all 32. Per 16 of depth: 96 `sdot` and 11 paired loads.
//! - Panel: `[depth / 16][6 pixels][16]`.
//! - Weights: `[depth / 4][16 channels][4]`.

use core::arch::aarch64::{int32x4_t, vld1q_s8, vst1q_s8};
use core::arch::asm;

use super::{detected, epilogue};
use crate::tiled::{Microkernel, Tile};

const ROWS: usize = 6;
const COLUMNS: usize = 16;
const DEPTH: usize = 16;

/// Proof that the CPU has `sdot`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonDot(());

impl Microkernel for NeonDot {
    const NAME: &'static str = "neon_dot_6x16";
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;

    fn new() -> Option<Self> {
        detected!("dotprod").then_some(Self(()))
    }

    fn pack_weights(weight: &dyn Fn(usize, usize) -> i8, depth: usize, packed: &mut [u8]) {
        let mut packed = packed.iter_mut();
        for k in (0..depth).step_by(4) {
            for column in 0..COLUMNS {
                for (k, byte) in (k..k + 4).zip(&mut packed) {
                    *byte = weight(k, column) as u8;
                }
            }
        }
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        // SAFETY: `depth` bytes of each row, `depth * ROWS` of the panel.
        unsafe { interleave::<ROWS>(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: owning a value proves that the CPU has `sdot`; the rest is passed on.
        unsafe {
            match tile.rows {
                6.. => tile_6(tile),
                5 => tile_5(tile),
                4 => tile_4(tile),
                3 => tile_3(tile),
                2 => tile_2(tile),
                _ => tile_1(tile),
            }
        }
    }
}

/// Writes 16 bytes of each row in turn.
///
/// # Safety
/// `rows` has `N` pointers, each good for reading `depth` bytes, a multiple of 16; `panel` is
/// good for writing `N` times as many.
pub(super) unsafe fn interleave<const N: usize>(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let rows: &[*const i8; N] = rows.try_into().expect("as many rows as the tile has");
    let mut panel = panel.cast::<i8>();
    for k in (0..depth).step_by(16) {
        for row in rows {
            // SAFETY: 16 bytes of the row, the next 16 of the panel.
            unsafe {
                vst1q_s8(panel, vld1q_s8(row.add(k)));
                panel = panel.add(16);
            }
        }
    }
}

/// Two vectors of four channels, at one quarter of a step: `$rows` are the activations and the
/// two accumulators of each row.
macro_rules! half {
    ($lane:literal, $weights:literal, $([$activation:tt $first:tt $second:tt])*) => {
        concat!(
            "ldp q6, q7, [{weights}", $weights, "\n",
            $("sdot ", $first, ".4s, v6.16b, ", $activation, ".4b[", $lane, "]\n",)*
            $("sdot ", $second, ".4s, v7.16b, ", $activation, ".4b[", $lane, "]\n",)*
        )
    };
}

/// 16 of depth; `$panel` and `$weights` are where they lie relative to the pointers. The first
/// load of each moves its pointer.
macro_rules! step {
    (
        [$($load:literal)*],
        $([$activation:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        concat!(
            $($load, "\n",)*
            half!("0", "], #256", $([$activation $a $b])*),
            half!("0", ", #-224]", $([$activation $c $d])*),
            half!("1", ", #-192]", $([$activation $a $b])*),
            half!("1", ", #-160]", $([$activation $c $d])*),
            half!("2", ", #-128]", $([$activation $a $b])*),
            half!("2", ", #-96]", $([$activation $c $d])*),
            half!("3", ", #-64]", $([$activation $a $b])*),
            half!("3", ", #-32]", $([$activation $c $d])*),
        )
    };
}

macro_rules! tile {
    (
        $name:ident, $count:literal, $loads:tt,
        $([$index:literal $activation:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        /// # Safety
        /// The CPU has `sdot`, and what [`Tile`] says about its fields.
        #[target_feature(enable = "dotprod")]
        unsafe fn $name(tile: &Tile) {
            // SAFETY: 16 biases.
            let mut rows: [[int32x4_t; 4]; $count] = unsafe { epilogue::start(tile.bias) };
            // SAFETY: reads `depth * 6` bytes of the panel and `depth * 16` of the weights.
            unsafe {
                asm!(
                    "cbz {fours}, 3f",
                    "2:",
                    step!($loads, $([$activation $a $b $c $d])*),
                    step!($loads, $([$activation $a $b $c $d])*),
                    step!($loads, $([$activation $a $b $c $d])*),
                    step!($loads, $([$activation $a $b $c $d])*),
                    "subs {fours}, {fours}, #1",
                    "b.ne 2b",
                    "3:",
                    "cbz {ones}, 5f",
                    "4:",
                    step!($loads, $([$activation $a $b $c $d])*),
                    "subs {ones}, {ones}, #1",
                    "b.ne 4b",
                    "5:",
                    panel = inout(reg) tile.panel => _,
                    weights = inout(reg) tile.weights => _,
                    fours = inout(reg) tile.depth / (4 * DEPTH) => _,
                    ones = inout(reg) tile.depth / DEPTH % 4 => _,
                    $(
                        inout($a) rows[$index][0],
                        inout($b) rows[$index][1],
                        inout($c) rows[$index][2],
                        inout($d) rows[$index][3],
                    )*
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nostack, readonly),
                );
                epilogue::finish(rows, tile);
            }
        }
    };
}

tile!(tile_6, 6, ["ldp q0, q1, [{panel}], #96" "ldp q2, q3, [{panel}, #-64]" "ldp q4, q5, [{panel}, #-32]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]
    [4 "v4" "v24" "v25" "v26" "v27"]
    [5 "v5" "v28" "v29" "v30" "v31"]);
tile!(tile_5, 5, ["ldp q0, q1, [{panel}], #96" "ldp q2, q3, [{panel}, #-64]" "ldr q4, [{panel}, #-32]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]
    [4 "v4" "v24" "v25" "v26" "v27"]);
tile!(tile_4, 4, ["ldp q0, q1, [{panel}], #96" "ldp q2, q3, [{panel}, #-64]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]);
tile!(tile_3, 3, ["ldp q0, q1, [{panel}], #96" "ldr q2, [{panel}, #-64]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]);
tile!(tile_2, 2, ["ldp q0, q1, [{panel}], #96"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]);
tile!(tile_1, 1, ["ldr q0, [{panel}], #96"],
    [0 "v0" "v8" "v9" "v10" "v11"]);
