//! The annotations of a quantised file's network: what [`quantise`](mod@crate::quantise) would choose, the
//! file says.

use std::collections::HashMap;

use resight_runtime::Quantisation;

use super::error::{ConvertError, ConvertFault};
use super::structure::Rounded;
use crate::graph::{NodeId, Operator};
use crate::import::FileQuantisation;
use crate::quantise::graph::{Encoding, Folded, Output, Q8, QuantisationGraph};
use crate::quantise::passes::{fold, round, scales};
use crate::quantise::{LayerFault, QuantiseError};

/// How far from a whole number of steps a weight may be: far more than `f32` makes of it.
const UNEVEN: f64 = 0.02;

/// How far from a whole number of steps a bias may be to be one: `f32` has some million steps.
const UNEVEN_BIAS: f64 = 0.1;

/// Sets all annotations that `lower` needs. Gives the number of weights of each node that could not be kept.
///
/// # Errors
/// Names the layer whose weights are no integers, or whose accumulators could overflow.
pub fn annotate(
    graph: &mut QuantisationGraph<'_>,
    rounded: &Rounded,
    quantisation: &FileQuantisation,
) -> Result<Vec<usize>, ConvertError> {
    let largest = &quantisation.weights;
    let mut changed = vec![0; graph.annotations.len()];
    for (id, output) in rounded.outputs.iter().copied().enumerate() {
        let node = graph.node(id);
        match (&node.operator, output) {
            // As an image, unless the file takes grey levels as they are.
            (Operator::Input, None) => {}
            (Operator::Input, Some(quantisation)) => set_output(graph, id, quantisation),
            (Operator::Linear { .. }, _) => {
                let rows = rows(graph, id, 0.0, largest)?;
                let scales: Vec<f64> = rows.scales.iter().map(|&scale| f64::from(scale as f32)).collect();
                changed[id] = rows.set(graph, id);
                graph.annotations[id].weight_scales = scales;
                let annotation = &graph.annotations[id];
                let correction = vec![0.0; annotation.weight_scales.len()];
                let folded =
                    fold::linear(graph, id, &annotation.weight_scales, &annotation.weights, &correction)?;
                graph.annotations[id].folded = Some(folded);
            }
            (Operator::GlobalAverage, _) => {
                let Encoding::Tensor(quantisation) = *graph.encoding(node.inputs[0])? else {
                    return Err(ConvertFault::FloatImage.of(&node.name));
                };
                let fraction_bits = graph.average_bits(id);
                graph.annotations[id].encoding = Some(Encoding::Average { quantisation, fraction_bits });
            }
            (operator, _) if operator.keeps_values() => {
                let encoding = graph.encoding(node.inputs[0])?.of_channels(operator);
                graph.annotations[id].encoding = Some(encoding);
            }
            (Operator::Convolution(_), Some(quantisation)) => {
                changed[id] = convolution(graph, id, quantisation, largest)?;
            }
            (_, Some(quantisation)) => set_output(graph, id, quantisation),
            (_, None) => return Err(ConvertFault::Island.of(&node.name)),
        }
    }
    Ok(changed)
}

fn set_output(graph: &mut QuantisationGraph<'_>, id: NodeId, quantisation: Quantisation) {
    let annotation = &mut graph.annotations[id];
    annotation.encoding = Some(Encoding::Tensor(quantisation));
    annotation.output = Some(Output {
        scale: f64::from(quantisation.scale),
        zero_point: quantisation.zero_point,
        residual_multiplier: None,
    });
}

fn convolution(
    graph: &mut QuantisationGraph<'_>,
    id: NodeId,
    quantisation: Quantisation,
    largest: &HashMap<String, Vec<u32>>,
) -> Result<usize, ConvertError> {
    let residual = fold::residual(graph, id)?;
    // A residual that the file adds in floats moves the scale by half a part in 256 at most.
    let mut output =
        scales::with_whole_residual(f64::from(quantisation.scale), quantisation.zero_point, residual, false);
    let rows = rows(graph, id, output.scale * Q8, largest)?;
    let correction = vec![0.0; rows.scales.len()];
    let with = |zero_point: i32| Output { zero_point, ..output };
    // A network that was quantised with its zero points in the biases has whole ones with them.
    let distance = |output: &Output| -> Result<f64, QuantiseError> {
        let biases = fold::biases(graph, id, output, &rows.scales, &rows.weights, &correction)?;
        Ok(biases.iter().fold(0.0, |most, bias| (bias - bias.round()).abs().max(most)))
    };
    let apart = residual.is_none() && quantisation.zero_point != 0 && {
        let within = distance(&with(quantisation.zero_point))?;
        within > UNEVEN_BIAS || within > distance(&with(0))?
    };
    let of_bias = with(if apart { 0 } else { quantisation.zero_point });
    let folded = fold::convolution(graph, id, &of_bias, &rows.scales, &rows.weights, &correction)?;
    let folded: Folded = folded.ok_or_else(|| {
        let layer = graph.node(id).name.clone();
        ConvertError::from(QuantiseError::Layer { layer, fault: LayerFault::NoScale })
    })?;
    if apart {
        // In steps of 2^-8: half of them are the multiplier's, which ends below 2^15.
        output.residual_multiplier = Some(quantisation.zero_point.abs() * 128);
        graph.annotations[id].residual_value = Some(if quantisation.zero_point < 0 { -2 } else { 2 });
    }
    let changed = rows.set(graph, id);
    let annotation = &mut graph.annotations[id];
    annotation.encoding = Some(Encoding::Tensor(Quantisation {
        scale: output.scale as f32,
        zero_point: quantisation.zero_point,
    }));
    annotation.output = Some(output);
    annotation.folded = Some(folded);
    Ok(changed)
}

/// The integers of a layer's weights.
struct Rows {
    /// What one step of a row is worth, in steps of the input.
    scales: Vec<f64>,
    /// `[row][column]` of the layer's matrix.
    weights: Vec<i8>,
    /// Weights that are not those of the file.
    changed: usize,
}

impl Rows {
    fn set(self, graph: &mut QuantisationGraph<'_>, id: NodeId) -> usize {
        let annotation = &mut graph.annotations[id];
        annotation.weight_scales = self.scales;
        annotation.weights = self.weights;
        self.changed
    }
}

/// Finds the integers again from which the file's weights were made. Accumulators are at least so much
/// finer than `reach` that biases fit them.
fn rows(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    reach: f64,
    largest: &HashMap<String, Vec<u32>>,
) -> Result<Rows, ConvertError> {
    let node = graph.node(id);
    let matrix = graph.matrix(id);
    let real = graph.real_weights(id)?;
    let integers = integers(&node.name, largest, matrix.rows);
    let mut rows = Rows { scales: vec![], weights: vec![], changed: 0 };
    for (row, real) in real.chunks_exact(matrix.columns.max(1)).enumerate() {
        let most = real.iter().fold(0.0f64, |most, weight| weight.abs().max(most));
        let known = integers.as_ref().map(|integers| integers[row]);
        if known.is_none()
            && real.iter().any(|weight| *weight != 0.0 && (weight.abs() - most).abs() > 1e-6 * most)
        {
            return Err(ConvertFault::FloatWeights.of(&node.name));
        }
        // Weights of one magnitude are 127 steps, whatever that is.
        let magnitude = known.filter(|&magnitude| magnitude > 0).unwrap_or(127);
        let step = most / f64::from(magnitude);
        let is_uneven = |weight: &f64| (weight / step - (weight / step).round()).abs() > UNEVEN;
        if step > 0.0 && real.iter().any(is_uneven) {
            return Err(ConvertFault::Uneven(row).of(&node.name));
        }
        // -128 alone is nearly held; what is beyond needs a larger step.
        let wanted = if magnitude > 128 { most / 127.0 } else { step };
        let bias = f64::from(graph.bias(id)[row].abs());
        let scale = wanted.max(scales::least_scale(bias + reach));
        let weights = round::nearest(real, &[scale]);
        if magnitude > 127 && scale <= wanted {
            let differs = |(real, weight): &(&f64, &i8)| {
                (**real / step - f64::from(**weight) * scale / step).abs() > UNEVEN
            };
            rows.changed += real.iter().zip(&weights).filter(differs).count();
        }
        rows.scales.push(scale);
        rows.weights.extend(weights);
    }
    Ok(rows)
}

/// The largest integers of a layer's outputs.
fn integers(name: &str, largest: &HashMap<String, Vec<u32>>, rows: usize) -> Option<Vec<u32>> {
    // A step that a node takes before, such as flattening, may have its name.
    let base =
        || name.rsplit_once('_').filter(|(_, number)| number.parse::<usize>().is_ok()).map(|base| base.0);
    let found = largest.get(name).or_else(|| largest.get(base()?))?;
    match found.as_slice() {
        // A network of one output has got another one, which is always zero.
        &[one] if rows == 2 => Some(vec![0, one]),
        found => (found.len() == rows).then(|| found.to_vec()),
    }
}
