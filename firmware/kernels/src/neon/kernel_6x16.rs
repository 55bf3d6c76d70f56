//! What the kernels with 6 pixels x 16 channels share: all but the products.

use core::fmt::Debug;

use super::{blocks, panel};
use crate::CacheSizes;
use crate::convolution::tiled::{Costs, Microkernel, Tile};

pub(super) const ROWS: usize = 6;
pub(super) const COLUMNS: usize = 16;
pub(super) const DEPTH: usize = 8;

/// The products of a tile. The panel is `[depth / 8][3 pairs][2 pixels][8]`.
///
/// # Safety
/// As [`Microkernel`], for what is here.
pub(crate) unsafe trait Products: Copy + Debug + Send + Sync + 'static {
    /// See [`Microkernel::WEIGHT_STEP`].
    const WEIGHT_STEP: usize;
    /// See [`Microkernel::COSTS`].
    const COSTS: Costs;

    /// The kernel, when the running CPU has its instructions.
    fn new() -> Option<Self>;

    /// Computes `tiles` tiles of `tile.rows` rows, which is `ROWS` when there are several.
    ///
    /// # Safety
    /// What [`Tile`] says about its fields, for each of them.
    unsafe fn tiles(self, tile: &Tile, tiles: usize);
}

/// A kernel with these products.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel6x16<P>(P);

// SAFETY: the implementer of `Products` vouches for instructions and tiles; `pairs` reads `depth` bytes of
// each row and fills the panel.
unsafe impl<P: Products> Microkernel for Kernel6x16<P> {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const WEIGHT_STEP: usize = P::WEIGHT_STEP;
    const COSTS: Costs = P::COSTS;

    fn new() -> Option<Self> {
        P::new().map(Self)
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
        unsafe { panel::pairs(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: as stated.
        unsafe { self.0.tiles(tile, 1) };
    }

    unsafe fn sweep(self, tile: &Tile, tiles: usize) {
        // SAFETY: as stated; the driver sweeps whole tiles.
        unsafe { self.0.tiles(tile, tiles) };
    }
}
