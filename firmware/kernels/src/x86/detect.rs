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

/// Whether the CPU has AMX for bytes and the operating system lets this process use it.
///
/// The registers are 8 KB for each thread, so Linux asks to be asked, once for a process.
#[cfg(all(feature = "std", target_os = "linux"))]
pub(super) fn amx_permitted() -> bool {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    const FEATURES: u32 = 7;
    const TILES_AND_BYTES: u32 = 0b11 << 24;
    const ARCH_PRCTL: isize = 158;
    const ASK: usize = 0x1023;
    const TILE_DATA: usize = 18;

    if __cpuid(0).eax < FEATURES || __cpuid_count(FEATURES, 0).edx & TILES_AND_BYTES != TILES_AND_BYTES {
        return false;
    }
    let result: isize;
    // SAFETY: a system call that reads no memory; its answer is 0 or an error number.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ASK, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// Who cannot ask does not have it.
#[cfg(not(all(feature = "std", target_os = "linux")))]
pub(super) fn amx_permitted() -> bool {
    false
}
