//! What an instruction set brings: one tile of a matrix product, and how its operands are packed.

use core::fmt::Debug;

use crate::CacheSizes;

/// No tile has more rows: bounds the arrays on the stack.
pub(super) const MAX_ROWS: usize = if cfg!(target_arch = "x86_64") { 32 } else { 16 };
/// No tile has more columns.
pub(super) const MAX_COLUMNS: usize = 64;
/// The most bytes of panels, output and residual that stay while the weights pass by; the
/// figures for x86 were taken with it.
const MAX_BLOCK_BYTES: usize = 256 << 10;

/// Instructions that a micro-kernel takes, by which a layer is cut into balanced parts. A step is 16 of
/// depth.
#[derive(Debug)]
pub(crate) struct Costs {
    /// Products of a row and all columns of a tile, for each step.
    pub(crate) row_products: usize,
    /// Rows that are multiplied together.
    pub(crate) row_step: usize,
    /// Loads of a tile for each step, however many rows it has.
    pub(crate) tile_loads: usize,
    /// Requantising and storing a row.
    pub(crate) row: usize,
    /// Adding the residual of a row.
    pub(crate) row_residual: usize,
    /// What every tile takes.
    pub(crate) tile: usize,
    /// Packing a panel, for each step.
    pub(crate) panel: usize,
    /// Finding the rows of a panel, for each tap of the window.
    pub(crate) tap: usize,
}

/// One tile kernel of an instruction set.
///
/// A value can only be made by [`new`](Self::new), which asks the CPU: owning one proves
/// that the CPU has the instructions.
///
/// # Safety
/// The driver lets an implementation read and write memory as its constants and [`Tile`] say, so an
/// implementer vouches that
/// - [`new`](Self::new) gives a value only on a CPU that has every instruction of the methods;
/// - `ROWS` and `COLUMNS` are at most [`MAX_ROWS`] and [`MAX_COLUMNS`], `DEPTH` is a multiple of
///   `WEIGHT_STEP` and at most a cache line, `WEIGHT_COLUMNS` divides `COLUMNS`, and `COLUMN_ORDER` is a
///   permutation of them;
/// - [`pack_rows`](Self::pack_rows) reads no more than `depth` bytes of each row, and writes all of the
///   `depth * ROWS * ACTIVATION_BYTES` bytes of the panel and nothing else;
/// - [`tile`](Self::tile) and [`sweep`](Self::sweep) read no more of panels, weights, bias, multiplier
///   and residual than [`Tile`] says, and write `columns` elements of each row of output and nothing else.
pub(crate) unsafe trait Microkernel: Copy + Debug + Send + Sync + 'static {
    /// Output pixels of a tile.
    const ROWS: usize;
    /// Output channels of a tile.
    const COLUMNS: usize;
    /// The depth is padded to a multiple of this with zero weights.
    const DEPTH: usize;
    /// Bytes of a packed activation.
    const ACTIVATION_BYTES: usize = 1;
    /// Bytes of a packed weight: 1, or 2 where the instruction multiplies 16-bit numbers.
    const WEIGHT_BYTES: usize = 1;
    /// Weights of a column that lie next to each other: 2, 4, 8 or 16.
    const WEIGHT_STEP: usize;
    /// Columns whose weights are interleaved. Packed weights are
    /// `[COLUMNS / WEIGHT_COLUMNS][depth / WEIGHT_STEP][WEIGHT_COLUMNS][WEIGHT_STEP]`.
    const WEIGHT_COLUMNS: usize = Self::COLUMNS;
    /// The order of each `WEIGHT_COLUMNS` columns in packed weights, where it is not their own.
    const COLUMN_ORDER: Option<&'static [usize]> = None;
    /// What it takes.
    const COSTS: Costs;
    /// What packing adds to an activation: 128 where the instruction multiplies unsigned
    /// bytes. The driver takes it out of the bias again.
    const ACTIVATION_OFFSET: i32 = 0;

    /// Whether it stores fewer columns than `COLUMNS` by itself: see [`Tile::columns`].
    const NARROW: bool = false;

    /// The kernel, when the running CPU has its instructions.
    fn new() -> Option<Self>;

    /// Row tiles that stay in the caches while `weights` bytes pass by, with so many threads. Each
    /// has a panel of `panel` bytes and writes and reads `touched` bytes of output and residual.
    fn block_tiles(
        caches: CacheSizes,
        threads: usize,
        panel: usize,
        touched: usize,
        _weights: usize,
    ) -> usize {
        (caches.l2_share(threads) / 2).min(MAX_BLOCK_BYTES) / (panel + touched)
    }

    /// Rewrites a layer's multipliers and shift into what [`tile`](Self::tile) reads. No accumulator
    /// is larger than `bound()`.
    fn prepare_scale(_multiplier: &mut [i32], shift: u32, _bound: &dyn Fn() -> i64) -> u32 {
        shift
    }

    /// Packs `depth` (a multiple of `DEPTH`) activations of each row into
    /// `depth * ROWS * ACTIVATION_BYTES` bytes at `panel`. The panel of a longer row is the
    /// concatenation of the panels of its segments.
    ///
    /// # Safety
    /// `rows` has `ROWS` pointers, each good for reading `depth` bytes; `panel`, aligned to
    /// `DEPTH` bytes, is good for writing all of its bytes.
    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8);

    /// Computes one tile and stores it.
    ///
    /// # Safety
    /// Everything [`Tile`] says about its fields holds.
    unsafe fn tile(self, tile: &Tile);

    /// Computes `tiles` tiles of `ROWS` rows, one below the other, their panels one after the
    /// other.
    ///
    /// # Safety
    /// As [`tile`](Self::tile) for each of them.
    #[inline(always)]
    unsafe fn sweep(self, tile: &Tile, tiles: usize) {
        let mut tile = *tile;
        for _ in 0..tiles {
            // SAFETY: as stated.
            unsafe { self.tile(&tile) };
            tile.panel = tile.panel.wrapping_add(tile.depth * Self::ROWS * Self::ACTIVATION_BYTES);
            tile.move_down(Self::ROWS);
        }
    }
}

/// What a micro-kernel needs for one tile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// A whole panel of `depth`, from `pack_rows`, whatever `rows` is.
    pub(crate) panel: *const u8,
    /// A column tile of `depth`, packed as the micro-kernel's constants say, 64-byte aligned.
    pub(crate) weights: *const u8,
    /// A positive multiple of `DEPTH`.
    pub(crate) depth: usize,
    /// Rows to store: 1 to `ROWS`.
    pub(crate) rows: usize,
    /// Columns to store: `COLUMNS`, or 1 and more where the micro-kernel [can](Microkernel::NARROW).
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 stores by a mask"))]
    pub(crate) columns: usize,
    /// `COLUMNS` of them.
    pub(crate) bias: *const i32,
    /// `COLUMNS` of them.
    pub(crate) multiplier: *const i32,
    /// Left shift of the accumulators, mostly 0, or what `prepare_scale` made of it.
    pub(crate) shift: u32,
    /// The first of `rows` rows of `columns` elements, or null.
    pub(crate) residual: *const i8,
    /// Q8.
    pub(crate) residual_multiplier: i32,
    /// The first of `rows` rows of `columns` elements.
    pub(crate) output: *mut i8,
    /// From a row of output to the next.
    pub(crate) stride: usize,
    /// From a row of residual to the next: 0 where one counts for all.
    pub(crate) residual_stride: usize,
}

impl Tile {
    /// Moves output and residual down by so many rows.
    #[inline(always)]
    pub(crate) fn move_down(&mut self, rows: usize) {
        self.output = self.output.wrapping_add(rows * self.stride);
        self.residual = self.residual.wrapping_add(rows * self.residual_stride);
    }

    /// Moves output and residual on by so many elements.
    #[inline(always)]
    pub(crate) fn move_on(&mut self, elements: usize) {
        self.output = self.output.wrapping_add(elements);
        if !self.residual.is_null() {
            self.residual = self.residual.wrapping_add(elements);
        }
    }
}
