//! `neon_i8mm`: `smmla`, 6 pixels x 16 channels.
//!
//! `smmla` multiplies 2 x 8 by 8 x 2: an accumulator holds two pixels of two channels. 24
//! accumulators, 6 registers with 8 activations of two pixels each, 2 registers of weights:
//! all 32. Per 16 of depth: 48 `smmla` and 11 paired loads.
//! - Panel: `[depth / 16][2 halves][3 pairs][2 pixels][8]`.
//! - Weights: `[depth / 8][8 pairs][2 channels][8]`.

use core::arch::aarch64::{
    int32x4_t, vld1q_s8, vreinterpretq_s8_s64, vreinterpretq_s32_s64, vreinterpretq_s64_s8,
    vreinterpretq_s64_s32, vst1q_s8, vzip1q_s64, vzip2q_s64,
};
use core::arch::asm;

use super::{detected, epilogue};
use crate::tiled::{Microkernel, Tile};

const ROWS: usize = 6;
const COLUMNS: usize = 16;
const DEPTH: usize = 16;

/// Proof that the CPU has `smmla`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonI8mm(());

impl Microkernel for NeonI8mm {
    const NAME: &'static str = "neon_i8mm_6x16";
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;

    fn new() -> Option<Self> {
        detected!("i8mm").then_some(Self(()))
    }

    fn pack_weights(weight: &dyn Fn(usize, usize) -> i8, depth: usize, packed: &mut [u8]) {
        let mut packed = packed.iter_mut();
        for k in (0..depth).step_by(8) {
            for column in 0..COLUMNS {
                for (k, byte) in (k..k + 8).zip(&mut packed) {
                    *byte = weight(k, column) as u8;
                }
            }
        }
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        let rows: &[*const i8; ROWS] = rows.try_into().expect("as many rows as the tile has");
        let mut panel = panel.cast::<i8>();
        for k in (0..depth).step_by(DEPTH) {
            for pair in 0..ROWS / 2 {
                // SAFETY: 16 bytes of both rows; 96 bytes of the panel for each 16 of depth.
                unsafe {
                    let first = vreinterpretq_s64_s8(vld1q_s8(rows[2 * pair].add(k)));
                    let second = vreinterpretq_s64_s8(vld1q_s8(rows[2 * pair + 1].add(k)));
                    let to = panel.add(16 * pair);
                    vst1q_s8(to, vreinterpretq_s8_s64(vzip1q_s64(first, second)));
                    vst1q_s8(to.add(ROWS / 2 * 16), vreinterpretq_s8_s64(vzip2q_s64(first, second)));
                }
            }
            // SAFETY: the next 16 of depth, or the end.
            panel = unsafe { panel.add(ROWS * DEPTH) };
        }
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: owning a value proves that the CPU has `smmla`; the rest is passed on.
        unsafe {
            match tile.rows {
                6.. => tile_3_pairs::<6>(tile),
                5 => tile_3_pairs::<5>(tile),
                4 => tile_2_pairs::<4>(tile),
                3 => tile_2_pairs::<3>(tile),
                2 => tile_1_pair::<2>(tile),
                _ => tile_1_pair::<1>(tile),
            }
        }
    }
}

/// Biases, twice each: for both pixels of a pair.
///
/// # Safety
/// `bias` is good for reading 16 elements.
#[inline(always)]
unsafe fn start<const PAIRS: usize>(bias: *const i32) -> [[int32x4_t; 8]; PAIRS] {
    // SAFETY: 16 biases.
    let [[a, b, c, d]] = unsafe { epilogue::start::<1>(bias) };
    [[low(a, a), high(a, a), low(b, b), high(b, b), low(c, c), high(c, c), low(d, d), high(d, d)]; PAIRS]
}

/// Pairs of pixels and channels to rows of channels.
#[inline(always)]
fn untangle<const PAIRS: usize, const ROWS: usize>(
    pairs: &[[int32x4_t; 8]; PAIRS],
) -> [[int32x4_t; 4]; ROWS] {
    core::array::from_fn(|row| {
        let pair = &pairs[row / 2];
        let half = if row % 2 == 0 { low } else { high };
        [half(pair[0], pair[1]), half(pair[2], pair[3]), half(pair[4], pair[5]), half(pair[6], pair[7])]
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

/// Two pairs of channels.
macro_rules! quarter {
    ($weights:literal, $([$activation:tt $first:tt $second:tt])*) => {
        concat!(
            "ldp q6, q7, [{weights}", $weights, "\n",
            $("smmla ", $first, ".4s, ", $activation, ".16b, v6.16b\n",)*
            $("smmla ", $second, ".4s, ", $activation, ".16b, v7.16b\n",)*
        )
    };
}

/// 16 of depth; the first load of each pointer moves it.
macro_rules! step {
    (
        [$($load:literal)*],
        $([$x:tt $y:tt $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt $g:tt $h:tt])*
    ) => {
        concat!(
            $($load, "\n",)*
            quarter!("], #256", $([$x $a $b])*),
            quarter!(", #-224]", $([$x $c $d])*),
            quarter!(", #-192]", $([$x $e $f])*),
            quarter!(", #-160]", $([$x $g $h])*),
            quarter!(", #-128]", $([$y $a $b])*),
            quarter!(", #-96]", $([$y $c $d])*),
            quarter!(", #-64]", $([$y $e $f])*),
            quarter!(", #-32]", $([$y $g $h])*),
        )
    };
}

macro_rules! tile {
    ($name:ident, $pairs:literal, $loads:tt, $([$index:literal $x:tt $y:tt $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt $g:tt $h:tt])*) => {
        /// # Safety
        /// The CPU has `smmla`, and what [`Tile`] says about its fields.
        #[target_feature(enable = "i8mm")]
        unsafe fn $name<const ROWS: usize>(tile: &Tile) {
            // SAFETY: 16 biases.
            let mut pairs: [[int32x4_t; 8]; $pairs] = unsafe { start(tile.bias) };
            // SAFETY: reads `depth * 6` bytes of the panel and `depth * 16` of the weights.
            unsafe {
                asm!(
                    "cbz {fours}, 3f",
                    "2:",
                    step!($loads, $([$x $y $a $b $c $d $e $f $g $h])*),
                    step!($loads, $([$x $y $a $b $c $d $e $f $g $h])*),
                    step!($loads, $([$x $y $a $b $c $d $e $f $g $h])*),
                    step!($loads, $([$x $y $a $b $c $d $e $f $g $h])*),
                    "subs {fours}, {fours}, #1",
                    "b.ne 2b",
                    "3:",
                    "cbz {ones}, 5f",
                    "4:",
                    step!($loads, $([$x $y $a $b $c $d $e $f $g $h])*),
                    "subs {ones}, {ones}, #1",
                    "b.ne 4b",
                    "5:",
                    panel = inout(reg) tile.panel => _,
                    weights = inout(reg) tile.weights => _,
                    fours = inout(reg) tile.depth / (4 * DEPTH) => _,
                    ones = inout(reg) tile.depth / DEPTH % 4 => _,
                    $(
                        inout($a) pairs[$index][0],
                        inout($b) pairs[$index][1],
                        inout($c) pairs[$index][2],
                        inout($d) pairs[$index][3],
                        inout($e) pairs[$index][4],
                        inout($f) pairs[$index][5],
                        inout($g) pairs[$index][6],
                        inout($h) pairs[$index][7],
                    )*
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nostack, readonly),
                );
                epilogue::finish::<ROWS>(untangle(&pairs), tile);
            }
        }
    };
}

tile!(tile_3_pairs, 3, ["ldp q0, q1, [{panel}], #96" "ldp q2, q3, [{panel}, #-64]" "ldp q4, q5, [{panel}, #-32]"],
    [0 "v0" "v3" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15"]
    [1 "v1" "v4" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23"]
    [2 "v2" "v5" "v24" "v25" "v26" "v27" "v28" "v29" "v30" "v31"]);
tile!(tile_2_pairs, 2, ["ldp q0, q1, [{panel}], #96" "ldp q3, q4, [{panel}, #-48]"],
    [0 "v0" "v3" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15"]
    [1 "v1" "v4" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23"]);
tile!(tile_1_pair, 1, ["ldr q0, [{panel}], #96" "ldr q3, [{panel}, #-48]"],
    [0 "v0" "v3" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15"]);
