//! What the running CPU has.

/// Whether the running CPU has all of these features: known at build time, or asked with `std`.
macro_rules! detected {
    ($($feature:tt),*) => {{
        #[cfg(feature = "std")]
        let detected = $(std::arch::is_x86_feature_detected!($feature))&&*;
        #[cfg(not(feature = "std"))]
        let detected = $(cfg!(target_feature = $feature))&&*;
        detected
    }};
}
pub(super) use detected;
