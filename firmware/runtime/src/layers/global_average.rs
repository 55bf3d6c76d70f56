//! The average over all positions.

use resight_kernels::{self as kernels, CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integer, kernel_error};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Average over all positions: `[1, h, w, c]` of `i8` to `[1, c]` of `i16` with fractional bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalAverage {
    /// Fractional bits of the output.
    pub fraction_bits: u32,
}

layer!(GlobalAverage, "ResightGlobalAverage");

impl GlobalAverage {
    fn input(inputs: &[TensorFact]) -> TractResult<[usize; 3]> {
        one_input("an average", inputs)?.image()
    }
}

impl Layer for GlobalAverage {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [_, _, channels] = Self::input(inputs)?;
        Ok(TensorFact::new(DatumType::I16, &[1, channels]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "global average".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, _: &[TensorFact]) -> TractResult<&'static str> {
        Ok("global_average")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let packed = kernels::GlobalAverage::new(target.isa, Self::input(inputs)?, self.fraction_bits);
        Ok(Box::new(packed.map_err(kernel_error)?))
    }

    fn nnef_name() -> &'static str {
        "resight_global_average"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![TypeName::Scalar.tensor().named("input"), TypeName::Integer.named("fraction_bits")]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![("input", input(ast, node, 0)), ("fraction_bits", numeric(self.fraction_bits))])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let input = invocation.named_arg_as(builder, "input")?;
        Ok((Self { fraction_bits: integer(builder, invocation, "fraction_bits")? }, tvec!(input)))
    }
}

impl PackedLayer for kernels::GlobalAverage {
    fn kernel(&self) -> &'static str {
        "global_average"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        self.run(parallel, inputs.slice(0)?, output.slice()?)
    }
}
