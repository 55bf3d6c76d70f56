//! Takes out of the biases what the rounding of the weights adds on average.

use crate::graph::NodeId;
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;

/// Sets `bias_correction` of every layer.
///
/// # Errors
/// None, when scales were chosen.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    for id in graph.layers() {
        let rows = graph.real_weights(id)?;
        let annotation = &graph.annotations[id];
        let correction =
            of_weights(graph, calibration, id, &rows, &annotation.weight_scales, &annotation.weights)?;
        graph.annotations[id].bias_correction = correction;
    }
    Ok(())
}

/// What the rounding of the weights adds to each row's output on average (Nagel et al.,
/// "Data-free quantization through weight equalization and bias correction", 2019), with
/// opposite sign: `sum((w - w_quantised) * mean)`, means in steps of the input.
pub(super) fn of_weights(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    id: NodeId,
    rows: &[f64],
    scales: &[f64],
    weights: &[i8],
) -> Result<Vec<f64>, QuantiseError> {
    let matrix = graph.matrix(id);
    let input = graph.input(id);
    let encoding = graph.encoding(input)?;
    let Some(means) = calibration.means(input) else { return Ok(vec![0.0; matrix.rows]) };
    let of_row = |(row, (real, quantised)): (usize, (&[f64], &[i8]))| {
        let pairs = real.iter().zip(quantised).enumerate();
        pairs
            .map(|(column, (w, &q))| {
                let channel = matrix.input_channel(row, column);
                (w - f64::from(q) * scales[row]) * (means[channel] / encoding.scale(channel))
            })
            .sum()
    };
    let pairs = rows.chunks_exact(matrix.columns).zip(weights.chunks_exact(matrix.columns));
    Ok(pairs.enumerate().map(of_row).collect())
}
