use alloc::format;
use alloc::vec::Vec;

use crate::parts::split;
use crate::vectors::Vectors;
use crate::{Isa, KernelError, Parallel};

/// Products that are about as much work as a step of a plain loop.
const STEP_PRODUCTS: usize = 16;

/// What a linear layer is made from.
#[derive(Debug, Clone)]
pub struct LinearParameters<'a> {
    /// Input features.
    pub inputs: usize,
    /// Output features.
    pub outputs: usize,
    /// `[output][input]`, in `[-127, 127]`.
    pub weights: &'a [i8],
    /// One per output, with the input's zero point folded in.
    pub bias: &'a [i32],
    /// One per output: what one unit of its accumulator is worth.
    pub scale: &'a [f32],
    /// The largest magnitude of an input.
    pub input_limit: i16,
}

/// The last layer: 16-bit averages times int8 weights, float logits out.
///
/// `out[o] = (bias[o] + sum(w[o][i] * a[i])) as f32 * scale[o]`: integers up to the very last
/// step, one conversion (round to nearest even) and one f32 multiplication, both exact in
/// IEEE 754, so logits too are the same bits everywhere.
#[derive(Debug)]
pub struct Linear {
    inputs: usize,
    outputs: usize,
    weights: Vec<i8>,
    bias: Vec<i32>,
    scale: Vec<f32>,
    input_limit: i16,
    vectors: Vectors,
}

impl Linear {
    /// Checks the parameters and packs the weights.
    ///
    /// # Errors
    /// Wrong lengths, a scale that is not finite and positive, an accumulator that could
    /// overflow, or [`KernelError::Unavailable`].
    pub fn new(isa: Isa, parameters: &LinearParameters<'_>) -> Result<Self, KernelError> {
        isa.check()?;
        let &LinearParameters { inputs, outputs, weights, bias, scale, input_limit } = parameters;
        let len = inputs.checked_mul(outputs).filter(|&len| len > 0 && len <= 1 << 30);
        let Some(len) = len else {
            return Err(KernelError::Invalid(format!(
                "a linear layer of {inputs} x {outputs} is not usable"
            )));
        };
        KernelError::check("weights", len, weights.len())?;
        KernelError::check("bias", outputs, bias.len())?;
        KernelError::check("scale", outputs, scale.len())?;
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let sum: i64 = row.iter().map(|&w| i64::from(w).abs()).sum();
            let bound = sum * i64::from(input_limit) + i64::from(bias[output]).abs();
            if input_limit < 0 || bound > i64::from(i32::MAX) {
                return Err(KernelError::Invalid(format!(
                    "the accumulator of output {output} may reach {bound}, more than {}",
                    i32::MAX
                )));
            }
            if !(scale[output].is_finite() && scale[output] > 0.0) {
                return Err(KernelError::Invalid(format!("the scale of output {output} is not positive")));
            }
        }
        Ok(Self {
            inputs,
            outputs,
            weights: weights.to_vec(),
            bias: bias.to_vec(),
            scale: scale.to_vec(),
            input_limit,
            vectors: isa.vectors(),
        })
    }

    /// Input features.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output features.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What all outputs take, in [steps of a loop](crate::Loop::steps): a vector of products is one.
    pub fn steps(&self) -> usize {
        self.inputs.div_ceil(STEP_PRODUCTS) * self.outputs
    }

    /// Computes the logits.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a buffer has another length than the layer, and
    /// [`KernelError::Invalid`] when an input is larger than the declared limit.
    pub fn run(&self, parallel: &dyn Parallel, input: &[i16], output: &mut [f32]) -> Result<(), KernelError> {
        KernelError::check("input", self.inputs, input.len())?;
        KernelError::check("output", self.outputs, output.len())?;
        let largest = input.iter().fold(0, |largest, a| a.unsigned_abs().max(largest));
        if largest > self.input_limit.unsigned_abs() {
            return Err(KernelError::Invalid("an input of a linear layer is above its limit".into()));
        }
        split(parallel, parallel.threads(), output, 1, &|first, logits| {
            self.vectors.run(|| self.rows(input, first, logits));
        });
        Ok(())
    }

    /// Computes the logits from `first` on.
    #[inline(always)]
    fn rows(&self, input: &[i16], first: usize, output: &mut [f32]) {
        let mut index = first;
        let mut rows = self.weights[first * self.inputs..].chunks_exact(self.inputs);
        let mut store = |out: &mut f32, sum: i32| {
            *out = (self.bias[index] + sum) as f32 * self.scale[index];
            index += 1;
        };
        let (fours, rest) = output.as_chunks_mut::<4>();
        for four in fours {
            // There is a row for each output.
            let rows = [0; 4].map(|_| rows.next().unwrap_or_default());
            for (out, sum) in four.iter_mut().zip(self.vectors.products(rows, input)) {
                store(out, sum);
            }
        }
        for (out, row) in rest.iter_mut().zip(rows) {
            let [sum] = self.vectors.products([row], input);
            store(out, sum);
        }
    }
}
