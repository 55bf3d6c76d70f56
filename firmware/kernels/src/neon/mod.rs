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
