//! Chooses the scale of every output and of every row of weights, such that the int8 arithmetic
//! can hold the layer.

use resight_kernels::arithmetic::MAX_RESIDUAL_MULTIPLIER;
use resight_runtime::Quantisation;

use super::{bias, fold, round};
use crate::graph::{FloatConvolution, NodeId, Operator};
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::{LayerFault, QuantiseError};
use crate::quantise::graph::{Encoding, Output, Q8, QuantisationGraph};
use crate::quantise::range::quantisation;

/// A channel's accumulator is at least this much finer than nothing: keeps `bias / scale` of
/// a channel whose weights vanish from overflowing.
const BIAS_LIMIT: f64 = (1u32 << 26) as f64;
/// How much wider the output becomes at a time, until its arithmetic holds the layer.
const WIDENING: f64 = 1.25;
/// The least scale of weights, for a row of zeros.
const LEAST_SCALE: f64 = 1e-30;

/// Sets `encoding` of every node, `output` of the convolutions and `weight_scales` of the layers.
///
/// # Errors
/// Names the layer that no scale lets fit.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    for (id, node) in graph.float.nodes.iter().enumerate() {
        match &node.operator {
            Operator::Input => {}
            Operator::Convolution(layer) => convolution(graph, calibration, id, layer)?,
            Operator::MaxPool { .. }
            | Operator::Channels(_)
            | Operator::View
            | Operator::Pad { .. }
            | Operator::Resize { .. }
            | Operator::Upsample(_) => {
                let encoding = graph.encoding(node.inputs[0])?.of_channels(&node.operator);
                graph.annotations[id].encoding = Some(encoding);
            }
            Operator::Table(_)
            | Operator::GeneralisedMean { .. }
            | Operator::Add { .. }
            | Operator::Multiply
            | Operator::Normalise(_)
            | Operator::Concat
            | Operator::Interleave(_)
            | Operator::AveragePool { .. } => of_range(graph, id)?,
            Operator::GlobalAverage => {
                let Encoding::Tensor(quantisation) = *graph.encoding(node.inputs[0])? else {
                    return Err(LayerFault::AverageOfImage.of(node));
                };
                let fraction_bits = graph.average_bits(id);
                graph.annotations[id].encoding = Some(Encoding::Average { quantisation, fraction_bits });
            }
            Operator::Linear { .. } => linear(graph, id)?,
        }
    }
    Ok(())
}

/// A node whose output covers its range, whatever its inputs.
fn of_range(graph: &mut QuantisationGraph<'_>, id: NodeId) -> Result<(), QuantiseError> {
    let (low, high) = graph.known(id, graph.annotations[id].range, "range")?;
    let quantisation = quantisation(low, high);
    // A ReLU is what ends at the lowest number: then nothing below zero was observed either.
    let is_relu = matches!(graph.node(id).operator, Operator::Add { relu: true });
    let zero_point = if is_relu { -128 } else { quantisation.zero_point };
    let annotation = &mut graph.annotations[id];
    annotation.encoding = Some(Encoding::Tensor(Quantisation { zero_point, ..quantisation }));
    annotation.output =
        Some(Output { scale: f64::from(quantisation.scale), zero_point, residual_multiplier: None });
    Ok(())
}

fn convolution(
    graph: &mut QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    id: NodeId,
    convolution: &FloatConvolution,
) -> Result<(), QuantiseError> {
    let (low, high) = graph.known(id, graph.annotations[id].range, "range")?;
    let wanted = quantisation(low, high);
    let zero_point = if convolution.relu { -128 } else { wanted.zero_point };
    let mut scale = f64::from(wanted.scale);
    let residual = fold::residual(graph, id)?;
    let mut rows = graph.real_rows(id)?;
    let most: Vec<f64> = (0..rows.len()).map(|row| largest(rows.row(row))).collect();
    let of_rounding = bias::Correction::new(graph, calibration, id)?;
    // A larger output scale always helps the arithmetic to hold the layer.
    loop {
        if !(scale.is_finite() && scale < f64::from(f32::MAX) / 4.0) {
            return Err(LayerFault::NoScale.of(graph.node(id)));
        }
        let output =
            with_whole_residual(f64::from(scale as f32), zero_point, residual, convolution.ceiling.is_some());
        // What the output covers ends at the ceiling, but for half a step.
        if convolution.ceiling.is_some_and(|ceiling| output.scale * 254.5 > f64::from(ceiling)) {
            return Err(LayerFault::NoScale.of(graph.node(id)));
        }
        let reach = Q8 * output.scale;
        let scales: Vec<f64> = most
            .iter()
            .zip(graph.bias(id))
            .map(|(most, bias)| (most / 127.0).max((f64::from(bias.abs()) + reach) / BIAS_LIMIT))
            .collect();
        let mut weights = Vec::with_capacity(rows.len() * graph.matrix(id).columns);
        let mut correction = Vec::with_capacity(rows.len());
        for (row, scale) in scales.iter().enumerate() {
            let (real, first) = (rows.row(row), weights.len());
            weights.extend(round::of_row(real, *scale));
            correction.push(of_rounding.of_row(row, real, &weights[first..], *scale));
        }
        if fold::convolution(graph, id, &output, &scales, &weights, &correction)?.is_some() {
            let annotation = &mut graph.annotations[id];
            annotation.encoding =
                Some(Encoding::Tensor(Quantisation { scale: output.scale as f32, zero_point }));
            annotation.output = Some(output);
            annotation.weight_scales = scales;
            return Ok(());
        }
        scale *= WIDENING;
    }
}

/// The output's scale is moved by at most half a Q8 step, so that the residual's multiplier is a
/// whole number and the residual path adds no error of its own; below a ceiling only downwards.
fn with_whole_residual(
    wanted: f64,
    zero_point: i32,
    residual: Option<Quantisation>,
    has_ceiling: bool,
) -> Output {
    let Some(residual) = residual else {
        return Output { scale: wanted, zero_point, residual_multiplier: None };
    };
    let residual_scale = f64::from(residual.scale);
    let multiplier = residual_scale * Q8 / wanted;
    let multiplier = if has_ceiling { multiplier.ceil() } else { multiplier.round() };
    let multiplier = multiplier.clamp(1.0, f64::from(MAX_RESIDUAL_MULTIPLIER));
    let scale = residual_scale * Q8 / multiplier;
    Output { scale, zero_point, residual_multiplier: Some(multiplier as i32) }
}

/// The least scale of a row of weights whose output reaches so far: with a smaller one its bias would
/// overflow.
pub(crate) fn least_scale(reach: f64) -> f64 {
    (reach / BIAS_LIMIT).max(LEAST_SCALE)
}

fn linear(graph: &mut QuantisationGraph<'_>, id: NodeId) -> Result<(), QuantiseError> {
    let mut rows = graph.real_rows(id)?;
    graph.annotations[id].weight_scales = (0..rows.len())
        .zip(graph.bias(id))
        .map(|(row, bias)| {
            let scale =
                (largest(rows.row(row)) / 127.0).max(f64::from(bias.abs()) / BIAS_LIMIT).max(LEAST_SCALE);
            // As f32 from here on: the scale that is stored is the one that was used.
            f64::from(scale as f32)
        })
        .collect();
    Ok(())
}

fn largest(row: &[f64]) -> f64 {
    row.iter().fold(0.0, |largest, weight| weight.abs().max(largest))
}
