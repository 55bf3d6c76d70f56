//! The same bytes under another shape.

use resight_kernels::{CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integers};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// An int8 activation's bytes, in their order of rows, columns and channels, as an activation of
/// another shape: flattened before a linear layer, or its channels as columns. Scale and zero point
/// pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
}

layer!(View, "ResightView");

impl Layer for View {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("another shape", inputs)?;
        let image = input.image()?;
        let elements = self.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        ensure!(
            elements == Some(input.len()),
            "an activation of {image:?} cannot become one of {:?}",
            self.shape
        );
        Ok(TensorFact::activation(self.shape))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "another shape".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("view")
    }

    fn pack(&self, _: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        Ok(Box::new(Packed))
    }

    fn nnef_name() -> &'static str {
        "resight_view"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![TypeName::Scalar.tensor().named("input"), TypeName::Integer.array().named("shape")]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![("input", input(ast, node, 0)), ("shape", ints(&self.shape))])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self { shape: integers(builder, invocation, "shape")? };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed;

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "view"
    }

    fn run(
        &self,
        _: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        let (output, input) = (output.slice::<i8>()?, inputs.slice::<i8>(0)?);
        output.copy_from_slice(input);
        Ok(())
    }
}
