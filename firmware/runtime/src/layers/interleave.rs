//! The phases of a transposed convolution put together.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::{array, ints};

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{input, integers, quantisation, with_quantisation, with_quantisation_of};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Largest factor along an axis.
const MAX_FACTOR: usize = 64;

/// Puts the pixels of several int8 activations in turns: with the factors `[v, h]` there are `v * h`
/// inputs, and `out[y][x] = inputs[y % v * h + x % h][y / v][x / h]`.
///
/// A transposed convolution of stride `[v, h]` is as many convolutions of its input, one for each
/// place of an output pixel in its cell of `v * h`, each with the taps of the kernel that reach that
/// place. Where the size is not a multiple of the factors, the inputs of later places are smaller.
/// All have one scale and one zero point, so bytes are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interleave {
    /// `[vertical, horizontal]`, each `1..=64`.
    pub factor: [usize; 2],
    /// `[height, width]` of the output.
    pub size: [usize; 2],
    /// What the steps of all inputs and of the output are worth.
    pub output: Quantisation,
}

layer!(Interleave, "ResightInterleave");

impl Interleave {
    /// Channels of all inputs, each of which has the size of its place.
    fn channels(&self, inputs: &[TensorFact]) -> TractResult<usize> {
        let Self { factor: [vertical, horizontal], size: [height, width], .. } = *self;
        ensure!(
            self.factor.iter().all(|factor| (1..=MAX_FACTOR).contains(factor))
                && (vertical..=1 << 16).contains(&height)
                && (horizontal..=1 << 16).contains(&width),
            "phases {:?} cannot be put together to {height} x {width}",
            self.factor
        );
        ensure!(
            inputs.len() == vertical * horizontal,
            "{} phases are put together, found {}",
            vertical * horizontal,
            inputs.len()
        );
        let [_, _, channels] = inputs[0].image()?;
        for (place, input) in inputs.iter().enumerate() {
            let rows = (height - place / horizontal).div_ceil(vertical);
            let columns = (width - place % horizontal).div_ceil(horizontal);
            let found = input.image()?;
            ensure!(
                found == [rows, columns, channels],
                "phase {place} is {found:?}, expected {:?}",
                [rows, columns, channels]
            );
        }
        Ok(channels)
    }
}

impl Layer for Interleave {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let channels = self.channels(inputs)?;
        Ok(TensorFact::activation([self.size[0], self.size[1], channels]))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: format!("{} phases", inputs.len()), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("interleave")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let (channels, loops) = (self.channels(inputs)?, target.loops()?);
        Ok(Box::new(Packed { factor: self.factor, size: self.size, channels, loops }))
    }

    fn nnef_name() -> &'static str {
        "resight_interleave"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().array().named("inputs"),
            TypeName::Integer.array().named("factor"),
            TypeName::Integer.array().named("size"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let inputs: Vec<RValue> = (0..node.inputs.len()).map(|index| input(ast, node, index)).collect();
        let arguments =
            vec![("inputs", array(inputs)), ("factor", ints(&self.factor)), ("size", ints(&self.size))];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            factor: integers(builder, invocation, "factor")?,
            size: integers(builder, invocation, "size")?,
            output: quantisation(builder, invocation)?,
        };
        Ok((layer, invocation.named_arg_as(builder, "inputs")?))
    }
}

#[derive(Debug)]
struct Packed {
    factor: [usize; 2],
    /// `[height, width]` of the output.
    size: [usize; 2],
    channels: usize,
    loops: Loops,
}

impl Packed {
    /// Columns of the output that an input with this place in a row of phases has.
    #[inline(always)]
    fn columns(&self, place: usize) -> usize {
        (self.size[1] - place).div_ceil(self.factor[1])
    }
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "interleave"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [vertical, horizontal] = self.factor;
        for place in 0..vertical * horizontal {
            let rows = (self.size[0] - place / horizontal).div_ceil(vertical);
            inputs.exactly::<i8>(place, rows * self.columns(place % horizontal) * self.channels)?;
        }
        self.loops.run(parallel, output.slice()?, scratch, &Phases { packed: self, inputs })
    }
}

struct Phases<'a> {
    packed: &'a Packed,
    /// As long as the output asks for.
    inputs: Inputs<'a>,
}

impl Loop<i8> for Phases<'_> {
    fn unit(&self) -> usize {
        self.packed.size[1] * self.packed.channels
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let &Packed { factor: [vertical, horizontal], channels, .. } = self.packed;
        for (index, line) in output.chunks_exact_mut(self.unit()).enumerate() {
            let y = first + index;
            for place in 0..horizontal {
                let input = self.inputs.slice::<i8>(y % vertical * horizontal + place)?;
                let row = self.packed.columns(place) * channels;
                let sources = input[y / vertical * row..][..row].chunks_exact(channels);
                let pixels = line[place * channels..].chunks_mut(horizontal * channels);
                for (pixel, source) in pixels.zip(sources) {
                    pixel[..channels].copy_from_slice(source);
                }
            }
        }
        Ok(())
    }
}
