//! The scratch memory of a part.

use crate::convolution::winograd::{COLUMNS, COMPONENTS};
use crate::parts::CACHE_LINE;

/// Tiles that the matrix product takes at once.
pub(super) const ROWS: usize = 6;
/// Input channels whose weights are transformed at once.
pub(super) const DEPTH_BLOCK: usize = 64;

/// Where things lie in the scratch memory of a part, in bytes: first, for each tile of a
/// block, its slot in each component.
#[derive(Debug)]
pub(super) struct Layout {
    /// Tiles of a block.
    pub(super) tiles: usize,
    /// Elements of six slots.
    group: usize,
    /// Transformed input: `[component][tiles / 6][input channels / 8][6 tiles][8]` of i16.
    input: usize,
    /// Transformed weights: `[input channels of a block / 8][component][8][16]` of i16.
    weights: usize,
    /// Products: `[component][tile][16]` of i32.
    products: usize,
    pub(super) bytes: usize,
}

impl Layout {
    pub(super) fn new(tiles: usize, inputs: usize) -> Self {
        let aligned = |bytes: usize| bytes.next_multiple_of(CACHE_LINE);
        let group = inputs * ROWS;
        let input = aligned(tiles * size_of::<[u16; COMPONENTS]>());
        let weights = input + aligned(COMPONENTS * tiles.div_ceil(ROWS) * group * size_of::<i16>());
        let products = weights + COMPONENTS * DEPTH_BLOCK.min(inputs) * COLUMNS * size_of::<i16>();
        let bytes = products + COMPONENTS * tiles * COLUMNS * size_of::<i32>();
        Self { tiles, group, input, weights, products, bytes }
    }

    /// The first element of a slot of transformed input.
    pub(super) fn input(&self, component: usize, slot: usize) -> usize {
        (component * self.tiles.div_ceil(ROWS) + slot / ROWS) * self.group + slot % ROWS * 8
    }

    /// The first element of a slot of products.
    pub(super) fn products(&self, component: usize, slot: usize) -> usize {
        (component * self.tiles + slot) * COLUMNS
    }
}

/// The scratch memory of a part.
#[derive(Clone, Copy)]
pub(super) struct Scratch<'a> {
    pub(super) layout: &'a Layout,
    /// For each tile of a block, its slot in each component.
    pub(super) slots: *mut [u16; COMPONENTS],
    pub(super) input: *mut i16,
    pub(super) weights: *mut i16,
    pub(super) products: *mut i32,
}

impl<'a> Scratch<'a> {
    /// # Safety
    /// `start` is good for `layout.bytes`, aligned to a cache line.
    pub(super) unsafe fn new(layout: &'a Layout, start: *mut u8) -> Self {
        // SAFETY: the four parts follow each other, each aligned.
        unsafe {
            Self {
                layout,
                slots: start.cast(),
                input: start.add(layout.input).cast(),
                weights: start.add(layout.weights).cast(),
                products: start.add(layout.products).cast(),
            }
        }
    }
}
