//! Concatenation of channels.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::array;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{input, quantisation, with_quantisation, with_quantisation_of};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// The channels of several int8 activations side by side: `[1, h, w, c1]`, `[1, h, w, c2]`, ... to
/// `[1, h, w, c1 + c2 + ...]`. All have one scale and one zero point, so bytes are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concat {
    /// What the steps of all inputs and of the output are worth.
    pub output: Quantisation,
}

layer!(Concat, "ResightConcat");

/// `[height, width]` of all inputs, and the channels of each.
fn parts(inputs: &[TensorFact]) -> TractResult<([usize; 2], Vec<usize>)> {
    let images = inputs.iter().map(TensorFact::image).collect::<TractResult<Vec<_>>>()?;
    let Some(&[height, width, _]) = images.first() else { bail!("a concatenation takes at least one input") };
    ensure!(
        images.iter().all(|image| image[..2] == [height, width]),
        "the inputs of a concatenation are of several sizes: {images:?}"
    );
    Ok(([height, width], images.iter().map(|image| image[2]).collect()))
}

impl Layer for Concat {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let ([height, width], channels) = parts(inputs)?;
        Ok(TensorFact::activation([height, width, channels.iter().sum()]))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: format!("concatenation of {}", inputs.len()), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("concat")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let (_, channels) = parts(inputs)?;
        let all: Vec<usize> = (0..channels.len()).collect();
        Ok(Box::new(SideBySide::new(target, inputs, &all)?))
    }

    fn concatenates(&self) -> bool {
        true
    }

    fn nnef_name() -> &'static str {
        "resight_concat"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![TypeName::Scalar.tensor().array().named("inputs")])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let inputs: Vec<RValue> = (0..node.inputs.len()).map(|index| input(ast, node, index)).collect();
        let arguments = vec![("inputs", array(inputs))];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let output = quantisation(builder, invocation)?;
        Ok((Self { output }, invocation.named_arg_as(builder, "inputs")?))
    }
}

/// Copies channels of some inputs to where they belong.
#[derive(Debug)]
pub(crate) struct SideBySide {
    /// `[height, width]` of all inputs.
    size: [usize; 2],
    copies: Vec<Copy>,
    loops: Loops,
}

/// An input that is copied.
#[derive(Debug)]
struct Copy {
    input: usize,
    channels: usize,
    /// Where they begin in the output.
    first: usize,
}

impl SideBySide {
    /// Those of a concatenation's inputs that `which` says, by their index.
    ///
    /// # Errors
    /// Inputs of several sizes, an instruction set that this CPU does not have.
    pub(crate) fn new(target: &Target, inputs: &[TensorFact], which: &[usize]) -> TractResult<Self> {
        let (size, channels) = parts(inputs)?;
        let copy =
            |&input: &usize| Copy { input, channels: channels[input], first: channels[..input].iter().sum() };
        Ok(Self { size, copies: which.iter().map(copy).collect(), loops: target.loops()? })
    }
}

impl PackedLayer for SideBySide {
    fn kernel(&self) -> &'static str {
        "concat"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        if self.copies.is_empty() {
            return Ok(());
        }
        let pixels = self.size[0] * self.size[1];
        let output = output.strided()?;
        for &Copy { input, channels, first } in &self.copies {
            let input = inputs.strided(input)?;
            let [expected, written] = [pixels * channels, output.len() / output.channels() * channels];
            let fits = input.channels() == channels && first + channels <= output.channels();
            if !fits || [input.len(), written] != [expected; 2] {
                return Err(KernelError::Length { what: "an input", expected, found: input.len() });
            }
        }
        let stride = output.stride();
        let (whole, first) = output.into_whole();
        self.loops.run(parallel, whole, scratch, &Copying { copies: &self.copies, first, stride, inputs })
    }
}

struct Copying<'a> {
    copies: &'a [Copy],
    /// The first channel of the output.
    first: usize,
    stride: usize,
    /// As many pixels as the output.
    inputs: Inputs<'a>,
}

impl Loop<i8> for Copying<'_> {
    fn unit(&self) -> usize {
        self.stride
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        for &Copy { input, channels, first: start } in self.copies {
            let pixels = self.inputs.strided(input)?.pixels(first);
            let start = self.first + start;
            for (output, pixel) in output.chunks_exact_mut(self.stride).zip(pixels) {
                output[start..start + channels].copy_from_slice(pixel);
            }
        }
        Ok(())
    }
}
