//! The convolution.

use std::ops::Range;
use std::sync::Arc;

use resight_kernels::{
    self as kernels, CacheSizes, ConvolutionParameters, ConvolutionShape, Isa, KernelError, Parallel,
};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::{array, ints};

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{
    input, integer, integers, kernel_error, quantisation, slice, tensor, variable, with_quantisation,
    with_quantisation_of,
};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// An int8 convolution with fused bias, residual addition, ReLU and requantisation.
///
/// Inputs: the activation and, with a `residual_multiplier`, the residual: of the output's shape, or
/// `[1, 1, 1, c]`, which is added to each pixel. The arithmetic is that of
/// [`resight_kernels::arithmetic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convolution {
    /// `i8` `[output channel][kernel y][kernel x][input channel of the group]`.
    pub weights: Arc<Tensor>,
    /// `i32`, one per output channel.
    pub bias: Arc<Tensor>,
    /// `i32`, one per output channel, positive.
    pub multiplier: Arc<Tensor>,
    /// `i8`, one per input channel: what padding reads as.
    pub padding_value: Arc<Tensor>,
    /// Left shift of every accumulator.
    pub shift: u32,
    /// Q8 multiplier of the residual.
    pub residual_multiplier: Option<i32>,
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// What the output's steps are worth; kernels do not need it.
    pub output: Quantisation,
}

layer!(Convolution, "ResightConvolution");

impl Convolution {
    fn shape(&self, inputs: &[TensorFact]) -> TractResult<ConvolutionShape> {
        let expected = 1 + usize::from(self.residual_multiplier.is_some());
        ensure!(inputs.len() == expected, "a convolution takes {expected} inputs, found {}", inputs.len());
        let input = inputs[0].image()?;
        let &[outputs, height, width, depth] = self.weights.shape() else {
            bail!("convolution weights must have four dimensions, found {:?}", self.weights.shape());
        };
        let shape = ConvolutionShape {
            input,
            output_channels: outputs,
            kernel: [height, width],
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            groups: self.groups,
        };
        shape.validate().map_err(kernel_error)?;
        ensure!(
            shape.group_channels() == depth,
            "convolution weights are for {depth} channels a group, the input has {}",
            shape.group_channels()
        );
        Ok(shape)
    }

    fn parameters(&self, inputs: &[TensorFact]) -> TractResult<ConvolutionParameters<'_>> {
        Ok(ConvolutionParameters {
            shape: self.shape(inputs)?,
            weights: slice(&self.weights)?,
            bias: slice(&self.bias)?,
            multiplier: slice(&self.multiplier)?,
            shift: self.shift,
            residual_multiplier: self.residual_multiplier,
            padding_value: slice(&self.padding_value)?,
        })
    }
}

impl Layer for Convolution {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let output = TensorFact::activation(self.shape(inputs)?.output());
        if let Some(residual) = inputs.get(1) {
            let found = residual.expect(DatumType::I8)?;
            let pixel = [1, 1, 1, *output.shape.last().context("an activation has four dimensions")?];
            ensure!(
                found == output.shape || found == pixel,
                "the residual has shape {found:?}, the convolution gives {:?}",
                output.shape
            );
        }
        Ok(output)
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let shape = self.shape(inputs)?;
        let stride = if shape.stride == [1, 1] { String::new() } else { format!("/{}", shape.stride[0]) };
        let groups = match shape.groups {
            1 => "convolution".to_owned(),
            _ if shape.is_depthwise() => "depthwise convolution".to_owned(),
            groups => format!("convolution in {groups} groups"),
        };
        let residual = if self.residual_multiplier.is_some() { " + residual" } else { "" };
        Ok(Description {
            operator: format!("{}x{}{stride} {groups}{residual}", shape.kernel[0], shape.kernel[1]),
            macs: shape.macs(),
            weight_bytes: shape.weights_len(),
        })
    }

    fn kernel(&self, isa: Isa, caches: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        let parameters = self.parameters(inputs)?;
        parameters.validate().map_err(kernel_error)?;
        Ok(parameters.kernel(isa, caches))
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let parameters = self.parameters(inputs)?;
        let packed = kernels::Convolution::with_caches(target.isa, &parameters, target.caches);
        Ok(Box::new(packed.map_err(kernel_error)?))
    }

    fn nnef_name() -> &'static str {
        "resight_convolution"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().array().named("residual"),
            TypeName::Scalar.tensor().named("weights"),
            TypeName::Scalar.tensor().named("bias"),
            TypeName::Scalar.tensor().named("multiplier"),
            TypeName::Scalar.tensor().named("padding_value"),
            TypeName::Integer.named("shift"),
            TypeName::Integer.array().named("residual_multiplier"),
            TypeName::Integer.array().named("stride"),
            TypeName::Integer.array().named("padding"),
            TypeName::Integer.array().named("dilation"),
            TypeName::Integer.named("groups"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let residual = if node.inputs.len() > 1 { vec![input(ast, node, 1)] } else { vec![] };
        let residual_multiplier: Vec<RValue> = self.residual_multiplier.iter().map(numeric).collect();
        let arguments = vec![
            ("input", input(ast, node, 0)),
            ("residual", array(residual)),
            ("weights", variable(ast, node, "weights", &self.weights)?),
            ("bias", variable(ast, node, "bias", &self.bias)?),
            ("multiplier", variable(ast, node, "multiplier", &self.multiplier)?),
            ("padding_value", variable(ast, node, "padding_value", &self.padding_value)?),
            ("shift", numeric(self.shift)),
            ("residual_multiplier", array(residual_multiplier)),
            ("stride", ints(&self.stride)),
            ("padding", ints(&self.padding)),
            ("dilation", ints(&self.dilation)),
            ("groups", numeric(self.groups)),
        ];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let mut inputs: TVec<OutletId> = tvec!(invocation.named_arg_as(builder, "input")?);
        let residual: TVec<OutletId> = invocation.named_arg_as(builder, "residual")?;
        let multipliers: TVec<i64> = invocation.named_arg_as(builder, "residual_multiplier")?;
        ensure!(
            residual.len() == multipliers.len() && residual.len() <= 1,
            "a convolution takes one residual with one multiplier, or none"
        );
        inputs.extend(residual);
        let residual_multiplier = multipliers
            .first()
            .map(|&m| i32::try_from(m).map_err(|_| format_err!("`residual_multiplier` is {m}, out of range")))
            .transpose()?;
        let layer = Self {
            weights: tensor(builder, invocation, "weights", DatumType::I8)?,
            bias: tensor(builder, invocation, "bias", DatumType::I32)?,
            multiplier: tensor(builder, invocation, "multiplier", DatumType::I32)?,
            padding_value: tensor(builder, invocation, "padding_value", DatumType::I8)?,
            shift: integer(builder, invocation, "shift")?,
            residual_multiplier,
            stride: integers(builder, invocation, "stride")?,
            padding: integers(builder, invocation, "padding")?,
            dilation: integers(builder, invocation, "dilation")?,
            groups: integer(builder, invocation, "groups")?,
            output: quantisation(builder, invocation)?,
        };
        Ok((layer, inputs))
    }
}

impl PackedLayer for kernels::Convolution {
    fn kernel(&self) -> &'static str {
        kernels::Convolution::kernel(self)
    }

    fn scratch_len(&self, threads: usize) -> usize {
        kernels::Convolution::scratch_len(self, threads)
    }

    fn band(&self, rows: Range<usize>) -> Option<Box<dyn PackedLayer>> {
        Some(Box::new(kernels::Convolution::band(self, rows)?))
    }

    fn band_input(&self, rows: Range<usize>) -> Option<Range<usize>> {
        kernels::Convolution::band_input(self, rows)
    }

    fn row_unit(&self) -> usize {
        kernels::Convolution::row_unit(self)
    }

    fn overwrites(&self) -> Option<usize> {
        self.adds_in_place().then_some(1)
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        if inputs.len() > 1 && inputs.is_overwritten(1) {
            return self.run_in_place(parallel, inputs.strided(0)?, output.strided()?, scratch);
        }
        let residual = if inputs.len() > 1 { Some(inputs.slice(1)?) } else { None };
        self.run_strided(parallel, inputs.strided(0)?, residual, output.strided()?, scratch)
    }
}
