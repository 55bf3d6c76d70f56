//! The linear layer.

use std::sync::Arc;

use resight_kernels::{self as kernels, CacheSizes, Isa, KernelError, LinearParameters, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integer, kernel_error, slice, tensor, variable};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// The last layer: `[1, inputs]` of `i16` to `[1, outputs]` of `f32` logits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// `i8` `[output][input]`.
    pub weights: Arc<Tensor>,
    /// `i32`, one per output.
    pub bias: Arc<Tensor>,
    /// `f32`, one per output.
    pub scale: Arc<Tensor>,
    /// The largest magnitude of an input.
    pub input_limit: i16,
}

layer!(Linear, "ResightLinear");

impl Linear {
    /// Inputs and outputs.
    fn sizes(&self, inputs: &[TensorFact]) -> TractResult<[usize; 2]> {
        let found = one_input("a linear layer", inputs)?.expect(DatumType::I16)?;
        let &[outputs, features] = self.weights.shape() else {
            bail!("linear weights must have two dimensions, found {:?}", self.weights.shape());
        };
        ensure!(found == [1, features], "a linear layer of {features} inputs cannot take {found:?}");
        Ok([features, outputs])
    }
}

impl Layer for Linear {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [_, outputs] = self.sizes(inputs)?;
        Ok(TensorFact::new(DatumType::F32, &[1, outputs]))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let [features, outputs] = self.sizes(inputs)?;
        let weights = features * outputs;
        Ok(Description { operator: "linear".to_owned(), macs: weights as u64, weight_bytes: weights })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, _: &[TensorFact]) -> TractResult<&'static str> {
        Ok("linear")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let [features, outputs] = self.sizes(inputs)?;
        let parameters = LinearParameters {
            inputs: features,
            outputs,
            weights: slice(&self.weights)?,
            bias: slice(&self.bias)?,
            scale: slice(&self.scale)?,
            input_limit: self.input_limit,
        };
        Ok(Box::new(kernels::Linear::new(target.isa, &parameters).map_err(kernel_error)?))
    }

    fn nnef_name() -> &'static str {
        "resight_linear"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("weights"),
            TypeName::Scalar.tensor().named("bias"),
            TypeName::Scalar.tensor().named("scale"),
            TypeName::Integer.named("input_limit"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("weights", variable(ast, node, "weights", &self.weights)?),
            ("bias", variable(ast, node, "bias", &self.bias)?),
            ("scale", variable(ast, node, "scale", &self.scale)?),
            ("input_limit", numeric(self.input_limit)),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            weights: tensor(builder, invocation, "weights", DatumType::I8)?,
            bias: tensor(builder, invocation, "bias", DatumType::I32)?,
            scale: tensor(builder, invocation, "scale", DatumType::F32)?,
            input_limit: integer(builder, invocation, "input_limit")?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

impl PackedLayer for kernels::Linear {
    fn kernel(&self) -> &'static str {
        "linear"
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
