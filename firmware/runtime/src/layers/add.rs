//! The sum of two activations.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

use crate::fixed_point::{half, saturate};
use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, two_inputs};
use crate::nnef::{input, integer, integers, quantisation, with_quantisation, with_quantisation_of};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Largest multiplier: 22 bits tell 256 levels of each input apart many times over.
const MAX_MULTIPLIER: i64 = 1 << 22;

/// Largest shift.
const MAX_SHIFT: u32 = 30;

/// The sum of two int8 activations of one shape, each with a scale of its own:
///
/// `out = clamp((a * multiplier[0] + b * multiplier[1] + bias + half) >> shift, -128, 127)`
///
/// without overflow, where `half` is `2^(shift - 1)`, or 0 without a shift, and `>>` rounds down: halves go
/// up. The multipliers are the input scales over the output's, times `2^shift`, rounded; the bias
/// holds the zero points. With a zero point of -128 the clamp is a ReLU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Of the first and the second input, each `0..=2^22`.
    pub multiplier: [usize; 2],
    /// `zero_point * 2^shift - zero_point_a * multiplier[0] - zero_point_b * multiplier[1]`.
    pub bias: i64,
    /// `0..=30`.
    pub shift: u32,
    /// What the output's steps are worth; the kernel does not need it.
    pub output: Quantisation,
}

layer!(Add, "ResightAdd");

impl Add {
    /// The sum of inputs with these quantisations. The multipliers have as many bits as fit.
    ///
    /// # Errors
    /// Scales that are not positive, or so different that no multiplier holds them.
    pub fn new(a: Quantisation, b: Quantisation, output: Quantisation) -> TractResult<Self> {
        let ratio = |input: Quantisation| f64::from(input.scale) / f64::from(output.scale);
        let ratios = [ratio(a), ratio(b)];
        let largest = ratios[0].max(ratios[1]);
        ensure!(
            ratios.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0) && largest <= MAX_MULTIPLIER as f64,
            "no sum of scales {} and {} has the scale {}",
            a.scale,
            b.scale,
            output.scale
        );
        let of_shift = |shift: u32| {
            let multiplier =
                ratios.map(|ratio| (ratio * f64::from(1u32 << shift)).round_ties_even() as usize);
            let folded = i64::from(a.zero_point) * multiplier[0] as i64
                + i64::from(b.zero_point) * multiplier[1] as i64;
            Self { multiplier, bias: (i64::from(output.zero_point) << shift) - folded, shift, output }
        };
        let fits = |shift: &u32| largest * f64::from(1u32 << shift) <= MAX_MULTIPLIER as f64;
        // 32 bits are twice as fast as 64 and leave 20 bits of a multiplier.
        let shifts = || (0..=MAX_SHIFT).take_while(fits).map(of_shift);
        let layer = shifts().filter(Self::is_narrow).last().or_else(|| shifts().last());
        Ok(layer.unwrap_or_else(|| of_shift(0)))
    }

    /// Whether no sum leaves 32 bits.
    fn is_narrow(&self) -> bool {
        let terms = 128 * (self.multiplier[0] + self.multiplier[1]) as i64;
        terms + self.bias.abs() + half(self.shift) <= i64::from(i32::MAX)
    }
}

impl Layer for Add {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [a, b] = two_inputs("a sum", inputs)?;
        let (a_shape, b_shape) = (a.expect(DatumType::I8)?, b.expect(DatumType::I8)?);
        ensure!(a_shape == b_shape, "the inputs of a sum have the shapes {a_shape:?} and {b_shape:?}");
        ensure!(self.shift <= MAX_SHIFT, "the shift of a sum is {}, more than {MAX_SHIFT}", self.shift);
        ensure!(
            self.multiplier.iter().all(|&multiplier| multiplier as i64 <= MAX_MULTIPLIER)
                && self.bias.unsigned_abs() <= 1 << 40,
            "a sum with multipliers {:?} and bias {} does not fit its arithmetic",
            self.multiplier,
            self.bias
        );
        Ok(a.clone())
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "sum".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("add")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        Ok(Box::new(Packed {
            multiplier: self.multiplier.map(|multiplier| multiplier as i64),
            bias: self.bias + half(self.shift),
            shift: self.shift,
            is_narrow: self.is_narrow(),
            loops: target.loops()?,
        }))
    }

    fn nnef_name() -> &'static str {
        "resight_add"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().named("a"),
            TypeName::Scalar.tensor().named("b"),
            TypeName::Integer.array().named("multiplier"),
            TypeName::Integer.named("bias"),
            TypeName::Integer.named("shift"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments = vec![
            ("a", input(ast, node, 0)),
            ("b", input(ast, node, 1)),
            ("multiplier", ints(&self.multiplier)),
            ("bias", numeric(self.bias)),
            ("shift", numeric(self.shift)),
        ];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            multiplier: integers(builder, invocation, "multiplier")?,
            bias: integer(builder, invocation, "bias")?,
            shift: integer(builder, invocation, "shift")?,
            output: quantisation(builder, invocation)?,
        };
        let inputs = tvec!(invocation.named_arg_as(builder, "a")?, invocation.named_arg_as(builder, "b")?);
        Ok((layer, inputs))
    }
}

#[derive(Debug)]
struct Packed {
    multiplier: [i64; 2],
    /// With the half.
    bias: i64,
    shift: u32,
    /// Whether 32 bits are enough.
    is_narrow: bool,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "add"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<i8>()?;
        let [a, b] = [inputs.exactly(0, output.len())?, inputs.exactly(1, output.len())?];
        self.loops.run(parallel, output, scratch, &Sums { packed: self, a, b })
    }
}

struct Sums<'a> {
    packed: &'a Packed,
    a: &'a [i8],
    b: &'a [i8],
}

impl Loop<i8> for Sums<'_> {
    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let &Packed { multiplier, bias, shift, is_narrow, .. } = self.packed;
        let part = first..first + output.len();
        let terms = self.a[part.clone()].iter().zip(&self.b[part]);
        if is_narrow {
            let (multiplier, bias) = (multiplier.map(|multiplier| multiplier as i32), bias as i32);
            for (output, (&a, &b)) in output.iter_mut().zip(terms) {
                let sum = i32::from(a) * multiplier[0] + i32::from(b) * multiplier[1] + bias;
                *output = saturate(sum >> shift);
            }
            return Ok(());
        }
        for (output, (&a, &b)) in output.iter_mut().zip(terms) {
            let sum = i64::from(a) * multiplier[0] + i64::from(b) * multiplier[1] + bias;
            *output = (sum >> shift).clamp(-128, 127) as i8;
        }
        Ok(())
    }
}
