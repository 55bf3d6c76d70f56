//! The generalised mean over all positions.

use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, quantisation, slice, tensor, variable, with_quantisation, with_quantisation_of};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// A function of the mean of another function, such as the root of the mean of powers (`GeM`), channel by
/// channel: `[1, height, width, channels]` of `i8` to `[1, 1, 1, channels]` of `i8`,
///
/// `m[c] = floor(sum over p of terms[in[p][c] + 128] / positions)`
/// `out[c] = -128 + (how many of limits are at most m[c])`
///
/// Scale and zero point of the input are in the terms; powers span more than the 8 bits of an activation. The
/// outer function must rise: then it is where it passes from one step of the output to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneralisedMean {
    /// `i32` `[256]`: the inner function of -128 to 127.
    pub terms: Arc<Tensor>,
    /// `i32` `[255]`, none less than the one before: the least mean with the result -127, -126, ..., 127.
    pub limits: Arc<Tensor>,
    /// What the output's steps are worth.
    pub output: Quantisation,
}

layer!(GeneralisedMean, "ResightGeneralisedMean");

impl GeneralisedMean {
    /// Its numbers and the input's height, width and channels.
    fn packed(&self, inputs: &[TensorFact]) -> TractResult<Packed> {
        let input = one_input("a generalised mean", inputs)?;
        let [height, width, channels] = input.image()?;
        let (terms, limits) = (slice::<i32>(&self.terms)?, slice::<i32>(&self.limits)?);
        let terms: [i32; 256] =
            terms.try_into().with_context(|| format!("256 terms are expected, found {}", terms.len()))?;
        ensure!(limits.len() == 255, "255 limits are expected, found {}", limits.len());
        ensure!(limits.is_sorted(), "a limit is less than the one before");
        let positions = height.checked_mul(width).and_then(|positions| i64::try_from(positions).ok());
        let positions = positions.filter(|&positions| (1..=1 << 31).contains(&positions));
        let positions = positions.with_context(|| format!("a mean of {height} x {width} positions"))?;
        Ok(Packed { terms, limits: limits.to_vec(), positions, channels })
    }
}

impl Layer for GeneralisedMean {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        Ok(TensorFact::activation([1, 1, self.packed(inputs)?.channels]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "generalised mean".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.packed(inputs)?;
        Ok("generalised_mean")
    }

    fn pack(&self, _: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        Ok(Box::new(self.packed(inputs)?))
    }

    fn nnef_name() -> &'static str {
        "resight_generalised_mean"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        let tensors = ["input", "terms", "limits"].map(|name| TypeName::Scalar.tensor().named(name));
        with_quantisation(tensors.into())
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments = vec![
            ("input", input(ast, node, 0)),
            ("terms", variable(ast, node, "terms", &self.terms)?),
            ("limits", variable(ast, node, "limits", &self.limits)?),
        ];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            terms: tensor(builder, invocation, "terms", DatumType::I32)?,
            limits: tensor(builder, invocation, "limits", DatumType::I32)?,
            output: quantisation(builder, invocation)?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

/// A generalised mean of an image.
#[derive(Debug)]
struct Packed {
    terms: [i32; 256],
    limits: Vec<i32>,
    /// At most 2^31, so that a sum of terms fits 64 bits.
    positions: i64,
    channels: usize,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "generalised_mean"
    }

    fn run(
        &self,
        _: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        let input = inputs.slice::<i8>(0)?;
        for (channel, output) in output.slice::<i8>()?.iter_mut().enumerate() {
            let values = input.iter().skip(channel).step_by(self.channels);
            let term = |value: &i8| i64::from(self.terms[usize::from(value.cast_unsigned() ^ 0x80)]);
            let mean = values.map(term).sum::<i64>().div_euclid(self.positions);
            let reached = self.limits.partition_point(|&limit| i64::from(limit) <= mean);
            *output = (reached as i16 - 128) as i8;
        }
        Ok(())
    }
}
