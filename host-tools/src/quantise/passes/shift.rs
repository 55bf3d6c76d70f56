//! Takes out of the last layer's biases what the finished int8 network's logits are off by on
//! average.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_kernels::Sequential;
use resight_runtime::{Classes, Layers, Program, Target};

use super::fold;
use crate::graph::Operator;
use crate::quantise::calibrate::{Calibration, is_held_out};
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::lower::lower;

/// Fixed-point scale of summed errors, which makes their sum independent of its order.
const SUM_SCALE: f64 = (1u64 << 32) as f64;

/// Sums of each logit's error over the images that count, and over those that were held out.
struct Sums {
    used: Vec<i128>,
    held_out: Vec<i128>,
}

/// Moves `bias_correction` of the last layer and refolds it, for each logit that is closer to
/// f32 then on the images that were held out.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let id = graph.float.nodes.len() - 1;
    if !matches!(graph.node(id).operator, Operator::Linear { .. }) {
        return Ok(());
    }
    let sums = errors(graph, calibration, graph.matrix(id).rows)?;
    let count = calibration.images.len();
    let held_out = (0..count).filter(|&index| is_held_out(index, count)).count();
    if held_out == 0 {
        return Ok(());
    }
    let means = |sums: Vec<i128>, images: usize| -> Vec<f64> {
        sums.into_iter().map(|sum| sum as f64 / SUM_SCALE / images as f64).collect()
    };
    let used = means(sums.used, count - held_out);
    let held_out = means(sums.held_out, held_out);
    let annotation = &mut graph.annotations[id];
    for ((correction, used), held_out) in annotation.bias_correction.iter_mut().zip(used).zip(held_out) {
        // Taking `used` off helps where the other images' mean is nearer to it than to zero.
        if (held_out - used).abs() < held_out.abs() {
            *correction += used;
        }
    }
    let annotation = &graph.annotations[id];
    let folded =
        fold::linear(graph, id, &annotation.weight_scales, &annotation.weights, &annotation.bias_correction)?;
    graph.annotations[id].folded = Some(folded);
    Ok(())
}

/// The sums of the errors of the int8 network's logits.
fn errors(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    classes: usize,
) -> Result<Sums, QuantiseError> {
    let all = int8_logits(graph, calibration, &calibration.by_content, "correcting the logits")?;
    let count = all.len();
    let mut sums = Sums { used: vec![0; classes], held_out: vec![0; classes] };
    for (index, (&image, logits)) in calibration.by_content.iter().zip(&all).enumerate() {
        let sums = if is_held_out(index, count) { &mut sums.held_out } else { &mut sums.used };
        for (sum, (&float, &logit)) in sums.iter_mut().zip(calibration.logits[image].iter().zip(logits)) {
            *sum += ((f64::from(float) - f64::from(logit)) * SUM_SCALE).round() as i128;
        }
    }
    Ok(sums)
}

/// The logits of the int8 network as it is so far for each of some images.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub(in crate::quantise) fn int8_logits(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    images: &[usize],
    phase: &str,
) -> Result<Vec<Vec<f32>>, QuantiseError> {
    let target = Target::of_this_machine()?;
    let model = lower(graph)?;
    let done = AtomicUsize::new(0);
    images
        .par_iter()
        .with_min_len(graph.images_of_a_program(images.len()))
        .map_init(
            || Program::compile(&model, &Layers::default(), &target),
            |program, &image| {
                let program = program.as_mut().map_err(|error| QuantiseError::Graph(error.to_string()))?;
                let image = calibration.load(&calibration.images[image])?;
                let logits = Classes::logits(program.run(&Sequential, &image.quantised)?)?.to_vec();
                (calibration.progress)(phase, done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
                Ok(logits)
            },
        )
        .collect()
}
