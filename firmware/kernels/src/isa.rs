//! The instruction sets, and the one table of the kernels that each has.
//!
//! The table is compiled everywhere, so that a host can tell what a board will do; the kernels
//! themselves only on their own architecture.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::convolution::choose::{ALL, DEPTHWISE, Kernel, Target, choose};
use crate::convolution::packed::PackedConvolution;
use crate::convolution::winograd::WINOGRAD;
use crate::convolution::{depthwise, generic};
use crate::vectors::Vectors;
use crate::{CacheSizes, ConvolutionParameters, KernelError};

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
use crate::convolution::tiled::{self, is_available};
#[cfg(target_arch = "aarch64")]
use crate::neon::{self, NeonDot, NeonDotInOrder, NeonI8mm, NeonMlal, NeonPixels};
#[cfg(target_arch = "x86_64")]
use crate::x86::{X86Amx, X86Avx2, X86AvxVnni, X86Pixels, X86Vnni};

/// A row of the table.
struct InstructionSet {
    name: &'static str,
    /// Asks the running CPU; `None` on another architecture.
    available: Option<fn() -> bool>,
    /// What layers without a kernel of their own are compiled for.
    vectors: fn() -> Vectors,
    /// See [`choose`].
    kernels: &'static [Kernel],
}

/// Declares [`Isa`] and the table from one row for each instruction set.
macro_rules! instruction_sets {
    ($(
        $(#[$doc:meta])*
        $isa:ident: $name:literal, $available:expr, $vectors:expr, [
            $($kernel:literal, $layers:expr, $pack:expr;)*
        ]
    )*) => {
        /// An instruction set that kernels exist for, best last within an architecture.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Isa {
            $($(#[$doc])* $isa,)*
        }

        impl Isa {
            /// All of them, in the order of preference: the last available one is the best.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$isa),*];
        }

        static TABLE: [InstructionSet; Isa::ALL.len()] = [$(InstructionSet {
            name: $name,
            available: $available,
            vectors: $vectors,
            kernels: &[$(Kernel { name: $kernel, layers: $layers, pack: $pack }),*],
        }),*];
    };
}

/// A value where it is compiled for this architecture.
macro_rules! on {
    ($architecture:literal, $value:expr) => {{
        #[cfg(target_arch = $architecture)]
        {
            Some($value)
        }
        #[cfg(not(target_arch = $architecture))]
        {
            None
        }
    }};
}

// A kernel's name states its tile: packing a layer checks that.
#[rustfmt::skip]
instruction_sets! {
    /// Portable scalar code, the reference.
    Generic: "generic", Some(|| true), || Vectors::BASELINE, [
        "generic", ALL, Some(generic::pack);
    ]
    /// ARMv8.0 NEON: `smull`, `smlal2`, `sadalp` (Cortex-A53, A57, A72).
    NeonMlal: "neon_mlal", on!("aarch64", is_available::<NeonMlal>), Vectors::neon, [
        "neon_mlal_4x16", ALL, on!("aarch64", tiled::pack::<NeonMlal>);
        "neon_mlal_winograd_4x4", WINOGRAD, on!("aarch64", neon::pack_winograd);
        "neon_mlal_depthwise", DEPTHWISE, on!("aarch64", depthwise::pack::<NeonPixels>);
    ]
    /// NEON with `sdot`, for cores that take instructions in their order (Cortex-A55): whoever knows the
    /// core has to choose it.
    NeonDotInOrder: "neon_dot_in_order", on!("aarch64", is_available::<NeonDotInOrder>), Vectors::neon, [
        "neon_dot_in_order_6x16", ALL, on!("aarch64", tiled::pack::<NeonDotInOrder>);
        "neon_dot_in_order_depthwise", DEPTHWISE, on!("aarch64", depthwise::pack::<NeonPixels>);
    ]
    /// NEON with `sdot` (Cortex-A76, A78AE).
    NeonDot: "neon_dot", on!("aarch64", is_available::<NeonDot>), Vectors::neon, [
        "neon_dot_6x16", ALL, on!("aarch64", tiled::pack::<NeonDot>);
        "neon_dot_depthwise", DEPTHWISE, on!("aarch64", depthwise::pack::<NeonPixels>);
    ]
    /// NEON with `smmla` (ARMv8.6, Neoverse V1, Cortex-A710 and later).
    NeonI8mm: "neon_i8mm", on!("aarch64", is_available::<NeonI8mm>), Vectors::neon, [
        "neon_i8mm_6x16", ALL, on!("aarch64", tiled::pack::<NeonI8mm>);
        "neon_i8mm_depthwise", DEPTHWISE, on!("aarch64", depthwise::pack::<NeonPixels>);
    ]
    /// AVX2, 16-bit multiply-add.
    X86Avx2: "x86_avx2", on!("x86_64", is_available::<X86Avx2>), Vectors::avx2, [
        "x86_avx2_6x16", ALL, on!("x86_64", tiled::pack::<X86Avx2>);
        "x86_avx2_depthwise", DEPTHWISE, on!("x86_64", depthwise::pack::<X86Pixels>);
    ]
    /// AVX2 with AVX-VNNI, 256-bit dot products (Alder Lake and later without AVX-512).
    X86AvxVnni: "x86_avx_vnni", on!("x86_64", is_available::<X86AvxVnni>), Vectors::avx2, [
        "x86_avx_vnni_6x16", ALL, on!("x86_64", tiled::pack::<X86AvxVnni>);
        "x86_avx_vnni_depthwise", DEPTHWISE, on!("x86_64", depthwise::pack::<X86Pixels>);
    ]
    /// AVX-512 with VNNI.
    X86Vnni: "x86_vnni", on!("x86_64", is_available::<X86Vnni>), Vectors::avx512, [
        "x86_vnni_14x32", ALL, on!("x86_64", tiled::pack::<X86Vnni>);
        "x86_vnni_depthwise", DEPTHWISE, on!("x86_64", depthwise::pack::<X86Pixels>);
    ]
    /// AMX for bytes, with AVX-512 for the rest (Sapphire Rapids and later).
    X86Amx: "x86_amx", on!("x86_64", is_available::<X86Amx>), Vectors::avx512, [
        "x86_amx_32x64", ALL, on!("x86_64", tiled::pack::<X86Amx>);
        "x86_amx_depthwise", DEPTHWISE, on!("x86_64", depthwise::pack::<X86Pixels>);
    ]
}

impl Isa {
    /// Its row: the table has one for each, in the same order.
    fn row(self) -> &'static InstructionSet {
        &TABLE[self as usize]
    }

    /// The name, as in `RESIGHT_ISA` and on the command line.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether kernels for it are built in and the running CPU has the instructions.
    pub fn is_available(self) -> bool {
        self.row().available.is_some_and(|available| available())
    }

    /// Those that [are available](Self::is_available).
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The best that the running CPU has.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::Generic)
    }

    /// The one called `name`, or the best one without a name.
    ///
    /// # Errors
    /// An unknown name and one that this CPU cannot run: a forced choice never falls back.
    pub fn select(name: Option<&str>) -> Result<Self, KernelError> {
        name.map_or_else(|| Ok(Self::best()), |name| Self::named(name)?.check())
    }

    /// The one called `name`, whether or not this CPU can run it.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Self, KernelError> {
        let found = Self::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| KernelError::UnknownIsa { name: name.to_string(), known: list(Self::ALL) })
    }

    /// Its kernels for convolutions, each with the layers that it runs; the first one runs those
    /// that no other does.
    pub fn kernels(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.row().kernels.iter().map(|kernel| (kernel.name, kernel.layers.description))
    }

    /// Itself when it is available.
    pub(crate) fn check(self) -> Result<Self, KernelError> {
        if self.is_available() { Ok(self) } else { Err(self.unavailable()) }
    }

    /// The kernel that runs a layer, whose parameters are valid, also where the running CPU lacks it.
    pub(crate) fn kernel(
        self,
        parameters: &ConvolutionParameters<'_>,
        caches: CacheSizes,
    ) -> &'static Kernel {
        choose(self.row().kernels, parameters, caches)
    }

    /// Packs a layer, whose parameters are valid.
    pub(crate) fn pack(
        self,
        parameters: &ConvolutionParameters<'_>,
        caches: CacheSizes,
    ) -> Result<Box<dyn PackedConvolution>, KernelError> {
        let kernel = self.kernel(parameters, caches);
        let target = Target { kernel: kernel.name, vectors: self.vectors(), caches };
        let packed = kernel.pack.and_then(|pack| pack(target, parameters));
        packed.ok_or_else(|| self.unavailable())
    }

    /// What layers without a kernel of their own are compiled for.
    pub(crate) fn vectors(self) -> Vectors {
        (self.row().vectors)()
    }

    fn unavailable(self) -> KernelError {
        KernelError::Unavailable { isa: self.name(), available: list(Self::available()) }
    }
}

/// Names for people.
fn list(all: impl IntoIterator<Item = Isa>) -> String {
    all.into_iter().map(Isa::name).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = Isa::select(Some("sse")).unwrap_err().to_string();
        assert!(error.contains("`sse`") && error.contains("neon_dot"), "{error}");
    }

    #[test]
    fn a_foreign_instruction_set_is_an_error_not_a_fallback() {
        let foreign = if cfg!(target_arch = "aarch64") { "x86_avx2" } else { "neon_mlal" };
        let error = Isa::select(Some(foreign)).unwrap_err().to_string();
        assert!(error.contains(foreign) && error.contains("generic"), "{error}");
    }

    #[test]
    fn generic_can_always_be_forced() {
        assert_eq!(Isa::select(Some("generic")), Ok(Isa::Generic));
    }

    #[test]
    fn every_instruction_set_has_kernels_of_its_name_and_one_for_all_layers() {
        for isa in Isa::ALL {
            let kernels: Vec<_> = isa.kernels().collect();
            assert!(kernels.iter().all(|(kernel, _)| kernel.starts_with(isa.name())), "{kernels:?}");
            assert_eq!(kernels[0].1, ALL.description);
        }
    }
}
