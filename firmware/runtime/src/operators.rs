//! The int8 operators as tract operators.
//!
//! A network of ours is an ordinary tract `TypedModel` whose nodes are these four, with NHWC
//! activations `[1, height, width, channels]` of `i8` between them. tract's plan can run it;
//! [`Program`](crate::Program) compiles the same nodes for the loop on a board. Both go
//! through the kernels of `resight-kernels`, so both give the same bytes.

use std::fmt;
use std::sync::Arc;

use resight_kernels::{
    self as kernels, CacheSizes, ConvolutionParameters, ConvolutionShape, Isa, KernelError, LinearParameters,
    Parallel, PoolShape, Sequential,
};
use tract_nnef::internal::*;

use crate::caches::cache_sizes;

/// What one step of an int8 tensor is worth: `real = scale * (q - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// Positive and finite.
    pub scale: f32,
    /// In `[-128, 127]`.
    pub zero_point: i32,
}

impl Quantisation {
    /// The real number that `q` stands for.
    pub fn dequantise(&self, q: i8) -> f32 {
        self.scale * (i32::from(q) - self.zero_point) as f32
    }
}

impl Eq for Quantisation {}

impl std::hash::Hash for Quantisation {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.scale.to_bits().hash(state);
        self.zero_point.hash(state);
    }
}

/// An int8 convolution with fused bias, residual addition, ReLU and requantisation.
///
/// Inputs: the activation and, with a `residual_multiplier`, the residual. The arithmetic is
/// that of [`resight_kernels::arithmetic`].
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

/// Average over all positions: `[1, h, w, c]` of `i8` to `[1, c]` of `i16` with fractional bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalAverage {
    /// Fractional bits of the output.
    pub fraction_bits: u32,
}

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

/// An operator packed for one instruction set and one input shape.
#[derive(Debug)]
pub(crate) enum Layer {
    Convolution(kernels::Convolution),
    MaxPool(kernels::MaxPool),
    GlobalAverage(kernels::GlobalAverage),
    Linear(kernels::Linear),
}

/// What the four operators have in common.
pub(crate) trait Packable: TypedOp {
    /// Packs the operator for inputs like `input`, the shape of its first input.
    fn pack(&self, isa: Isa, input: &[usize]) -> TractResult<Layer>;
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn kernel_error(error: KernelError) -> TractError {
    format_err!("{error}")
}

fn slice<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

/// `[height, width, channels]` of a batch of one.
fn image(shape: &[usize]) -> TractResult<[usize; 3]> {
    match *shape {
        [1, height, width, channels] => Ok([height, width, channels]),
        _ => bail!("expected an activation of shape [1, height, width, channels], found {shape:?}"),
    }
}

impl Convolution {
    fn shape(&self, input: &[usize]) -> TractResult<ConvolutionShape> {
        let &[outputs, height, width, depth] = self.weights.shape() else {
            bail!("convolution weights must have four dimensions, found {:?}", self.weights.shape());
        };
        let shape = ConvolutionShape {
            input: image(input)?,
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
}

impl Convolution {
    fn parameters(&self, input: &[usize]) -> TractResult<ConvolutionParameters<'_>> {
        Ok(ConvolutionParameters {
            shape: self.shape(input)?,
            weights: slice(&self.weights)?,
            bias: slice(&self.bias)?,
            multiplier: slice(&self.multiplier)?,
            shift: self.shift,
            residual_multiplier: self.residual_multiplier,
            padding_value: slice(&self.padding_value)?,
        })
    }

    /// The kernel that a board of this kind runs it with.
    pub(crate) fn kernel(&self, isa: Isa, input: &[usize]) -> TractResult<&'static str> {
        let parameters = self.parameters(input)?;
        parameters.validate().map_err(kernel_error)?;
        Ok(parameters.kernel(isa, CacheSizes::default()))
    }
}

impl Packable for Convolution {
    fn pack(&self, isa: Isa, input: &[usize]) -> TractResult<Layer> {
        let parameters = self.parameters(input)?;
        let convolution = kernels::Convolution::with_caches(isa, &parameters, cache_sizes());
        Ok(Layer::Convolution(convolution.map_err(kernel_error)?))
    }
}

impl MaxPool {
    fn shape(&self, input: &[usize]) -> TractResult<PoolShape> {
        let shape = PoolShape {
            input: image(input)?,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        };
        shape.validate().map_err(kernel_error)?;
        Ok(shape)
    }
}

impl Packable for MaxPool {
    fn pack(&self, isa: Isa, input: &[usize]) -> TractResult<Layer> {
        Ok(Layer::MaxPool(kernels::MaxPool::new(isa, self.shape(input)?).map_err(kernel_error)?))
    }
}

impl Packable for GlobalAverage {
    fn pack(&self, isa: Isa, input: &[usize]) -> TractResult<Layer> {
        let average = kernels::GlobalAverage::new(isa, image(input)?, self.fraction_bits);
        Ok(Layer::GlobalAverage(average.map_err(kernel_error)?))
    }
}

impl Packable for Linear {
    fn pack(&self, isa: Isa, input: &[usize]) -> TractResult<Layer> {
        let &[outputs, inputs] = self.weights.shape() else {
            bail!("linear weights must have two dimensions, found {:?}", self.weights.shape());
        };
        ensure!(input == [1, inputs], "a linear layer of {inputs} inputs cannot take {input:?}");
        let parameters = LinearParameters {
            inputs,
            outputs,
            weights: slice(&self.weights)?,
            bias: slice(&self.bias)?,
            scale: slice(&self.scale)?,
            input_limit: self.input_limit,
        };
        Ok(Layer::Linear(kernels::Linear::new(isa, &parameters).map_err(kernel_error)?))
    }
}

impl Layer {
    /// Computes one tensor from others, allocating the output: how tract's plan runs it.
    fn run_tensors(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let parallel: &dyn Parallel = &Sequential;
        let input = &inputs[0];
        match self {
            Self::Convolution(layer) => {
                let [height, width, channels] = layer.shape().output();
                let mut output = Tensor::zero_dt(DatumType::I8, &[1, height, width, channels])?;
                let residual = inputs.get(1).map(|tensor| slice::<i8>(tensor)).transpose()?;
                let mut scratch = vec![0; layer.scratch_len(1)];
                let mut plain = output.try_as_plain_ram_mut()?;
                layer
                    .run(parallel, slice(input)?, residual, plain.as_slice_mut::<i8>()?, &mut scratch)
                    .map_err(kernel_error)?;
                Ok(output)
            }
            Self::MaxPool(layer) => {
                let [height, width, channels] = layer.shape().output();
                let mut output = Tensor::zero_dt(DatumType::I8, &[1, height, width, channels])?;
                let mut plain = output.try_as_plain_ram_mut()?;
                layer.run(parallel, slice(input)?, plain.as_slice_mut::<i8>()?).map_err(kernel_error)?;
                Ok(output)
            }
            Self::GlobalAverage(layer) => {
                let mut output = Tensor::zero_dt(DatumType::I16, &[1, layer.input()[2]])?;
                let mut plain = output.try_as_plain_ram_mut()?;
                layer.run(parallel, slice(input)?, plain.as_slice_mut::<i16>()?).map_err(kernel_error)?;
                Ok(output)
            }
            Self::Linear(layer) => {
                let mut output = Tensor::zero_dt(DatumType::F32, &[1, layer.outputs()])?;
                let mut plain = output.try_as_plain_ram_mut()?;
                layer.run(parallel, slice(input)?, plain.as_slice_mut::<f32>()?).map_err(kernel_error)?;
                Ok(output)
            }
        }
    }
}

/// The packed form that one session of tract's plan keeps between runs.
#[derive(Clone, Default)]
struct PackedState(Option<Arc<Layer>>);

impl fmt::Debug for PackedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "PackedState(packed)" } else { "PackedState(empty)" })
    }
}

/// Evaluates `op`, packing it on the first call.
fn evaluate<O: Packable>(
    op: &O,
    packed: &mut Option<Arc<Layer>>,
    inputs: &[TValue],
) -> TractResult<TVec<TValue>> {
    if packed.is_none() {
        let isa = crate::isa_from_environment().map_err(|error| format_err!("{error}"))?;
        *packed = Some(Arc::new(op.pack(isa, inputs[0].shape())?));
    }
    let layer = packed.as_ref().context("the operator was packed above")?;
    Ok(tvec!(layer.run_tensors(inputs)?.into_tvalue()))
}

impl OpState for PackedState {
    fn eval(&mut self, _: &EvalContext<'_>, op: &dyn Op, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        if let Some(op) = op.downcast_ref::<Convolution>() {
            evaluate(op, &mut self.0, &inputs)
        } else if let Some(op) = op.downcast_ref::<MaxPool>() {
            evaluate(op, &mut self.0, &inputs)
        } else if let Some(op) = op.downcast_ref::<GlobalAverage>() {
            evaluate(op, &mut self.0, &inputs)
        } else if let Some(op) = op.downcast_ref::<Linear>() {
            evaluate(op, &mut self.0, &inputs)
        } else {
            bail!("{} is not an operator of resight", op.name())
        }
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        Ok(())
    }
}

/// The parts of tract's operator traits that are the same for all four.
macro_rules! operator {
    ($op:ty, $name:literal) => {
        impl Op for $op {
            fn name(&self) -> StaticName {
                $name.into()
            }

            op_as_typed_op!();
        }

        impl EvalOp for $op {
            fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
                evaluate(self, &mut None, &inputs)
            }

            op_out_of_plan!();

            fn state(&self, _: &EvalContext<'_>) -> TractResult<Option<Box<dyn OpState>>> {
                Ok(Some(Box::new(PackedState::default())))
            }
        }
    };
}

operator!(Convolution, "ResightConvolution");
operator!(MaxPool, "ResightMaxPool");
operator!(GlobalAverage, "ResightGlobalAverage");
operator!(Linear, "ResightLinear");

/// The concrete shape of an input, of the expected type.
fn concrete(fact: &TypedFact, datum_type: DatumType) -> TractResult<TVec<usize>> {
    ensure!(
        fact.datum_type == datum_type,
        "expected an input of {datum_type:?}, found {:?}",
        fact.datum_type
    );
    let shape = fact.shape.as_concrete().context("an int8 network has a fixed input size")?;
    Ok(shape.into())
}

fn activation_fact(shape: [usize; 3]) -> TypedFact {
    DatumType::I8.fact([1, shape[0], shape[1], shape[2]])
}

impl TypedOp for Convolution {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let expected = 1 + usize::from(self.residual_multiplier.is_some());
        ensure!(inputs.len() == expected, "a convolution takes {expected} inputs, found {}", inputs.len());
        let shape = self.shape(&concrete(inputs[0], DatumType::I8)?)?;
        let [height, width, channels] = shape.output();
        if let Some(residual) = inputs.get(1) {
            let found = concrete(residual, DatumType::I8)?;
            ensure!(
                *found == [1, height, width, channels],
                "the residual has shape {found:?}, the convolution gives [1, {height}, {width}, {channels}]"
            );
        }
        Ok(tvec!(activation_fact(shape.output())))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let macs = self.shape(&concrete(inputs[0], DatumType::I8)?)?.macs();
        Ok(tvec!((Cost::FMA(DatumType::I8), macs.to_dim())))
    }

    as_op!();
}

impl TypedOp for MaxPool {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "a pool takes one input, found {}", inputs.len());
        let shape = self.shape(&concrete(inputs[0], DatumType::I8)?)?;
        Ok(tvec!(activation_fact(shape.output())))
    }

    as_op!();
}

impl TypedOp for GlobalAverage {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "an average takes one input, found {}", inputs.len());
        let [_, _, channels] = image(&concrete(inputs[0], DatumType::I8)?)?;
        Ok(tvec!(DatumType::I16.fact([1, channels])))
    }

    as_op!();
}

impl TypedOp for Linear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "a linear layer takes one input, found {}", inputs.len());
        let shape = concrete(inputs[0], DatumType::I16)?;
        let &[outputs, features] = self.weights.shape() else {
            bail!("linear weights must have two dimensions, found {:?}", self.weights.shape());
        };
        ensure!(*shape == [1, features], "a linear layer of {features} inputs cannot take {shape:?}");
        Ok(tvec!(DatumType::F32.fact([1, outputs])))
    }

    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec!((Cost::FMA(DatumType::I8), self.weights.len().to_dim())))
    }

    as_op!();
}
