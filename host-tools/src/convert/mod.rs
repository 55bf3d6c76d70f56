//! Networks that others have quantised: their integers as a network of ours, without calibration.
//!
//! 1. [`import_quantised`](crate::import::import_quantised) reads the file as a network of floats in which the
//!    roundings of the file are nodes;
//! 2. [`structure`] makes of these nodes what they are here: the scale and zero point of the layer before;
//! 3. [`annotate`](mod@annotate) takes the integers of weights and biases from the file, where
//!    [`quantise`](mod@crate::quantise) would choose them;
//! 4. [`lower`](mod@crate::quantise::lower) builds the int8 graph from the same annotations.
//!
//! A result is rounded where the file rounds it, once, and nowhere else: a sum behind a rounded
//! convolution is a sum of its own, and logits that the file rounds are rounded. What differs from
//! ONNX's definition is listed in `docs/arithmetic.md`.

pub mod annotate;
mod error;
pub mod structure;
mod wide;

use resight_imaging::Preprocessing;
use resight_model_file::{Activation, Golden};
use resight_runtime::layers::Dequantise;
use resight_runtime::{Quantisation, Target};
use serde::Serialize;
use tract_onnx::tract_core::internal::*;

pub use self::error::{ConvertError, ConvertFault};
use self::wide::Widening;
use crate::coverage::int8_mac_coverage_percent;
use crate::graph::Operator;
use crate::import::{FileQuantisation, Imported};
use crate::quantise::compare::noise_golden;
use crate::quantise::graph::{Encoding, QuantisationGraph};
use crate::quantise::lower::lower;
use crate::quantise::{LayerFault, QuantiseError};

/// A converted network and what goes into its model file.
#[derive(Debug)]
pub struct Converted {
    /// The int8 graph.
    pub model: TypedModel,
    /// What became of the file's numbers.
    pub report: ConversionReport,
    /// An input and the logits that every machine must give for it.
    pub golden: Vec<Golden>,
    /// What makes probabilities of the logits.
    pub activation: Activation,
}

/// The report that travels with a converted model.
#[derive(Debug, Clone, Serialize)]
pub struct ConversionReport {
    /// In place of a method of calibration.
    pub method: &'static str,
    /// Share of multiply-accumulate operations done on int8 weights in integers, percent.
    pub int8_mac_coverage_percent: f64,
    /// The layers whose outputs are int8, and the linear layer.
    pub layers: Vec<ConvertedLayer>,
}

/// One layer of a converted network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvertedLayer {
    /// The layer's name.
    pub name: String,
    /// Output scale; 1 for logits that are real numbers.
    pub scale: f32,
    /// Output zero point; 0 for logits that are real numbers.
    pub zero_point: i32,
    /// Weights that two int8 numbers of one step for each output cannot hold, so that they are the nearest
    /// that these can: where the distance to the file's zero point is above 254.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed_weights: usize,
    /// Input channels that are multiplied twice, because weights of theirs are of more than 127 steps.
    #[serde(skip_serializing_if = "is_zero")]
    pub channels_twice: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde wants")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Makes the int8 network of a quantised file.
///
/// # Errors
/// A node that stays in floats, weights and accumulators that the arithmetic cannot hold.
pub fn convert(
    imported: &Imported,
    quantisation: &FileQuantisation,
    preprocessing: &Preprocessing,
) -> Result<Converted, ConvertError> {
    let channels = preprocessing.channels.count();
    if !imported.preparation.rounds_nothing(&preprocessing.normalisation()[..channels]) {
        let image = imported.graph.nodes.first().map_or("", |node| node.name.as_str());
        return Err(ConvertFault::Levels.of(image));
    }
    let image = Encoding::image(preprocessing);
    let rounded = structure::structure(&imported.graph, quantisation, &image)?;
    let mut quantisation = quantisation.clone();
    let (rounded, widenings) = wide::widen(rounded, &mut quantisation.weights);
    let mut graph = QuantisationGraph::new(&rounded.graph, preprocessing)?;
    annotate::annotate(&mut graph, &rounded, &quantisation)?;
    let mut model = lower(&graph)?;
    if let (Some(last), Some(Encoding::Tensor(quantisation))) =
        (rounded.graph.nodes.last(), graph.annotations.last().and_then(|last| last.encoding.clone()))
    {
        if last.shape[1..] != [1, 1] {
            return Err(ConvertFault::Logits(last.shape).of(&last.name));
        }
        dequantise(&mut model, &last.name, quantisation)?;
    }
    let target = Target::of_this_machine()?;
    let golden = vec![noise_golden(&model, &target, true)?];
    let report = ConversionReport {
        method: "converted",
        int8_mac_coverage_percent: int8_mac_coverage_percent(&model)?,
        layers: layers(&graph, &widenings),
    };
    Ok(Converted { model, report, golden, activation: imported.activation })
}

/// Makes real numbers of the logits.
fn dequantise(model: &mut TypedModel, name: &str, quantisation: Quantisation) -> Result<(), ConvertError> {
    let refused =
        |error: TractError| QuantiseError::Layer { layer: name.into(), fault: LayerFault::graph(&error) };
    let outlets = model.output_outlets().map_err(refused)?.to_vec();
    let wired = model.wire_node(format!("{name}.logits"), Dequantise { input: quantisation }, &outlets);
    let wired = wired.map_err(refused)?;
    model.select_output_outlets(&wired).map_err(refused)?;
    Ok(())
}

fn layers(graph: &QuantisationGraph<'_>, widenings: &[Widening]) -> Vec<ConvertedLayer> {
    let layer = |id: usize| {
        let annotation = &graph.annotations[id];
        let is_logits = matches!(graph.node(id).operator, Operator::Linear { .. });
        let output = annotation.encoding.as_ref().and_then(Encoding::tensor).filter(|_| !is_logits);
        let Quantisation { scale, zero_point } = output.unwrap_or(Quantisation { scale: 1.0, zero_point: 0 });
        let (name, Widening { channels, changed }) = (annotation.name.clone(), widenings[id]);
        ConvertedLayer { name, scale, zero_point, changed_weights: changed, channels_twice: channels }
    };
    let told = |id: &usize| {
        let is_image = matches!(graph.node(*id).operator, Operator::Input);
        let is_linear = matches!(graph.node(*id).operator, Operator::Linear { .. });
        let encoding = graph.annotations[*id].encoding.as_ref();
        !is_image && (is_linear || encoding.is_some_and(|encoding| encoding.tensor().is_some()))
    };
    (0..graph.annotations.len()).filter(told).map(layer).collect()
}
