use alloc::format;

use crate::arithmetic::{MAX_RESIDUAL_MULTIPLIER, MAX_SHIFT, accumulator_bound};
use crate::geometry::Windows;
use crate::requantise::Requantisation;
use crate::{ConvolutionShape, KernelError};

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
            let bound = accumulator_bound(weights, self.bias[channel]);
            if bound > limit {
                return invalid(format!(
                    "the accumulator of channel {channel} may reach {bound}, more than {limit}"
                ));
            }
        }
        Ok(())
    }

    /// The windows over the input, copied.
    pub(crate) fn windows(&self) -> Windows {
        Windows { shape: self.shape.clone(), padding_value: self.padding_value.to_vec() }
    }

    /// The constants of the output channels, copied.
    pub(crate) fn requantisation(&self) -> Requantisation {
        Requantisation {
            bias: self.bias.to_vec(),
            multiplier: self.multiplier.to_vec(),
            shift: self.shift,
            residual_multiplier: self.residual_multiplier.unwrap_or(0),
        }
    }

    /// The weights of an output channel, `[kernel y][kernel x][input channel of the group]`.
    pub(crate) fn row(&self, output: usize) -> &[i8] {
        let depth = self.shape.depth();
        &self.weights[output * depth..(output + 1) * depth]
    }
}
