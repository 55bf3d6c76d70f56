//! The one place that says which kernel runs a layer on which instruction set.

use alloc::boxed::Box;

use crate::convolution::Body;
use crate::depthwise::Depthwise;
use crate::generic;
#[cfg(target_arch = "aarch64")]
use crate::neon::{NeonDot, NeonI8mm, NeonMlal, Winograd};
use crate::tiled::{Microkernel, Tiled};
#[cfg(target_arch = "x86_64")]
use crate::x86::{X86Avx2, X86Vnni};
use crate::{CacheSizes, ConvolutionParameters, Isa, KernelError};

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
        Isa::X86Vnni => X86Vnni::new().is_some(),
        _ => false,
    }
}

/// Packs a convolution, whose parameters have been validated, for an instruction set.
pub(crate) fn convolution(
    isa: Isa,
    parameters: &ConvolutionParameters<'_>,
    caches: CacheSizes,
) -> Result<Box<dyn Body>, KernelError> {
    if let Some(depthwise) = Depthwise::new(isa, parameters) {
        return Ok(Box::new(depthwise));
    }
    match isa {
        Isa::Generic => Ok(Box::new(generic::Convolution::new(parameters))),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonMlal => match Winograd::new(parameters, caches) {
            Some(winograd) => Ok(Box::new(winograd)),
            None => tiled::<NeonMlal>(isa, parameters, caches),
        },
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => tiled::<NeonDot>(isa, parameters, caches),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm => tiled::<NeonI8mm>(isa, parameters, caches),
        #[cfg(target_arch = "x86_64")]
        Isa::X86Avx2 => tiled::<X86Avx2>(isa, parameters, caches),
        #[cfg(target_arch = "x86_64")]
        Isa::X86Vnni => tiled::<X86Vnni>(isa, parameters, caches),
        _ => Err(KernelError::Unavailable(isa.name())),
    }
}

fn tiled<M: Microkernel>(
    isa: Isa,
    parameters: &ConvolutionParameters<'_>,
    caches: CacheSizes,
) -> Result<Box<dyn Body>, KernelError> {
    let microkernel = M::new().ok_or(KernelError::Unavailable(isa.name()))?;
    Ok(Box::new(Tiled::new(microkernel, parameters, caches)))
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
            avx2: matches!(isa, Isa::X86Avx2 | Isa::X86Vnni).then(X86Avx2::new).flatten(),
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
