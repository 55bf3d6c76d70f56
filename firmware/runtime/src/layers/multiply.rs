//! The product of two activations, one of which may be a gate: one number for each channel or for
//! each position.

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;
use tract_nnef::ser::array;

use crate::fixed_point::{fixed_point, half, saturate};
use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, two_inputs};
use crate::nnef::{input, integer, quantisation, with_quantisation, with_quantisation_of};
use crate::quantisation::{Quantisation, are_int8};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Largest multiplier: with it a product of two 9-bit numbers fits 32 bits.
const MAX_MULTIPLIER: u32 = 1 << 14;

/// Largest shift: with it the half still fits beside the product.
const MAX_SHIFT: u32 = 22;

/// Largest multiplier of products of 64 bits.
const MAX_WIDE_MULTIPLIER: u32 = 1 << 30;

/// Their largest shift.
const MAX_WIDE_SHIFT: u32 = 31;

/// The product of two int8 activations, each with a scale of its own:
///
/// `out = clamp((((a - zero_point_a) * (b - zero_point_b) * multiplier + half) >> shift) + zero_point)`
///
/// without overflow, where `half` is `2^(shift - 1)`, or 0 without a shift, and `>>` rounds down: halves go up.
/// The multiplier is the product of the input scales over the output's scale, times `2^shift`,
/// rounded. The second input has the shape of the first, `[1, h, w, c]`, or is a gate: `[1, 1, 1, c]`
/// or `[1, h, w, 1]`, which counts for all positions or for all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multiply {
    /// Of the first and the second input, each in `[-128, 127]`.
    pub zero_points: [i32; 2],
    /// `0..=2^30`; up to `2^14` 32 bits are enough.
    pub multiplier: i32,
    /// `0..=31`; up to 22 32 bits are enough.
    pub shift: u32,
    /// What the output's steps are worth; the kernel needs its zero point.
    pub output: Quantisation,
}

layer!(Multiply, "ResightMultiply");

/// How the second input meets the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    Same,
    Channels(usize),
    Positions(usize),
}

impl Multiply {
    /// The product of inputs with these quantisations. The multiplier has as many bits as fit.
    ///
    /// # Errors
    /// Scales that are not positive, or so different that no multiplier holds them.
    pub fn new(a: Quantisation, b: Quantisation, output: Quantisation) -> TractResult<Self> {
        let ratio = f64::from(a.scale) * f64::from(b.scale) / f64::from(output.scale);
        let (multiplier, shift) = fixed_point(ratio, MAX_MULTIPLIER, MAX_SHIFT).with_context(|| {
            format!("no product of scales {} and {} has the scale {}", a.scale, b.scale, output.scale)
        })?;
        let multiplier = multiplier as i32;
        Ok(Self { zero_points: [a.zero_point, b.zero_point], multiplier, shift, output })
    }

    /// The product that others compute with these scales: by the `f32` number that they make of them, in 64 bits,
    /// since 14 of a multiplier round one result in 100,000 to the other side.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn exact(a: Quantisation, b: Quantisation, output: Quantisation) -> TractResult<Self> {
        let ratio = f64::from(a.scale * b.scale / output.scale);
        match fixed_point(ratio, MAX_WIDE_MULTIPLIER, MAX_WIDE_SHIFT) {
            Some((multiplier, shift)) => {
                let zero_points = [a.zero_point, b.zero_point];
                Ok(Self { zero_points, multiplier: multiplier as i32, shift, output })
            }
            None => Self::new(a, b, output),
        }
    }

    /// Whether products leave 32 bits.
    fn is_wide(&self) -> bool {
        self.multiplier > MAX_MULTIPLIER as i32 || self.shift > MAX_SHIFT
    }

    fn second(&self, inputs: &[TensorFact]) -> TractResult<Second> {
        let [a, b] = two_inputs("a product", inputs)?;
        let (image, other) = (a.image()?, b.image()?);
        let [first, second] = self.zero_points;
        ensure!(
            are_int8(&[first, second, self.output.zero_point])
                && (0..=MAX_WIDE_MULTIPLIER as i32).contains(&self.multiplier)
                && self.shift <= MAX_WIDE_SHIFT,
            "a product with zero points {:?} and {}, multiplier {} and shift {} does not fit its arithmetic",
            self.zero_points,
            self.output.zero_point,
            self.multiplier,
            self.shift
        );
        let [height, width, channels] = image;
        if other == image {
            Ok(Second::Same)
        } else if other == [1, 1, channels] {
            Ok(Second::Channels(channels))
        } else if other == [height, width, 1] {
            Ok(Second::Positions(channels))
        } else {
            bail!("an activation of {image:?} cannot be multiplied with one of {other:?}")
        }
    }
}

impl Layer for Multiply {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        self.second(inputs)?;
        Ok(inputs[0].clone())
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let operator = match self.second(inputs)? {
            Second::Same => "product",
            Second::Channels(_) => "gate of channels",
            Second::Positions(_) => "gate of positions",
        };
        Ok(Description { operator: operator.to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.second(inputs)?;
        Ok("multiply")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let second = self.second(inputs)?;
        let half = half(self.shift);
        Ok(Box::new(Packed { layer: self.clone(), half, second, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_multiply"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().named("a"),
            TypeName::Scalar.tensor().named("b"),
            TypeName::Integer.array().named("zero_points"),
            TypeName::Integer.named("multiplier"),
            TypeName::Integer.named("shift"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments = vec![
            ("a", input(ast, node, 0)),
            ("b", input(ast, node, 1)),
            ("zero_points", array(self.zero_points.map(numeric))),
            ("multiplier", numeric(self.multiplier)),
            ("shift", numeric(self.shift)),
        ];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let zeros: TVec<i64> = invocation.named_arg_as(builder, "zero_points")?;
        let [first, second] = *zeros else { bail!("a product has two zero points, found {}", zeros.len()) };
        // What is out of range is refused with the shapes.
        let narrow = |zero: i64| i32::try_from(zero).unwrap_or(i32::MAX);
        let layer = Self {
            zero_points: [narrow(first), narrow(second)],
            multiplier: integer(builder, invocation, "multiplier")?,
            shift: integer(builder, invocation, "shift")?,
            output: quantisation(builder, invocation)?,
        };
        let inputs = tvec!(invocation.named_arg_as(builder, "a")?, invocation.named_arg_as(builder, "b")?);
        Ok((layer, inputs))
    }
}

#[derive(Debug)]
struct Packed {
    layer: Multiply,
    half: i64,
    second: Second,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "multiply"
    }

    fn scratch_len(&self, _: usize) -> usize {
        match self.second {
            // A factor for each, wherever it begins.
            Second::Channels(channels) => (channels + 1) * size_of::<i32>(),
            Second::Same | Second::Positions(_) => 0,
        }
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        if self.layer.is_wide() {
            self.multiply::<true>(parallel, inputs, output, scratch)
        } else {
            self.multiply::<false>(parallel, inputs, output, scratch)
        }
    }
}

impl Packed {
    fn multiply<const WIDE: bool>(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<i8>()?;
        let a = inputs.exactly(0, output.len())?;
        match self.second {
            Second::Same => {
                let b = inputs.exactly(1, output.len())?;
                self.loops.run(parallel, output, &mut [], &Products::<WIDE> { packed: self, a, b })
            }
            Second::Channels(channels) => {
                let gates = inputs.exactly::<i8>(1, channels)?;
                let (_, factors, _) = bytemuck::pod_align_to_mut::<u8, i32>(scratch);
                let Some(factors) = factors.get_mut(..channels) else {
                    return Err(KernelError::Invalid("a product has too little scratch memory".into()));
                };
                factors.iter_mut().zip(gates).for_each(|(factor, &gate)| *factor = self.factor::<WIDE>(gate));
                let products = GatedChannels::<WIDE> { packed: self, a, factors };
                self.loops.run(parallel, output, &mut [], &products)
            }
            Second::Positions(channels) => {
                let gates = inputs.exactly(1, output.len() / channels)?;
                let products = GatedPositions::<WIDE> { packed: self, a, gates, channels };
                self.loops.run(parallel, output, &mut [], &products)
            }
        }
    }

    /// What a value of the second input multiplies the first with, before the multiplier where products are wide.
    #[inline(always)]
    fn factor<const WIDE: bool>(&self, b: i8) -> i32 {
        let factor = i32::from(b) - self.layer.zero_points[1];
        if WIDE { factor } else { factor * self.layer.multiplier }
    }

    #[inline(always)]
    fn product<const WIDE: bool>(&self, a: i8, factor: i32) -> i8 {
        let Multiply { zero_points, multiplier, shift, output } = self.layer;
        let product = (i32::from(a) - zero_points[0]) * factor;
        let rounded = if WIDE {
            // A product of two 9-bit numbers and 31 bits: what is beyond the ends is narrowed first.
            let wide = (i64::from(product) * i64::from(multiplier) + self.half) >> shift;
            wide.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i32
        } else {
            (product + self.half as i32) >> shift
        };
        saturate(rounded + output.zero_point)
    }
}

/// Element by element.
struct Products<'a, const WIDE: bool> {
    packed: &'a Packed,
    a: &'a [i8],
    b: &'a [i8],
}

impl<const WIDE: bool> Loop<i8> for Products<'_, WIDE> {
    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let part = first..first + output.len();
        for ((output, &a), &b) in output.iter_mut().zip(&self.a[part.clone()]).zip(&self.b[part]) {
            *output = self.packed.product::<WIDE>(a, self.packed.factor::<WIDE>(b));
        }
        Ok(())
    }
}

struct GatedChannels<'a, const WIDE: bool> {
    packed: &'a Packed,
    a: &'a [i8],
    /// One for each channel.
    factors: &'a [i32],
}

impl<const WIDE: bool> Loop<i8> for GatedChannels<'_, WIDE> {
    fn unit(&self) -> usize {
        self.factors.len()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let channels = self.factors.len();
        let pixels = self.a[first * channels..].chunks_exact(channels);
        for (output, a) in output.chunks_exact_mut(channels).zip(pixels) {
            for ((output, &a), &factor) in output.iter_mut().zip(a).zip(self.factors) {
                *output = self.packed.product::<WIDE>(a, factor);
            }
        }
        Ok(())
    }
}

struct GatedPositions<'a, const WIDE: bool> {
    packed: &'a Packed,
    a: &'a [i8],
    /// One for each position.
    gates: &'a [i8],
    channels: usize,
}

impl<const WIDE: bool> Loop<i8> for GatedPositions<'_, WIDE> {
    fn unit(&self) -> usize {
        self.channels
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let pixels = self.a[first * self.channels..].chunks_exact(self.channels);
        let gated = pixels.zip(&self.gates[first..]);
        for (output, (a, &gate)) in output.chunks_exact_mut(self.channels).zip(gated) {
            let factor = self.packed.factor::<WIDE>(gate);
            for (output, &a) in output.iter_mut().zip(a) {
                *output = self.packed.product::<WIDE>(a, factor);
            }
        }
        Ok(())
    }
}
