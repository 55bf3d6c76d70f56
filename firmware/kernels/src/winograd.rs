//! Which layers are computed by Winograd's algorithm, and how they are cut. The algorithm is in
//! `neon/winograd.rs`; this part is compiled everywhere, so that a host can tell what a board will do.

use alloc::vec::Vec;

use crate::{CacheSizes, ConvolutionParameters};

/// Points of the largest tile, in one dimension.
pub(crate) const POINTS: usize = 6;
/// Points in two dimensions.
pub(crate) const COMPONENTS: usize = POINTS * POINTS;
/// Output channels of a column block.
pub(crate) const COLUMNS: usize = 16;
/// At least this many tiles pass by at once, or transforming the weights would cost too much.
const MIN_TILES: usize = 16;
/// An output must stay below this for its upper bits to be known.
const LIMIT: i64 = 1 << 25;

/// Consecutive outputs that a tile covers in one dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    #[cfg_attr(not(target_arch = "aarch64"), expect(dead_code, reason = "only the algorithm reads it"))]
    pub(crate) start: usize,
    /// 2 to 4.
    pub(crate) len: usize,
}

impl Segment {
    /// Cuts `size`, at least 2, into segments of 4 and at most two smaller ones.
    pub(crate) fn cut(size: usize) -> Vec<Self> {
        let smaller: &[usize] = match size % 4 {
            0 => &[],
            // No segment is shorter than 2.
            1 => &[3, 2],
            2 => &[2],
            _ => &[3],
        };
        let fours = (size - smaller.iter().sum::<usize>()) / 4;
        let lengths = core::iter::repeat_n(4, fours).chain(smaller.iter().copied());
        lengths
            .scan(0, |end, len| {
                *end += len;
                Some(Self { start: *end - len, len })
            })
            .collect()
    }

    /// The points of a segment.
    pub(crate) fn points(self) -> &'static [usize] {
        match self.len {
            2 => &[0, 1, 2, 5],
            3 => &[0, 1, 2, 3, 5],
            _ => &[0, 1, 2, 3, 4, 5],
        }
    }
}

/// Whether a layer is one that Winograd's algorithm computes exactly and that gains by it.
pub(crate) fn suits(parameters: &ConvolutionParameters<'_>, caches: CacheSizes) -> bool {
    let shape = &parameters.shape;
    let [height, width, outputs] = shape.output();
    let inputs = shape.input[2];
    let possible = shape.kernel == [3, 3]
        && shape.stride == [1, 1]
        && shape.dilation == [1, 1]
        && shape.groups == 1
        && inputs.is_multiple_of(16)
        && outputs.is_multiple_of(COLUMNS)
        && height >= 2
        && width >= 2;
    let exact = |row: &[i8]| row.iter().map(|&w| i64::from(w).abs()).sum::<i64>() * 128 < LIMIT;
    if !possible || !parameters.weights.chunks_exact(shape.depth()).all(exact) {
        return false;
    }
    let (vertical, horizontal) = (Segment::cut(height), Segment::cut(width));
    let points = |segments: &[Segment]| segments.iter().map(|s| s.points().len()).sum::<usize>();
    let products = points(&vertical) * points(&horizontal) * inputs * outputs;
    let tiles = vertical.len() * horizontal.len();
    // Instructions: four products each, plus the transforms of weights, input and output,
    // against sixteen products in 3.3.
    let blocks = tiles.div_ceil(block_tiles(caches, 1, inputs));
    let transforms = blocks * inputs * outputs * 12 + tiles * (inputs * 35 + outputs * 70);
    products * 11 / 40 + transforms <= height * width * inputs * outputs * 9 / 16 * 33 / 10
}

/// Tiles whose transformed input stays while the weights pass by: a third of the second level,
/// where transformed weights and products need another third.
pub(crate) fn block_tiles(caches: CacheSizes, threads: usize, inputs: usize) -> usize {
    (caches.l2_share(threads) / 16 * 5 / (COMPONENTS * inputs * size_of::<i16>())).clamp(MIN_TILES, 1 << 12)
}
