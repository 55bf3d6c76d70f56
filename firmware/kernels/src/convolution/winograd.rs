//! Which layers are computed by Winograd's algorithm, how they are cut, and what that costs. The
//! algorithm is in `neon/winograd`; this part is compiled everywhere, so that a host can tell what a
//! board will do.

use alloc::vec::Vec;

use super::choose::Layers;
use super::parameters::ConvolutionParameters;
use crate::CacheSizes;
use crate::arithmetic::accumulator_bound;

/// Points of the largest tile, in one dimension.
pub(crate) const POINTS: usize = 6;
/// Points in two dimensions.
pub(crate) const COMPONENTS: usize = POINTS * POINTS;
/// Output channels of a column block.
pub(crate) const COLUMNS: usize = 16;
/// At least this many tiles pass by at once, or transforming the weights would cost too much.
const MIN_TILES: usize = 16;

// What the algorithm takes on ARMv8.0, in instructions, counted under QEMU.
/// Transforming the nine weights of an input and an output channel.
pub(crate) const TRANSFORM_WEIGHT: usize = 12;
/// Transforming the input of a tile, for each input channel.
pub(crate) const TRANSFORM_INPUT: usize = 35;
/// Transforming and requantising the output of a tile, for each output channel.
pub(crate) const TRANSFORM_OUTPUT: usize = 70;
/// 40 products: ten multiplications of four, and a paired load of weights.
const PRODUCTS: [usize; 2] = [40, 11];
/// 160 products by the tiles of `neon_mlal`: three instructions for 16, and a tenth for loads.
const DIRECT_PRODUCTS: [usize; 2] = [160, 33];

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

/// The instructions of so many products.
pub(crate) fn products(count: usize) -> usize {
    count * PRODUCTS[1] / PRODUCTS[0]
}

/// Layers that Winograd's algorithm computes exactly, and that gain by it.
pub(crate) const WINOGRAD: Layers = Layers {
    description: "3x3 convolutions of stride 1, where it is exact and pays",
    include: |parameters, caches| is_possible(parameters) && is_exact(parameters) && pays(parameters, caches),
};

fn is_possible(parameters: &ConvolutionParameters<'_>) -> bool {
    let shape = &parameters.shape;
    let [height, width, outputs] = shape.output();
    shape.kernel == [3, 3]
        && shape.stride == [1, 1]
        && shape.dilation == [1, 1]
        && shape.groups == 1
        && shape.input[2].is_multiple_of(16)
        && outputs.is_multiple_of(COLUMNS)
        && height >= 2
        && width >= 2
}

fn is_exact(parameters: &ConvolutionParameters<'_>) -> bool {
    let rows = parameters.weights.chunks_exact(parameters.shape.depth());
    rows.into_iter().all(|row| accumulator_bound(row, 0) < LIMIT)
}

fn pays(parameters: &ConvolutionParameters<'_>, caches: CacheSizes) -> bool {
    let [height, width, outputs] = parameters.shape.output();
    let inputs = parameters.shape.input[2];
    let (vertical, horizontal) = (Segment::cut(height), Segment::cut(width));
    let points = |segments: &[Segment]| segments.iter().map(|s| s.points().len()).sum::<usize>();
    let tiles = vertical.len() * horizontal.len();
    let blocks = tiles.div_ceil(block_tiles(caches, 1, inputs));
    let own = products(points(&vertical) * points(&horizontal) * inputs * outputs)
        + blocks * inputs * outputs * TRANSFORM_WEIGHT
        + tiles * (inputs * TRANSFORM_INPUT + outputs * TRANSFORM_OUTPUT);
    let direct = height * width * inputs * outputs * 9;
    own <= direct * DIRECT_PRODUCTS[1] / DIRECT_PRODUCTS[0]
}

/// Tiles whose transformed input stays while the weights pass by: a third of the second level,
/// where transformed weights and products need another third.
pub(crate) fn block_tiles(caches: CacheSizes, threads: usize, inputs: usize) -> usize {
    (caches.l2_share(threads) / 16 * 5 / (COMPONENTS * inputs * size_of::<i16>())).clamp(MIN_TILES, 1 << 12)
}
