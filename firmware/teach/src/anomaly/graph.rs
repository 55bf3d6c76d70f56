//! From what was learnt to the network that a board runs.

use std::sync::Arc;

use resight_kernels::Sequential;
use resight_model_file::{Expected, Golden};
use resight_runtime::layers::{Anomaly, Convolution, Mahalanobis, NearestNeighbour};
use resight_runtime::tract::{
    Datum, IntoArcTensor, OutletId, SpecialOps, Tensor, TractError, TypedModel, TypedOp, tensor1,
};
use resight_runtime::{Program, Quantisation, RuntimeError, Target};

use super::components::STEPS;
use super::learn::{Inspected, Typical};
use super::patches::Patches;
use crate::error::TeachError;
use crate::random::Random;

fn shaped<T: Datum + Copy>(shape: &[usize], values: &[T]) -> Result<Arc<Tensor>, TractError> {
    Ok(tensor1(values).into_shape(shape)?.into_arc_tensor())
}

fn graph(error: &TractError) -> TeachError {
    RuntimeError::Graph(format!("{error:#}")).into()
}

/// The network of patches and what is typical of them: two logits, and a map in thresholds.
///
/// # Errors
/// A graph that tract refuses.
pub fn inspection(patches: &Patches, inspected: &Inspected) -> Result<TypedModel, TeachError> {
    wired(patches, inspected).map_err(|error| graph(&error))
}

fn wired(patches: &Patches, inspected: &Inspected) -> Result<TypedModel, TractError> {
    let mut model = patches.graph().clone();
    let [height, width, features] = patches.shape();
    let components = &inspected.components;
    let count = components.len();
    let mut wire = |name: &str, layer: Box<dyn TypedOp>, inputs: &[OutletId]| {
        model.wire_node(format!("normal.{name}"), layer, inputs).map(|outlets| outlets[0])
    };
    let projection = Convolution {
        weights: shaped(&[count, 1, 1, features], &components.weights)?,
        bias: tensor1(&components.bias).into_arc_tensor(),
        multiplier: tensor1(&components.multiplier).into_arc_tensor(),
        padding_value: tensor1(&vec![0_i8; features]).into_arc_tensor(),
        shift: components.shift,
        residual_multiplier: None,
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        output: Quantisation { scale: (1.0 / STEPS) as f32, zero_point: 0 },
    };
    let projected = wire("components", Box::new(projection), &[patches.output()])?;
    // The map counts in thresholds, so that it can be read without another number.
    let figures = &inspected.figures;
    let unit = (1.0 / figures.threshold) as f32;
    let distance: Box<dyn TypedOp> = match &inspected.typical {
        Typical::Places(places) => Box::new(Mahalanobis {
            weights: shaped(&[height * width, count, count], &places.weights)?,
            bias: shaped(&[height * width, count], &places.bias)?,
            scale: shaped(
                &[height * width, count],
                &places.scale.iter().map(|scale| scale * unit).collect::<Vec<f32>>(),
            )?,
        }),
        Typical::Patches(coreset) => Box::new(NearestNeighbour {
            memory: shaped(&[coreset.len(), count], &coreset.rows)?,
            scale: unit,
        }),
    };
    let map = wire("map", distance, &[projected])?;
    let anomaly = Anomaly { farthest: figures.farthest, threshold: 1.0, slope: figures.slope as f32 };
    let logits = wire("anomaly", Box::new(anomaly), &[map])?;
    model.select_output_outlets(&[logits, map])?;
    Ok(model)
}

/// Inputs with the outputs that every machine must give for them: `input`, and noise, which reaches
/// saturation that photographs do not.
///
/// # Errors
/// A network that cannot be run.
pub fn inspection_golden(
    patches: &Patches,
    model: &TypedModel,
    input: Vec<i8>,
) -> Result<Vec<Golden>, TeachError> {
    let mut program = Program::compile(model, patches.layers(), &Target::reference())?;
    let mut random = Random::new(1, &[]);
    let noise: Vec<i8> = (0..input.len()).map(|_| random.next() as i8).collect();
    [input, noise]
        .into_iter()
        .map(|input| {
            let outputs = program.run(&Sequential, &input)?;
            let expected = outputs.iter().map(|output| output.little_endian()).collect();
            Ok(Golden { input, expected: Expected::Tensors(expected) })
        })
        .collect()
}
