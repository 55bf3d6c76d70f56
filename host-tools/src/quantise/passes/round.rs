//! Rounds every weight to the nearest step.

use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;

/// Sets `weights` of every layer.
///
/// # Errors
/// None, when scales were chosen.
pub fn run(graph: &mut QuantisationGraph<'_>, _: &Calibration<'_>) -> Result<(), QuantiseError> {
    for id in graph.layers() {
        let rows = graph.real_weights(id)?;
        graph.annotations[id].weights = nearest(&rows, &graph.annotations[id].weight_scales);
    }
    Ok(())
}

/// Each weight of `[row][column]` in steps of its row's scale, at most 127.
pub(crate) fn nearest(rows: &[f64], scales: &[f64]) -> Vec<i8> {
    let columns = rows.len() / scales.len().max(1);
    let rows = rows.chunks_exact(columns.max(1)).zip(scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |weight| step(*weight, *scale))).collect()
}

/// The step nearest to a weight.
pub(super) fn step(weight: f64, scale: f64) -> i8 {
    (weight / scale).round().clamp(-127.0, 127.0) as i8
}
