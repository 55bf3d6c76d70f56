//! AMX: `tdpbssd` multiplies 16 rows of 64 signed bytes with 64 rows of 16, in 16 cycles: eight times
//! the products of `vpdpbusd`.
//!
//! A tile of 32 pixels x 64 channels is two blocks, each of 32 x 32: four of the eight registers hold its
//! sums, two hold 16 pixels each, two hold 16 channels each, so four products share four loads. Sums leave
//! the registers through memory, where AVX-512 requantises them. It does so two blocks later: before, what
//! was stored is not yet in the first-level cache, and the loads wait.
//! - Panel: `[depth / 64][32 pixels][64]`.
//! - Weights: `[block][depth / 4][32 channels][4]`, the channels in the order of [`avx512`](super::avx512).
//!
//! The intrinsics are not stable in Rust, so these are instructions.

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::avx512::{ORDER, PLAIN, Place, even_odd, finish, finish_plain, prepare_scale};
use super::detect::{amx_permitted, detected};
use super::unroll::each_row;
use crate::CacheSizes;
use crate::convolution::tiled::{Costs, Microkernel, Tile};

/// Rows of a register.
const HALF: usize = 16;
const ROWS: usize = 2 * HALF;
/// Channels that are multiplied at once.
const BLOCK: usize = 2 * HALF;
const COLUMNS: usize = 2 * BLOCK;
const DEPTH: usize = 64;
/// Rows of a tile are requantised in so many parts, between its successor's products.
const PARTS: usize = 4;
const PART_ROWS: usize = ROWS / PARTS;

/// How far ahead of the first tile's products weights are fetched.
const AHEAD: usize = 4096;

/// Proof that the CPU has AMX for bytes and AVX-512 with VNNI, and that the operating system lets us
/// use them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86Amx(());

// SAFETY: `new` asks for all features that the functions below use. They read and write whole rows of
// the tile and of the panel.
unsafe impl Microkernel for X86Amx {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const WEIGHT_STEP: usize = 4;
    const WEIGHT_COLUMNS: usize = BLOCK;
    const COSTS: Costs = Costs {
        row_products: 2,
        row_step: HALF,
        tile_loads: 8,
        row: 15,
        row_residual: 5,
        tile: 200,
        panel: 45,
        tap: 90,
    };
    const NARROW: bool = true;
    const COLUMN_ORDER: Option<&'static [usize]> = Some(&ORDER);

    fn new() -> Option<Self> {
        (detected!("avx512f", "avx512bw", "avx512vl", "avx512vnni") && amx_permitted()).then_some(Self(()))
    }

    fn block_tiles(caches: CacheSizes, threads: usize, panel: usize, touched: usize, _: usize) -> usize {
        // Weights pass by so quickly that they are better read less often: 8 % of the last stage.
        caches.l2_share(threads) / 3 / (panel + touched)
    }

    fn prepare_scale(multiplier: &mut [i32], shift: u32, bound: &dyn Fn() -> i64) -> u32 {
        prepare_scale(multiplier, shift, bound)
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
        unsafe { pack_rows(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
        unsafe { sweep(tile, 1) };
    }

    unsafe fn sweep(self, tile: &Tile, tiles: usize) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is as stated.
        unsafe { sweep(tile, tiles) };
    }
}

/// Writes 64 bytes of each row in turn.
///
/// # Safety
/// The CPU has AVX-512; `rows` has `ROWS` pointers, each good for reading `depth` bytes, a multiple of
/// 64; `panel` is good for writing `ROWS` times as many.
#[target_feature(enable = "avx512f")]
unsafe fn pack_rows(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let rows: &[*const i8; ROWS] = rows.try_into().expect("as many rows as the tile has");
    for k in (0..depth).step_by(DEPTH) {
        for (index, row) in rows.iter().enumerate() {
            // SAFETY: 64 bytes of each row, and of the panel.
            unsafe {
                let to = panel.add(k * ROWS + index * DEPTH);
                _mm512_storeu_si512(to.cast(), _mm512_loadu_si512(row.add(k).cast()));
            }
        }
    }
}

/// The shapes of the registers, as `ldtilecfg` reads them: 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = {
    let mut configuration =
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut register = 0;
    while register < 8 {
        configuration.row_bytes[register] = 64;
        configuration.rows[register] = HALF as u8;
        register += 1;
    }
    configuration
};

/// The sums of a row: those of the even and those of the odd channels.
type RowSums = [[i32; 16]; 2];

/// The sums of a tile.
#[repr(C, align(64))]
struct Sums([RowSums; ROWS]);

/// What each row starts from.
#[repr(C, align(64))]
struct Bias([__m512i; 2]);

/// Computes `tiles` tiles one below the other; of a single one, `rows` rows are stored.
///
/// # Safety
/// The CPU has the instructions, and what [`Tile`] says about the fields of all tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sweep(tile: &Tile, tiles: usize) {
    if tiles == 0 {
        return;
    }
    // SAFETY: as stated.
    unsafe {
        if tile.rows > HALF {
            sweep_rows::<2>(tile, tiles);
        } else {
            sweep_rows::<1>(tile, tiles);
        }
    }
}

/// As [`sweep`], of `HALVES` times 16 rows; at least one tile.
///
/// # Safety
/// As [`sweep`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sweep_rows<const HALVES: usize>(tile: &Tile, tiles: usize) {
    // One of them is read while the other is written.
    let mut sums = [const { MaybeUninit::<Sums>::uninit() }; 2];
    let steps = tile.depth / DEPTH;
    let across = tile.columns.div_ceil(BLOCK);
    let blocks = tiles * across;
    let at = |index: usize| (index / across, index % across);
    let place = |index: usize| {
        let (down, right) = at(index);
        Place { row: down * ROWS, column: right * BLOCK }
    };
    // SAFETY: as stated for all constants; registers are configured before they are used, and given back.
    unsafe {
        let bias = [Bias(even_odd(tile.bias)), Bias(even_odd(tile.bias.add(BLOCK)))];
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, preserves_flags));
        for index in 0..blocks {
            let (down, right) = at(index);
            let mut panel = tile.panel.add(tile.depth * (down * ROWS));
            let mut weights = tile.weights.add(tile.depth * (right * BLOCK));
            start::<HALVES>(&bias[right]);
            let mut step = 0;
            for part in 0..PARTS {
                let end = ((part + 1) * steps).div_ceil(PARTS);
                if end > step {
                    if down == 0 {
                        multiply::<HALVES, 1>(&mut panel, &mut weights, end - step);
                    } else {
                        multiply::<HALVES, 0>(&mut panel, &mut weights, end - step);
                    }
                    step = end;
                }
                if index > 1 {
                    requantise(&sums[index % 2], part, tile, place(index - 2));
                }
            }
            store::<HALVES>(&mut sums[index % 2]);
        }
        for index in blocks.saturating_sub(2)..blocks {
            for part in 0..PARTS {
                requantise(&sums[index % 2], part, tile, place(index));
            }
        }
        asm!("tilerelease", options(nomem, nostack, preserves_flags));
    }
}

/// Starts the sums from the biases.
///
/// # Safety
/// The registers are configured.
#[inline(always)]
unsafe fn start<const HALVES: usize>(bias: &Bias) {
    // SAFETY: a stride of 0 reads the biases for each row.
    unsafe {
        asm!(
            "tileloadd tmm0, [{bias} + {zero}]",
            "tileloadd tmm1, [{bias} + {zero} + 64]",
            ".if {halves} == 2",
            "tileloadd tmm2, [{bias} + {zero}]",
            "tileloadd tmm3, [{bias} + {zero} + 64]",
            ".endif",
            bias = in(reg) bias,
            zero = in(reg) 0_usize,
            halves = const HALVES,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, preserves_flags, readonly),
        );
    }
}

/// Multiplies `steps` steps of depth, at least one, and moves on behind them.
///
/// # Safety
/// The registers are configured; the panel has `ROWS` times 64 bytes for each step, the weights `BLOCK`
/// times.
#[inline(always)]
unsafe fn multiply<const HALVES: usize, const FETCH: usize>(
    panel: &mut *const u8,
    weights: &mut *const u8,
    steps: usize,
) {
    // SAFETY: as stated.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm6, [{weights} + {pair}]",
            "tileloadd tmm4, [{panel} + {line}]",
            "tileloadd tmm7, [{weights} + {pair} + 64]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tdpbssd tmm1, tmm4, tmm7",
            ".if {halves} == 2",
            "tileloadd tmm5, [{panel} + {line} + 1024]",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            ".endif",
            ".if {fetch}",
            ".set .Lahead, {ahead}",
            ".rept 32",
            "prefetcht0 [{weights} + .Lahead]",
            ".set .Lahead, .Lahead + 64",
            ".endr",
            ".endif",
            "add {panel}, 2048",
            "add {weights}, 2048",
            "dec {steps}",
            "jnz 2b",
            panel = inout(reg) *panel,
            weights = inout(reg) *weights,
            steps = inout(reg) steps => _,
            line = in(reg) 64_usize,
            pair = in(reg) 128_usize,
            halves = const HALVES,
            fetch = const FETCH,
            ahead = const AHEAD,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// Stores the sums.
///
/// # Safety
/// The registers are configured.
#[inline(always)]
unsafe fn store<const HALVES: usize>(sums: &mut MaybeUninit<Sums>) {
    // SAFETY: two registers for each 16 rows.
    unsafe {
        asm!(
            "tilestored [{sums} + {pair}], tmm0",
            "tilestored [{sums} + {pair} + 64], tmm1",
            ".if {halves} == 2",
            "tilestored [{sums} + {pair} + 2048], tmm2",
            "tilestored [{sums} + {pair} + 2112], tmm3",
            ".endif",
            sums = in(reg) sums.as_mut_ptr(),
            pair = in(reg) 128_usize,
            halves = const HALVES,
            options(nostack, preserves_flags),
        );
    }
}

/// Requantises and stores one of the [`PARTS`] of the rows of a block.
///
/// # Safety
/// The CPU has AVX-512 with VNNI; the sums of the rows were written, and what [`Tile`] says about its
/// fields holds for 32 channels at this place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn requantise(sums: &MaybeUninit<Sums>, part: usize, tile: &Tile, mut place: Place) {
    let first = part * PART_ROWS;
    let rows = tile.rows.saturating_sub(first).min(PART_ROWS);
    place.row += first;
    // SAFETY: as stated: these rows were written.
    unsafe {
        let sums = core::slice::from_raw_parts(sums.as_ptr().cast::<RowSums>().add(first), rows);
        if tile.shift & PLAIN != 0 {
            finish_plain(sums, tile, place);
        } else if let Ok(all) = sums.try_into() {
            finish_rows::<PART_ROWS>(all, tile, place);
        } else {
            for sums in sums {
                finish_rows(&[*sums], tile, place);
                place.row += 1;
            }
        }
    }
}

/// Requantises and stores `N` rows.
///
/// # Safety
/// As [`requantise`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn finish_rows<const N: usize>(sums: &[RowSums; N], tile: &Tile, place: Place) {
    // SAFETY: a vector is 16 numbers.
    let mut rows = sums.map(|row| row.map(|sums| unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }));
    if tile.shift != 0 {
        let count = _mm_cvtsi32_si128(tile.shift as i32);
        each_row!(row < N, {
            rows[row] = rows[row].map(|sums| _mm512_sll_epi32(sums, count));
        });
    }
    // SAFETY: as stated.
    unsafe {
        if tile.residual.is_null() {
            finish::<N, false>(rows, tile, place);
        } else {
            finish::<N, true>(rows, tile, place);
        }
    }
}
