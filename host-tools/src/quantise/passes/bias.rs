//! Takes out of the biases what the rounding of the weights adds on average.

use crate::graph::NodeId;
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::{LayerMatrix, QuantisationGraph};

/// Sets `bias_correction` of every layer.
///
/// # Errors
/// None, when scales were chosen.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    for id in graph.layers() {
        let mut rows = graph.real_rows(id)?;
        let correction = Correction::new(graph, calibration, id)?;
        let annotation = &graph.annotations[id];
        let quantised = annotation.weights.chunks_exact(graph.matrix(id).columns);
        let all = quantised.zip(&annotation.weight_scales).enumerate();
        let all =
            all.map(|(row, (quantised, scale))| correction.of_row(row, rows.row(row), quantised, *scale));
        let all = all.collect();
        graph.annotations[id].bias_correction = all;
    }
    Ok(())
}

/// What the rounding of a layer's weights adds to each row's output on average (Nagel et al.,
/// "Data-free quantization through weight equalization and bias correction", 2019), with
/// opposite sign: `sum((w - w_quantised) * mean)`, means in steps of the input.
pub(super) struct Correction {
    matrix: LayerMatrix,
    /// Of the input's channels, in its steps; none where they are not known.
    means: Vec<f64>,
}

impl Correction {
    pub(super) fn new(
        graph: &QuantisationGraph<'_>,
        calibration: &Calibration<'_>,
        id: NodeId,
    ) -> Result<Self, QuantiseError> {
        let input = graph.input(id);
        let encoding = graph.encoding(input)?;
        let means = calibration.means(input).unwrap_or_default();
        let means = means.iter().enumerate().map(|(channel, mean)| mean / encoding.scale(channel)).collect();
        Ok(Self { matrix: graph.matrix(id), means })
    }

    /// Of one row, whose weights are real numbers and steps of `scale`.
    pub(super) fn of_row(&self, row: usize, real: &[f64], quantised: &[i8], scale: f64) -> f64 {
        if self.means.is_empty() {
            return 0.0;
        }
        let pairs = real.iter().zip(quantised).enumerate();
        pairs
            .map(|(column, (w, &q))| {
                (w - f64::from(q) * scale) * self.means[self.matrix.input_channel(row, column)]
            })
            .sum()
    }
}
