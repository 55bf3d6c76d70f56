//! An activation whose values are all the same.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integer, integers};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// An int8 activation of one value everywhere, whatever the input holds. As the residual of a convolution it
/// is a constant behind the multiplication: a zero point that is no part of the bias and so is not
/// rounded with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Height, width and channels of the output.
    pub shape: [usize; 3],
    /// Each of its values.
    pub value: i8,
}

layer!(Fill, "ResightFill");

/// Most values of an activation.
const MAX_VALUES: usize = 1 << 26;

impl Layer for Fill {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("a fill", inputs)?;
        input.expect(DatumType::I8)?;
        let values = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        ensure!(
            values.is_some_and(|values| (1..=MAX_VALUES).contains(&values)),
            "a fill cannot have the shape {:?}",
            self.shape
        );
        Ok(TensorFact::activation(self.shape))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: format!("fill with {}", self.value), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("fill")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        Ok(Box::new(Packed { value: self.value, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_fill"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Integer.array().named("shape"),
            TypeName::Integer.named("value"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![("input", input(ast, node, 0)), ("shape", ints(&self.shape)), ("value", numeric(self.value))])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            shape: integers(builder, invocation, "shape")?,
            value: integer(builder, invocation, "value")?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    value: i8,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "fill"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        _: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        self.loops.run(parallel, output.slice()?, scratch, &Everywhere(self.value))
    }
}

struct Everywhere(i8);

impl Loop<i8> for Everywhere {
    #[inline(always)]
    fn run(&self, _: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        output.fill(self.0);
        Ok(())
    }
}
