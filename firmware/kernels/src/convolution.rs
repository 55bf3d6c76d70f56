use alloc::boxed::Box;
use alloc::format;
use core::fmt::Debug;

use crate::arithmetic::{MAX_RESIDUAL_MULTIPLIER, MAX_SHIFT, accumulator_bound};
use crate::dispatch;
use crate::{CacheSizes, ConvolutionShape, Isa, KernelError, Parallel};

/// What a convolution is made from. See [`arithmetic`](crate::arithmetic) for the formula.
#[derive(Debug, Clone)]
pub struct ConvolutionParameters<'a> {
    /// The geometry.
    pub shape: ConvolutionShape,
    /// `[output channel][kernel y][kernel x][input channel of the group]`, in `[-127, 127]`.
    pub weights: &'a [i8],
    /// One per output channel, with every zero point folded in.
    pub bias: &'a [i32],
    /// One per output channel, positive.
    pub multiplier: &'a [i32],
    /// Left shift of every accumulator before its multiplication.
    pub shift: u32,
    /// The Q8 multiplier of the residual, when there is one: 0 to 32767.
    pub residual_multiplier: Option<i32>,
    /// What padding reads as, one per input channel.
    pub padding_value: &'a [i8],
}

impl ConvolutionParameters<'_> {
    /// Checks everything that a kernel relies upon.
    ///
    /// # Errors
    /// Says which parameter is unusable; among them an accumulator that could overflow.
    pub fn validate(&self) -> Result<(), KernelError> {
        let invalid = |why| Err(KernelError::Invalid(why));
        self.shape.validate()?;
        let channels = self.shape.output_channels;
        KernelError::check("weights", self.shape.weights_len(), self.weights.len())?;
        KernelError::check("bias", channels, self.bias.len())?;
        KernelError::check("multiplier", channels, self.multiplier.len())?;
        KernelError::check("padding value", self.shape.input[2], self.padding_value.len())?;
        if self.shift > MAX_SHIFT {
            return invalid(format!("shift {} is above {MAX_SHIFT}", self.shift));
        }
        if let Some(multiplier) = self.residual_multiplier
            && !(0..=MAX_RESIDUAL_MULTIPLIER).contains(&multiplier)
        {
            return invalid(format!(
                "residual multiplier {multiplier} is not in 0 to {MAX_RESIDUAL_MULTIPLIER}"
            ));
        }
        if self.weights.contains(&i8::MIN) {
            return invalid("a weight is -128; weights stop at -127".into());
        }
        // A Q8 number is no larger than its shifted accumulator; the residual is added to it.
        let residual = self.residual_multiplier.unwrap_or(0) * 128;
        let limit = i64::from(i32::MAX - residual) >> self.shift;
        for (channel, weights) in self.weights.chunks_exact(self.shape.depth()).enumerate() {
            if self.multiplier[channel] <= 0 {
                return invalid(format!("the multiplier of channel {channel} is not positive"));
            }
            let bound = accumulator_bound(weights.iter().copied(), self.bias[channel]);
            if bound > limit {
                return invalid(format!(
                    "the accumulator of channel {channel} may reach {bound}, more than {limit}"
                ));
            }
        }
        Ok(())
    }
}

impl ConvolutionParameters<'_> {
    /// The name of the kernel that runs it on a CPU with this instruction set and these caches,
    /// which need not be the running one. The parameters are [valid](Self::validate).
    pub fn kernel(&self, isa: Isa, caches: CacheSizes) -> &'static str {
        dispatch::kernel(isa, self, caches)
    }
}

/// A convolution packed for one instruction set: int8 in, int8 out, with bias, residual
/// addition, ReLU (by saturation) and requantisation fused.
#[derive(Debug)]
pub struct Convolution {
    shape: ConvolutionShape,
    residual: bool,
    isa: Isa,
    body: Box<dyn Body>,
}

/// A convolution as one instruction set packs it.
pub(crate) trait Body: Debug + Send + Sync {
    /// The name of the kernel, `{isa}_{tile}`.
    fn kernel(&self) -> &'static str;

    /// Bytes of scratch memory with so many threads.
    fn scratch_len(&self, threads: usize) -> usize;

    /// Computes the output; the lengths of all buffers have been checked.
    fn run(
        &self,
        parallel: &dyn Parallel,
        input: &[i8],
        residual: Option<&[i8]>,
        output: &mut [i8],
        scratch: &mut [u8],
    ) -> Result<(), KernelError>;
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
        let body = dispatch::convolution(isa.check()?, parameters, caches)?;
        Ok(Self {
            shape: parameters.shape.clone(),
            residual: parameters.residual_multiplier.is_some(),
            isa,
            body,
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
        self.body.kernel()
    }

    /// Bytes of scratch memory that [`run`](Self::run) needs with so many threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.body.scratch_len(threads)
    }

    /// Computes the output.
    ///
    /// `input`, `residual` and `output` are NHWC; the residual has the output's shape.
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
        KernelError::check("input", self.shape.input_len(), input.len())?;
        KernelError::check("output", self.shape.output_len(), output.len())?;
        let expected = if self.residual { output.len() } else { 0 };
        KernelError::check("residual", expected, residual.map_or(0, <[i8]>::len))?;
        let needed = self.scratch_len(parallel.threads());
        if scratch.len() < needed {
            return Err(KernelError::Length { what: "scratch", expected: needed, found: scratch.len() });
        }
        self.body.run(parallel, input, residual, output, scratch)
    }
}
