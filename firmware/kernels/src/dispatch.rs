//! The one place that says which kernel runs a layer on which instruction set.
//!
//! [`KERNELS`] is compiled everywhere, so that a host can tell what a board will do; the kernels
//! themselves only on their own architecture.

use alloc::boxed::Box;

use crate::convolution::Body;
use crate::depthwise::Depthwise;
use crate::generic;
#[cfg(target_arch = "aarch64")]
use crate::neon::{NeonDot, NeonI8mm, NeonMlal, Winograd};
use crate::tiled::{Microkernel, Tiled};
#[cfg(target_arch = "x86_64")]
use crate::x86::{X86Avx2, X86AvxVnni, X86Vnni};
use crate::{CacheSizes, ConvolutionParameters, Isa, KernelError, winograd};

/// Whether kernels for it are built in and the running CPU has the instructions.
pub(crate) fn is_available(isa: Isa) -> bool {
    match isa {
        Isa::Generic => true,
        #[cfg(target_arch = "aarch64")]
        Isa::NeonMlal => NeonMlal::new().is_some(),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => NeonDot::new().is_some(),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm => NeonI8mm::new().is_some(),
        #[cfg(target_arch = "x86_64")]
        Isa::X86Avx2 => X86Avx2::new().is_some(),
        #[cfg(target_arch = "x86_64")]
        Isa::X86AvxVnni => X86AvxVnni::new().is_some(),
        #[cfg(target_arch = "x86_64")]
        Isa::X86Vnni => X86Vnni::new().is_some(),
        _ => false,
    }
}

/// The kernels of an instruction set.
struct Kernels {
    isa: Isa,
    /// Every convolution that has no kernel below.
    tiles: &'static str,
    /// One input and one output channel in each group.
    depthwise: Option<&'static str>,
    /// 3x3 of stride 1, where it is exact and pays.
    winograd: Option<&'static str>,
}

/// The name of the Winograd kernel.
pub(crate) const NEON_MLAL_WINOGRAD: &str = "neon_mlal_winograd_4x4";

#[rustfmt::skip]
static KERNELS: [Kernels; Isa::ALL.len()] = [
    Kernels { isa: Isa::Generic, tiles: "generic", depthwise: None, winograd: None },
    Kernels { isa: Isa::NeonMlal, tiles: "neon_mlal_4x16", depthwise: Some("neon_mlal_depthwise"), winograd: Some(NEON_MLAL_WINOGRAD) },
    Kernels { isa: Isa::NeonDot, tiles: "neon_dot_6x16", depthwise: Some("neon_dot_depthwise"), winograd: None },
    Kernels { isa: Isa::NeonI8mm, tiles: "neon_i8mm_6x16", depthwise: Some("neon_i8mm_depthwise"), winograd: None },
    Kernels { isa: Isa::X86Avx2, tiles: "x86_avx2_6x16", depthwise: Some("x86_avx2_depthwise"), winograd: None },
    Kernels { isa: Isa::X86AvxVnni, tiles: "x86_avx_vnni_6x16", depthwise: Some("x86_avx_vnni_depthwise"), winograd: None },
    Kernels { isa: Isa::X86Vnni, tiles: "x86_vnni_14x32", depthwise: Some("x86_vnni_depthwise"), winograd: None },
];

fn kernels(isa: Isa) -> &'static Kernels {
    // The table has a row for each: a test sees to it.
    KERNELS.iter().find(|kernels| kernels.isa == isa).unwrap_or(&KERNELS[0])
}

/// Which of the kernels of an instruction set.
enum Choice {
    Tiles,
    Depthwise(&'static str),
    Winograd(&'static str),
}

fn choose(isa: Isa, parameters: &ConvolutionParameters<'_>, caches: CacheSizes) -> Choice {
    let kernels = kernels(isa);
    match *kernels {
        Kernels { depthwise: Some(name), .. } if parameters.shape.is_depthwise() => Choice::Depthwise(name),
        Kernels { winograd: Some(name), .. } if winograd::suits(parameters, caches) => Choice::Winograd(name),
        _ => Choice::Tiles,
    }
}

/// The name of the kernel that [`convolution`] takes, also where the running CPU lacks it.
pub(crate) fn kernel(isa: Isa, parameters: &ConvolutionParameters<'_>, caches: CacheSizes) -> &'static str {
    match choose(isa, parameters, caches) {
        Choice::Tiles => kernels(isa).tiles,
        Choice::Depthwise(name) | Choice::Winograd(name) => name,
    }
}

/// Kinds of convolutions and their kernels, for people.
pub(crate) fn table(isa: Isa) -> impl Iterator<Item = (&'static str, &'static str)> {
    let &Kernels { tiles, depthwise, winograd, .. } = kernels(isa);
    let rows = [
        (Some(tiles), "convolutions"),
        (winograd, "3x3 convolutions of stride 1, where it is exact and pays"),
        (depthwise, "depthwise convolutions"),
    ];
    rows.into_iter().filter_map(|(kernel, layers)| Some((kernel?, layers)))
}

/// Packs a convolution, whose parameters have been validated, for an instruction set.
pub(crate) fn convolution(
    isa: Isa,
    parameters: &ConvolutionParameters<'_>,
    caches: CacheSizes,
) -> Result<Box<dyn Body>, KernelError> {
    match (choose(isa, parameters, caches), isa) {
        (Choice::Depthwise(name), _) => Ok(Box::new(Depthwise::new(name, isa, parameters))),
        #[cfg(target_arch = "aarch64")]
        (Choice::Winograd(_), _) => Ok(Box::new(Winograd::new(parameters, caches))),
        (Choice::Tiles, Isa::Generic) => Ok(Box::new(generic::Convolution::new(parameters))),
        #[cfg(target_arch = "aarch64")]
        (Choice::Tiles, Isa::NeonMlal) => tiled::<NeonMlal>(isa, parameters, caches),
        #[cfg(target_arch = "aarch64")]
        (Choice::Tiles, Isa::NeonDot) => tiled::<NeonDot>(isa, parameters, caches),
        #[cfg(target_arch = "aarch64")]
        (Choice::Tiles, Isa::NeonI8mm) => tiled::<NeonI8mm>(isa, parameters, caches),
        #[cfg(target_arch = "x86_64")]
        (Choice::Tiles, Isa::X86Avx2) => tiled::<X86Avx2>(isa, parameters, caches),
        #[cfg(target_arch = "x86_64")]
        (Choice::Tiles, Isa::X86AvxVnni) => tiled::<X86AvxVnni>(isa, parameters, caches),
        #[cfg(target_arch = "x86_64")]
        (Choice::Tiles, Isa::X86Vnni) => tiled::<X86Vnni>(isa, parameters, caches),
        _ => Err(KernelError::Unavailable(isa.name())),
    }
}

fn tiled<M: Microkernel>(
    isa: Isa,
    parameters: &ConvolutionParameters<'_>,
    caches: CacheSizes,
) -> Result<Box<dyn Body>, KernelError> {
    let microkernel = M::new().ok_or(KernelError::Unavailable(isa.name()))?;
    Ok(Box::new(Tiled::new(microkernel, kernels(isa).tiles, parameters, caches)))
}

/// What the layers without a micro-kernel of their own are compiled for: max pool, average, linear.
/// Their loops are plain enough for the compiler to vectorise; on aarch64 it may always use NEON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    #[cfg(target_arch = "x86_64")]
    avx2: Option<X86Avx2>,
}

impl Vectors {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: matches!(isa, Isa::X86Avx2 | Isa::X86AvxVnni | Isa::X86Vnni).then(X86Avx2::new).flatten(),
        }
    }

    /// Calls `body`, whose loops must be `inline(always)`.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(clippy::unused_self, reason = "the same call everywhere"))]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2.vectorise(body);
        }
        body()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_a_row() {
        for (isa, kernels) in Isa::ALL.iter().zip(&KERNELS) {
            assert_eq!(*isa, kernels.isa);
            assert!(table(*isa).all(|(kernel, _)| kernel.starts_with(isa.name())), "{isa}");
        }
    }

    #[test]
    fn names_state_the_tile() {
        fn check<M: Microkernel>(isa: Isa) {
            assert_eq!(kernels(isa).tiles, alloc::format!("{isa}_{}x{}", M::ROWS, M::COLUMNS));
        }
        #[cfg(target_arch = "aarch64")]
        {
            check::<NeonMlal>(Isa::NeonMlal);
            check::<NeonDot>(Isa::NeonDot);
            check::<NeonI8mm>(Isa::NeonI8mm);
        }
        #[cfg(target_arch = "x86_64")]
        {
            check::<X86Avx2>(Isa::X86Avx2);
            check::<X86AvxVnni>(Isa::X86AvxVnni);
            check::<X86Vnni>(Isa::X86Vnni);
        }
    }
}
