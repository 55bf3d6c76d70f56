//! The structures of the kernel's `Video4Linux2` interface, as the crate v4l expects them.
//!
//! v4l's own bindings are generated at every build, which needs libclang and the headers of
//! the target. These were generated once, from `linux/videodev2.h` of Linux 6.1:
//!
//! ```text
//! bindgen videodev2.h --no-doc-comments --no-layout-tests --use-core --ctypes-prefix core::ffi
//! ```
//!
//! for the structures that v4l 0.14 and the service name. The state of video codecs was left
//! out of `v4l2_ext_control`'s union: it is only pointed to, and never used here.
//!
//! One text serves every target, because the structures differ by `long` and pointers alone.
//! `struct timeval` has two `long`: on 32-bit processors that is the older form of the
//! interface, which the kernel tells from the newer by the size that is part of each request.
//! The sizes and places below are those of the C compiler for x86-64, aarch64 and armv7.

#![no_std]

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, non_snake_case)]
#[allow(clippy::pedantic)]
mod bindings;

pub use bindings::*;

/// Sizes and places of a C compiler: 64-bit processors first, then armv7.
macro_rules! assert_layout {
    ($($type:ident = $size64:literal / $size32:literal $({ $($field:ident: $at64:literal / $at32:literal),* })?;)*) => {
        $(const _: () = {
            let wide = size_of::<usize>() == 8;
            assert!(size_of::<$type>() == if wide { $size64 } else { $size32 });
            $($(assert!(core::mem::offset_of!($type, $field) == if wide { $at64 } else { $at32 });)*)?
        };)*
    };
}

assert_layout! {
    timeval = 16 / 8;
    timespec = 16 / 8;
    v4l2_buffer = 88 / 68 { timestamp: 24 / 20, timecode: 40 / 28, sequence: 56 / 44, m: 64 / 52, length: 72 / 56 };
    v4l2_capability = 104 / 104 { device_caps: 88 / 88 };
    v4l2_event = 136 / 128 { u: 8 / 8, pending: 72 / 72, timestamp: 80 / 80 };
    v4l2_event_subscription = 32 / 32;
    v4l2_ext_control = 20 / 20;
    v4l2_ext_controls = 32 / 24 { controls: 24 / 20 };
    v4l2_fmtdesc = 64 / 64 { pixelformat: 44 / 44 };
    v4l2_format = 208 / 204 { fmt: 8 / 4 };
    v4l2_frmivalenum = 52 / 52;
    v4l2_frmsizeenum = 44 / 44;
    v4l2_pix_format = 48 / 48 { quantization: 40 / 40 };
    v4l2_pix_format_mplane = 192 / 192 { plane_fmt: 20 / 20, num_planes: 180 / 180, quantization: 183 / 183 };
    v4l2_plane = 64 / 60 { m: 8 / 8, data_offset: 16 / 12 };
    v4l2_plane_pix_format = 20 / 20;
    v4l2_query_ext_ctrl = 232 / 232 { minimum: 40 / 40, flags: 72 / 72 };
    v4l2_querymenu = 44 / 44;
    v4l2_requestbuffers = 20 / 20;
    v4l2_streamparm = 204 / 204;
}
