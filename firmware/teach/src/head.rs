//! From what was learnt to the network that a board runs.

use std::sync::Arc;

use resight_kernels::Sequential;
use resight_model_file::Golden;
use resight_runtime::layers::{Linear, Unknown};
use resight_runtime::tract::{IntoArcTensor, OutletId, SpecialOps, Tensor, TypedModel, tensor1};
use resight_runtime::{Classes, Program, RuntimeError, Target};

use crate::backbone::Backbone;
use crate::error::TeachError;
use crate::features::Features;
use crate::learn::Learnt;
use crate::memory::Memory;

/// The name of the class of what was not taught.
pub const UNKNOWN: &str = "unknown";

/// A linear layer in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounded {
    /// `[class][feature]`.
    pub weights: Vec<i8>,
    /// `[class]`, in units of `scale`.
    pub bias: Vec<i32>,
    /// `[class]`: what a unit of the accumulator is worth.
    pub scale: Vec<f32>,
}

impl Rounded {
    /// Rounds the weights to 8 bits, each class with the finest scale that fits, and moves the bias by
    /// what that changes on average over `rows` of the features.
    ///
    /// # Errors
    /// Biases beyond what 32 bits hold, whose weights are too small for them.
    pub fn new(learnt: &Learnt, features: &Features, rows: &[usize], limit: i16) -> Result<Self, TeachError> {
        let columns = features.columns();
        let mut mean = vec![0.0; columns];
        for &row in rows {
            mean.iter_mut().zip(features.row(row)).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for sum in &mut mean {
            *sum /= rows.len().max(1) as f64;
        }
        let mut rounded = Self { weights: vec![], bias: vec![], scale: vec![] };
        for (row, bias) in learnt.weights.chunks_exact(columns).zip(&learnt.bias) {
            let largest = row.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
            let sum: f64 = row.iter().map(|weight| weight.abs()).sum();
            // The accumulator holds the products and the bias, which the mean of the features centres.
            let room = f64::from(i32::MAX) * 0.99;
            let needed = sum * f64::from(limit) + bias.abs() * 2.0;
            let scale = (largest / 127.0).max(needed / (room - columns as f64 * f64::from(limit))).max(1e-30);
            let scale = scale as f32;
            if !(scale.is_normal() && scale > 0.0) {
                return Err(TeachError::Photographs(
                    "what was learnt of a class is too small to be held in 8 bits: are all photographs the same?"
                        .to_owned(),
                ));
            }
            let step = f64::from(scale);
            let weights: Vec<i8> = row.iter().map(|weight| (weight / step).round() as i8).collect();
            let lost: f64 = row
                .iter()
                .zip(&weights)
                .zip(&mean)
                .map(|((weight, &rounded), mean)| (weight - f64::from(rounded) * step) * mean)
                .sum();
            rounded.bias.push(((bias + lost) / step).round() as i32);
            rounded.weights.extend(weights);
            rounded.scale.push(scale);
        }
        Ok(rounded)
    }

    /// The logits of features, as the layer computes them.
    pub fn logits(&self, features: &[i16]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(features.len());
        rows.zip(&self.bias)
            .zip(&self.scale)
            .map(|((row, &bias), &scale)| {
                let products = row.iter().zip(features).map(|(&w, &a)| i32::from(w) * i32::from(a));
                products.fold(bias, i32::wrapping_add) as f32 * scale
            })
            .collect()
    }
}

fn matrix(rows: &[i8], columns: usize) -> Result<Arc<Tensor>, TeachError> {
    let tensor = tensor1(rows).into_shape(&[rows.len() / columns.max(1), columns]);
    Ok(tensor.map_err(|error| graph(&format!("{error:#}")))?.into_arc_tensor())
}

fn graph(cause: &str) -> TeachError {
    RuntimeError::Graph(cause.to_owned()).into()
}

/// The network of a backbone and what was learnt.
///
/// # Errors
/// A graph that tract refuses.
pub fn network(backbone: &Backbone, learnt: &Learnt, rounded: &Rounded) -> Result<TypedModel, TeachError> {
    let mut model = backbone.graph().clone();
    let columns = backbone.channels();
    let mut wire = |name: &str, layer: Box<dyn resight_runtime::tract::TypedOp>, inputs: &[OutletId]| {
        let wired = model.wire_node(format!("teach.{name}"), layer, inputs);
        wired.map(|outlets| outlets[0]).map_err(|error| graph(&format!("{error:#}")))
    };
    let linear = |weights: &[i8], bias: &[i32], scale: &[f32]| -> Result<Linear, TeachError> {
        Ok(Linear {
            weights: matrix(weights, columns)?,
            bias: tensor1(bias).into_arc_tensor(),
            scale: tensor1(scale).into_arc_tensor(),
            input_limit: backbone.limit(),
        })
    };
    let average = backbone.average();
    let layer = linear(&rounded.weights, &rounded.bias, &rounded.scale)?;
    let mut output = wire("classes", Box::new(layer), &[average])?;
    if let (Some(memory), Some(figures)) = (&learnt.memory, learnt.figures.unknown) {
        let Memory { rows, scale, .. } = memory;
        let products = wire("products", Box::new(linear(rows, &memory.bias(), scale)?), &[average])?;
        let unknown = Unknown {
            zero_point: backbone.zero(),
            nearest: memory.nearest,
            threshold: figures.threshold as f32,
            slope: figures.slope as f32,
        };
        output = wire("unknown", Box::new(unknown), &[average, products, output])?;
    }
    model.select_output_outlets(&[output]).map_err(|error| graph(&format!("{error:#}")))?;
    Ok(model)
}

/// Inputs with the logits that every machine must give for them: `input`, and noise, which reaches
/// saturation that photographs do not.
///
/// # Errors
/// A network that cannot be run.
pub fn golden(backbone: &Backbone, model: &TypedModel, input: Vec<i8>) -> Result<Vec<Golden>, TeachError> {
    let mut program = Program::compile(model, backbone.layers(), &Target::reference())?;
    let mut random = crate::random::Random::new(1, &[]);
    let noise: Vec<i8> = (0..input.len()).map(|_| random.next() as i8).collect();
    [input, noise]
        .into_iter()
        .map(|input| {
            let logits = Classes::logits(program.run(&Sequential, &input)?)?.to_vec();
            Ok(Golden::classes(input, logits))
        })
        .collect()
}
