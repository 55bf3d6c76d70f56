//! What the C library keeps of memory that was given back.

/// Large blocks go back to the system when they are freed.
///
/// glibc maps them one by one at first, but with each that is freed it lets blocks as large be parts of its heaps,
/// up to 32 MiB, where the tensors of one layer leave holes that those of the next do not fit into: 150 MB of
/// `resight quantize` for VGG-16. Mapping takes time, for ResNet-50 an eighth of all: for networks whose memory is
/// large alone.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        /// `M_MMAP_THRESHOLD` of `malloc.h`.
        const THRESHOLD: std::ffi::c_int = -3;
        const LARGE: std::ffi::c_int = 1 << 20;
        // SAFETY: as `malloc.h` declares it; it takes any two numbers, at any time.
        unsafe extern "C" {
            safe fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        if mallopt(THRESHOLD, LARGE) == 0 {
            log::debug!("the C library keeps its own threshold for large blocks");
        }
    }
}
