//! Kernels for x86-64 hosts: what was measured on the host is what the board computes.

#![allow(
    clippy::wildcard_imports,
    reason = "a list of three dozen intrinsics tells a reader nothing that their names do not"
)]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "vectors are loaded and stored unaligned, or from 64-byte lines"
)]

mod avx2;
mod avx_vnni;
mod vnni;

pub(crate) use avx_vnni::X86AvxVnni;
pub(crate) use avx2::X86Avx2;
pub(crate) use vnni::X86Vnni;

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
use detected;

/// Calls `$function::<N>($tile)` with the `N` of 1 to `ROWS` that `$tile.rows` is.
macro_rules! with_rows {
    ($function:ident($tile:ident), $($count:literal)*) => {
        match $tile.rows {
            $($count => $function::<$count>($tile),)*
            _ => $function::<ROWS>($tile),
        }
    };
}
use with_rows;

/// Runs `$body` with each `$row` below `$count`, written out: an array of accumulators that is
/// indexed by a variable would go through memory.
macro_rules! each_row {
    ($row:ident < $count:expr, $body:expr) => {
        each_row!($row < $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($row:ident < $count:expr, $body:expr, $($index:literal)*) => {
        $(if $index < $count {
            let $row = $index;
            $body
        })*
    };
}
use each_row;
