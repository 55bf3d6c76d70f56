//! `neon_dot`: `sdot` by element, 6 pixels x 16 channels.
//!
//! 24 accumulators, 3 registers with 8 activations of two pixels each, 4 registers of weights:
//! 31 of 32. Per 8 of depth: 48 `sdot` and 3 loads, of 3, 4 and 4 registers. Such a load moves as
//! many bytes per cycle as a paired one on out-of-order cores, in half the instructions.
//! - Weights: `[depth / 4][16 channels][4]`.

use core::arch::aarch64::vdupq_n_s32;
use core::arch::asm;

use super::detect::detected;
use super::epilogue;
use super::kernel_6x16::{DEPTH, Kernel6x16, Products, ROWS};
use crate::convolution::tiled::{Costs, Tile};

/// The kernel.
pub(crate) type NeonDot = Kernel6x16<Sdot>;

/// Proof that the CPU has `sdot`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sdot(());

// SAFETY: `new` asks for `sdot`; the tiles read and write what `Tile` says.
unsafe impl Products for Sdot {
    const WEIGHT_STEP: usize = 4;
    const COSTS: Costs = Costs {
        row_products: 16,
        row_step: 1,
        tile_loads: 6,
        row: 15,
        row_residual: 7,
        tile: 25,
        panel: 13,
        tap: 45,
    };

    fn new() -> Option<Self> {
        detected!("dotprod").then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn tiles(self, tile: &Tile, tiles: usize) {
        // SAFETY: owning a value proves that the CPU has `sdot`; the rest is as stated.
        unsafe {
            match tile.rows {
                6.. => tile_6(tile, tiles),
                5 => tile_5(tile, tiles),
                4 => tile_4(tile, tiles),
                3 => tile_3(tile, tiles),
                2 => tile_2(tile, tiles),
                _ => tile_1(tile, tiles),
            }
        }
    }
}

/// 4 of depth: each row gives its activations, with the lane for the first and the second half
/// of a step, and its accumulators.
macro_rules! half {
    ($half:tt, $([$activation:tt $even:tt $odd:tt $a:tt $b:tt $c:tt $d:tt])*) => {
        concat!(
            "ld1 {{v3.16b, v4.16b, v5.16b, v6.16b}}, [{weights}], #64\n",
            $("sdot ", $a, ".4s, v3.16b, ", $activation, ".4b[", half!(@$half $even $odd), "]\n",)*
            $("sdot ", $b, ".4s, v4.16b, ", $activation, ".4b[", half!(@$half $even $odd), "]\n",)*
            $("sdot ", $c, ".4s, v5.16b, ", $activation, ".4b[", half!(@$half $even $odd), "]\n",)*
            $("sdot ", $d, ".4s, v6.16b, ", $activation, ".4b[", half!(@$half $even $odd), "]\n",)*
        )
    };
    (@even $even:tt $odd:tt) => { $even };
    (@odd $even:tt $odd:tt) => { $odd };
}

/// 8 of depth.
macro_rules! step {
    ($load:literal, $($row:tt)*) => {
        concat!($load, "\n", half!(even, $($row)*), half!(odd, $($row)*))
    };
}

macro_rules! tile {
    (
        $name:ident, $count:literal, $load:literal,
        $([$index:literal $activation:tt $even:tt $odd:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        /// # Safety
        /// The CPU has `sdot`, and what [`Tile`] says about its fields.
        #[target_feature(enable = "dotprod")]
        unsafe fn $name(tile: &Tile, tiles: usize) {
            let mut tile = *tile;
            for _ in 0..tiles {
            // SAFETY: 16 biases; reads `depth * 6` bytes of the panel, which end where the next
            // panel starts, and `depth * 16` of the weights; then `$count` rows are stored.
            unsafe {
                // Fewer instructions than moves, and none of them for the units that multiply.
                let mut rows = [[vdupq_n_s32(0); 4]; $count];
                asm!(
                    $(concat!("ld1 {{", $a, ".4s, ", $b, ".4s, ", $c, ".4s, ", $d, ".4s}}, [{bias}]"),)*
                    "cbz {eights}, 3f",
                    "2:",
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    "subs {eights}, {eights}, #1",
                    "b.ne 2b",
                    "3:",
                    "cbz {ones}, 5f",
                    "4:",
                    step!($load, $([$activation $even $odd $a $b $c $d])*),
                    "subs {ones}, {ones}, #1",
                    "b.ne 4b",
                    "5:",
                    bias = in(reg) tile.bias,
                    panel = inout(reg) tile.panel,
                    weights = inout(reg) tile.weights => _,
                    eights = inout(reg) tile.depth / (8 * DEPTH) => _,
                    ones = inout(reg) tile.depth / DEPTH % 8 => _,
                    stride = in(reg) DEPTH * ROWS,
                    $(
                        out($a) rows[$index][0],
                        out($b) rows[$index][1],
                        out($c) rows[$index][2],
                        out($d) rows[$index][3],
                    )*
                    out("v0") _, out("v1") _, out("v2") _,
                    out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                    options(nostack, readonly),
                );
                epilogue::finish(rows, &tile);
                tile.move_down($count);
            }
            }
        }
    };
}

tile!(tile_6, 6, "ld1 {{v0.16b, v1.16b, v2.16b}}, [{panel}], {stride}",
    [0 "v0" "0" "1" "v8" "v9" "v10" "v11"]
    [1 "v0" "2" "3" "v12" "v13" "v14" "v15"]
    [2 "v1" "0" "1" "v16" "v17" "v18" "v19"]
    [3 "v1" "2" "3" "v20" "v21" "v22" "v23"]
    [4 "v2" "0" "1" "v24" "v25" "v26" "v27"]
    [5 "v2" "2" "3" "v28" "v29" "v30" "v31"]);
tile!(tile_5, 5, "ld1 {{v0.16b, v1.16b, v2.16b}}, [{panel}], {stride}",
    [0 "v0" "0" "1" "v8" "v9" "v10" "v11"]
    [1 "v0" "2" "3" "v12" "v13" "v14" "v15"]
    [2 "v1" "0" "1" "v16" "v17" "v18" "v19"]
    [3 "v1" "2" "3" "v20" "v21" "v22" "v23"]
    [4 "v2" "0" "1" "v24" "v25" "v26" "v27"]);
tile!(tile_4, 4, "ld1 {{v0.16b, v1.16b}}, [{panel}], {stride}",
    [0 "v0" "0" "1" "v8" "v9" "v10" "v11"]
    [1 "v0" "2" "3" "v12" "v13" "v14" "v15"]
    [2 "v1" "0" "1" "v16" "v17" "v18" "v19"]
    [3 "v1" "2" "3" "v20" "v21" "v22" "v23"]);
tile!(tile_3, 3, "ld1 {{v0.16b, v1.16b}}, [{panel}], {stride}",
    [0 "v0" "0" "1" "v8" "v9" "v10" "v11"]
    [1 "v0" "2" "3" "v12" "v13" "v14" "v15"]
    [2 "v1" "0" "1" "v16" "v17" "v18" "v19"]);
tile!(tile_2, 2, "ld1 {{v0.16b}}, [{panel}], {stride}",
    [0 "v0" "0" "1" "v8" "v9" "v10" "v11"]
    [1 "v0" "2" "3" "v12" "v13" "v14" "v15"]);
tile!(tile_1, 1, "ld1 {{v0.16b}}, [{panel}], {stride}",
    [0 "v0" "0" "1" "v8" "v9" "v10" "v11"]);
