//! What a layer is: an operator of tract that can be stored, described, packed and run.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Parallel, Sequential};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact, TensorView};

/// A layer for people and reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// What it computes, for example `3x3/2 convolution + residual`.
    pub operator: String,
    /// Multiply-accumulate operations of int8 weights.
    pub macs: u64,
    /// Bytes of weights, before packing.
    pub weight_bytes: usize,
}

/// An integer operator of a network: any number of tensors in, one tensor out.
///
/// One file holds one layer: the operator's fields, this trait, the packed form and their tests.
/// The macro [`layer!`](crate::layer!) makes a tract operator of it, and
/// [`Layers::with`](crate::Layers::with) makes it known to model files and programs.
pub trait Layer: TypedOp {
    /// The output for such inputs.
    ///
    /// # Errors
    /// Inputs that it cannot take.
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact>;

    /// What it is, for people.
    ///
    /// # Errors
    /// Inputs that it cannot take.
    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description>;

    /// What running it takes, in multiplications of int8 weights or what costs about as much: what
    /// is too much for any board is refused before it is packed.
    ///
    /// # Errors
    /// Inputs that it cannot take.
    fn work(&self, inputs: &[TensorFact]) -> TractResult<u64> {
        let elements = self.output(inputs)?.len() as u64;
        Ok(self.describe(inputs)?.macs.max(elements))
    }

    /// The name of the kernel that runs it on a CPU with this instruction set and these caches,
    /// which need not be the running one.
    ///
    /// # Errors
    /// Parameters that no kernel takes.
    fn kernel(&self, isa: Isa, caches: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str>;

    /// Whether it puts the channels of its inputs, int8 images, side by side as they are: then its inputs
    /// may be written where they end up, and programs run what is left.
    fn concatenates(&self) -> bool {
        false
    }

    /// Whether its packed form takes its first input, and its output, where they are channels of larger
    /// images: by [`Inputs::strided`] and [`Output::strided`].
    fn takes_strides(&self) -> bool {
        false
    }

    /// Packs it for a target and for inputs like these.
    ///
    /// # Errors
    /// Inputs or parameters that it cannot take, an instruction set that this CPU does not have.
    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>>;

    /// Its name in NNEF, which begins with `resight_`.
    fn nnef_name() -> &'static str
    where
        Self: Sized;

    /// The declaration of its parameters in NNEF, inputs included, in their order.
    fn nnef_parameters() -> Vec<Parameter>
    where
        Self: Sized;

    /// The arguments of its NNEF form, one for each parameter, in their order.
    ///
    /// # Errors
    /// A tensor that cannot be written.
    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>>
    where
        Self: Sized;

    /// The operator and its inputs from their NNEF form.
    ///
    /// # Errors
    /// An argument of another type or out of range.
    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)>
    where
        Self: Sized;
}

/// The input of a layer that takes one; `what` is the layer, for the message.
///
/// # Errors
/// Another number of inputs.
pub fn one_input<'a>(what: &str, inputs: &'a [TensorFact]) -> TractResult<&'a TensorFact> {
    let [input] = inputs else { bail!("{what} takes one input, found {}", inputs.len()) };
    Ok(input)
}

/// The inputs of a layer that takes two.
///
/// # Errors
/// Another number of inputs.
pub fn two_inputs<'a>(what: &str, inputs: &'a [TensorFact]) -> TractResult<&'a [TensorFact; 2]> {
    inputs.try_into().map_err(|_| format_err!("{what} takes two inputs, found {}", inputs.len()))
}

/// A layer packed for one target and one set of input shapes.
pub trait PackedLayer: fmt::Debug + Send + Sync {
    /// The name of the kernel that runs, the same as [`Layer::kernel`] of its target.
    fn kernel(&self) -> &'static str;

    /// Bytes of scratch memory that [`run`](Self::run) needs with so many threads.
    fn scratch_len(&self, _threads: usize) -> usize {
        0
    }

    /// The same layer for some rows of its output alone, so that it can run band by band; none where it
    /// cannot.
    fn band(&self, _rows: Range<usize>) -> Option<Box<dyn PackedLayer>> {
        None
    }

    /// The rows of the first input that a [`band`](Self::band) takes. Of another input it takes all or, where
    /// that has the output's shape, the rows that it computes.
    fn band_input(&self, _rows: Range<usize>) -> Option<Range<usize>> {
        None
    }

    /// Bands are best a multiple of so many rows.
    fn row_unit(&self) -> usize {
        1
    }

    /// The input of the output's shape in whose place the output may be written.
    fn overwrites(&self) -> Option<usize> {
        None
    }

    /// Computes the output. It allocates nothing; `scratch` has at least
    /// [`scratch_len`](Self::scratch_len) bytes of any content.
    ///
    /// # Errors
    /// A tensor of another type or length than it was packed for.
    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError>;
}

/// Makes a tract operator of a [`Layer`]: `layer!(Type, "NameInTract")`.
#[macro_export]
macro_rules! layer {
    ($layer:ty, $name:literal) => {
        impl $crate::tract::Op for $layer {
            fn name(&self) -> $crate::tract::StaticName {
                $name.into()
            }

            fn as_typed(&self) -> Option<&dyn $crate::tract::TypedOp> {
                Some(self)
            }
        }

        impl $crate::tract::EvalOp for $layer {
            fn eval(
                &self,
                context: &$crate::tract::EvalContext<'_>,
                inputs: $crate::tract::TVec<$crate::tract::TValue>,
            ) -> $crate::tract::TractResult<$crate::tract::TVec<$crate::tract::TValue>> {
                $crate::tract::evaluate(self, context, &inputs)
            }

            fn eval_out_of_plan(
                &self,
                inputs: $crate::tract::TVec<$crate::tract::TValue>,
            ) -> $crate::tract::TractResult<Option<$crate::tract::TVec<$crate::tract::TValue>>> {
                let context = $crate::tract::EvalContext::out_of_plan();
                $crate::tract::evaluate(self, &context, &inputs).map(Some)
            }

            fn state(
                &self,
                _: &$crate::tract::EvalContext<'_>,
            ) -> $crate::tract::TractResult<Option<Box<dyn $crate::tract::OpState>>> {
                Ok(Some($crate::tract::state::<Self>()))
            }
        }

        impl $crate::tract::TypedOp for $layer {
            fn output_facts(
                &self,
                inputs: &[&$crate::tract::TypedFact],
            ) -> $crate::tract::TractResult<$crate::tract::TVec<$crate::tract::TypedFact>> {
                $crate::tract::output_facts(self, inputs)
            }

            fn cost(
                &self,
                inputs: &[&$crate::tract::TypedFact],
            ) -> $crate::tract::TractResult<$crate::tract::TVec<($crate::tract::Cost, $crate::tract::TDim)>>
            {
                $crate::tract::cost(self, inputs)
            }

            fn as_op(&self) -> &dyn $crate::tract::Op {
                self
            }

            fn as_op_mut(&mut self) -> &mut dyn $crate::tract::Op {
                self
            }
        }
    };
}

fn facts(inputs: &[&TypedFact]) -> TractResult<Vec<TensorFact>> {
    inputs.iter().map(|fact| TensorFact::of(fact)).collect()
}

/// The facts of a layer's output, as tract wants them.
///
/// # Errors
/// Inputs that the layer cannot take.
pub fn output_facts(layer: &dyn Layer, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
    let TensorFact { datum_type, shape } = layer.output(&facts(inputs)?)?;
    Ok(tvec!(datum_type.fact(shape)))
}

/// What a layer costs, as tract wants it.
///
/// # Errors
/// Inputs that the layer cannot take.
pub fn cost(layer: &dyn Layer, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
    let macs = layer.describe(&facts(inputs)?)?.macs;
    Ok(if macs == 0 { tvec!() } else { tvec!((Cost::FMA(DatumType::I8), macs.to_dim())) })
}

/// The packed form that one session of tract's plan keeps between runs.
struct PackedState<L> {
    packed: Option<(Arc<dyn PackedLayer>, TensorFact)>,
    layer: PhantomData<fn() -> L>,
}

impl<L> Clone for PackedState<L> {
    fn clone(&self) -> Self {
        Self { packed: self.packed.clone(), layer: PhantomData }
    }
}

impl<L> fmt::Debug for PackedState<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.packed.is_some() { "PackedState(packed)" } else { "PackedState(empty)" })
    }
}

/// An empty state of a layer in a session of tract's plan.
pub fn state<L: Layer>() -> Box<dyn OpState> {
    Box::new(PackedState::<L> { packed: None, layer: PhantomData })
}

/// Packs a layer for the inputs of a session, and its output.
fn pack(
    layer: &dyn Layer,
    context: &EvalContext<'_>,
    inputs: &[TValue],
) -> TractResult<(Arc<dyn PackedLayer>, TensorFact)> {
    let facts: Vec<TensorFact> =
        inputs.iter().map(|tensor| TensorFact::new(tensor.datum_type(), tensor.shape())).collect();
    let target = context.shared.and_then(|shared| shared.get::<Target>().copied());
    let packed = layer.pack(&target.unwrap_or_else(Target::reference), &facts)?;
    Ok((packed.into(), layer.output(&facts)?))
}

/// Computes one tensor from others, allocating the output.
fn run(packed: &dyn PackedLayer, fact: &TensorFact, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
    let mut output = Tensor::zero_dt(fact.datum_type, &fact.shape)?;
    let mut scratch = vec![0; packed.scratch_len(1)];
    let mut plain = output.try_as_plain_ram_mut()?;
    let bytes = Output::new(fact, None, plain.as_bytes_mut());
    let views: Vec<_> = inputs.iter().map(|input| TensorView::of(input)).collect::<TractResult<_>>()?;
    let done = packed.run(&Sequential, Inputs::views(&views), bytes, &mut scratch);
    done.map_err(|error| format_err!("{error}"))?;
    Ok(tvec!(output.into_tvalue()))
}

/// Evaluates a layer without a state: packs it, runs it once.
///
/// # Errors
/// See [`Layer::pack`] and [`PackedLayer::run`].
pub fn evaluate(
    layer: &dyn Layer,
    context: &EvalContext<'_>,
    inputs: &[TValue],
) -> TractResult<TVec<TValue>> {
    let (packed, fact) = pack(layer, context, inputs)?;
    run(&*packed, &fact, inputs)
}

impl<L: Layer> OpState for PackedState<L> {
    fn eval(
        &mut self,
        context: &EvalContext<'_>,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let layer = op.downcast_ref::<L>().with_context(|| format!("{} has another state", op.name()))?;
        if self.packed.is_none() {
            self.packed = Some(pack(layer, context, &inputs)?);
        }
        let (packed, fact) = self.packed.as_ref().context("the layer was packed above")?;
        run(&**packed, fact, &inputs)
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        Ok(())
    }
}
