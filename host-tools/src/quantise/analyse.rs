//! `resight analyze`: where the error of an int8 network comes from, and what each pass gains.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_runtime::Target;
use serde::Serialize;
use tract_onnx::prelude::*;

use super::calibrate::{Calibration, is_held_out};
use super::check;
use super::compare::{COMPARED_IMAGES, compare};
use super::error::QuantiseError;
use super::graph::{Encoding, QuantisationGraph};
use super::lower::{lower, lower_node};
use super::noise::Noise;
use super::observed::{FloatValues, InputImage, ObservedReference};
use super::options::{Options, Progress};
use super::passes::shift::int8_logits;
use super::passes::{bias, fold, improving, ranges, round, scales, share};
use super::report::weights_noise;
use super::statistics::TensorStatistics;
use crate::graph::{FloatConvolution, NodeId, Operator};
use crate::import::Imported;
use crate::reference::Continuation;

/// Where the error of an int8 network comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// Calibration images.
    pub images: usize,
    /// Images on which layers were compared with f32.
    pub compared_images: usize,
    /// Images on which passes were compared, all of which were held out from what was fitted if
    /// there are enough.
    pub judged_images: usize,
    /// The layers with weights, in order.
    pub layers: Vec<LayerAnalysis>,
    /// What the network was worth after each pass, in order.
    pub passes: Vec<PassAnalysis>,
}

/// Where the error of one layer comes from.
#[derive(Debug, Clone, Serialize)]
pub struct LayerAnalysis {
    /// The layer's name.
    pub name: String,
    /// Signal to noise ratio of the rounded weights, decibel.
    pub weights_sqnr_db: f64,
    /// That of the output against f32, with all earlier layers in int8, decibel.
    pub output_sqnr_db: Option<f64>,
    /// That of the logits, each image's mean removed, if this layer alone is int8, its inputs
    /// included, and all others f32, decibel.
    pub logits_alone_db: f64,
    /// Smallest and largest output seen in calibration; zeros for the logits.
    pub observed: (f32, f32),
    /// What the int8 output covers; zeros for the logits.
    pub covered: (f64, f64),
    /// Share of the outputs seen in calibration that are cut off, percent.
    pub saturated_percent: f64,
    /// Output channels.
    pub channels: usize,
    /// Those that are zero on every image; `None` without a ReLU.
    pub dead_channels: Option<usize>,
}

/// What the network is worth after a pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassAnalysis {
    /// What the pass does.
    pub pass: &'static str,
    /// Signal to noise ratio of the logits against f32, decibel.
    pub logits_sqnr_db: f64,
    /// The same with each image's mean removed, decibel.
    pub centred_sqnr_db: f64,
}

/// Quantises `imported` as [`quantise`](super::quantise()) does, and looks at every layer and pass.
///
/// # Errors
/// As [`quantise`](super::quantise()).
pub fn analyse(
    imported: &Imported,
    images: &[PathBuf],
    options: &Options,
    progress: Progress<'_>,
) -> Result<Analysis, QuantiseError> {
    check(&imported.graph, &options.preprocessing)?;
    let target = Target::of_this_machine()?;
    let calibration = Calibration::new(imported, images, options, progress)?;
    let mut graph = QuantisationGraph::new(&calibration.float, &options.preprocessing)?;
    let judged = judged(&calibration);
    let passes = run_passes(&mut graph, &calibration, &judged)?;
    let model = lower(&graph)?;
    compare(&mut graph, &calibration, &model, &target)?;
    let compared: Vec<usize> = calibration.by_content.iter().copied().take(COMPARED_IMAGES).collect();
    let inputs: Vec<InputImage> = compared
        .par_iter()
        .map(|&image| calibration.load(&calibration.images[image]))
        .collect::<Result<_, QuantiseError>>()?;
    let values: Vec<FloatValues<'_>> = inputs
        .par_iter()
        .map(|image| calibration.reference.run(&image.float))
        .collect::<Result<_, QuantiseError>>()?;
    let ids: Vec<NodeId> = graph.layers().collect();
    let done = AtomicUsize::new(0);
    let layers = ids
        .par_iter()
        .map(|&id| {
            let alone = Alone::new(imported, &graph, &calibration, id)?;
            let noise = alone.noise(&inputs, &values)?;
            progress("each layer alone", done.fetch_add(1, Ordering::Relaxed) + 1, ids.len());
            layer(&graph, &calibration, id, noise)
        })
        .collect::<Result<_, QuantiseError>>()?;
    Ok(Analysis {
        images: images.len(),
        compared_images: compared.len(),
        judged_images: judged.len(),
        layers,
        passes,
    })
}

/// The images that were held out, or all where there are too few to hold any out.
fn judged(calibration: &Calibration<'_>) -> Vec<usize> {
    let count = calibration.by_content.len();
    let all = calibration.by_content.iter().enumerate();
    let held_out: Vec<usize> =
        all.filter(|(index, _)| is_held_out(*index, count)).map(|(_, &image)| image).collect();
    if held_out.is_empty() { calibration.by_content.clone() } else { held_out }
}

/// Runs the passes, and compares the network with f32 after each that leaves a whole one.
fn run_passes(
    graph: &mut QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    judged: &[usize],
) -> Result<Vec<PassAnalysis>, QuantiseError> {
    let mut passes = vec![];
    let mut look = |pass, graph: &QuantisationGraph<'_>| {
        let logits = int8_logits(graph, calibration, judged, "judging a pass")?;
        let (mut plain, mut centred) = (Noise::default(), Noise::default());
        for (&image, logits) in judged.iter().zip(&logits) {
            plain.merge(Noise::of(&calibration.logits[image], logits));
            centred.merge(Noise::centred(&calibration.logits[image], logits));
        }
        let (logits_sqnr_db, centred_sqnr_db) = (plain.decibel(), centred.decibel());
        passes.push(PassAnalysis { pass, logits_sqnr_db, centred_sqnr_db });
        Ok::<(), QuantiseError>(())
    };
    for pass in [ranges::run, share::run, scales::run, round::run] {
        pass(graph, calibration)?;
    }
    for id in graph.layers() {
        graph.annotations[id].bias_correction = vec![0.0; graph.matrix(id).rows];
    }
    fold::run(graph, calibration)?;
    look("weights rounded to the nearest step", graph)?;
    bias::run(graph, calibration)?;
    fold::run(graph, calibration)?;
    look("biases without what rounding adds", graph)?;
    for (name, pass) in improving(calibration.options) {
        pass(graph, calibration)?;
        look(name, graph)?;
    }
    Ok(passes)
}

fn layer(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    id: NodeId,
    alone: Noise,
) -> Result<LayerAnalysis, QuantiseError> {
    let annotation = &graph.annotations[id];
    let statistics = calibration.statistics[id].as_ref();
    let covered = match (&annotation.encoding, statistics) {
        (Some(Encoding::Tensor(q)), Some(_)) => {
            let real = |step: i32| f64::from(q.scale) * f64::from(step - q.zero_point);
            (real(-128), real(127))
        }
        _ => (0.0, 0.0),
    };
    let relu = matches!(&graph.node(id).operator, Operator::Convolution(FloatConvolution { relu: true, .. }));
    let dead = |statistics: &TensorStatistics| statistics.means().iter().filter(|&&mean| mean == 0.0).count();
    Ok(LayerAnalysis {
        name: annotation.name.clone(),
        weights_sqnr_db: weights_noise(graph, id)?.decibel(),
        output_sqnr_db: annotation.output_noise.map(|noise| noise.decibel()),
        logits_alone_db: alone.decibel(),
        observed: statistics.map_or((0.0, 0.0), |s| (s.histogram.minimum(), s.histogram.maximum())),
        covered,
        saturated_percent: statistics.map_or(0.0, |statistics| saturated(statistics, covered)),
        channels: graph.node(id).shape[0],
        dead_channels: statistics.filter(|_| relu).map(dead),
    })
}

/// Share of the values beyond half a step outside of what is covered, percent.
fn saturated(statistics: &TensorStatistics, (low, high): (f64, f64)) -> f64 {
    let half = (high - low) / 255.0 / 2.0;
    let histogram = &statistics.histogram;
    let outside = histogram.bins().filter(|&(value, _)| value < low - half || value > high + half);
    100.0 * outside.map(|(_, count)| count).sum::<u64>() as f64 / histogram.total().max(1) as f64
}

/// A layer in int8 in a network that is f32 otherwise.
struct Alone<'a> {
    graph: &'a QuantisationGraph<'a>,
    id: NodeId,
    layer: Arc<TypedRunnableModel>,
    /// What f32 makes of its output; none of the last layer.
    rest: Option<Continuation>,
    /// The f32 network's shape of the output, `[channels, height, width]`.
    shape: [usize; 3],
    reference: &'a ObservedReference,
}

impl<'a> Alone<'a> {
    fn new(
        imported: &Imported,
        graph: &'a QuantisationGraph<'_>,
        calibration: &'a Calibration<'_>,
        id: NodeId,
    ) -> Result<Self, QuantiseError> {
        let node = graph.node(id);
        let last = id + 1 == graph.float.nodes.len();
        let shape = imported.graph.nodes[calibration.reference.origins[id]].shape;
        let rest = (!last).then(|| Continuation::new(imported, &node.tensor, shape)).transpose()?;
        let layer = runnable(lower_node(graph, id)?)?;
        Ok(Self { graph, id, layer, rest, shape, reference: &calibration.reference })
    }

    /// The logits against f32's, over some images.
    fn noise(&self, images: &[InputImage], values: &[FloatValues<'_>]) -> Result<Noise, QuantiseError> {
        let mut noise = Noise::default();
        for (image, values) in images.iter().zip(values) {
            let inputs =
                self.graph.node(self.id).inputs.iter().map(|&input| self.input(input, image, values));
            let inputs = inputs.collect::<Result<_, QuantiseError>>()?;
            let outputs = self.layer.run(inputs).map_err(QuantiseError::tract)?;
            let output = outputs.into_iter().next().ok_or(QuantiseError::Empty)?;
            let logits = match &self.rest {
                Some(rest) => rest.logits(&image.float, &self.real(&output)?)?,
                None => slice::<f32>(&output)?.to_vec(),
            };
            noise.merge(Noise::centred(values.logits(), &logits));
        }
        Ok(noise)
    }

    /// An input of the layer in integers.
    fn input(
        &self,
        id: NodeId,
        image: &InputImage,
        values: &FloatValues<'_>,
    ) -> Result<TValue, QuantiseError> {
        let [channels, height, width] = self.graph.node(id).shape;
        let encoding = self.graph.encoding(id)?;
        if id == 0 {
            let tensor = Tensor::from_shape(&[1, height, width, channels], &image.quantised);
            return Ok(tensor.map_err(QuantiseError::tract)?.into_tvalue());
        }
        let float = values.tensor(id).unwrap_or_default();
        let positions = height * width;
        let step = |position: usize, channel: usize| {
            let real = f64::from(float.get(channel * positions + position).copied().unwrap_or(0.0));
            (real / encoding.scale(channel) + encoding.zero_point(channel)).round()
        };
        let steps = (0..positions).flat_map(|position| (0..channels).map(move |channel| (position, channel)));
        let tensor = if let Encoding::Average { fraction_bits, .. } = encoding {
            let limit = f64::from(128i32 << fraction_bits);
            let values: Vec<i16> = steps.map(|(p, c)| step(p, c).clamp(-limit, limit - 1.0) as i16).collect();
            Tensor::from_shape(&[1, channels], &values)
        } else {
            let values: Vec<i8> = steps.map(|(p, c)| step(p, c).clamp(-128.0, 127.0) as i8).collect();
            Tensor::from_shape(&[1, height, width, channels], &values)
        };
        Ok(tensor.map_err(QuantiseError::tract)?.into_tvalue())
    }

    /// The layer's output in f32, `[channels][height][width]`, as the f32 network has it.
    fn real(&self, output: &TValue) -> Result<Vec<f32>, QuantiseError> {
        let steps = slice::<i8>(output)?;
        let [channels, height, width] = self.graph.node(self.id).shape;
        let encoding = self.graph.encoding(self.id)?;
        let positions = height * width;
        let mut real = vec![0.0; steps.len()];
        for (position, steps) in steps.chunks_exact(channels).enumerate() {
            for (channel, &step) in steps.iter().enumerate() {
                let value = encoding.scale(channel) * (f64::from(step) - encoding.zero_point(channel));
                real[channel * positions + position] = value as f32;
            }
        }
        Ok(self.reference.original(self.id, real, self.shape[0]))
    }
}

fn runnable(model: TypedModel) -> Result<Arc<TypedRunnableModel>, QuantiseError> {
    model.into_runnable().map_err(QuantiseError::tract)
}

fn slice<T: Datum>(value: &TValue) -> Result<&[T], QuantiseError> {
    value.try_as_plain_ram().and_then(|plain| plain.as_slice::<T>()).map_err(QuantiseError::tract)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_saturated() {
        let mut statistics = TensorStatistics::new(1);
        assert!(statistics.add(&[-2.0, 0.0, 1.0, 2.0]));
        assert_eq!(saturated(&statistics, (-2.0, 2.0)), 0.0);
        assert_eq!(saturated(&statistics, (0.0, 1.5)), 50.0);
    }
}
