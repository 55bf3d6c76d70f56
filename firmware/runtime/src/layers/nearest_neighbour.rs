//! How far what is seen at each place is from the nearest that is known.

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

/// Most features of a place: products of so many fit the 24 bits of an f32.
const MAX_FEATURES: usize = 256;

/// The largest magnitude of an int8 feature.
const INPUT_LIMIT: i16 = 128;

/// Rows that are multiplied at a time: their products fit a first cache.
const BLOCK: usize = 256;

/// The Euclidean distance of the features at each place from the nearest row of a memory, wherever that
/// was seen: `[1, height, width, features]` of `i8` to `[1, height, width, 1]` of `f32`,
///
/// `out[p] = sqrt(min over m of |in[p] - memory[m]|^2) * scale` with `|a - b|^2 = |a|^2 + |b|^2 - 2ab`
///
/// in integers up to the root: the products are those of a [`Linear`](super::Linear) layer.
///
/// K. Roth and others, `PatchCore`, 2022.
#[derive(Debug, Clone, PartialEq)]
pub struct NearestNeighbour {
    /// `i8` `[row][feature]`, up to 256 features, in `[-127, 127]`.
    pub memory: Arc<Tensor>,
    /// What a step of the features is worth in the distance; positive.
    pub scale: f32,
}

impl Eq for NearestNeighbour {}

layer!(NearestNeighbour, "ResightNearestNeighbour");

impl NearestNeighbour {
    /// Rows and features.
    fn sizes(&self, inputs: &[TensorFact]) -> TractResult<[usize; 2]> {
        let [_, _, channels] = one_input("a nearest neighbour", inputs)?.image()?;
        let &[rows, features] = self.memory.shape() else {
            bail!("a memory must have two dimensions, found {:?}", self.memory.shape());
        };
        ensure!(features == channels, "the memory is of {features} features, the input has {channels}");
        ensure!(
            self.scale.is_normal() && self.scale > 0.0,
            "the scale of distances is {}, no positive number",
            self.scale
        );
        ensure!(
            rows > 0 && (1..=MAX_FEATURES).contains(&features),
            "a memory of {rows} rows of {features} features; at least one of 1 to {MAX_FEATURES} is possible"
        );
        Ok([rows, features])
    }
}

impl Layer for NearestNeighbour {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        self.sizes(inputs)?;
        let [height, width, _] = inputs[0].image()?;
        Ok(TensorFact::new(DatumType::F32, &[1, height, width, 1]))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let [rows, features] = self.sizes(inputs)?;
        let [height, width, _] = inputs[0].image()?;
        Ok(Description {
            operator: format!("nearest of {rows}"),
            macs: (height * width * rows * features) as u64,
            weight_bytes: rows * features,
        })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.sizes(inputs)?;
        Ok("nearest_neighbour")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let [_, features] = self.sizes(inputs)?;
        let square = |row: &[i8]| row.iter().map(|&value| i32::from(value) * i32::from(value)).sum::<i32>();
        let block = |rows: &[i8]| -> TractResult<Block> {
            let outputs = rows.len() / features;
            let parameters = LinearParameters {
                inputs: features,
                outputs,
                weights: rows,
                bias: &vec![0; outputs],
                scale: &vec![1.0; outputs],
                input_limit: INPUT_LIMIT,
            };
            Ok(Block {
                products: kernels::Linear::new(target.isa, &parameters).map_err(kernel_error)?,
                squares: rows.chunks_exact(features).map(square).collect(),
            })
        };
        let memory: &[i8] = slice(&self.memory)?;
        let blocks = memory.chunks(BLOCK * features).map(block).collect::<TractResult<_>>()?;
        Ok(Box::new(Packed { features, scale: self.scale, blocks, loops: target.loops()? }))
    }

    fn nnef_name() -> &'static str {
        "resight_nearest_neighbour"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("memory"),
            TypeName::Scalar.named("scale"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("memory", variable(ast, node, "memory", &self.memory)?),
            ("scale", numeric(self.scale)),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            memory: tensor(builder, invocation, "memory", DatumType::I8)?,
            scale: invocation.named_arg_as(builder, "scale")?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Block {
    /// With the rows as weights.
    products: kernels::Linear,
    /// Of the length of each row.
    squares: Vec<i32>,
}

#[derive(Debug)]
struct Packed {
    features: usize,
    scale: f32,
    blocks: Vec<Block>,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "nearest_neighbour"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<f32>()?;
        let input = inputs.exactly(0, output.len() * self.features)?;
        self.loops.run(parallel, output, scratch, &Distances { packed: self, input })
    }
}

struct Distances<'a> {
    packed: &'a Packed,
    input: &'a [i8],
}

impl Loop<f32> for Distances<'_> {
    fn steps(&self) -> usize {
        self.packed.blocks.iter().map(|block| block.products.steps()).sum()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [f32], _: &mut [u8]) -> Result<(), KernelError> {
        let (mut features, mut products) = ([0_i16; MAX_FEATURES], [0_f32; BLOCK]);
        let count = self.packed.features;
        let features = &mut features[..count];
        for (input, output) in self.input[first * count..].chunks_exact(count).zip(output) {
            features.iter_mut().zip(input).for_each(|(feature, &value)| *feature = value.into());
            let length: i32 = features.iter().map(|&value| i32::from(value) * i32::from(value)).sum();
            let mut nearest = i32::MAX;
            for block in &self.packed.blocks {
                let products = &mut products[..block.squares.len()];
                block.products.run(&Sequential, features, products)?;
                for (&product, &square) in products.iter().zip(&block.squares) {
                    // Whole numbers below 2^24, so exact.
                    nearest = nearest.min(length + square - 2 * product as i32);
                }
            }
            *output = (nearest as f32).sqrt() * self.packed.scale;
        }
        Ok(())
    }
}
