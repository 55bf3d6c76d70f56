//! The generalised mean over all positions.

use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
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
    /// Positions and channels of the input.
    fn sizes(&self, inputs: &[TensorFact]) -> TractResult<[usize; 2]> {
        let input = one_input("a generalised mean", inputs)?;
        let [height, width, channels] = input.image()?;
        self.terms()?;
        let limits = slice::<i32>(&self.limits)?;
        ensure!(limits.len() == 255, "255 limits are expected, found {}", limits.len());
        ensure!(limits.is_sorted(), "a limit is less than the one before");
        let positions = height.checked_mul(width);
        let positions = positions.filter(|&positions| (1..=1 << 31).contains(&positions));
        let positions = positions.with_context(|| format!("a mean of {height} x {width} positions"))?;
        Ok([positions, channels])
    }

    fn terms(&self) -> TractResult<[i32; 256]> {
        let terms = slice::<i32>(&self.terms)?;
        terms.try_into().with_context(|| format!("256 terms are expected, found {}", terms.len()))
    }
}

impl Layer for GeneralisedMean {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [_, channels] = self.sizes(inputs)?;
        Ok(TensorFact::activation([1, 1, channels]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "generalised mean".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.sizes(inputs)?;
        Ok("generalised_mean")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let [positions, channels] = self.sizes(inputs)?;
        let (terms, limits) = (self.terms()?, slice::<i32>(&self.limits)?.to_vec());
        Ok(Box::new(Packed { terms, limits, positions, channels, loops: target.loops()? }))
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
    positions: usize,
    channels: usize,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "generalised_mean"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let input = inputs.exactly(0, self.positions * self.channels)?;
        self.loops.run(parallel, output.slice()?, scratch, &Means { packed: self, input })
    }
}

struct Means<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Means<'_> {
    fn steps(&self) -> usize {
        self.packed.positions
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let Packed { terms, limits, positions, channels, .. } = self.packed;
        for (index, output) in output.iter_mut().enumerate() {
            let values = self.input.iter().skip(first + index).step_by(*channels);
            let term = |value: &i8| i64::from(terms[usize::from(value.cast_unsigned() ^ 0x80)]);
            let mean = values.map(term).sum::<i64>().div_euclid(*positions as i64);
            let reached = limits.partition_point(|&limit| i64::from(limit) <= mean);
            *output = (reached as i16 - 128) as i8;
        }
        Ok(())
    }
}
