//! From int8 logits to real numbers.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{input, quantisation, with_quantisation, with_quantisation_of};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// The end of a network whose logits are rounded to int8, as networks are that others have quantised:
/// `[1, 1, 1, classes]` of `i8` to `[1, classes]` of `f32`, each `(q - zero_point) as f32 * scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dequantise {
    /// What the input's steps are worth.
    pub input: Quantisation,
}

layer!(Dequantise, "ResightDequantise");

impl Layer for Dequantise {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [input] = inputs else { bail!("logits are dequantised from one input, found {}", inputs.len()) };
        let &[1, 1, 1, classes] = input.expect(DatumType::I8)? else {
            bail!("logits are of one position, found {:?}", input.shape);
        };
        let Quantisation { scale, zero_point } = self.input;
        ensure!(
            scale.is_finite() && scale > 0.0 && (-128..=127).contains(&zero_point),
            "logits cannot have the scale {scale} and the zero point {zero_point}"
        );
        Ok(TensorFact::new(DatumType::F32, &[1, classes]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "dequantise".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("dequantise")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        Ok(Box::new(Packed { input: self.input, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_dequantise"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![TypeName::Scalar.tensor().named("input")])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments = vec![("input", input(ast, node, 0))];
        Ok(with_quantisation_of(arguments, self.input))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self { input: quantisation(builder, invocation)? };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    input: Quantisation,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "dequantise"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<f32>()?;
        let steps = inputs.exactly(0, output.len())?;
        self.loops.run(parallel, output, scratch, &Reals { input: self.input, steps })
    }
}

struct Reals<'a> {
    input: Quantisation,
    steps: &'a [i8],
}

impl Loop<f32> for Reals<'_> {
    #[inline(always)]
    fn run(&self, first: usize, output: &mut [f32], _: &mut [u8]) -> Result<(), KernelError> {
        for (output, &step) in output.iter_mut().zip(&self.steps[first..]) {
            *output = self.input.dequantise(step);
        }
        Ok(())
    }
}
