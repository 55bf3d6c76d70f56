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
        let mut rows = graph.real_rows(id)?;
        let scales = &graph.annotations[id].weight_scales;
        let mut weights = Vec::with_capacity(rows.len() * graph.matrix(id).columns);
        for (row, scale) in scales.iter().enumerate().take(rows.len()) {
            weights.extend(of_row(rows.row(row), *scale));
        }
        graph.set_weights(id, &weights)?;
    }
    Ok(())
}

/// Each weight of `[row][column]` in steps of its row's scale, at most 127.
#[cfg(test)]
pub(super) fn nearest(rows: &[f64], scales: &[f64]) -> Vec<i8> {
    let columns = rows.len() / scales.len().max(1);
    rows.chunks_exact(columns.max(1)).zip(scales).flat_map(|(row, scale)| of_row(row, *scale)).collect()
}

/// Each weight of a row in steps of `scale`, at most 127.
pub(crate) fn of_row(row: &[f64], scale: f64) -> impl Iterator<Item = i8> {
    row.iter().map(move |weight| step(*weight, scale))
}

/// The step nearest to a weight.
pub(super) fn step(weight: f64, scale: f64) -> i8 {
    (weight / scale).round().clamp(-127.0, 127.0) as i8
}
