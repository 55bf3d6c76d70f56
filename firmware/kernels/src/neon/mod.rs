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
/// For a first-level cache of 32 KiB and a second-level one of 512 KiB per core, or 1 MiB for
/// four, which is what the boards have. Small weights may pass by often; large ones come from
/// DRAM. A column tile touches a quarter of a line of output and of residual: the lines must stay
/// until the next three have passed.
fn block_tiles(panel: usize, rows: usize, weights: usize) -> usize {
    const LINE: usize = 64;
    let bytes: usize = match weights >> 10 {
        0..=16 => 16 << 10,
        17..=512 => 128 << 10,
        _ => 256 << 10,
    };
    bytes / (panel + rows * 2 * LINE)
}
