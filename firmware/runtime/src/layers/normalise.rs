//! The channels of each position over their L2 norm, times a factor for each channel.

use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::fixed_point::{fixed_point, half};
use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{
    input, integer, quantisation, slice, tensor, variable, with_quantisation, with_quantisation_of,
};
use crate::quantisation::{Quantisation, are_int8};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Largest multiplier: with it a product with a 9-bit number and a 32-bit one fits 62 bits.
const MAX_MULTIPLIER: u32 = 1 << 22;

/// Largest shift of the multipliers.
const MAX_SHIFT: u32 = 31;

/// Bits of the fraction of `1 / norm`.
const ROOT_BITS: u32 = 31;

/// Most channels: with them the sum of squares fits 32 bits.
const MAX_CHANNELS: usize = 1 << 16;

/// Each position's channels over their L2 norm, times a factor for each channel. With
/// `d = q - input_zero_point` and the sum `s` of the squares of a position's `d`:
///
/// `root = floor(sqrt(floor(2^62 / s)))`, or 0 where `s` is 0
/// `out = clamp(((d * multiplier[c] * root + half) >> (shift + 31)) + zero_point)`
///
/// in i64, where `half` is `2^(shift + 30)` and `>>` rounds down: halves go up. The multiplier is the
/// channel's factor over the output's scale, times `2^shift`, rounded. What the input's steps are worth
/// does not matter. The root is `2^31 / norm` to 15 bits or more, since a sum has 32 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalise {
    /// In `[-128, 127]`.
    pub input_zero_point: i32,
    /// i32, one for each channel, of a magnitude up to `2^22`.
    pub multiplier: Arc<Tensor>,
    /// `0..=31`.
    pub shift: u32,
    /// What the output's steps are worth; the kernel needs its zero point.
    pub output: Quantisation,
}

impl Eq for Normalise {}

layer!(Normalise, "ResightNormalise");

impl Normalise {
    /// The layer for an input of this zero point, with a factor for each channel. The multipliers have
    /// as many bits as fit.
    ///
    /// # Errors
    /// Factors that are not finite, all zero, or so large that no multiplier holds them.
    pub fn new(input_zero_point: i32, factors: &[f32], output: Quantisation) -> TractResult<Self> {
        let ratio = |factor: f32| f64::from(factor) / f64::from(output.scale);
        let largest = factors.iter().map(|&factor| ratio(factor).abs()).fold(0.0, f64::max);
        let shift = fixed_point(largest, MAX_MULTIPLIER, MAX_SHIFT).with_context(|| {
            format!("no multiplier holds factors up to {largest} steps of the scale {}", output.scale)
        })?;
        let steps = f64::from(1u32 << shift.1);
        let multiplier: Vec<i32> =
            factors.iter().map(|&factor| (ratio(factor) * steps).round_ties_even() as i32).collect();
        Ok(Self {
            input_zero_point,
            multiplier: tensor1(&multiplier).into_arc_tensor(),
            shift: shift.1,
            output,
        })
    }

    fn check(&self, inputs: &[TensorFact]) -> TractResult<[usize; 3]> {
        let input = one_input("a normalisation", inputs)?;
        let image = input.image()?;
        let multiplier = slice::<i32>(&self.multiplier)?;
        ensure!(
            multiplier.len() == image[2] && image[2] <= MAX_CHANNELS,
            "a normalisation of {} channels, {MAX_CHANNELS} at most, takes no {image:?}",
            multiplier.len()
        );
        ensure!(
            are_int8(&[self.input_zero_point, self.output.zero_point])
                && multiplier.iter().all(|value| value.unsigned_abs() <= MAX_MULTIPLIER)
                && self.shift <= MAX_SHIFT,
            "a normalisation with zero points {} and {} and shift {} does not fit its arithmetic",
            self.input_zero_point,
            self.output.zero_point,
            self.shift
        );
        Ok(image)
    }
}

impl Layer for Normalise {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        self.check(inputs)?;
        Ok(inputs[0].clone())
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        self.check(inputs)?;
        Ok(Description { operator: "L2 normalisation of positions".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.check(inputs)?;
        Ok("normalise")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.check(inputs)?;
        Ok(Box::new(Packed {
            multiplier: slice::<i32>(&self.multiplier)?.to_vec(),
            input_zero_point: self.input_zero_point,
            shift: self.shift + ROOT_BITS,
            zero_point: self.output.zero_point,
            loops: target.loops()?,
        }))
    }

    fn nnef_name() -> &'static str {
        "resight_normalise"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("multiplier"),
            TypeName::Integer.named("shift"),
            TypeName::Integer.named("input_zero_point"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments = vec![
            ("input", input(ast, node, 0)),
            ("multiplier", variable(ast, node, "multiplier", &self.multiplier)?),
            ("shift", numeric(self.shift)),
            ("input_zero_point", numeric(self.input_zero_point)),
        ];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            multiplier: tensor(builder, invocation, "multiplier", DatumType::I32)?,
            shift: integer(builder, invocation, "shift")?,
            input_zero_point: integer(builder, invocation, "input_zero_point")?,
            output: quantisation(builder, invocation)?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    multiplier: Vec<i32>,
    input_zero_point: i32,
    /// That of the multipliers and that of the root.
    shift: u32,
    zero_point: i32,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "normalise"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<i8>()?;
        let input = inputs.exactly(0, output.len())?;
        self.loops.run(parallel, output, scratch, &Normalised { packed: self, input })
    }
}

struct Normalised<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<i8> for Normalised<'_> {
    fn unit(&self) -> usize {
        self.packed.multiplier.len()
    }

    fn steps(&self) -> usize {
        2
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let Packed { multiplier, input_zero_point, shift, zero_point, .. } = self.packed;
        let half = half(*shift);
        let channels = multiplier.len();
        let pixels = self.input[first * channels..].chunks_exact(channels);
        for (output, pixel) in output.chunks_exact_mut(channels).zip(pixels) {
            let difference = |q: &i8| i32::from(*q) - input_zero_point;
            let sum: u32 = pixel.iter().map(|q| difference(q).unsigned_abs().pow(2)).sum();
            let root = (1u64 << 62).checked_div(u64::from(sum)).map_or(0, u64::isqrt) as i64;
            for ((output, q), &multiplier) in output.iter_mut().zip(pixel).zip(multiplier) {
                let product = i64::from(difference(q) * multiplier) * root;
                *output = (((product + half) >> shift) + i64::from(*zero_point)).clamp(-128, 127) as i8;
            }
        }
        Ok(())
    }
}
