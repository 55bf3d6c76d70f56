//! `neon_i8mm`: `smmla`, 6 pixels x 16 channels.
//!
//! `smmla` multiplies 2 x 8 by 8 x 2: an accumulator holds two pixels of two channels. 24
//! accumulators, 3 registers with 8 activations of two pixels each, 4 registers of weights: 31 of
//! 32. Per 8 of depth: 24 `smmla` and 3 loads, of 3, 4 and 4 registers.
//! - Weights: `[depth / 8][8 pairs][2 channels][8]`.

use core::arch::aarch64::{
    int32x4_t, vdupq_n_s32, vreinterpretq_s32_s64, vreinterpretq_s64_s32, vzip1q_s64, vzip2q_s64,
};
use core::arch::asm;

use super::detect::detected;
use super::epilogue;
use super::kernel_6x16::{DEPTH, Kernel6x16, Products, ROWS};
use crate::convolution::tiled::{Costs, Tile};

/// The kernel.
pub(crate) type NeonI8mm = Kernel6x16<Smmla>;

/// Proof that the CPU has `smmla`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Smmla(());

// SAFETY: `new` asks for `smmla`; the tiles read and write what `Tile` says.
unsafe impl Products for Smmla {
    const WEIGHT_STEP: usize = 8;
    const COSTS: Costs = Costs {
        row_products: 8,
        row_step: 2,
        tile_loads: 6,
        row: 19,
        row_residual: 7,
        tile: 30,
        panel: 13,
        tap: 45,
    };

    fn new() -> Option<Self> {
        detected!("i8mm").then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn tiles(self, tile: &Tile, tiles: usize) {
        // SAFETY: owning a value proves that the CPU has `smmla`; the rest is as stated.
        unsafe {
            match tile.rows {
                6.. => tile_3_pairs::<6>(tile, tiles),
                5 => tile_3_pairs::<5>(tile, tiles),
                4 => tile_2_pairs::<4>(tile, tiles),
                3 => tile_2_pairs::<3>(tile, tiles),
                2 => tile_1_pair::<2>(tile, tiles),
                _ => tile_1_pair::<1>(tile, tiles),
            }
        }
    }
}

/// Biases, twice each: for both pixels of a pair.
///
/// # Safety
/// `bias` is good for reading 16 elements.
#[inline(always)]
unsafe fn start(bias: *const i32) -> [int32x4_t; 8] {
    // SAFETY: 16 biases.
    let [[a, b, c, d]] = unsafe { epilogue::start::<1>(bias) };
    [low(a, a), high(a, a), low(b, b), high(b, b), low(c, c), high(c, c), low(d, d), high(d, d)]
}

/// Pairs of pixels and channels to rows of channels.
#[inline(always)]
fn untangle<const PAIRS: usize, const ROWS: usize>(
    pairs: &[[int32x4_t; 8]; PAIRS],
) -> [[int32x4_t; 4]; ROWS] {
    core::array::from_fn(|row| {
        let [a, b, c, d, e, f, g, h] = pairs[row / 2];
        if row % 2 == 0 {
            [low(a, b), low(c, d), low(e, f), low(g, h)]
        } else {
            [high(a, b), high(c, d), high(e, f), high(g, h)]
        }
    })
}

#[inline(always)]
fn low(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    // SAFETY: NEON belongs to aarch64.
    unsafe { vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b))) }
}

#[inline(always)]
fn high(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    // SAFETY: NEON belongs to aarch64.
    unsafe { vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b))) }
}

/// 8 of depth and four pairs of channels.
macro_rules! half {
    ($([$activation:tt $a:tt $b:tt $c:tt $d:tt])*) => {
        concat!(
            "ld1 {{v3.16b, v4.16b, v5.16b, v6.16b}}, [{weights}], #64\n",
            $("smmla ", $a, ".4s, ", $activation, ".16b, v3.16b\n",)*
            $("smmla ", $b, ".4s, ", $activation, ".16b, v4.16b\n",)*
            $("smmla ", $c, ".4s, ", $activation, ".16b, v5.16b\n",)*
            $("smmla ", $d, ".4s, ", $activation, ".16b, v6.16b\n",)*
        )
    };
}

/// 8 of depth.
macro_rules! step {
    ($load:literal, $([$x:tt $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt $g:tt $h:tt])*) => {
        concat!($load, "\n", half!($([$x $a $b $c $d])*), half!($([$x $e $f $g $h])*))
    };
}

macro_rules! tile {
    (
        $name:ident, $pairs:literal, $load:literal,
        $([$index:literal $x:tt $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt $g:tt $h:tt])*
    ) => {
        /// # Safety
        /// The CPU has `smmla`, and what [`Tile`] says about its fields.
        #[target_feature(enable = "i8mm")]
        unsafe fn $name<const ROWS: usize>(tile: &Tile, tiles: usize) {
            let mut tile = *tile;
            // SAFETY: 16 biases.
            let bias = unsafe { start(tile.bias) };
            for _ in 0..tiles {
            // SAFETY: reads the biases, `depth * 6` bytes of the panel, which end where the next
            // panel starts, and `depth * 16` of the weights; then `ROWS` rows are stored.
            unsafe {
                let mut pairs = [[vdupq_n_s32(0); 8]; $pairs];
                asm!(
                    $(
                        concat!("ld1 {{", $a, ".4s, ", $b, ".4s, ", $c, ".4s, ", $d, ".4s}}, [{low}]"),
                        concat!("ld1 {{", $e, ".4s, ", $f, ".4s, ", $g, ".4s, ", $h, ".4s}}, [{high}]"),
                    )*
                    "cbz {eights}, 3f",
                    "2:",
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    "subs {eights}, {eights}, #1",
                    "b.ne 2b",
                    "3:",
                    "cbz {ones}, 5f",
                    "4:",
                    step!($load, $([$x $a $b $c $d $e $f $g $h])*),
                    "subs {ones}, {ones}, #1",
                    "b.ne 4b",
                    "5:",
                    low = in(reg) bias.as_ptr(),
                    high = in(reg) bias.as_ptr().add(4),
                    panel = inout(reg) tile.panel,
                    weights = inout(reg) tile.weights => _,
                    eights = inout(reg) tile.depth / (8 * DEPTH) => _,
                    ones = inout(reg) tile.depth / DEPTH % 8 => _,
                    stride = in(reg) DEPTH * self::ROWS,
                    $(
                        out($a) pairs[$index][0],
                        out($b) pairs[$index][1],
                        out($c) pairs[$index][2],
                        out($d) pairs[$index][3],
                        out($e) pairs[$index][4],
                        out($f) pairs[$index][5],
                        out($g) pairs[$index][6],
                        out($h) pairs[$index][7],
                    )*
                    out("v0") _, out("v1") _, out("v2") _,
                    out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                    options(nostack, readonly),
                );
                epilogue::finish::<ROWS>(untangle(&pairs), &tile);
                tile.move_down(ROWS);
            }
            }
        }
    };
}

tile!(tile_3_pairs, 3, "ld1 {{v0.16b, v1.16b, v2.16b}}, [{panel}], {stride}",
    [0 "v0" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15"]
    [1 "v1" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23"]
    [2 "v2" "v24" "v25" "v26" "v27" "v28" "v29" "v30" "v31"]);
tile!(tile_2_pairs, 2, "ld1 {{v0.16b, v1.16b}}, [{panel}], {stride}",
    [0 "v0" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15"]
    [1 "v1" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23"]);
tile!(tile_1_pair, 1, "ld1 {{v0.16b}}, [{panel}], {stride}",
    [0 "v0" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15"]);
