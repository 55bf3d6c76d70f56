use alloc::boxed::Box;
use core::ops::Range;

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

    /// The same layer for some rows of its output alone; it shares the weights. None where the kernel cannot,
    /// or where all of its input would be padding.
    pub fn band(&self, rows: Range<usize>) -> Option<Self> {
        let (shape, _) = self.shape.band(rows)?;
        let packed = self.packed.with_rows(shape.clone())?;
        Some(Self { shape, residual: self.residual, isa: self.isa, packed })
    }

    /// The rows of the input that a [`band`](Self::band) takes; none where there is none.
    pub fn band_input(&self, rows: Range<usize>) -> Option<Range<usize>> {
        self.packed.row_unit()?;
        Some(self.shape.band(rows)?.1)
    }

    /// Rows of output that the kernel computes together: a [`band`](Self::band) is best a multiple of it.
    pub fn row_unit(&self) -> usize {
        self.packed.row_unit().unwrap_or(1)
    }

    /// Whether the residual may lie where the output is written, for [`run_in_place`](Self::run_in_place).
    pub fn adds_in_place(&self) -> bool {
        self.residual && self.packed.adds_in_place()
    }

    /// As [`run_strided`](Self::run_strided), with a residual of the output's shape that lies where the output
    /// is written.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and [`KernelError::Invalid`] where the layer does not
    /// [add in place](Self::adds_in_place).
    pub fn run_in_place(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        output: StridedMut<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        if !self.adds_in_place() {
            return Err(KernelError::Invalid("this layer adds no residual in place of its output".into()));
        }
        let residual = Residual::in_output(self.shape.output_channels, output.stride());
        self.run_checked(parallel, input, Some(residual), output, scratch)
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
        let (channels, found) = (self.shape.output_channels, residual.map_or(0, <[i8]>::len));
        if !self.residual || found != channels {
            let expected = if self.residual { self.shape.output_len() } else { 0 };
            KernelError::check("residual", expected, found)?;
        }
        let residual = residual.map(|residual| Residual::new(residual, channels));
        self.run_checked(parallel, input, residual, output, scratch)
    }

    fn run_checked(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        output: StridedMut<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        KernelError::check("channels of the input", self.shape.input[2], input.channels())?;
        KernelError::check("channels of the output", self.shape.output_channels, output.channels())?;
        KernelError::check("input", self.shape.input_len(), input.len())?;
        KernelError::check("output", self.shape.output_len(), output.len())?;
        let needed = self.scratch_len(parallel.threads());
        if scratch.len() < needed {
            return Err(KernelError::Length { what: "scratch", expected: needed, found: scratch.len() });
        }
        self.packed.run(parallel, input, residual, output, scratch)
    }
}
