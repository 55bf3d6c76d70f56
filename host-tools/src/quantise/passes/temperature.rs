//! Gives probabilities back the meaning that they have in f32.
//!
//! Rounding noise makes the int8 network surer or less sure of itself than f32 is, so a threshold
//! that was chosen for f32's probabilities would mean something else. All logits are divided by one
//! temperature (Guo et al., "On calibration of modern neural networks", 2017), here the one with
//! which the probabilities are closest to f32's, not to any labels. It is part of the last layer's
//! scales, so that it costs the board nothing, and changes no order of classes.

use rayon::prelude::*;
use resight_model_file::Activation;

use super::shift::int8_logits;
use crate::graph::Operator;
use crate::quantise::calibrate::{Calibration, is_held_out};
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;

/// The temperatures that are possible.
const RANGE: (f64, f64) = (0.5, 2.0);
/// Halvings of the interval in which the best one lies.
const HALVINGS: usize = 40;

/// Sets `temperature` of the last layer, where that brings the probabilities closer to f32's on the
/// images that were held out.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let id = graph.float.nodes.len() - 1;
    if !matches!(graph.node(id).operator, Operator::Linear { .. }) {
        return Ok(());
    }
    let logits = int8_logits(graph, calibration, &calibration.by_content, "calibrating probabilities")?;
    let count = logits.len();
    let rows = |held_out: bool| -> Vec<(&[f32], &[f32])> {
        let all = calibration.by_content.iter().zip(&logits).enumerate();
        let chosen = all.filter(|(index, _)| is_held_out(*index, count) == held_out);
        chosen.map(|(_, (&image, int8))| (calibration.logits[image].as_slice(), int8.as_slice())).collect()
    };
    let (used, held_out) = (rows(false), rows(true));
    let activation = calibration.activation;
    let temperature = fitted(&used, activation);
    let gains = divergence(&held_out, temperature, activation) < divergence(&held_out, 1.0, activation);
    log::debug!(
        "temperature {temperature:.5}, {} on held-out pictures",
        if gains { "better" } else { "no better" }
    );
    graph.annotations[id].temperature = (gains && !held_out.is_empty()).then_some(temperature);
    Ok(())
}

/// The temperature of int8 logits whose probabilities are closest to f32's.
///
/// The divergence is convex in the temperature's inverse, so its derivative has one zero.
fn fitted(rows: &[(&[f32], &[f32])], activation: Activation) -> f64 {
    let (mut low, mut high) = (RANGE.1.recip(), RANGE.0.recip());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        let slope = sum(rows, |(float, int8)| slope(float, int8, middle, activation));
        *(if slope > 0.0 { &mut high } else { &mut low }) = middle;
    }
    f64::midpoint(low, high).recip()
}

/// A sum in the order of the rows, whatever computes them.
fn sum(rows: &[(&[f32], &[f32])], of: impl Fn((&[f32], &[f32])) -> f64 + Sync) -> f64 {
    let all: Vec<f64> = rows.par_iter().map(|&row| of(row)).collect();
    all.iter().sum()
}

/// The Kullback-Leibler divergence of int8's probabilities from f32's, over all rows, but for what
/// does not depend on the temperature.
fn divergence(rows: &[(&[f32], &[f32])], temperature: f64, activation: Activation) -> f64 {
    sum(rows, |(float, int8)| {
        let scaled: Vec<f64> = int8.iter().map(|&logit| f64::from(logit) / temperature).collect();
        let wanted =
            probabilities(&float.iter().map(|&logit| f64::from(logit)).collect::<Vec<_>>(), activation);
        match activation {
            Activation::Softmax => {
                let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let all = most + libm::log(scaled.iter().map(|logit| libm::exp(logit - most)).sum());
                wanted.iter().zip(&scaled).map(|(p, logit)| p * (all - logit)).sum()
            }
            // -p log(sigmoid(z)) - (1 - p) log(1 - sigmoid(z)) = softplus(z) - p z
            Activation::Sigmoid => {
                let softplus = |z: f64| z.max(0.0) + libm::log1p(libm::exp(-z.abs()));
                wanted.iter().zip(&scaled).map(|(p, &logit)| softplus(logit) - p * logit).sum()
            }
        }
    })
}

/// The derivative of a row's divergence by the inverse of the temperature.
fn slope(float: &[f32], int8: &[f32], inverse: f64, activation: Activation) -> f64 {
    let wanted = probabilities(&float.iter().map(|&logit| f64::from(logit)).collect::<Vec<_>>(), activation);
    let found =
        probabilities(&int8.iter().map(|&logit| f64::from(logit) * inverse).collect::<Vec<_>>(), activation);
    found
        .iter()
        .zip(&wanted)
        .zip(int8)
        .map(|((found, wanted), &logit)| (found - wanted) * f64::from(logit))
        .sum()
}

fn probabilities(logits: &[f64], activation: Activation) -> Vec<f64> {
    match activation {
        Activation::Softmax => {
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let parts: Vec<f64> = logits.iter().map(|logit| libm::exp(logit - most)).collect();
            let all: f64 = parts.iter().sum();
            parts.into_iter().map(|part| part / all).collect()
        }
        Activation::Sigmoid => logits.iter().map(|logit| 1.0 / (1.0 + libm::exp(-logit))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOAT: [[f32; 3]; 4] = [[4.0, 1.0, -2.0], [0.0, 0.5, 1.0], [-3.0, 6.0, 2.0], [1.0, -1.0, 0.2]];

    fn with(int8: &[[f32; 3]; 4], look: impl FnOnce(&[(&[f32], &[f32])])) {
        let rows: Vec<(&[f32], &[f32])> =
            FLOAT.iter().zip(int8).map(|(float, int8)| (float.as_slice(), int8.as_slice())).collect();
        look(&rows);
    }

    #[test]
    fn logits_that_are_too_large_are_divided() {
        for factor in [0.8f32, 1.0, 1.25] {
            // What all classes share changes no probability of a softmax.
            let int8 = FLOAT.map(|row| row.map(|logit| logit * factor + 7.0));
            with(&int8, |rows| {
                let found = fitted(rows, Activation::Softmax);
                assert!((found - f64::from(factor)).abs() < 1e-5, "{factor}: {found}");
            });
            let int8 = FLOAT.map(|row| row.map(|logit| logit * factor));
            with(&int8, |rows| {
                let found = fitted(rows, Activation::Sigmoid);
                assert!((found - f64::from(factor)).abs() < 1e-5, "{factor}: {found}");
            });
        }
    }

    #[test]
    fn the_slope_is_that_of_the_divergence() {
        let int8 = FLOAT.map(|row| row.map(|logit| logit * 1.3 - 0.4));
        for activation in [Activation::Softmax, Activation::Sigmoid] {
            with(&int8, |rows| {
                let step = 1e-5;
                let at = |inverse: f64| divergence(rows, inverse.recip(), activation);
                let expected = (at(0.9 + step) - at(0.9 - step)) / (2.0 * step);
                let found = sum(rows, |(float, int8)| slope(float, int8, 0.9, activation));
                assert!((found - expected).abs() < 1e-6, "{activation:?}: {found} {expected}");
            });
        }
    }

    #[test]
    fn the_range_is_kept() {
        with(&FLOAT.map(|row| row.map(|logit| logit * 9.0)), |rows| {
            let found = fitted(rows, Activation::Softmax);
            assert!((found - RANGE.1).abs() < 1e-6, "{found}");
        });
    }
}
