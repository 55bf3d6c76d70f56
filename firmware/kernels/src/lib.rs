//! Integer kernels for int8 residual networks.
//!
//! Every kernel here computes exactly what [`arithmetic`] specifies, whatever the
//! instruction set: `generic` is the scalar reference that always ships, the others
//! (NEON, AVX2, AVX-512, AMX) must produce the same bytes. Tensors are NHWC with batch 1,
//! so an activation is a `[height][width][channels]` slice of `i8`.
//!
//! The crate is `no_std` with `alloc` and has no dependencies. The feature `std`
//! (default) adds CPU detection; without it only [`Isa::Generic`] is available.
#![cfg_attr(not(feature = "std"), no_std)]
#![allow(
    clippy::inline_always,
    reason = "loops must be compiled inside of the function that enables their instructions"
)]
extern crate alloc;

pub mod arithmetic;
mod average;
mod buffers;
mod caches;
mod convolution;
mod error;
mod geometry;
mod isa;
mod linear;
mod lookup;
mod loops;
#[cfg(target_arch = "aarch64")]
mod neon;
mod parallel;
mod parts;
mod plain;
mod pool;
mod requantise;
mod shape;
mod strided;
mod table;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use average::{GlobalAverage, MAX_AVERAGE_FRACTION_BITS};
pub use caches::CacheSizes;
pub use convolution::{Convolution, ConvolutionParameters};
pub use error::KernelError;
pub use isa::Isa;
pub use linear::{Linear, LinearParameters};
pub use loops::Loops;
pub use parallel::{Parallel, Sequential};
pub use plain::Loop;
pub use pool::MaxPool;
pub use shape::{ConvolutionShape, PoolShape};
pub use strided::{Strided, StridedMut};
pub use table::Table;
