//! Some channels of an activation, in any order.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::input;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Some channels of an int8 activation in an order of their own: `out[p][i] = in[p][order[i]]`. A
/// part of them, all of them in another order, or some twice. Scale and zero point pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channels {
    /// The input's channel for each of the output's.
    pub order: Vec<usize>,
}

layer!(Channels, "ResightChannels");

impl Channels {
    /// The first of `order` where it is a run of neighbours.
    fn run(&self) -> Option<usize> {
        let first = *self.order.first()?;
        self.order.iter().copied().eq(first..first + self.order.len()).then_some(first)
    }
}

impl Layer for Channels {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("a choice of channels", inputs)?;
        let [height, width, channels] = input.image()?;
        ensure!(
            (1..=1 << 16).contains(&self.order.len()) && self.order.iter().all(|&channel| channel < channels),
            "a choice of {} channels does not fit an input of {channels}",
            self.order.len()
        );
        Ok(TensorFact::activation([height, width, self.order.len()]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        let operator = match self.run() {
            Some(first) => format!("channels {first} to {}", first + self.order.len() - 1),
            None => format!("{} channels in another order", self.order.len()),
        };
        Ok(Description { operator, ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("channels")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        let [_, _, channels] = inputs[0].image()?;
        let (order, loops) = (self.order.clone(), target.loops()?);
        Ok(Box::new(Packed { run: self.run(), order, channels, loops }))
    }

    fn nnef_name() -> &'static str {
        "resight_channels"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![TypeName::Scalar.tensor().named("input"), TypeName::Integer.array().named("order")]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![("input", input(ast, node, 0)), ("order", ints(&self.order))])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let order: TVec<i64> = invocation.named_arg_as(builder, "order")?;
        let order = order.iter().map(|&channel| usize::try_from(channel)).collect::<Result<_, _>>();
        let order = order.map_err(|_| format_err!("`order` holds a negative number"))?;
        Ok((Self { order }, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    /// The first channel, where all are neighbours.
    run: Option<usize>,
    order: Vec<usize>,
    /// Of the input.
    channels: usize,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "channels"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<i8>()?;
        let input = inputs.exactly(0, output.len() / self.order.len() * self.channels)?;
        self.loops.run(parallel, output, scratch, &Chosen { packed: self, input })
    }
}

struct Chosen<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Chosen<'_> {
    fn unit(&self) -> usize {
        self.packed.order.len()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let Packed { run, order, channels, .. } = self.packed;
        let pixels = self.input[first * channels..].chunks_exact(*channels);
        for (output, pixel) in output.chunks_exact_mut(order.len()).zip(pixels) {
            if let Some(first) = run {
                output.copy_from_slice(&pixel[*first..first + order.len()]);
            } else {
                output.iter_mut().zip(order).for_each(|(output, &channel)| *output = pixel[channel]);
            }
        }
        Ok(())
    }
}
