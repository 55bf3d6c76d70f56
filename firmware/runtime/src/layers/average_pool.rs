//! The average over windows.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel, PoolShape};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use super::max_pool::pool_shape;
use crate::fixed_point::{fixed_point, half};
use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{input, integer, integers, quantisation, with_quantisation, with_quantisation_of};
use crate::quantisation::{Quantisation, are_int8};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Largest multiplier.
const MAX_MULTIPLIER: u32 = 1 << 31;

/// Largest shift.
const MAX_SHIFT: u32 = 30;

/// Most positions of a window.
const MAX_AREA: usize = 1 << 20;

/// Channels that are summed at a time: a cache line.
const CHANNELS: usize = 64;

/// The average over windows, of scale and zero point of its own:
///
/// `out = clamp(((sum(q - input_zero_point) * m[n] + half) >> shift) + zero_point)`
///
/// in i64, where the sum is over the window's positions in the image, `m[n]` is
/// `floor((2 * multiplier + n) / (2 * n))`, `half` is `2^(shift - 1)`, or 0 without a shift, and `>>`
/// rounds down. `n` is the number of positions in the image, with `counts_padding` of those in the
/// padding too. The multiplier is the input's scale over the output's, times `2^shift`, rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AveragePool {
    /// Window `[height, width]`.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Whether the padding counts as zeros.
    pub counts_padding: bool,
    /// In `[-128, 127]`.
    pub input_zero_point: i32,
    /// `0..=2^31`.
    pub multiplier: i64,
    /// `0..=30`.
    pub shift: u32,
    /// What the output's steps are worth; the kernel needs its zero point.
    pub output: Quantisation,
}

layer!(AveragePool, "ResightAveragePool");

impl AveragePool {
    /// Multiplier and shift that bring one scale to another, with as many bits as fit.
    ///
    /// # Errors
    /// Scales that are not positive, or so different that no multiplier holds them.
    pub fn rescale(input: Quantisation, output: Quantisation) -> TractResult<(i64, u32)> {
        let ratio = f64::from(input.scale) / f64::from(output.scale);
        let (multiplier, shift) = fixed_point(ratio, MAX_MULTIPLIER, MAX_SHIFT)
            .with_context(|| format!("no average of scale {} has the scale {}", input.scale, output.scale))?;
        Ok((i64::from(multiplier), shift))
    }

    fn shape(&self, inputs: &[TensorFact]) -> TractResult<PoolShape> {
        let shape = pool_shape(inputs, self.kernel, self.stride, self.padding)?;
        ensure!(
            are_int8(&[self.input_zero_point, self.output.zero_point])
                && (0..=i64::from(MAX_MULTIPLIER)).contains(&self.multiplier)
                && self.shift <= MAX_SHIFT
                && self.kernel[0] * self.kernel[1] <= MAX_AREA,
            "an average over {:?} with zero points {} and {}, multiplier {} and shift {} does not fit its arithmetic",
            self.kernel,
            self.input_zero_point,
            self.output.zero_point,
            self.multiplier,
            self.shift
        );
        Ok(shape)
    }
}

impl Layer for AveragePool {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        Ok(TensorFact::activation(self.shape(inputs)?.output()))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let PoolShape { kernel, stride, .. } = self.shape(inputs)?;
        let operator = format!("{}x{}/{} average pool", kernel[0], kernel[1], stride[0]);
        Ok(Description { operator, ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.shape(inputs)?;
        Ok("average_pool")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let shape = self.shape(inputs)?;
        let loops = target.loops()?;
        Ok(Box::new(Packed { output: shape.output(), shape, layer: self.clone(), loops }))
    }

    fn nnef_name() -> &'static str {
        "resight_average_pool"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Integer.array().named("kernel"),
            TypeName::Integer.array().named("stride"),
            TypeName::Integer.array().named("padding"),
            TypeName::Integer.named("counts_padding"),
            TypeName::Integer.named("input_zero_point"),
            TypeName::Integer.named("multiplier"),
            TypeName::Integer.named("shift"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments = vec![
            ("input", input(ast, node, 0)),
            ("kernel", ints(&self.kernel)),
            ("stride", ints(&self.stride)),
            ("padding", ints(&self.padding)),
            ("counts_padding", numeric(i32::from(self.counts_padding))),
            ("input_zero_point", numeric(self.input_zero_point)),
            ("multiplier", numeric(self.multiplier)),
            ("shift", numeric(self.shift)),
        ];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let counts: u8 = integer(builder, invocation, "counts_padding")?;
        ensure!(counts <= 1, "`counts_padding` is {counts}, neither 0 nor 1");
        let layer = Self {
            kernel: integers(builder, invocation, "kernel")?,
            stride: integers(builder, invocation, "stride")?,
            padding: integers(builder, invocation, "padding")?,
            counts_padding: counts == 1,
            input_zero_point: integer(builder, invocation, "input_zero_point")?,
            multiplier: integer(builder, invocation, "multiplier")?,
            shift: integer(builder, invocation, "shift")?,
            output: quantisation(builder, invocation)?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    layer: AveragePool,
    shape: PoolShape,
    /// `[height, width, channels]`.
    output: [usize; 3],
    loops: Loops,
}

/// A window along one axis.
struct Span {
    /// Its positions in the image.
    start: usize,
    end: usize,
    /// How many positions count.
    counted: usize,
}

impl Packed {
    #[inline(always)]
    fn span(&self, position: usize, axis: usize) -> Span {
        let PoolShape { input, kernel, stride, padding } = &self.shape;
        let (start, end) = (position * stride[axis], position * stride[axis] + kernel[axis]);
        let inside = |at: usize| at.saturating_sub(padding[axis]).min(input[axis]);
        let (first, last) = (inside(start), inside(end));
        let whole = end.min(input[axis] + padding[axis] + padding[axis + 2]) - start;
        Span {
            start: first,
            end: last,
            counted: if self.layer.counts_padding { whole } else { last - first },
        }
    }

    /// The average of a sum over `n` positions of an image.
    #[inline(always)]
    fn average(&self, sum: i64, factor: i64) -> i8 {
        let scaled = (sum * factor + half(self.layer.shift)) >> self.layer.shift;
        (scaled + i64::from(self.layer.output.zero_point)).clamp(-128, 127) as i8
    }
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "average_pool"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let input = inputs.exactly(0, self.shape.input.iter().product())?;
        self.loops.run(parallel, output.slice()?, scratch, &Averages { packed: self, input })
    }
}

struct Averages<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Averages<'_> {
    /// A cache line where pixels are whole ones: a pool over the whole image has only one pixel.
    fn unit(&self) -> usize {
        let channels = self.packed.shape.input[2];
        if channels.is_multiple_of(CHANNELS) { CHANNELS } else { channels }
    }

    fn steps(&self) -> usize {
        self.packed.shape.kernel.iter().product()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let Packed { layer, shape, output: [_, output_width, _], .. } = self.packed;
        let [_, width, channels] = shape.input;
        let unit = self.unit();
        let mut start = first * unit % channels;
        let mut pixel = first * unit / channels;
        for output in output.chunks_exact_mut(unit) {
            let rows = self.packed.span(pixel / output_width, 0);
            let columns = self.packed.span(pixel % output_width, 1);
            let real = ((rows.end - rows.start) * (columns.end - columns.start)) as i64;
            let counted = (rows.counted * columns.counted).max(1) as i64;
            let factor = (2 * layer.multiplier + counted) / (2 * counted);
            let zeros = real * i64::from(layer.input_zero_point);
            for output in output.chunks_mut(CHANNELS) {
                let mut sums = [0i32; CHANNELS];
                for y in rows.start..rows.end {
                    let row = (y * width + columns.start) * channels..(y * width + columns.end) * channels;
                    for pixel in self.input[row].chunks_exact(channels) {
                        // The usual case of a fixed length becomes vectors.
                        if let Ok(values) = <&[i8; CHANNELS]>::try_from(&pixel[start..start + output.len()]) {
                            sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += i32::from(value));
                        } else {
                            let values = &pixel[start..start + output.len()];
                            sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += i32::from(value));
                        }
                    }
                }
                for (output, &sum) in output.iter_mut().zip(&sums) {
                    *output = self.packed.average(i64::from(sum) - zeros, factor);
                }
                start += output.len();
            }
            if start == channels {
                (start, pixel) = (0, pixel + 1);
            }
        }
        Ok(())
    }
}
