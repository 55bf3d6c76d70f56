use alloc::boxed::Box;

use super::packed::PackedConvolution;
use super::parameters::ConvolutionParameters;
use crate::parts::Residual;
use crate::{CacheSizes, ConvolutionShape, Isa, KernelError, Parallel, Strided, StridedMut};

impl ConvolutionParameters<'_> {
    /// The name of the kernel that runs it on a CPU with this instruction set and these caches,
    /// which need not be the running one. The parameters are [valid](Self::validate).
    pub fn kernel(&self, isa: Isa, caches: CacheSizes) -> &'static str {
        isa.kernel(self, caches).name
    }
}

/// A convolution packed for one instruction set: int8 in, int8 out, with bias, residual
/// addition, ReLU (by saturation) and requantisation fused.
#[derive(Debug)]
pub struct Convolution {
    shape: ConvolutionShape,
    residual: bool,
    isa: Isa,
    packed: Box<dyn PackedConvolution>,
}

impl Convolution {
    /// Checks the parameters and packs the weights.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] when the CPU lacks the instruction set, otherwise what
    /// [`ConvolutionParameters::validate`] finds.
    pub fn new(isa: Isa, parameters: &ConvolutionParameters<'_>) -> Result<Self, KernelError> {
        Self::with_caches(isa, parameters, CacheSizes::default())
    }

    /// As [`new`](Self::new), cut into blocks for a CPU with these caches.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_caches(
        isa: Isa,
        parameters: &ConvolutionParameters<'_>,
        caches: CacheSizes,
    ) -> Result<Self, KernelError> {
        parameters.validate()?;
        let packed = isa.check()?.pack(parameters, caches)?;
        Ok(Self {
            shape: parameters.shape.clone(),
            residual: parameters.residual_multiplier.is_some(),
            isa,
            packed,
        })
    }

    /// The geometry.
    pub fn shape(&self) -> &ConvolutionShape {
        &self.shape
    }

    /// The instruction set it was packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The name of the kernel that runs, `{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        self.packed.kernel()
    }

    /// Bytes of scratch memory that [`run`](Self::run) needs with so many threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.packed.scratch_len(threads)
    }

    /// Computes the output, of whole images.
    ///
    /// `input`, `residual` and `output` are NHWC; the residual has the output's shape, or is one pixel that
    /// is added to all.
    /// `scratch` has at least [`scratch_len`](Self::scratch_len) bytes of any content.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a buffer has another length than the shape asks for.
    pub fn run(
        &self,
        parallel: &dyn Parallel,
        input: &[i8],
        residual: Option<&[i8]>,
        output: &mut [i8],
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let (inputs, outputs) = (self.shape.input[2], self.shape.output_channels);
        KernelError::check("input", self.shape.input_len(), input.len())?;
        KernelError::check("output", self.shape.output_len(), output.len())?;
        let input = Strided::new(input, 0, inputs, inputs)?;
        self.run_strided(parallel, input, residual, StridedMut::new(output, 0, outputs, outputs)?, scratch)
    }

    /// As [`run`](Self::run), of images whose channels may be some of more. The residual is a whole one, or
    /// a pixel.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a buffer has another length than the shape asks for.
    pub fn run_strided(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<&[i8]>,
        output: StridedMut<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let (inputs, channels) = (self.shape.input[2], self.shape.output_channels);
        KernelError::check("channels of the input", inputs, input.channels())?;
        KernelError::check("channels of the output", channels, output.channels())?;
        KernelError::check("input", self.shape.input_len(), input.len())?;
        KernelError::check("output", self.shape.output_len(), output.len())?;
        let found = residual.map_or(0, <[i8]>::len);
        if !self.residual || found != channels {
            KernelError::check("residual", if self.residual { output.len() } else { 0 }, found)?;
        }
        let residual = residual.map(|residual| Residual::new(residual, channels));
        let needed = self.scratch_len(parallel.threads());
        if scratch.len() < needed {
            return Err(KernelError::Length { what: "scratch", expected: needed, found: scratch.len() });
        }
        self.packed.run(parallel, input, residual, output, scratch)
    }
}
