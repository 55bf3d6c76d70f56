//! What the running CPU has.

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
pub(super) use detected;
