//! Blocks of row tiles on NEON.

use crate::CacheSizes;
use crate::parts::CACHE_LINE;

/// Row tiles of a block, see [`Microkernel::block_tiles`](crate::convolution::tiled::Microkernel::block_tiles).
///
/// Weights of half the first level may pass by often, from there. Those that last in the last level
/// may pass a few times, and leave room for themselves; others come from DRAM and pass by a block
/// as large as the second level takes. A column tile touches a quarter of a line of output and
/// of residual: the lines must stay until the next three have passed.
pub(super) fn block_tiles(
    caches: CacheSizes,
    threads: usize,
    panel: usize,
    rows: usize,
    weights: usize,
) -> usize {
    let share = caches.l2_share(threads);
    let bytes = if weights <= caches.l1d / 2 {
        caches.l1d / 2
    } else if weights <= caches.lasting_weights() {
        share / 4
    } else {
        share / 2
    };
    bytes / (panel + rows * 2 * CACHE_LINE)
}
