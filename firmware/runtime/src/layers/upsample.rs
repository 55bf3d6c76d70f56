//! Enlarging by whole factors.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integers};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Largest factor along an axis.
const MAX_FACTOR: usize = 64;

/// Repeats each pixel: `[1, h, w, c]` to `[1, h * f0, w * f1, c]` with `out[y][x] = in[y / f0][x / f1]`
/// (nearest, as ONNX `Resize` with whole factors and `asymmetric`, `floor`). Scale and zero point
/// pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upsample {
    /// `[vertical, horizontal]`, each `1..=64`.
    pub factor: [usize; 2],
}

layer!(Upsample, "ResightUpsample");

impl Layer for Upsample {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("an enlargement", inputs)?;
        let [height, width, channels] = input.image()?;
        let [vertical, horizontal] = self.factor;
        ensure!(
            self.factor.iter().all(|factor| (1..=MAX_FACTOR).contains(factor)),
            "the factors {:?} of an enlargement are not 1 to {MAX_FACTOR}",
            self.factor
        );
        let [height, width] = [height.saturating_mul(vertical), width.saturating_mul(horizontal)];
        ensure!(height.max(width) <= 1 << 16, "an enlargement to {height} x {width} is too large");
        Ok(TensorFact::activation([height, width, channels]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        let [vertical, horizontal] = self.factor;
        let operator = format!("{vertical}x{horizontal} enlargement");
        Ok(Description { operator, ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("upsample")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        let [_, width, channels] = inputs[0].image()?;
        Ok(Box::new(Packed { factor: self.factor, width, channels, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_upsample"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![TypeName::Scalar.tensor().named("input"), TypeName::Integer.array().named("factor")]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![("input", input(ast, node, 0)), ("factor", ints(&self.factor))])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self { factor: integers(builder, invocation, "factor")? };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    factor: [usize; 2],
    /// Of the input.
    width: usize,
    channels: usize,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "upsample"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<i8>()?;
        let input = inputs.exactly(0, output.len() / self.factor.iter().product::<usize>())?;
        self.loops.run(parallel, output, scratch, &Copies { packed: self, input })
    }
}

struct Copies<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Copies<'_> {
    /// What a row of the input becomes.
    fn unit(&self) -> usize {
        let Packed { factor: [vertical, horizontal], width, channels, .. } = self.packed;
        width * channels * vertical * horizontal
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let &Packed { factor: [_, horizontal], width, channels, .. } = self.packed;
        let row = width * channels;
        let output_row = row * horizontal;
        let rows = self.input[first * row..].chunks_exact(row);
        for (copies, row) in output.chunks_exact_mut(self.unit()).zip(rows) {
            let (first, others) = copies.split_at_mut(output_row);
            let pixels = row.chunks_exact(channels);
            for (repeated, pixel) in first.chunks_exact_mut(channels * horizontal).zip(pixels) {
                repeated.chunks_exact_mut(channels).for_each(|copy| copy.copy_from_slice(pixel));
            }
            others.chunks_exact_mut(output_row).for_each(|copy| copy.copy_from_slice(first));
        }
        Ok(())
    }
}
