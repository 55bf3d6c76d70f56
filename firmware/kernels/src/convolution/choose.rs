//! Which kernel runs a layer.

use alloc::boxed::Box;

use super::packed::PackedConvolution;
use super::parameters::ConvolutionParameters;
use crate::CacheSizes;
use crate::vectors::Vectors;

/// The layers that a kernel is for.
#[derive(Debug)]
pub(crate) struct Layers {
    /// For people.
    pub(crate) description: &'static str,
    /// Whether a layer, whose parameters are valid, is one of them on a CPU with these caches.
    pub(crate) include: fn(&ConvolutionParameters<'_>, CacheSizes) -> bool,
}

/// All convolutions.
pub(crate) const ALL: Layers = Layers { description: "convolutions", include: |_, _| true };

/// One input and one output channel in each group.
pub(crate) const DEPTHWISE: Layers = Layers {
    description: "depthwise convolutions",
    include: |parameters, _| parameters.shape.is_depthwise(),
};

/// What a layer is packed for, besides its kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The name of the kernel.
    pub(crate) kernel: &'static str,
    /// What plain loops are compiled for.
    pub(crate) vectors: Vectors,
    pub(crate) caches: CacheSizes,
}

/// Packs a layer, whose parameters are valid; `None` when the running CPU lacks the instructions.
pub(crate) type Pack = fn(Target, &ConvolutionParameters<'_>) -> Option<Box<dyn PackedConvolution>>;

/// A kernel for convolutions, as the table of [instruction sets](crate::isa) lists it.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `{isa}_{tile}`.
    pub(crate) name: &'static str,
    pub(crate) layers: Layers,
    /// `None` on another architecture than its own.
    pub(crate) pack: Option<Pack>,
}

/// The kernel of an instruction set that runs a layer, whose parameters are valid: the first of
/// `kernels` runs what none of the others is for.
pub(crate) fn choose<'a>(
    kernels: &'a [Kernel],
    parameters: &ConvolutionParameters<'_>,
    caches: CacheSizes,
) -> &'a Kernel {
    let special = kernels[1..].iter().find(|kernel| (kernel.layers.include)(parameters, caches));
    special.unwrap_or(&kernels[0])
}
