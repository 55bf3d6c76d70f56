//! Runs the int8 network beside the f32 one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_base::sync::lock;
use resight_kernels::Sequential;
use resight_model_file::{Activation, Expected, Golden};
use resight_runtime::{
    Classes, Layers, Outputs, Program, Quantisation, RuntimeError, Target, cosine, sigmoid, softmax,
};
use tract_onnx::prelude::TypedModel;

use super::calibrate::Calibration;
use super::error::QuantiseError;
use super::graph::{Encoding, QuantisationGraph};
use super::noise::Noise;
use crate::graph::{GraphOutput, NodeId};

/// Images that the finished network is compared with f32 on, layer by layer.
pub const COMPARED_IMAGES: usize = 8;

/// What the comparison gives.
pub struct Comparison {
    /// The logits against f32.
    pub logits: Noise,
    /// The same with the mean of each image's logits removed.
    pub centred: Noise,
    /// Of each image the cosine of the angle between its logits and f32's.
    pub cosines: Vec<f32>,
    /// Each map against f32, of a network that gives some: the worst of them are the `logits` then.
    pub outputs: Vec<Noise>,
    /// Inputs and the logits that every machine must give for them.
    pub golden: Vec<Golden>,
}

/// The node that each step of a program computes: the one place where names are looked up, as a
/// program knows its steps by nothing else.
pub fn nodes_of_steps(graph: &QuantisationGraph<'_>, program: &Program) -> Vec<Option<NodeId>> {
    let annotations = graph.annotations.iter().enumerate();
    let ids: HashMap<&str, NodeId> =
        annotations.map(|(id, annotation)| (annotation.name.as_str(), id)).collect();
    program.steps().iter().map(|step| ids.get(step.name.as_str()).copied()).collect()
}

/// Compares `model` with f32 over the first images: sets `output_noise` of every layer.
///
/// # Errors
/// Images that cannot be read, a network that cannot be run.
pub fn compare(
    graph: &mut QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    model: &TypedModel,
    target: &Target,
) -> Result<Comparison, QuantiseError> {
    let mut images = calibration.in_order();
    images.truncate(COMPARED_IMAGES);
    let done = AtomicUsize::new(0);
    // One for all threads: packed weights are as large as the network, and f32 takes most of the time.
    let program = Mutex::new(Program::compile(model, &Layers::default(), &target.with_whole_layers())?);
    let run = |path: &&Path| {
        let one = compare_image(graph, calibration, &program, path)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        (calibration.progress)("comparing with f32", done, images.len());
        Ok(one)
    };
    // Collected in the order of the images, so that the sums are the same for any thread count.
    let results: Vec<OneImage> = images.par_iter().map(run).collect::<Result<_, QuantiseError>>()?;
    drop(program);
    let mut sums = vec![None::<Noise>; graph.annotations.len()];
    let (mut logits, mut centred) = (Noise::default(), Noise::default());
    let mut outputs = vec![Noise::default(); graph.float.outputs.len()];
    for result in &results {
        for (sum, one) in sums.iter_mut().zip(&result.layers) {
            if let Some(one) = one {
                sum.get_or_insert_default().merge(*one);
            }
        }
        logits.merge(result.logits);
        centred.merge(result.centred);
        outputs.iter_mut().zip(&result.outputs).for_each(|(sum, one)| sum.merge(*one));
    }
    if let Some(worst) = outputs.iter().min_by(|a, b| a.decibel().total_cmp(&b.decibel())) {
        (logits, centred) = (*worst, *worst);
    }
    for (annotation, sum) in graph.annotations.iter_mut().zip(sums) {
        annotation.output_noise = sum;
    }
    let is_classifier = graph.float.outputs.is_empty();
    if let (true, Some(last)) = (is_classifier, graph.annotations.last_mut()) {
        last.output_noise = Some(logits);
    }
    let cosines = results.iter().map(|result| result.cosine).collect();
    let mut golden: Vec<Golden> = results.into_iter().take(1).map(|result| result.golden).collect();
    golden.push(noise_golden(model, target, is_classifier)?);
    Ok(Comparison { logits, centred, cosines, outputs, golden })
}

struct OneImage {
    /// By [`NodeId`].
    layers: Vec<Option<Noise>>,
    logits: Noise,
    centred: Noise,
    cosine: f32,
    /// One for each map.
    outputs: Vec<Noise>,
    golden: Golden,
}

fn compare_image(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    program: &Mutex<Program>,
    path: &Path,
) -> Result<OneImage, QuantiseError> {
    let maps = &graph.float.outputs;
    let image = calibration.load(path)?;
    let values = calibration.reference.run(&image.float)?;
    // A run begins with the image, whatever an earlier one has left.
    let mut program = lock(program);
    let nodes = nodes_of_steps(graph, &program);
    let mut layers = vec![None; graph.annotations.len()];
    let outputs = program.run_observed(&Sequential, &image.quantised, |step, output| {
        let Some(id) = nodes[step] else { return };
        // A pool has the encoding of its input, but no weights to be judged by.
        if let (Some(float), Some(Encoding::Tensor(quantisation)), Some(_), Ok(output)) =
            (values.tensor(id), &graph.annotations[id].encoding, graph.annotations[id].output, output.slice())
        {
            let (scale, zero_point) = (f64::from(quantisation.scale), f64::from(quantisation.zero_point));
            let channels = graph.float.nodes[id].shape[0];
            layers[id] = Some(tensor_noise(&float, output, channels, scale, zero_point));
        }
    })?;
    if maps.is_empty() {
        let logits = Classes::logits(outputs)?.to_vec();
        let noise = Noise::of(values.logits(), &logits);
        let centred = Noise::centred(values.logits(), &logits);
        let cosine = cosine(values.logits(), &logits);
        let golden = Golden::classes(image.quantised, logits);
        return Ok(OneImage { layers, logits: noise, centred, cosine, outputs: vec![], golden });
    }
    let noises = maps.iter().zip(outputs.iter()).map(|(map, output)| {
        let encoding = graph.encoding(map.node)?.tensor();
        let quantisation = graph.known(map.node, encoding, "scale")?;
        let float = graph.known(map.node, values.tensor(map.node), "observed tensor")?;
        let quantised = output.slice().map_err(RuntimeError::from)?;
        Ok(map_noise(&float, quantised, graph.float.nodes[map.node].shape[0], quantisation, map))
    });
    let noises = noises.collect::<Result<Vec<Noise>, QuantiseError>>()?;
    Ok(OneImage {
        layers,
        logits: Noise::default(),
        centred: Noise::default(),
        cosine: 1.0,
        outputs: noises,
        golden: tensors_golden(image.quantised, outputs),
    })
}

/// The golden vector of a network that gives maps.
fn tensors_golden(input: Vec<i8>, outputs: Outputs<'_>) -> Golden {
    let bytes = outputs.iter().map(|output| output.little_endian()).collect();
    Golden { input, expected: Expected::Tensors(bytes) }
}

/// A map, after its activation, against its float `[channels][positions]` original before it.
fn map_noise(
    float: &[f32],
    quantised: &[i8],
    channels: usize,
    quantisation: Quantisation,
    output: &GraphOutput,
) -> Noise {
    let positions = float.len() / channels.max(1);
    let (mut noise, mut pair) = (Noise::default(), [vec![0.0; channels], vec![0.0; channels]]);
    for position in 0..positions {
        let [real, found] = &mut pair;
        for channel in 0..channels {
            real[channel] = float[channel * positions + position];
            found[channel] = quantisation.dequantise(quantised[position * channels + channel]);
        }
        for values in &mut pair {
            match output.activation {
                Some(Activation::Sigmoid) => sigmoid(values),
                Some(Activation::Softmax) => {
                    values.chunks_mut(output.group.unwrap_or(channels).max(1)).for_each(softmax);
                }
                None => {}
            }
        }
        noise.merge(Noise::of(&pair[0], &pair[1]));
    }
    noise
}

/// An int8 NHWC tensor against its float `[channels][positions]` original.
fn tensor_noise(float: &[f32], quantised: &[i8], channels: usize, scale: f64, zero_point: f64) -> Noise {
    let positions = float.len() / channels;
    let mut noise = Noise::default();
    for (channel, plane) in float.chunks_exact(positions).enumerate() {
        for (position, &value) in plane.iter().enumerate() {
            let real = scale * (f64::from(quantised[position * channels + channel]) - zero_point);
            noise.add(f64::from(value), real);
        }
    }
    noise
}

/// A golden vector on seeded noise: reaches saturation that photographs do not.
///
/// # Errors
/// A network that cannot be run.
pub fn noise_golden(
    model: &TypedModel,
    target: &Target,
    is_classifier: bool,
) -> Result<Golden, QuantiseError> {
    let mut program = Program::compile(model, &Layers::default(), target)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let input: Vec<i8> = (0..program.input_shape().iter().product())
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as i8
        })
        .collect();
    let outputs = program.run(&Sequential, &input)?;
    if !is_classifier {
        return Ok(tensors_golden(input.clone(), outputs));
    }
    let logits = Classes::logits(outputs)?.to_vec();
    Ok(Golden::classes(input, logits))
}
