//! The quantiser: an f32 network and some images in, an int8 network out.
//!
//! 1. [`calibrate`](mod@calibrate) runs the f32 network over the images and gathers [`statistics`] of every
//!    tensor;
//! 2. the [`passes`](mod@passes) annotate the [`graph`], node by node: ranges, scales, rounded weights,
//!    corrected biases, folded zero points;
//! 3. [`lower`](mod@lower) builds the graph of our operators from the annotations;
//! 4. [`compare`](mod@compare) runs it beside the f32 network over a few of the images, which makes the
//!    golden vectors; [`report`](mod@report) says what all of it cost.
//!
//! The result depends on the network, the images and the options alone: not on the number of
//! threads, the CPU or the order in which images happen to finish.

pub mod analyse;
pub mod calibrate;
pub mod cholesky;
pub mod choose_split;
pub mod compare;
pub mod equalise;
pub mod error;
pub mod graph;
pub mod lower;
pub mod means;
pub mod moments;
pub mod noise;
pub mod observed;
pub mod options;
pub mod passes;
pub mod patches;
pub mod pictures;
pub mod product;
pub mod range;
pub mod report;
pub mod split;
pub mod statistics;
pub mod steps;
pub mod walk;

use std::path::PathBuf;

use resight_imaging::{Channels, Preprocessing};
use resight_model_file::{Activation, Golden, OutputMap};
use resight_runtime::Target;
use tract_onnx::prelude::TypedModel;

use self::calibrate::Calibration;
pub use self::error::{LayerFault, QuantiseError};
use self::graph::QuantisationGraph;
pub use self::noise::{Noise, sqnr_db};
pub use self::options::{Options, Progress, Rounding};
use self::passes::passes;
pub use self::pictures::PictureFault;
pub use self::range::Method;
pub use self::report::{CosineReport, LayerReport, OutputReport, Report};
use crate::coverage::int8_mac_coverage_percent;
use crate::graph::{FloatGraph, GraphOutput};
use crate::images::sha256_of_image_files;
use crate::import::Imported;

/// A quantised network and everything that goes into its model file.
#[derive(Debug)]
pub struct Quantised {
    /// The int8 graph.
    pub model: TypedModel,
    /// What it cost.
    pub report: Report,
    /// Inputs and the logits that every machine must give for them.
    pub golden: Vec<Golden>,
    /// sha256 over names and contents of the calibration images.
    pub calibration_sha256: String,
    /// Signal to noise ratio of the logits with each image's mean removed, over the images of
    /// the report's `logits_sqnr_db`, decibel.
    pub centred_sqnr_db: f64,
    /// What is wrong with the calibration images.
    pub faults: Vec<PictureFault>,
    /// What makes probabilities of the logits.
    pub activation: Activation,
    /// How the values of the maps are to be read; none of a classifier.
    pub outputs: Vec<OutputMap>,
}

/// The preprocessing that fits a network's input size with ImageNet's statistics.
///
/// # Errors
/// A network whose input is not RGB.
pub fn default_preprocessing(graph: &FloatGraph) -> Result<Preprocessing, QuantiseError> {
    let [_, height, width] = check_channels(graph, Channels::Rgb)?;
    // `import` caps dimensions at 2^16.
    Ok(Preprocessing::for_input(height as u32, width as u32))
}

/// The shape of the input, when it has the channels that preprocessing makes.
fn check_channels(graph: &FloatGraph, made: Channels) -> Result<[usize; 3], QuantiseError> {
    match graph.nodes.first().ok_or(QuantiseError::Empty)?.shape {
        shape @ [channels, _, _] if channels == made.count() => Ok(shape),
        [channels, _, _] => Err(QuantiseError::Channels { channels, made }),
    }
}

/// Refuses, before the first image is looked at, what can never become an int8 network.
/// [`quantise`] begins with it.
///
/// # Errors
/// Channels that preprocessing does not make, a layer that the int8 arithmetic cannot hold.
pub fn check(graph: &FloatGraph, preprocessing: &Preprocessing) -> Result<(), QuantiseError> {
    check_channels(graph, preprocessing.channels)?;
    QuantisationGraph::new(graph, preprocessing).map(|_| ())
}

/// Quantises `imported`, calibrating on `images`.
///
/// # Errors
/// Images that cannot be read, a network that overflows on one, a layer that the int8
/// arithmetic cannot hold.
pub fn quantise(
    imported: &Imported,
    images: &[PathBuf],
    options: &Options,
    progress: Progress<'_>,
) -> Result<Quantised, QuantiseError> {
    check(&imported.graph, &options.preprocessing)?;
    let target = Target::of_this_machine()?;
    let calibration = Calibration::new(imported, images, options, progress)?;
    let mut graph = QuantisationGraph::new(&calibration.float, &options.preprocessing)?;
    for pass in passes(options) {
        pass(&mut graph, &calibration)?;
    }
    let model = lower::lower(&graph)?;
    report::judge_weights(&mut graph)?;
    let comparison = compare::compare(&mut graph, &calibration, &model, &target)?;
    let report = Report {
        method: options.method.name(),
        rounding: options.rounding,
        split_channels: calibration.reference.split.as_ref().map(|split| split.channels.len()),
        temperature: graph.annotations.last().and_then(|last| last.temperature),
        images: images.len(),
        int8_mac_coverage_percent: int8_mac_coverage_percent(&model)?,
        logits_sqnr_db: comparison.logits.decibel(),
        outputs: report::outputs(&calibration.float, &comparison.outputs),
        cosine: imported.normalised.and_then(|_| CosineReport::of(&comparison.cosines)),
        layers: report::layers(&graph, &calibration)?,
    };
    Ok(Quantised {
        outputs: output_maps(&graph)?,
        model,
        report,
        golden: comparison.golden,
        calibration_sha256: sha256_of_image_files(images)?,
        centred_sqnr_db: comparison.centred.decibel(),
        faults: faults(imported, &calibration),
        activation: imported.activation,
    })
}

/// How the values of the maps are to be read.
fn output_maps(graph: &QuantisationGraph<'_>) -> Result<Vec<OutputMap>, QuantiseError> {
    let map = |output: &GraphOutput| {
        let encoding = graph.encoding(output.node)?.tensor();
        let quantisation = graph.known(output.node, encoding, "scale")?;
        Ok(OutputMap {
            name: output.name.clone(),
            scale: quantisation.scale,
            zero_point: quantisation.zero_point,
            activation: output.activation,
        })
    };
    graph.float.outputs.iter().map(map).collect()
}

/// What is wrong with the images. Of classes that do not exclude each other one may be in every
/// image, and the others too; a vector is of no class.
fn faults(imported: &Imported, calibration: &Calibration<'_>) -> Vec<PictureFault> {
    let mut faults = calibration.pictures.faults();
    if imported.activation == Activation::Sigmoid || imported.normalised.is_some() {
        faults.retain(|fault| !matches!(fault, PictureFault::OneClass { .. }));
    }
    faults
}
