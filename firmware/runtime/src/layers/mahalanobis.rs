//! How far what is seen at each place is from what is typical there.

use std::sync::Arc;

use resight_kernels::{
    self as kernels, CacheSizes, Isa, KernelError, LinearParameters, Loop, Loops, Parallel, Sequential,
};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, kernel_error, slice, tensor, variable};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Most features of a place, and most of what they are turned into.
const MAX_FEATURES: usize = 256;

/// The largest magnitude of an int8 feature.
const INPUT_LIMIT: i16 = 128;

/// The Mahalanobis distance of the features at each place from those that are typical of it:
/// `[1, height, width, features]` of `i8` to `[1, height, width, 1]` of `f32`,
///
/// `out[p] = sqrt(sum over r of ((bias[p][r] + sum over c of weights[p][r][c] * in[p][c]) as f32 * scale[p][r])^2)`
///
/// where the rows are those of a matrix whose square is the inverse of the covariance at the place, and
/// the bias takes off its mean. Products are int8's, as of a [`Linear`](super::Linear) layer for each
/// place; everything after them is a fixed sequence of IEEE 754 operations, the same bits everywhere.
///
/// P. C. Mahalanobis, 1936; places of a network's features: T. Defard and others, `PaDiM`, 2021.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mahalanobis {
    /// `i8` `[place][row][feature]`, places row by row; up to 256 rows and features.
    pub weights: Arc<Tensor>,
    /// `i32` `[place][row]`.
    pub bias: Arc<Tensor>,
    /// `f32` `[place][row]`, positive.
    pub scale: Arc<Tensor>,
}

layer!(Mahalanobis, "ResightMahalanobis");

/// Places, rows and features.
type Sizes = [usize; 3];

impl Mahalanobis {
    fn sizes(&self, inputs: &[TensorFact]) -> TractResult<Sizes> {
        let [height, width, channels] = one_input("a Mahalanobis distance", inputs)?.image()?;
        let &[places, rows, features] = self.weights.shape() else {
            bail!("the weights of places must have three dimensions, found {:?}", self.weights.shape());
        };
        ensure!(
            places == height * width && features == channels,
            "the weights are for {places} places of {features} features, the input has {height} x {width} of {channels}"
        );
        ensure!(
            (1..=MAX_FEATURES).contains(&rows) && (1..=MAX_FEATURES).contains(&features),
            "{rows} rows of {features} features at each place; 1 to {MAX_FEATURES} are possible"
        );
        for (name, found) in [("bias", self.bias.shape()), ("scale", self.scale.shape())] {
            ensure!(found == [places, rows], "the {name} has the shape {found:?}, not [{places}, {rows}]");
        }
        Ok([places, rows, features])
    }
}

impl Layer for Mahalanobis {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        self.sizes(inputs)?;
        let [height, width, _] = inputs[0].image()?;
        Ok(TensorFact::new(DatumType::F32, &[1, height, width, 1]))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let weights = self.sizes(inputs)?.iter().product();
        Ok(Description {
            operator: "Mahalanobis distance".to_owned(),
            macs: weights as u64,
            weight_bytes: weights,
        })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.sizes(inputs)?;
        Ok("mahalanobis")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let [_, rows, features] = self.sizes(inputs)?;
        let (weights, bias, scale) = (slice(&self.weights)?, slice(&self.bias)?, slice(&self.scale)?);
        let of_places = weights.chunks_exact(rows * features);
        let of_places = of_places.zip(bias.chunks_exact(rows)).zip(scale.chunks_exact(rows));
        let place = |((weights, bias), scale)| {
            let parameters = LinearParameters {
                inputs: features,
                outputs: rows,
                weights,
                bias,
                scale,
                input_limit: INPUT_LIMIT,
            };
            kernels::Linear::new(target.isa, &parameters).map_err(kernel_error)
        };
        let places = of_places.map(place).collect::<TractResult<_>>()?;
        Ok(Box::new(Packed { rows, features, places, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_mahalanobis"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("weights"),
            TypeName::Scalar.tensor().named("bias"),
            TypeName::Scalar.tensor().named("scale"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("weights", variable(ast, node, "weights", &self.weights)?),
            ("bias", variable(ast, node, "bias", &self.bias)?),
            ("scale", variable(ast, node, "scale", &self.scale)?),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            weights: tensor(builder, invocation, "weights", DatumType::I8)?,
            bias: tensor(builder, invocation, "bias", DatumType::I32)?,
            scale: tensor(builder, invocation, "scale", DatumType::F32)?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    rows: usize,
    features: usize,
    places: Vec<kernels::Linear>,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "mahalanobis"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let input = inputs.exactly(0, self.places.len() * self.features)?;
        self.loops.run(parallel, output.slice()?, scratch, &Distances { packed: self, input })
    }
}

struct Distances<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<f32> for Distances<'_> {
    fn steps(&self) -> usize {
        self.packed.places.first().map_or(0, kernels::Linear::steps)
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [f32], _: &mut [u8]) -> Result<(), KernelError> {
        let count = self.packed.features;
        let (mut features, mut rows) = ([0_i16; MAX_FEATURES], [0_f32; MAX_FEATURES]);
        let (features, rows) = (&mut features[..count], &mut rows[..self.packed.rows]);
        let inputs = self.input[first * count..].chunks_exact(count);
        for ((place, input), output) in self.packed.places[first..].iter().zip(inputs).zip(output) {
            features.iter_mut().zip(input).for_each(|(feature, &value)| *feature = value.into());
            place.run(&Sequential, features, rows)?;
            *output = rows.iter().fold(0.0, |sum: f32, &row| sum + row * row).sqrt();
        }
        Ok(())
    }
}
