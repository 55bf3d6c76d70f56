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
        Ok(Box::new(Packed { channels, loops: target.loops()? }))
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

#[derive(Debug)]
struct Packed {
    /// Of each input.
    channels: Vec<usize>,
    loops: Loops,
}

impl PackedLayer for Packed {
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
        let output = output.slice::<i8>()?;
        let pitch: usize = self.channels.iter().sum();
        for (index, &channels) in self.channels.iter().enumerate() {
            inputs.exactly::<i8>(index, output.len() / pitch * channels)?;
        }
        self.loops.run(parallel, output, scratch, &SideBySide { channels: &self.channels, pitch, inputs })
    }
}

struct SideBySide<'a> {
    channels: &'a [usize],
    /// The sum of the channels.
    pitch: usize,
    /// As long as the output asks for.
    inputs: Inputs<'a>,
}

impl Loop<i8> for SideBySide<'_> {
    fn unit(&self) -> usize {
        self.pitch
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let mut start = 0;
        for (index, &channels) in self.channels.iter().enumerate() {
            let input = self.inputs.slice::<i8>(index)?;
            let pixels = input[first * channels..].chunks_exact(channels);
            for (output, pixel) in output.chunks_exact_mut(self.pitch).zip(pixels) {
                output[start..start + channels].copy_from_slice(pixel);
            }
            start += channels;
        }
        Ok(())
    }
}
