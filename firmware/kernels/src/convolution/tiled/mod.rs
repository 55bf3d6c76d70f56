//! Convolutions as matrix products, cut into the tiles that a [`Microkernel`] computes.
//!
//! A convolution is a matrix product: output pixels x depth times depth x output channels,
//! where depth runs over `[kernel y][kernel x][input channel]`. A micro-kernel computes a
//! tile of `ROWS` pixels x `COLUMNS` channels over the whole depth, epilogue included.
//!
//! The rows of a tile are first packed into a *panel*, exactly in the order in which the
//! micro-kernel reads them. A block of panels stays in the second-level cache while all
//! weights pass by once: weights are what a residual network has most of, and on a small
//! board they come from DRAM.

mod driver;
mod matrix;
mod microkernel;
mod panels;
mod plan;
mod weights;

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
pub(crate) use driver::{is_available, pack};
pub(crate) use microkernel::{Costs, Microkernel, Tile};
