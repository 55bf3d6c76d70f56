//! The annotations of a quantised file's network: what [`quantise`](mod@crate::quantise) would choose, the
//! file says.

use std::collections::HashMap;

use resight_kernels::arithmetic::MAX_RESIDUAL_MULTIPLIER;
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

/// How near a step is to one of the file's scales, by the whole of it, to be that: `f32` has seven digits.
const SAME_STEP: f64 = 1e-6;

/// How far from a whole number of steps a bias may be to be one: `f32` has some million steps.
const UNEVEN_BIAS: f64 = 0.1;

/// Sets all annotations that `lower` needs.
///
/// # Errors
/// Names the layer whose weights are no integers, or whose accumulators could overflow.
pub fn annotate(
    graph: &mut QuantisationGraph<'_>,
    rounded: &Rounded,
    file: &FileQuantisation,
) -> Result<(), ConvertError> {
    for (id, output) in rounded.outputs.iter().copied().enumerate() {
        let node = graph.node(id);
        graph.annotations[id].halves_to_even = true;
        match (&node.operator, output) {
            // As an image, unless the file takes grey levels as they are.
            (Operator::Input, None) => {}
            (Operator::Input, Some(quantisation)) => set_output(graph, id, quantisation),
            (Operator::Linear { .. }, _) => {
                let rows = rows(graph, id, None, file)?;
                let scales: Vec<f64> = rows.scales.iter().map(|&scale| f64::from(scale as f32)).collect();
                rows.set(graph, id)?;
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
                convolution(graph, id, quantisation, file)?;
            }
            (_, Some(quantisation)) => set_output(graph, id, quantisation),
            (_, None) => return Err(ConvertFault::Island.of(&node.name)),
        }
    }
    Ok(())
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
    file: &FileQuantisation,
) -> Result<(), ConvertError> {
    let residual = fold::residual(graph, id)?;
    let scale = f64::from(quantisation.scale);
    // A residual that the file adds in floats is half a step off at most. The quantiser moves the output's scale
    // instead, but on other steps than the file's every value would be rounded anew.
    let multiplier = |residual: Quantisation| {
        let multiplier = (f64::from(residual.scale) * Q8 / scale).round();
        multiplier.clamp(1.0, f64::from(MAX_RESIDUAL_MULTIPLIER)) as i32
    };
    let mut output =
        Output { scale, zero_point: quantisation.zero_point, residual_multiplier: residual.map(multiplier) };
    let rows = rows(graph, id, Some(&output), file)?;
    let correction = vec![0.0; rows.scales.len()];
    let with = |zero_point: i32| Output { zero_point, ..output };
    // A network that was quantised with its zero points in the biases has whole ones with them and, unlike a
    // file of whole biases, none without.
    let distance = |output: &Output| -> Result<f64, QuantiseError> {
        let biases = fold::biases(graph, id, output, &rows.scales, &rows.weights, &correction)?;
        let mut distances: Vec<f64> = biases.iter().map(|bias| (bias - bias.round()).abs()).collect();
        // The middle one: outputs without weights have biases of any size.
        distances.sort_unstable_by(f64::total_cmp);
        Ok(distances.get(distances.len() / 2).copied().unwrap_or(0.0))
    };
    let are_whole = |output: &Output| Ok::<_, QuantiseError>(distance(output)? < UNEVEN_BIAS);
    let apart = residual.is_none() && quantisation.zero_point != 0 && are_whole(&with(0))?;
    let is_uneven = !apart && residual.is_none() && !are_whole(&output)?;
    let of_bias = with(if apart { 0 } else { quantisation.zero_point });
    let folded = fold::convolution(graph, id, &of_bias, &rows.scales, &rows.weights, &correction)?;
    let mut folded: Folded = folded.ok_or_else(|| {
        let layer = graph.node(id).name.clone();
        ConvertError::from(QuantiseError::Layer { layer, fault: LayerFault::NoScale })
    })?;
    if apart {
        // In steps of 2^-8: half of them are the multiplier's, which ends below 2^15.
        output.residual_multiplier = Some(quantisation.zero_point.abs() * 128);
        graph.annotations[id].residual_values = vec![if quantisation.zero_point < 0 { -2 } else { 2 }];
    }
    if is_uneven && let Folded::Convolution { bias, .. } = &mut folded {
        let biases = fold::biases(graph, id, &output, &rows.scales, &rows.weights, &correction)?;
        let parts =
            biases.iter().zip(&rows.scales).map(|(bias, scale)| parts_of_step(*bias, scale / output.scale));
        let (whole, parts): (Vec<i32>, Vec<i8>) = parts.unzip();
        *bias = whole;
        output.residual_multiplier = Some(1);
        graph.annotations[id].residual_values = parts;
    }
    rows.set(graph, id)?;
    let annotation = &mut graph.annotations[id];
    annotation.encoding = Some(Encoding::Tensor(Quantisation {
        scale: output.scale as f32,
        zero_point: quantisation.zero_point,
    }));
    annotation.output = Some(output);
    annotation.folded = Some(folded);
    Ok(())
}

/// A bias in steps of an accumulator, which are so much of a step of the output each, as a whole number of them and
/// as many 256ths of a step of the output as bring both together closest to it.
fn parts_of_step(bias: f64, step: f64) -> (i32, i8) {
    let with = |parts: i8| {
        let rest = bias - f64::from(parts) / (Q8 * step);
        (rest.round() as i32, parts, (rest - rest.round()).abs())
    };
    let all = (i8::MIN..=i8::MAX).map(with);
    all.min_by(|a, b| a.2.total_cmp(&b.2))
        .map_or((bias.round() as i32, 0), |(whole, parts, _)| (whole, parts))
}

/// The integers of a layer's weights.
struct Rows {
    /// What one step of a row is worth, in steps of the input.
    scales: Vec<f64>,
    /// `[row][column]` of the layer's matrix.
    weights: Vec<i8>,
}

impl Rows {
    fn set(self, graph: &mut QuantisationGraph<'_>, id: NodeId) -> Result<(), QuantiseError> {
        graph.annotations[id].weight_scales = self.scales;
        graph.set_weights(id, &self.weights)
    }
}

/// Finds the integers again from which the file's weights were made. Accumulators are so much finer than a
/// convolution's `output` at least that biases fit them.
fn rows(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    output: Option<&Output>,
    file: &FileQuantisation,
) -> Result<Rows, ConvertError> {
    let reach = output.map_or(0.0, |output| output.scale * Q8);
    let node = graph.node(id);
    let matrix = graph.matrix(id);
    let mut real_rows = graph.real_rows(id)?;
    let integers = integers(&node.name, &file.weights, matrix.rows);
    let exact = exact_steps(graph, id, output, file)?;
    let mut rows = Rows { scales: vec![], weights: vec![] };
    for row in 0..real_rows.len() {
        let real = real_rows.row(row);
        let most = real.iter().fold(0.0f64, |most, weight| weight.abs().max(most));
        let known = integers.as_ref().map(|integers| integers[row]);
        if known.is_none()
            && real.iter().any(|weight| *weight != 0.0 && (weight.abs() - most).abs() > 1e-6 * most)
        {
            return Err(ConvertFault::FloatWeights.of(&node.name));
        }
        // Weights of one magnitude are 127 steps, whatever that is.
        let magnitude = known.filter(|&magnitude| magnitude > 0).unwrap_or(127);
        let near = most / f64::from(magnitude);
        let is_it = |step: &f64| (step / near - 1.0).abs() < SAME_STEP;
        let step = exact.as_ref().and_then(|exact| exact.get(row).copied()).filter(is_it).unwrap_or(near);
        let is_uneven = |weight: &f64| (weight / step - (weight / step).round()).abs() > UNEVEN;
        if step > 0.0 && real.iter().any(is_uneven) {
            return Err(ConvertFault::Uneven(row).of(&node.name));
        }
        let bias = f64::from(graph.bias(id)[row].abs());
        let scale = step.max(scales::least_scale(bias + reach));
        rows.scales.push(scale);
        rows.weights.extend(round::of_row(real, scale));
    }
    Ok(rows)
}

/// What a step of each output's weights is worth, in steps of the input, as the file's scales say it. With them an
/// output's multiplier is the `f32` number with which onnxruntime multiplies, `input * weights / output`.
fn exact_steps(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    output: Option<&Output>,
    file: &FileQuantisation,
) -> Result<Option<Vec<f64>>, QuantiseError> {
    let Encoding::Tensor(input) = graph.encoding(graph.input(id))? else { return Ok(None) };
    let Some(scales) = of_layer(&graph.node(id).name, &file.scales) else { return Ok(None) };
    let step = |scale: &f32| match output.filter(|output| output.residual_multiplier.is_none()) {
        Some(output) => halves_to_even(input.scale * scale / output.scale as f32) * output.scale,
        None => f64::from(input.scale) * f64::from(*scale),
    };
    Ok(Some(scales.iter().map(step).collect()))
}

/// A multiplier that takes accumulators where `multiplier` does by products of `f32` that are rounded halves to
/// even: to a half, or so near that `f32` has nothing between. It is moved, where need be, to the side of the least
/// such half where the even step is.
fn halves_to_even(multiplier: f32) -> f64 {
    // What 31 bits can tell of a multiplier, also of one far below the layer's largest.
    const BESIDE: f64 = 1.0 / 67_108_864.0;
    const MOST: f64 = 16_777_216.0;
    let exact = f64::from(multiplier);
    let half_met = |steps: u32| {
        let half = f64::from(steps) + 0.5;
        let accumulator = (half / exact).round();
        #[expect(clippy::float_cmp, reason = "what is rounded to exactly a half")]
        let meets = accumulator < MOST && f64::from(accumulator as f32 * multiplier) == half;
        // As much larger as brings the product to the half.
        meets.then(|| (steps, half / accumulator / exact))
    };
    match (0..256).find_map(half_met) {
        Some((steps, factor)) if steps % 2 == 1 => exact * (factor + BESIDE).max(1.0),
        Some((_, factor)) => exact * (factor - BESIDE).min(1.0),
        None => exact,
    }
}

/// What is known of a layer of the file.
fn of_layer<'a, T>(name: &str, known: &'a HashMap<String, T>) -> Option<&'a T> {
    // A step that a node takes before, such as flattening, may have its name.
    let base =
        || name.rsplit_once('_').filter(|(_, number)| number.parse::<usize>().is_ok()).map(|base| base.0);
    known.get(name).or_else(|| known.get(base()?))
}

/// The largest integers of a layer's outputs.
pub(super) fn integers(name: &str, largest: &HashMap<String, Vec<u32>>, rows: usize) -> Option<Vec<u32>> {
    let found = of_layer(name, largest)?;
    match found.as_slice() {
        // A network of one output has got another one, which is always zero.
        &[one] if rows == 2 => Some(vec![0, one]),
        found => (found.len() == rows).then(|| found.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::{halves_to_even, parts_of_step};

    #[test]
    fn multipliers_round_halves_as_f32_does() {
        let mut different = 0;
        for (multiplier, accumulator) in [(0.5f32, 1), (1.0 / 26.0, 13), (0.1, 5), (0.3, 5), (0.007, 500)] {
            let found = halves_to_even(multiplier);
            assert!((found / f64::from(multiplier) - 1.0).abs() < 2e-7);
            for accumulator in [accumulator, -accumulator] {
                let expected = (accumulator as f32 * multiplier).round_ties_even();
                let half_up = |multiplier: f64| (f64::from(accumulator) * multiplier + 0.5).floor() as f32;
                assert_eq!(half_up(found), expected, "{accumulator} x {multiplier}");
                different += usize::from(half_up(multiplier.into()) != expected);
            }
        }
        assert!(different > 1, "{different}");
        // Where no half is met nothing moves.
        assert_eq!(halves_to_even(0.010_700_001), f64::from(0.010_700_001f32));
    }

    #[test]
    fn parts_of_a_step_bring_a_bias_to_its_place() {
        for steps in [40.3, 173.7, 411.1, 1203.9] {
            for bias in [-1234.5, -0.3, 0.0, 17.49, 40_000.77] {
                let (whole, parts) = parts_of_step(bias, 1.0 / steps);
                let found = f64::from(whole) + f64::from(parts) / 256.0 * steps;
                assert!((found - bias).abs() < 0.05, "{bias} of {steps} steps: {whole} and {parts}");
            }
        }
    }
}
