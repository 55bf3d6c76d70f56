//! The report that travels with the model, made once from the annotated graph.

use serde::Serialize;

use super::calibrate::Calibration;
use super::error::QuantiseError;
use super::graph::{Encoding, QuantisationGraph, nhwc};
use super::noise::Noise;
use super::options::Rounding;
use super::steps::Steps;
use crate::graph::{FloatGraph, GraphOutput, NodeId};

/// What quantisation cost.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the calibration method.
    pub method: &'static str,
    /// How weights were rounded, where it was not to the nearest step.
    #[serde(skip_serializing_if = "is_nearest")]
    pub rounding: Rounding,
    /// Channels of the first layer that are in two parts, where some are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_channels: Option<usize>,
    /// What logits were divided by so that probabilities are what they are in f32, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Calibration images.
    pub images: usize,
    /// Share of multiply-accumulate operations done on int8 weights in integers, percent.
    pub int8_mac_coverage_percent: f64,
    /// Signal to noise ratio of the logits against f32 over a few calibration images, decibel; of a
    /// network that gives maps the lowest of its `outputs`.
    pub logits_sqnr_db: f64,
    /// The maps that a network for boxes, masks and the like gives; none of a classifier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputReport>,
    /// How close the vectors are to those of f32, of a network that ends in one; none of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<CosineReport>,
    /// The layers with weights.
    pub layers: Vec<LayerReport>,
}

/// Cosines of the angles between the vectors of int8 and f32, over a few calibration images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CosineReport {
    /// Their mean.
    pub mean: f64,
    /// The lowest.
    pub least: f64,
}

impl CosineReport {
    /// Of these cosines, of which there is at least one.
    pub fn of(cosines: &[f32]) -> Option<Self> {
        let least = cosines.iter().copied().reduce(f32::min)?;
        let sum: f64 = cosines.iter().map(|&cosine| f64::from(cosine)).sum();
        Some(Self { mean: sum / cosines.len() as f64, least: least.into() })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde wants")]
fn is_nearest(rounding: &Rounding) -> bool {
    *rounding == Rounding::Nearest
}

/// What quantisation cost of one map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputReport {
    /// The output's name in the ONNX file.
    pub name: String,
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
    /// Signal to noise ratio against f32 over a few calibration images, decibel: of probabilities
    /// where the file ends in them.
    pub sqnr_db: f64,
}

/// The report of each map, for what was found of it.
pub fn outputs(float: &FloatGraph, noises: &[Noise]) -> Vec<OutputReport> {
    let output = |(output, noise): (&GraphOutput, &Noise)| OutputReport {
        name: output.name.clone(),
        shape: nhwc(float.nodes[output.node].shape),
        sqnr_db: noise.decibel(),
    };
    float.outputs.iter().zip(noises).map(output).collect()
}

/// One line of the quantisation report.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// Output scale; 1 for the logits, which are real numbers.
    pub scale: f32,
    /// Output zero point; 0 for the logits.
    pub zero_point: i32,
    /// Smallest and largest output seen in calibration; zeros for the logits.
    pub observed: (f32, f32),
    /// Signal to noise ratio of the quantised weights, decibel.
    pub weights_sqnr_db: f64,
    /// Signal to noise ratio of the output against f32 over a few calibration images, decibel.
    pub output_sqnr_db: Option<f64>,
}

/// The lines of the layers with weights, in order.
///
/// # Errors
/// A layer that a pass has left without an annotation.
pub fn layers(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
) -> Result<Vec<LayerReport>, QuantiseError> {
    let layer = |id: NodeId| {
        let annotation = &graph.annotations[id];
        let (scale, zero_point) = match annotation.encoding {
            Some(Encoding::Tensor(quantisation)) => (quantisation.scale, quantisation.zero_point),
            _ => (1.0, 0),
        };
        let statistics = calibration.statistics[id].as_ref();
        Ok(LayerReport {
            name: annotation.name.clone(),
            scale,
            zero_point,
            observed: statistics.map_or((0.0, 0.0), |s| (s.histogram.minimum(), s.histogram.maximum())),
            weights_sqnr_db: graph.known(id, annotation.weights_noise, "noise of its weights")?.decibel(),
            output_sqnr_db: annotation.output_noise.map(|noise| noise.decibel()),
        })
    };
    graph.layers().map(layer).collect()
}

/// Sets `weights_noise` of every layer whose weights are in a network now, and lets go of them.
///
/// # Errors
/// A layer that a pass has left without an annotation.
pub fn judge_weights(graph: &mut QuantisationGraph<'_>) -> Result<(), QuantiseError> {
    for id in graph.layers() {
        let noise = weights_noise(graph, id)?;
        let annotation = &mut graph.annotations[id];
        annotation.weights_noise = Some(noise);
        annotation.weights = Steps::default();
    }
    Ok(())
}

/// The rounded weights of a layer against the real ones.
pub(super) fn weights_noise(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<Noise, QuantiseError> {
    let annotation = &graph.annotations[id];
    let columns = graph.matrix(id).columns;
    let mut rows = graph.real_rows(id)?;
    let quantised = annotation.weights.chunks_exact(columns).zip(&annotation.weight_scales);
    let mut noise = Noise::default();
    for (row, (quantised, scale)) in quantised.enumerate().take(rows.len()) {
        for (&real, &quantised) in rows.row(row).iter().zip(quantised) {
            noise.add(real, f64::from(quantised) * scale);
        }
    }
    Ok(noise)
}
