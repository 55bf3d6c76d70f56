//! The maximum pool.

use std::ops::Range;

use resight_kernels::{self as kernels, CacheSizes, Isa, KernelError, Parallel, PoolShape};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integers, kernel_error};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Maximum over windows; scale and zero point pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    /// Window `[height, width]`.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
}

layer!(MaxPool, "ResightMaxPool");

/// The shape of a pool over such inputs.
///
/// # Errors
/// Other than one image, and windows that do not fit it.
pub(super) fn pool_shape(
    inputs: &[TensorFact],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
) -> TractResult<PoolShape> {
    let input = one_input("a pool", inputs)?.image()?;
    let shape = PoolShape { input, kernel, stride, padding };
    shape.validate().map_err(kernel_error)?;
    Ok(shape)
}

impl MaxPool {
    fn shape(&self, inputs: &[TensorFact]) -> TractResult<PoolShape> {
        pool_shape(inputs, self.kernel, self.stride, self.padding)
    }
}

impl Layer for MaxPool {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        Ok(TensorFact::activation(self.shape(inputs)?.output()))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let PoolShape { kernel, stride, .. } = self.shape(inputs)?;
        let operator = format!("{}x{}/{} maximum pool", kernel[0], kernel[1], stride[0]);
        Ok(Description { operator, ..Description::default() })
    }

    fn work(&self, inputs: &[TensorFact]) -> TractResult<u64> {
        Ok(self.shape(inputs)?.comparisons())
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.shape(inputs)?;
        Ok("max_pool")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let packed = kernels::MaxPool::new(target.isa, self.shape(inputs)?);
        Ok(Box::new(packed.map_err(kernel_error)?))
    }

    fn nnef_name() -> &'static str {
        "resight_max_pool"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Integer.array().named("kernel"),
            TypeName::Integer.array().named("stride"),
            TypeName::Integer.array().named("padding"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("kernel", ints(&self.kernel)),
            ("stride", ints(&self.stride)),
            ("padding", ints(&self.padding)),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            kernel: integers(builder, invocation, "kernel")?,
            stride: integers(builder, invocation, "stride")?,
            padding: integers(builder, invocation, "padding")?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

impl PackedLayer for kernels::MaxPool {
    fn kernel(&self) -> &'static str {
        "max_pool"
    }

    fn band(&self, rows: Range<usize>) -> Option<Box<dyn PackedLayer>> {
        Some(Box::new(kernels::MaxPool::band(self, rows)?))
    }

    fn band_input(&self, rows: Range<usize>) -> Option<Range<usize>> {
        kernels::MaxPool::band_input(self, rows)
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
