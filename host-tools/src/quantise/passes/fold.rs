//! Folds zero points and corrections into the integer biases, and checks that no accumulator can
//! overflow.

use resight_kernels::arithmetic::{MAX_SHIFT, accumulator_bound, quantise_multipliers};
use resight_runtime::Quantisation;

use crate::graph::{NodeId, Operator};
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::{LayerFault, QuantiseError};
use crate::quantise::graph::{Encoding, Folded, Output, Q8, QuantisationGraph};

/// Sets `folded` of every layer.
///
/// # Errors
/// Names the layer whose accumulators could overflow.
pub fn run(graph: &mut QuantisationGraph<'_>, _: &Calibration<'_>) -> Result<(), QuantiseError> {
    for id in graph.layers() {
        let annotation = &graph.annotations[id];
        let (scales, weights) = (&annotation.weight_scales, &annotation.weights);
        let correction = &annotation.bias_correction;
        let folded = if matches!(graph.node(id).operator, Operator::Linear { .. }) {
            linear(graph, id, scales, weights, correction)?
        } else {
            let output = graph.known(id, annotation.output, "output scale")?;
            convolution(graph, id, &output, scales, weights, correction)?
                .ok_or_else(|| LayerFault::NoScale.of(graph.node(id)))?
        };
        graph.annotations[id].folded = Some(folded);
    }
    Ok(())
}

/// The residual of a convolution: how its second input is encoded.
pub(crate) fn residual(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
) -> Result<Option<Quantisation>, QuantiseError> {
    let node = graph.node(id);
    let (Operator::Convolution(convolution), Some(&residual)) = (&node.operator, node.inputs.get(1)) else {
        return Ok(None);
    };
    if !convolution.residual {
        return Ok(None);
    }
    match graph.encoding(residual)? {
        Encoding::Tensor(quantisation) => Ok(Some(*quantisation)),
        _ => Err(LayerFault::ImageResidual.of(node)),
    }
}

/// The integers of a convolution. `None` where an accumulator could overflow or a multiplier does
/// not fit: a larger output scale is needed.
pub(crate) fn convolution(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    output: &Output,
    scales: &[f64],
    weights: &[i8],
    correction: &[f64],
) -> Result<Option<Folded>, QuantiseError> {
    let columns = graph.matrix(id).columns;
    let biases = biases(graph, id, output, scales, weights, correction)?;
    if biases.iter().any(|bias| bias.abs() >= f64::from(i32::MAX)) {
        return Ok(None);
    }
    let bias: Vec<i32> = biases.iter().map(|bias| bias.round() as i32).collect();
    let multipliers: Vec<f64> = scales.iter().map(|scale| scale / output.scale).collect();
    let Some((shift, multiplier)) = quantise_multipliers(&multipliers) else { return Ok(None) };
    debug_assert!(shift <= MAX_SHIFT);
    let limit = i64::from(i32::MAX) >> shift;
    let mut rows = weights.chunks_exact(columns).zip(&bias);
    let fits = rows.all(|(row, &bias)| accumulator_bound(row, bias) <= limit);
    Ok(fits.then_some(Folded::Convolution { bias, multiplier, shift }))
}

/// The biases of a convolution in steps of its accumulators, before they are rounded to whole ones.
pub(crate) fn biases(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    output: &Output,
    scales: &[f64],
    weights: &[i8],
    correction: &[f64],
) -> Result<Vec<f64>, QuantiseError> {
    let residual_zero = match (residual(graph, id)?, output.residual_multiplier) {
        (Some(residual), Some(multiplier)) => f64::from(residual.zero_point) * f64::from(multiplier) / Q8,
        _ => 0.0,
    };
    let zeros = input_zeros(graph, id, weights)?;
    let bias = |(row, &float): (usize, &f32)| {
        let multiplier = scales[row] / output.scale;
        (f64::from(float) + correction[row]) / scales[row] - zeros[row]
            + (f64::from(output.zero_point) - residual_zero) / multiplier
    };
    Ok(graph.bias(id).iter().enumerate().map(bias).collect())
}

/// The integers of the last layer, which fit by the fractional bits of its input.
pub(crate) fn linear(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    scales: &[f64],
    weights: &[i8],
    correction: &[f64],
) -> Result<Folded, QuantiseError> {
    let zeros = input_zeros(graph, id, weights)?;
    let folded = |(row, &float): (usize, &f32)| {
        ((f64::from(float) + correction[row]) / scales[row] - zeros[row]).round() as i32
    };
    Ok(Folded::Linear { bias: graph.bias(id).iter().enumerate().map(folded).collect() })
}

/// What the input's zero point adds to each row's accumulator.
fn input_zeros(graph: &QuantisationGraph<'_>, id: NodeId, weights: &[i8]) -> Result<Vec<f64>, QuantiseError> {
    let matrix = graph.matrix(id);
    let encoding = graph.encoding(graph.input(id))?;
    let zero = |(row, weights): (usize, &[i8])| {
        let products = weights.iter().enumerate().map(|(column, &weight)| {
            f64::from(weight) * encoding.zero_point(matrix.input_channel(row, column))
        });
        products.sum()
    };
    Ok(weights.chunks_exact(matrix.columns).enumerate().map(zero).collect())
}
