//! Kernels for x86-64 hosts: what was measured on the host is what the board computes.

#![allow(
    clippy::wildcard_imports,
    reason = "a list of three dozen intrinsics tells a reader nothing that their names do not"
)]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "vectors are loaded and stored unaligned, or from 64-byte lines"
)]

mod amx;
mod avx2;
mod avx512;
mod avx_vnni;
mod depthwise;
mod detect;
mod table;
mod tile_6x16;
mod unroll;
mod vnni;

pub(crate) use amx::X86Amx;
pub(crate) use avx_vnni::X86AvxVnni;
pub(crate) use avx2::X86Avx2;
pub(crate) use depthwise::X86Pixels;
pub(crate) use table::X86Vbmi;
pub(crate) use vnni::X86Vnni;
