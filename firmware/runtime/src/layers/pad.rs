//! Rows and columns more at the border.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integer, integers};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Rows and columns round an int8 activation that repeat others of it: the border's own
/// (`edge`), or those behind the border in reverse (`reflect`: `c b | a b c | b a`). Scale and zero
/// point pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pad {
    /// `[top, left, bottom, right]`, below the side's length where it is reflected.
    pub padding: [usize; 4],
    /// Whether the border is a mirror.
    pub reflects: bool,
}

layer!(Pad, "ResightPad");

impl Pad {
    /// The position of the input, along an axis of so many, that one of the output repeats.
    fn source(&self, position: usize, axis: usize, length: usize) -> usize {
        let at = position as isize - self.padding[axis] as isize;
        let last = length as isize - 1;
        let inside = if self.reflects { last - (last - at.abs()).abs() } else { at.clamp(0, last) };
        inside.unsigned_abs()
    }
}

impl Layer for Pad {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("a border", inputs)?;
        let [height, width, channels] = input.image()?;
        let [top, left, bottom, right] = self.padding;
        let most = |length: usize| if self.reflects { length.saturating_sub(1) } else { 1 << 16 };
        ensure!(
            height > 0 && width > 0 && top.max(bottom) <= most(height) && left.max(right) <= most(width),
            "a border of {:?} does not fit an image of {height} x {width}",
            self.padding
        );
        Ok(TensorFact::activation([height + top + bottom, width + left + right, channels]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        let operator = if self.reflects { "reflected border" } else { "repeated border" };
        Ok(Description { operator: operator.to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("pad")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let output = self.output(inputs)?.image()?;
        let [height, width, channels] = inputs[0].image()?;
        Ok(Box::new(Packed {
            rows: (0..output[0]).map(|row| self.source(row, 0, height)).collect(),
            columns: (0..output[1]).map(|column| self.source(column, 1, width)).collect(),
            height,
            width,
            channels,
            loops: target.loops()?,
        }))
    }

    fn nnef_name() -> &'static str {
        "resight_pad"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Integer.array().named("padding"),
            TypeName::Integer.named("reflects"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("padding", ints(&self.padding)),
            ("reflects", numeric(i32::from(self.reflects))),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let reflects: u8 = integer(builder, invocation, "reflects")?;
        ensure!(reflects <= 1, "`reflects` is {reflects}, neither 0 nor 1");
        let layer = Self { padding: integers(builder, invocation, "padding")?, reflects: reflects == 1 };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    /// The input's row for each of the output's.
    rows: Vec<usize>,
    columns: Vec<usize>,
    /// Of the input.
    height: usize,
    width: usize,
    channels: usize,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "pad"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let input = inputs.exactly(0, self.height * self.width * self.channels)?;
        self.loops.run(parallel, output.slice()?, scratch, &Border { packed: self, input })
    }
}

struct Border<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Border<'_> {
    fn unit(&self) -> usize {
        self.packed.columns.len() * self.packed.channels
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let Packed { rows, columns, width, channels, .. } = self.packed;
        for (row, from) in output.chunks_exact_mut(self.unit()).zip(&rows[first..]) {
            let source = &self.input[from * width * channels..][..width * channels];
            for (pixel, column) in row.chunks_exact_mut(*channels).zip(columns) {
                pixel.copy_from_slice(&source[column * channels..][..*channels]);
            }
        }
        Ok(())
    }
}
