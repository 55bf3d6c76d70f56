//! `neon_mlal`: `smull`, `smlal2`, `sadalp` along the depth, 4 pixels x 16 channels.
//!
//! For ARMv8.0. A product of two bytes is 16 bits wide, and weights stop at -127, so the sum of
//! two products still fits: `smull` and `smlal2` multiply 16 pairs, `sadalp` adds their sums
//! to an accumulator. Inside, four blocks of 4 x 4: 16 accumulators, 4 registers of
//! activations, 4 of weights, 8 of products: all 32. Per 16 of depth of a block: 48
//! multiplications and sums, 4 paired loads.
//! - Panel: `[depth / 16][4 pixels][16]`.
//! - Weights: `[4 blocks][depth / 16][4 channels][16]`.

use core::arch::aarch64::{int32x4_t, vaddq_s32, vdupq_n_s32, vpaddq_s32};
use core::arch::asm;

use super::{blocks, epilogue, panel};
use crate::CacheSizes;
use crate::convolution::tiled::{Costs, Microkernel, Tile};

const ROWS: usize = 4;
const COLUMNS: usize = 16;
const DEPTH: usize = 16;
/// Channels of a block.
const BLOCK: usize = 4;

/// The kernel for every aarch64 CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonMlal(());

// SAFETY: NEON belongs to aarch64; the tiles read and write what `Tile` says, and `interleave` reads `depth`
// bytes of each row and fills the panel.
unsafe impl Microkernel for NeonMlal {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const WEIGHT_STEP: usize = 16;
    const WEIGHT_COLUMNS: usize = BLOCK;
    const COSTS: Costs = Costs {
        row_products: 48,
        row_step: 1,
        tile_loads: 16,
        row: 28,
        row_residual: 7,
        tile: 60,
        panel: 10,
        tap: 40,
    };

    fn new() -> Option<Self> {
        Some(Self(()))
    }

    fn block_tiles(
        caches: CacheSizes,
        threads: usize,
        panel: usize,
        _touched: usize,
        weights: usize,
    ) -> usize {
        blocks::block_tiles(caches, threads, panel, ROWS, weights)
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        // SAFETY: `depth` bytes of each row, `depth * ROWS` of the panel.
        unsafe { panel::interleave(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: as stated.
        unsafe {
            match tile.rows {
                4.. => tile_4(tile),
                3 => tile_3(tile),
                2 => tile_2(tile),
                _ => tile_1(tile),
            }
        }
    }
}

/// 16 of depth of two channels, weights in `$v` and `$w`: `$sum` is `sadalp`, or `saddlp` to start.
macro_rules! half {
    ($sum:literal, $v:literal, $w:literal, $([$activation:tt $p:tt $q:tt $a:tt $b:tt])*) => {
        concat!(
            $("smull ", $p, ".8h, ", $activation, ".8b, ", $v, ".8b\n",)*
            $("smull ", $q, ".8h, ", $activation, ".8b, ", $w, ".8b\n",)*
            $("smlal2 ", $p, ".8h, ", $activation, ".16b, ", $v, ".16b\n",)*
            $("smlal2 ", $q, ".8h, ", $activation, ".16b, ", $w, ".16b\n",)*
            $($sum, " ", $a, ".4s, ", $p, ".8h\n",)*
            $($sum, " ", $b, ".4s, ", $q, ".8h\n",)*
        )
    };
}

/// 16 of depth; the first load of each pointer moves it.
macro_rules! step {
    (
        $sum:literal,
        $([$activation:tt $p:tt $q:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        concat!(
            "ldp q0, q1, [{panel}], #64\n",
            "ldp q4, q5, [{weights}], #64\n",
            "ldp q2, q3, [{panel}, #-32]\n",
            "ldp q6, q7, [{weights}, #-32]\n",
            half!($sum, "v4", "v5", $([$activation $p $q $a $b])*),
            half!($sum, "v6", "v7", $([$activation $p $q $c $d])*),
        )
    };
}

macro_rules! tile {
    (
        $name:ident, $count:literal,
        $([$index:literal $activation:tt $p:tt $q:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        /// # Safety
        /// What [`Tile`] says about its fields.
        unsafe fn $name(tile: &Tile) {
            let steps = tile.depth / DEPTH - 1;
            // SAFETY: 16 biases; each block reads `depth * 4` bytes of the panel and of weights.
            unsafe {
                let mut rows: [[int32x4_t; COLUMNS / BLOCK]; $count] = epilogue::start(tile.bias);
                let mut weights = tile.weights;
                for block in 0..COLUMNS / BLOCK {
                    let mut sums = [[vdupq_n_s32(0); BLOCK]; $count];
                    asm!(
                        step!("saddlp", $([$activation $p $q $a $b $c $d])*),
                        "cbz {fours}, 3f",
                        "2:",
                        step!("sadalp", $([$activation $p $q $a $b $c $d])*),
                        step!("sadalp", $([$activation $p $q $a $b $c $d])*),
                        step!("sadalp", $([$activation $p $q $a $b $c $d])*),
                        step!("sadalp", $([$activation $p $q $a $b $c $d])*),
                        "subs {fours}, {fours}, #1",
                        "b.ne 2b",
                        "3:",
                        "cbz {ones}, 5f",
                        "4:",
                        step!("sadalp", $([$activation $p $q $a $b $c $d])*),
                        "subs {ones}, {ones}, #1",
                        "b.ne 4b",
                        "5:",
                        panel = inout(reg) tile.panel => _,
                        weights = inout(reg) weights,
                        fours = inout(reg) steps / 4 => _,
                        ones = inout(reg) steps % 4 => _,
                        $(
                            out($a) sums[$index][0],
                            out($b) sums[$index][1],
                            out($c) sums[$index][2],
                            out($d) sums[$index][3],
                        )*
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                        out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                        out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                        out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                        options(nostack, readonly),
                    );
                    for (row, [a, b, c, d]) in rows.iter_mut().zip(sums) {
                        let sum = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
                        row[block] = vaddq_s32(row[block], sum);
                    }
                }
                epilogue::finish(rows, tile);
            }
        }
    };
}

tile!(tile_4, 4,
    [0 "v0" "v8" "v9" "v16" "v17" "v18" "v19"]
    [1 "v1" "v10" "v11" "v20" "v21" "v22" "v23"]
    [2 "v2" "v12" "v13" "v24" "v25" "v26" "v27"]
    [3 "v3" "v14" "v15" "v28" "v29" "v30" "v31"]);
tile!(tile_3, 3,
    [0 "v0" "v8" "v9" "v16" "v17" "v18" "v19"]
    [1 "v1" "v10" "v11" "v20" "v21" "v22" "v23"]
    [2 "v2" "v12" "v13" "v24" "v25" "v26" "v27"]);
tile!(tile_2, 2,
    [0 "v0" "v8" "v9" "v16" "v17" "v18" "v19"]
    [1 "v1" "v10" "v11" "v20" "v21" "v22" "v23"]);
tile!(tile_1, 1,
    [0 "v0" "v8" "v9" "v16" "v17" "v18" "v19"]);
