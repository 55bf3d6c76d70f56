//! Arm kernels. NEON itself belongs to every aarch64 CPU; `sdot` and `smmla` are detected.

mod blocks;
mod depthwise;
mod detect;
mod dot;
mod dot_in_order;
mod epilogue;
mod i8mm;
mod kernel_6x16;
mod mlal;
mod panel;
mod table;
mod winograd;

pub(crate) use depthwise::NeonPixels;
pub(crate) use dot::NeonDot;
pub(crate) use dot_in_order::NeonDotInOrder;
pub(crate) use i8mm::NeonI8mm;
pub(crate) use mlal::NeonMlal;
pub(crate) use table::look_up;
pub(crate) use winograd::pack as pack_winograd;
