//! The quantiser: an f32 network and some images in, an int8 network out.
//!
//! 1. tract runs the f32 network over the calibration images, [`statistics`] gathers a
//!    histogram of every tensor;
//! 2. [`range`] chooses what each int8 tensor covers;
//! 3. [`lower`] quantises the weights, folds zero points, corrects the biases and builds the
//!    graph of our operators;
//! 4. the int8 network runs over a few of the images, which fills the report and makes the
//!    golden vectors.
//!
//! The result depends on the network, the images and the options alone: not on the number of
//! threads, the CPU or the order in which images happen to finish.

pub mod lower;
pub mod range;
pub mod statistics;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::coverage::int8_mac_coverage_percent;
use crate::images::sha256_of_image_files;
use rayon::prelude::*;
use resight_base::files::FileError;
use resight_imaging::{ImageView, ImagingError, Preprocessing, Preprocessor, decode};
use resight_kernels::Sequential;
use resight_model_file::Golden;
use resight_runtime::{Program, RuntimeError, isa_from_environment};
use serde::Serialize;
use tract_onnx::prelude::TypedModel;

use self::lower::{Calibrated, LayerReport, Lowered};
pub use self::range::Method;
use self::statistics::TensorStatistics;
use crate::graph::{FloatGraph, NodeId, Operator};
use crate::import::{ImportError, Imported};
use crate::reference::{Reference, ReferenceError};

/// Images that the finished network is compared with f32 on, layer by layer.
const COMPARED_IMAGES: usize = 8;

/// Why a network could not be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantiseError {
    /// The graph has no nodes.
    #[error("the network is empty")]
    Empty,
    /// The network's input is not an image that preprocessing can make.
    #[error("the network takes {channels} channels; preprocessing makes RGB images of 3 channels")]
    Channels {
        /// Channels that it takes.
        channels: usize,
    },
    /// One layer does not fit the int8 arithmetic.
    #[error("layer `{layer}`: {cause}")]
    Layer {
        /// The layer.
        layer: String,
        /// Why.
        cause: String,
    },
    /// An activation became infinite or not a number.
    #[error("tensor `{tensor}` is not finite on image {image}; the f32 network itself overflows there")]
    NotFinite {
        /// The ONNX tensor.
        tensor: String,
        /// The image.
        image: String,
    },
    /// tract refused the int8 graph.
    #[error("building the int8 graph: {0}")]
    Graph(String),
    /// See [`ImportError`].
    #[error(transparent)]
    Import(#[from] ImportError),
    /// See [`ReferenceError`].
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// See [`RuntimeError`].
    #[error(transparent)]
    Network(#[from] RuntimeError),
    /// See [`ImagingError`].
    #[error(transparent)]
    Imaging(#[from] ImagingError),
    /// See [`FileError`].
    #[error(transparent)]
    File(#[from] FileError),
}

impl QuantiseError {
    #[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    fn tract(error: tract_onnx::prelude::TractError) -> Self {
        Self::Graph(format!("{error:#}"))
    }
}

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// How ranges are chosen.
    pub method: Method,
    /// How images become the network's input.
    pub preprocessing: Preprocessing,
}

/// Called with a phase, how many of its items are done, and how many there are.
pub type Progress<'a> = &'a (dyn Fn(&str, usize, usize) + Sync);

/// The report that travels with the model.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the calibration method.
    pub method: &'static str,
    /// Calibration images.
    pub images: usize,
    /// Share of multiply-accumulate operations done on int8 weights in integers, percent.
    pub int8_mac_coverage_percent: f64,
    /// Signal to noise ratio of the logits against f32 over a few calibration images, decibel.
    pub logits_sqnr_db: f64,
    /// The layers with weights.
    pub layers: Vec<LayerReport>,
}

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
}

/// The preprocessing that fits a network's input size with ImageNet's statistics.
///
/// # Errors
/// A network whose input is not RGB.
pub fn default_preprocessing(graph: &FloatGraph) -> Result<Preprocessing, QuantiseError> {
    let [_, height, width] = check_channels(graph)?;
    // `import` caps dimensions at 2^16.
    Ok(Preprocessing::for_input(height as u32, width as u32))
}

/// The shape of the input, when it is RGB.
fn check_channels(graph: &FloatGraph) -> Result<[usize; 3], QuantiseError> {
    match graph.nodes.first().ok_or(QuantiseError::Empty)?.shape {
        shape @ [3, _, _] => Ok(shape),
        [channels, _, _] => Err(QuantiseError::Channels { channels }),
    }
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
    let graph = &imported.graph;
    check_channels(graph)?;
    let observed = observed_nodes(graph);
    let tensors: Vec<String> = observed.iter().map(|&id| graph.nodes[id].tensor.clone()).collect();
    let reference = Reference::new(imported, &tensors)?;
    let statistics = calibrate(graph, &observed, &reference, images, options, progress)?;
    let calibrated = ranges(graph, &observed, &statistics, options.method, progress);
    let mut lowered = lower::lower(graph, &calibrated, &options.preprocessing)?;
    for layer in &mut lowered.layers {
        let id = lower::unique_names(graph).iter().position(|name| *name == layer.name);
        if let Some(statistics) = id.and_then(|id| statistics.get(&id)) {
            layer.observed = (statistics.histogram.minimum(), statistics.histogram.maximum());
        }
    }
    let compared = &images[..images.len().min(COMPARED_IMAGES)];
    let (logits_sqnr_db, golden) =
        compare(graph, &observed, &reference, &mut lowered, compared, options, progress)?;
    let Lowered { model, layers } = lowered;
    let report = Report {
        method: options.method.name(),
        images: images.len(),
        int8_mac_coverage_percent: int8_mac_coverage_percent(&model)?,
        logits_sqnr_db,
        layers,
    };
    Ok(Quantised { model, report, golden, calibration_sha256: sha256_of_image_files(images)? })
}

/// Every node whose float value matters: all but the input and the logits.
fn observed_nodes(graph: &FloatGraph) -> Vec<NodeId> {
    let matters = |operator: &Operator| !matches!(operator, Operator::Input | Operator::Linear { .. });
    (0..graph.nodes.len()).filter(|&id| matters(&graph.nodes[id].operator)).collect()
}

fn calibrate(
    graph: &FloatGraph,
    observed: &[NodeId],
    reference: &Reference,
    images: &[PathBuf],
    options: &Options,
    progress: Progress<'_>,
) -> Result<HashMap<NodeId, TensorStatistics>, QuantiseError> {
    let done = AtomicUsize::new(0);
    let empty = || -> Vec<TensorStatistics> {
        let channels = |id: usize| graph.nodes[id].shape[0];
        std::iter::once(0)
            .chain(observed.iter().copied())
            .map(|id| TensorStatistics::new(channels(id)))
            .collect()
    };
    progress("calibrating", 0, images.len());
    let statistics = images
        .par_iter()
        .try_fold(empty, |mut statistics, path| {
            let (image, _) = load(path, options)?;
            let values = reference.run(&image)?;
            let tensors = std::iter::once(image.as_slice())
                .chain((0..observed.len()).map(|index| values.tensor(index)));
            for (index, tensor) in tensors.enumerate() {
                if !statistics[index].add(tensor) {
                    let id = index.checked_sub(1).map_or(0, |index| observed[index]);
                    return Err(QuantiseError::NotFinite {
                        tensor: graph.nodes[id].tensor.clone(),
                        image: path.display().to_string(),
                    });
                }
            }
            progress("calibrating", done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
            Ok(statistics)
        })
        .try_reduce(empty, |mut all, more| {
            for (statistics, more) in all.iter_mut().zip(more) {
                statistics.merge(more);
            }
            Ok(all)
        })?;
    Ok(std::iter::once(0).chain(observed.iter().copied()).zip(statistics).collect())
}

fn ranges(
    graph: &FloatGraph,
    observed: &[NodeId],
    statistics: &HashMap<NodeId, TensorStatistics>,
    method: Method,
    progress: Progress<'_>,
) -> HashMap<NodeId, Calibrated> {
    let done = AtomicUsize::new(0);
    let total = observed.len() + 1;
    let calibrated = |id: usize| {
        let statistics = &statistics[&id];
        let range = match graph.nodes[id].operator {
            Operator::Convolution(_) => range::choose(method, &statistics.histogram),
            _ => (0.0, 0.0),
        };
        progress("choosing ranges", done.fetch_add(1, Ordering::Relaxed) + 1, total);
        (id, Calibrated { range, means: statistics.means() })
    };
    let ids: Vec<NodeId> = std::iter::once(0).chain(observed.iter().copied()).collect();
    ids.into_par_iter().map(calibrated).collect()
}

/// Signal and noise of every layer of one image, and of its logits last.
type Noise = Vec<(f64, f64)>;

/// Runs the int8 network beside the f32 one: fills `output_sqnr_db`, returns the logits' ratio
/// and the golden vectors.
fn compare(
    graph: &FloatGraph,
    observed: &[NodeId],
    reference: &Reference,
    lowered: &mut Lowered,
    images: &[PathBuf],
    options: &Options,
    progress: Progress<'_>,
) -> Result<(f64, Vec<Golden>), QuantiseError> {
    let isa = isa_from_environment()?;
    let names = lower::unique_names(graph);
    let positions: HashMap<&str, usize> =
        observed.iter().enumerate().map(|(index, &id)| (names[id].as_str(), index)).collect();
    let encodings: HashMap<&str, (f64, f64)> = lowered
        .layers
        .iter()
        .map(|layer| (layer.name.as_str(), (f64::from(layer.scale), f64::from(layer.zero_point))))
        .collect();
    let done = AtomicUsize::new(0);
    let run = |path: &PathBuf| -> Result<(Noise, Golden), QuantiseError> {
        let mut program = Program::compile(&lowered.model, isa, 1)?;
        let steps: Vec<String> = program.steps().into_iter().map(|step| step.name).collect();
        let (image, input) = load(path, options)?;
        let values = reference.run(&image)?;
        let mut noise = vec![(0.0, 0.0); observed.len() + 1];
        let logits = program
            .run_observed(&Sequential, &input, |step, output| {
                let name = steps[step].as_str();
                if let (Some(&index), Some(&(scale, zero_point))) = (positions.get(name), encodings.get(name))
                {
                    let channels = graph.nodes[observed[index]].shape[0];
                    noise[index] = layer_noise(values.tensor(index), output, channels, scale, zero_point);
                }
            })?
            .to_vec();
        noise[observed.len()] = tensor_noise(values.logits(), &logits);
        progress("comparing with f32", done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
        Ok((noise, Golden { input, logits }))
    };
    // Collected in the order of the images, so that the sums are the same for any thread count.
    let results: Vec<(Noise, Golden)> = images.par_iter().map(run).collect::<Result<_, _>>()?;
    let sums = results.iter().fold(vec![(0.0, 0.0); observed.len() + 1], |mut sums, (noise, _)| {
        for (sum, one) in sums.iter_mut().zip(noise) {
            sum.0 += one.0;
            sum.1 += one.1;
        }
        sums
    });
    let ratio = |index: usize| sqnr_db(sums[index].0, sums[index].1);
    for layer in &mut lowered.layers {
        layer.output_sqnr_db = match positions.get(layer.name.as_str()) {
            Some(&index) => Some(ratio(index)),
            None => Some(ratio(observed.len())),
        };
    }
    let mut golden: Vec<Golden> = results.into_iter().take(1).map(|(_, golden)| golden).collect();
    golden.push(noise_golden(&lowered.model)?);
    Ok((ratio(observed.len()), golden))
}

/// A golden vector on seeded noise: reaches saturation that photographs do not.
fn noise_golden(model: &TypedModel) -> Result<Golden, QuantiseError> {
    let mut program = Program::compile(model, isa_from_environment()?, 1)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let input: Vec<i8> = (0..program.input_shape().iter().product())
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as i8
        })
        .collect();
    let logits = program.run(&Sequential, &input)?.to_vec();
    Ok(Golden { input, logits })
}

/// Decodes and preprocesses one image: `[3][height][width]` for f32 and NHWC for int8.
fn load(path: &Path, options: &Options) -> Result<(Vec<f32>, Vec<i8>), QuantiseError> {
    let image = decode(path)?;
    let mut preprocessor = Preprocessor::new(&options.preprocessing)?;
    let mut float = vec![0.0; preprocessor.input_len()];
    let mut quantised = vec![0; preprocessor.input_len()];
    let view = ImageView::of(&image)?;
    preprocessor.normalise(&view, &mut float)?;
    preprocessor.quantise(&view, &mut quantised)?;
    Ok((float, quantised))
}

/// Signal and noise of an int8 NHWC tensor against its float `[channels][positions]` original.
fn layer_noise(float: &[f32], quantised: &[i8], channels: usize, scale: f64, zero_point: f64) -> (f64, f64) {
    let positions = float.len() / channels;
    let mut sums = (0.0, 0.0);
    for (channel, plane) in float.chunks_exact(positions).enumerate() {
        for (position, &value) in plane.iter().enumerate() {
            let real = scale * (f64::from(quantised[position * channels + channel]) - zero_point);
            sums.0 += f64::from(value).powi(2);
            sums.1 += (f64::from(value) - real).powi(2);
        }
    }
    sums
}

fn tensor_noise(reference: &[f32], other: &[f32]) -> (f64, f64) {
    reference.iter().zip(other).fold((0.0, 0.0), |(signal, noise), (&r, &x)| {
        (signal + f64::from(r).powi(2), noise + (f64::from(r) - f64::from(x)).powi(2))
    })
}

/// `10 * log10(signal / noise)`, capped at 200 dB where there is no noise.
pub fn sqnr_db(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { 200.0 } else { (10.0 * (signal / noise).log10()).min(200.0) }
}
