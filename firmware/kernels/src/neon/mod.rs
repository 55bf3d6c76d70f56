//! Arm kernels. NEON itself belongs to every aarch64 CPU; `sdot` and `smmla` are detected.

mod dot;
mod epilogue;
mod i8mm;
mod mlal;
mod panel;
mod winograd;

pub(crate) use dot::NeonDot;
pub(crate) use i8mm::NeonI8mm;
pub(crate) use mlal::NeonMlal;
pub(crate) use winograd::Winograd;

use crate::CacheSizes;

/// Whether the running CPU has a feature: known at build time, or asked with `std`.
macro_rules! detected {
    ($feature:tt) => {{
        #[cfg(feature = "std")]
        let detected = std::arch::is_aarch64_feature_detected!($feature);
        #[cfg(not(feature = "std"))]
        let detected = cfg!(target_feature = $feature);
        detected
    }};
}
use detected;

/// Row tiles of a block, see [`Microkernel::block_tiles`](crate::tiled::Microkernel::block_tiles).
///
/// Weights of half the first level may pass by often, from there. Those that last in the last level
/// may pass a few times, and leave room for themselves; others come from DRAM and pass by a block
/// as large as the second level takes. A column tile touches a quarter of a line of output and
/// of residual: the lines must stay until the next three have passed.
fn block_tiles(caches: CacheSizes, threads: usize, panel: usize, rows: usize, weights: usize) -> usize {
    const LINE: usize = 64;
    let share = caches.l2_share(threads);
    let bytes = if weights <= caches.l1d / 2 {
        caches.l1d / 2
    } else if weights <= caches.lasting_weights() {
        share / 4
    } else {
        share / 2
    };
    bytes / (panel + rows * 2 * LINE)
}
