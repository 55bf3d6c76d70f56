//! Resizing by interpolation.

use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, slice, tensor, variable};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Bits of a weight: the weights along an axis add up to `2^11`.
const WEIGHT_BITS: u32 = 11;

/// The whole weight along an axis.
const WHOLE: i32 = 1 << WEIGHT_BITS;

/// Linear interpolation along both axes of an int8 activation, whose scale and zero point pass
/// through:
///
/// `out[y][x] = (sum(wy * wx * in[i][j]) + 2^21) >> 22`
///
/// in i32, where `>>` rounds down and the sum is over the rows `i = r, min(r + 1, height - 1)` with
/// the weights `wy = 2048 - w, w`, where `[r, w]` is column `y` of `rows`, and over the columns `j`
/// alike. The weights of a pixel add up to `2^22`, so that a plain image stays as it is. Where all
/// `w` are 0, pixels are copied: to the nearest.
///
/// Which pixels and weights these are is up to whoever makes the network: ONNX knows several ways
/// (`half_pixel`, `align_corners`, `asymmetric`), and all of them are such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    /// `[2, height of the output]` of i32: the upper one of two rows, and the weight of the lower
    /// one, `0..2048`.
    pub rows: Arc<Tensor>,
    /// `[2, width of the output]` of i32: the left one of two columns, and the weight of the right
    /// one, `0..2048`.
    pub columns: Arc<Tensor>,
}

layer!(Resize, "ResightResize");

/// Where a row or column of the output lies between two of the input.
#[derive(Debug, Clone, Copy)]
struct Between {
    first: usize,
    second: usize,
    weight: i32,
}

impl Between {
    #[inline(always)]
    fn mix(self, first: i32, second: i32) -> i32 {
        first * (WHOLE - self.weight) + second * self.weight
    }
}

impl Resize {
    /// The layer for these places along both axes: the first of two rows or columns, and the share
    /// of the second one, `0..=1`, which is rounded to the nearest of 2048.
    ///
    /// # Errors
    /// A number that does not fit 32 bits.
    pub fn new(rows: &[(usize, f64)], columns: &[(usize, f64)]) -> TractResult<Self> {
        Ok(Self { rows: axis(rows)?, columns: axis(columns)? })
    }

    fn size(&self, inputs: &[TensorFact]) -> TractResult<[usize; 3]> {
        let fact = one_input("a resize", inputs)?;
        let [height, width, channels] = fact.image()?;
        Ok([places(&self.rows, height)?.len(), places(&self.columns, width)?.len(), channels])
    }
}

fn axis(places: &[(usize, f64)]) -> TractResult<Arc<Tensor>> {
    let weight = |&(_, share): &(usize, f64)| (share * f64::from(WHOLE)).round() as i32;
    // All of the second one is the first of the next pair.
    let first = |place: &(usize, f64)| Ok(i32::try_from(place.0)? + weight(place) / WHOLE);
    let mut values = places.iter().map(first).collect::<TractResult<Vec<i32>>>()?;
    values.extend(places.iter().map(|place| weight(place) % WHOLE));
    Ok(Tensor::from_shape(&[2, places.len()], &values)?.into_arc_tensor())
}

/// The places along an axis of `length` rows or columns.
fn places(axis: &Tensor, length: usize) -> TractResult<Vec<Between>> {
    let &[2, count] = axis.shape() else { bail!("places are {:?}, not [2, places]", axis.shape()) };
    ensure!((1..=1 << 16).contains(&count), "a resize to {count} rows or columns");
    let (firsts, weights) = slice::<i32>(axis)?.split_at(count);
    let place = |(&first, &weight): (&i32, &i32)| {
        let first = usize::try_from(first).ok().filter(|&first| first < length);
        let first = first.with_context(|| format!("a place of a resize is outside of 0..{length}"))?;
        ensure!((0..WHOLE).contains(&weight), "the weight {weight} of a resize is not in 0..{WHOLE}");
        Ok(Between { first, second: (first + 1).min(length - 1), weight })
    };
    firsts.iter().zip(weights).map(place).collect()
}

impl Layer for Resize {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        Ok(TensorFact::activation(self.size(inputs)?))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let [height, width, _] = self.size(inputs)?;
        Ok(Description { operator: format!("resize to {height}x{width}"), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.size(inputs)?;
        Ok("resize")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.size(inputs)?;
        let [height, width, channels] = inputs[0].image()?;
        let (rows, columns) = (places(&self.rows, height)?, places(&self.columns, width)?);
        Ok(Box::new(Packed { rows, columns, height, width, channels, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_resize"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("rows"),
            TypeName::Scalar.tensor().named("columns"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("rows", variable(ast, node, "rows", &self.rows)?),
            ("columns", variable(ast, node, "columns", &self.columns)?),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            rows: tensor(builder, invocation, "rows", DatumType::I32)?,
            columns: tensor(builder, invocation, "columns", DatumType::I32)?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    rows: Vec<Between>,
    columns: Vec<Between>,
    /// Of the input.
    height: usize,
    width: usize,
    channels: usize,
    loops: Loops,
}

impl Packed {
    /// Bytes of a row of the input in i32.
    fn mixed_bytes(&self) -> usize {
        self.width * self.channels * size_of::<i32>()
    }
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "resize"
    }

    fn scratch_len(&self, threads: usize) -> usize {
        Loops::scratch_len(threads, self.mixed_bytes())
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let input = inputs.exactly(0, self.height * self.width * self.channels)?;
        self.loops.run(parallel, output.slice()?, scratch, &Interpolation { packed: self, input })
    }
}

struct Interpolation<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Interpolation<'_> {
    fn unit(&self) -> usize {
        self.packed.columns.len() * self.packed.channels
    }

    fn steps(&self) -> usize {
        4
    }

    fn scratch(&self) -> usize {
        self.packed.mixed_bytes()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], scratch: &mut [u8]) -> Result<(), KernelError> {
        let Packed { rows, columns, width, channels, .. } = self.packed;
        let pitch = width * channels;
        // It starts at a cache line.
        let (_, mixed, _) = bytemuck::pod_align_to_mut::<u8, i32>(scratch);
        for (row, line) in rows[first..].iter().zip(output.chunks_exact_mut(self.unit())) {
            // Both axes are exact: nothing is rounded in between.
            let [upper, lower] = [row.first, row.second].map(|at| &self.input[at * pitch..][..pitch]);
            for ((mixed, &upper), &lower) in mixed.iter_mut().zip(upper).zip(lower) {
                *mixed = row.mix(upper.into(), lower.into());
            }
            for (column, pixel) in columns.iter().zip(line.chunks_exact_mut(*channels)) {
                let [left, right] =
                    [column.first, column.second].map(|at| &mixed[at * channels..][..*channels]);
                for ((value, &left), &right) in pixel.iter_mut().zip(left).zip(right) {
                    let sum = column.mix(left, right) + (1 << (2 * WEIGHT_BITS - 1));
                    *value = (sum >> (2 * WEIGHT_BITS)) as i8;
                }
            }
        }
        Ok(())
    }
}
