//! `neon_dot_in_order`: the products of `neon_dot` in an order for cores that cannot reorder them.
//!
//! Such a core stops at an instruction whose operand is not there yet, and a load of several registers
//! occupies it for as many cycles. So registers are loaded one by one, each as soon as the last product that
//! needs its old content is issued: a step's loads lie between its products, a column of products before
//! their first use. What is loaded for the next step is nothing in the last one, which is why that is
//! written apart. Panel and weights are those of [`NeonDot`](super::NeonDot), and so are tiles of fewer rows.

use core::arch::aarch64::vdupq_n_s32;
use core::arch::asm;

use super::dot::Sdot;
use super::epilogue;
use super::kernel_6x16::{DEPTH, Kernel6x16, Products, ROWS};
use crate::convolution::tiled::{Costs, Tile};

/// The kernel.
pub(crate) type NeonDotInOrder = Kernel6x16<SdotInOrder>;

/// Proof that the CPU has `sdot`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SdotInOrder(Sdot);

// SAFETY: `Sdot::new` asks for `sdot`; the tiles read and write what `Tile` says.
unsafe impl Products for SdotInOrder {
    const WEIGHT_STEP: usize = Sdot::WEIGHT_STEP;
    const COSTS: Costs = Costs { tile_loads: 22, ..Sdot::COSTS };

    fn new() -> Option<Self> {
        Sdot::new().map(Self)
    }

    #[inline(always)]
    unsafe fn tiles(self, tile: &Tile, tiles: usize) {
        // SAFETY: owning a value proves that the CPU has `sdot`; the rest is as stated.
        unsafe {
            if tile.rows >= ROWS {
                tile_6(tile, tiles);
            } else {
                self.0.tiles(tile, tiles);
            }
        }
    }
}

/// 4 of depth of four channels: the lanes of the first and the second row of each pair, then the rows'
/// accumulators. `$loads` follow the products of each pair of rows.
macro_rules! column {
    (
        $weights:literal, $even:literal, $odd:literal, [$($loads:expr),*],
        $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal
    ) => {
        column!(@ $weights, $even, $odd, [$($loads,)* "", "", ""], $a $b $c $d $e $f)
    };
    (
        @ $weights:literal, $even:literal, $odd:literal, [$x:expr, $y:expr, $z:expr $(, $rest:expr)*],
        $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal
    ) => {
        concat!(
            "sdot ", $a, ".4s, ", $weights, ".16b, v0.4b[", $even, "]\n",
            "sdot ", $b, ".4s, ", $weights, ".16b, v0.4b[", $odd, "]\n",
            $x,
            "sdot ", $c, ".4s, ", $weights, ".16b, v1.4b[", $even, "]\n",
            "sdot ", $d, ".4s, ", $weights, ".16b, v1.4b[", $odd, "]\n",
            $y,
            "sdot ", $e, ".4s, ", $weights, ".16b, v2.4b[", $even, "]\n",
            "sdot ", $f, ".4s, ", $weights, ".16b, v2.4b[", $odd, "]\n",
            $z,
        )
    };
}

/// 4 of depth; each register of weights is loaded again at `$next` once its column is done, and
/// `$activations` are after their last use.
macro_rules! half {
    ($even:literal, $odd:literal, $next:tt, $activations:tt) => {
        concat!(
            column!("v3", $even, $odd, [], "v8" "v12" "v16" "v20" "v24" "v28"),
            weights!("3", $next, "0"),
            column!("v4", $even, $odd, [], "v9" "v13" "v17" "v21" "v25" "v29"),
            weights!("4", $next, "16"),
            column!("v5", $even, $odd, [], "v10" "v14" "v18" "v22" "v26" "v30"),
            weights!("5", $next, "32"),
            column!("v6", $even, $odd, $activations, "v11" "v15" "v19" "v23" "v27" "v31"),
            weights!("6", $next, "48"),
        )
    };
}

/// A register of weights, at an offset to those of this loop.
macro_rules! weights {
    ($register:literal, none, $place:literal) => {
        ""
    };
    ($register:literal, $offset:literal, $place:literal) => {
        concat!("ldr q", $register, ", [{weights}, #", $offset, "+", $place, "]\n")
    };
}

/// 8 of depth, step `$step` of a loop, and the loads of the step behind it, `$next`.
macro_rules! step {
    ($step:literal, none) => {
        concat!(half!("0", "2", $step, []), half!("1", "3", none, []))
    };
    ($step:literal, $next:literal) => {
        concat!(
            half!("0", "2", $step, []),
            half!(
                "1",
                "3",
                $next,
                [
                    concat!("ldr q0, [{panel}, #", $next, "/128*48]\n"),
                    concat!("ldr q1, [{panel}, #", $next, "/128*48+16]\n"),
                    concat!("ldr q2, [{panel}, #", $next, "/128*48+32]\n")
                ]
            ),
        )
    };
}

/// # Safety
/// The CPU has `sdot`, and what [`Tile`] says about its fields, which has 6 rows.
#[target_feature(enable = "dotprod")]
unsafe fn tile_6(tile: &Tile, tiles: usize) {
    let mut tile = *tile;
    // The last one has no next one.
    let steps = tile.depth / DEPTH - 1;
    for _ in 0..tiles {
        // SAFETY: 16 biases; reads `depth * 6` bytes of the panel, which end where the next panel starts, and
        // `depth * 16` of the weights; then 6 rows are stored.
        unsafe {
            let mut rows = [[vdupq_n_s32(0); 4]; ROWS];
            asm!(
                "ld1 {{v8.4s, v9.4s, v10.4s, v11.4s}}, [{bias}]",
                "ld1 {{v12.4s, v13.4s, v14.4s, v15.4s}}, [{bias}]",
                "ld1 {{v16.4s, v17.4s, v18.4s, v19.4s}}, [{bias}]",
                "ld1 {{v20.4s, v21.4s, v22.4s, v23.4s}}, [{bias}]",
                "ld1 {{v24.4s, v25.4s, v26.4s, v27.4s}}, [{bias}]",
                "ld1 {{v28.4s, v29.4s, v30.4s, v31.4s}}, [{bias}]",
                "ldr q0, [{panel}]",
                "ldr q1, [{panel}, #16]",
                "ldr q2, [{panel}, #32]",
                "ldr q3, [{weights}]",
                "ldr q4, [{weights}, #16]",
                "ldr q5, [{weights}, #32]",
                "ldr q6, [{weights}, #48]",
                "cbz {fours}, 3f",
                "2:",
                step!("64", "128"),
                step!("192", "256"),
                step!("320", "384"),
                step!("448", "512"),
                "add {panel}, {panel}, #192",
                "add {weights}, {weights}, #512",
                "subs {fours}, {fours}, #1",
                "b.ne 2b",
                "3:",
                "cbz {ones}, 5f",
                "4:",
                step!("64", "128"),
                "add {panel}, {panel}, #48",
                "add {weights}, {weights}, #128",
                "subs {ones}, {ones}, #1",
                "b.ne 4b",
                "5:",
                step!("64", none),
                "add {panel}, {panel}, #48",
                bias = in(reg) tile.bias,
                panel = inout(reg) tile.panel,
                weights = inout(reg) tile.weights => _,
                fours = inout(reg) steps / 4 => _,
                ones = inout(reg) steps % 4 => _,
                out("v8") rows[0][0], out("v9") rows[0][1], out("v10") rows[0][2], out("v11") rows[0][3],
                out("v12") rows[1][0], out("v13") rows[1][1], out("v14") rows[1][2], out("v15") rows[1][3],
                out("v16") rows[2][0], out("v17") rows[2][1], out("v18") rows[2][2], out("v19") rows[2][3],
                out("v20") rows[3][0], out("v21") rows[3][1], out("v22") rows[3][2], out("v23") rows[3][3],
                out("v24") rows[4][0], out("v25") rows[4][1], out("v26") rows[4][2], out("v27") rows[4][3],
                out("v28") rows[5][0], out("v29") rows[5][1], out("v30") rows[5][2], out("v31") rows[5][3],
                out("v0") _, out("v1") _, out("v2") _,
                out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                options(nostack, readonly),
            );
            epilogue::finish(rows, &tile);
            tile.move_down(ROWS);
        }
    }
}
