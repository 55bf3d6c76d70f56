//! A layer in float: what its outputs are, and how far from f32's.

use std::ops::Range;

use super::solved::Solved;
use crate::graph::{NodeId, Operator};
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::moments::{LayerMoments, TARGET_PARTS, Targets};
use crate::quantise::product::add_product;

/// Samples whose outputs are computed at a time.
const SAMPLES_AT_ONCE: usize = 1024;

/// A layer in float, in steps of its input.
pub(super) struct Layer {
    pub(super) columns: usize,
    pub(super) group_rows: usize,
    pub(super) weights: Vec<f64>,
    pub(super) scales: Vec<f64>,
    /// Zero point of each column, by group.
    pub(super) zero_points: Vec<Vec<f64>>,
    pub(super) bias: Vec<f64>,
    pub(super) relu: bool,
    /// What larger outputs become, in the target's units.
    pub(super) ceiling: f64,
    /// Scale and zero point of what is added.
    pub(super) residual: (f64, f64),
    /// What a unit of the targets is worth.
    pub(super) unit: f64,
}

/// What the inputs tell of the error of a layer's output.
pub(super) struct Incoming {
    /// Its mean, by row.
    pub(super) means: Vec<f64>,
    /// Weights for what depends on the inputs, `[row][column]`.
    pub(super) weights: Vec<f64>,
    /// How much of that lowers the error of images that were held out.
    pub(super) share: f64,
}

impl Layer {
    pub(super) fn new(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<Self, QuantiseError> {
        let matrix = graph.matrix(id);
        let encoding = graph.encoding(graph.input(id))?;
        let zero_points = |group: usize| {
            let row = group * matrix.group_rows();
            let zero_point = |column| encoding.zero_point(matrix.input_channel(row, column));
            (0..matrix.columns).map(zero_point).collect()
        };
        let residual = match graph.node(id).inputs.get(1) {
            Some(&input) => {
                let encoding = graph.encoding(input)?;
                (encoding.scale(0), encoding.zero_point(0))
            }
            None => (0.0, 0.0),
        };
        let output = graph.known(id, graph.annotations[id].output, "output scale")?;
        let unit = output.scale / TARGET_PARTS;
        let (relu, ceiling) = match &graph.node(id).operator {
            Operator::Convolution(convolution) => (convolution.relu, convolution.ceiling),
            _ => (false, None),
        };
        Ok(Self {
            columns: matrix.columns,
            group_rows: matrix.group_rows(),
            weights: graph.real_rows(id)?.all(),
            scales: graph.annotations[id].weight_scales.clone(),
            zero_points: (0..matrix.groups).map(zero_points).collect(),
            bias: graph.bias(id).iter().map(|&bias| f64::from(bias)).collect(),
            relu,
            ceiling: ceiling.map_or(f64::INFINITY, |ceiling| f64::from(ceiling) / unit),
            residual,
            unit,
        })
    }

    /// Steps for weights, `[row][column]`.
    pub(super) fn round(&self, weights: &[f64], solved: &[Solved]) -> Vec<i8> {
        let groups = solved.iter().enumerate();
        let group = |(group, solved): (usize, &Solved)| {
            let (first, last) = (group * self.group_rows, (group + 1) * self.group_rows);
            solved.round(&weights[first * self.columns..last * self.columns], &self.scales[first..last])
        };
        groups.flat_map(group).collect()
    }

    /// The float weights less the rounded ones.
    pub(super) fn errors(&self, weights: &[i8]) -> Vec<f64> {
        let rows = self.weights.chunks_exact(self.columns).zip(weights.chunks_exact(self.columns));
        let error = |((real, steps), scale): ((&[f64], &[i8]), &f64)| -> Vec<f64> {
            real.iter().zip(steps).map(|(real, step)| real - f64::from(*step) * scale).collect()
        };
        rows.zip(&self.scales).flat_map(error).collect()
    }

    /// What such weights add to the output of each row on average.
    pub(super) fn means(&self, moments: &LayerMoments, weights: &[f64]) -> Vec<f64> {
        let mut means = Vec::with_capacity(self.scales.len());
        let groups = weights.chunks_exact(self.group_rows * self.columns);
        for ((weights, group), zero_points) in groups.zip(&moments.groups).zip(&self.zero_points) {
            let inputs = group.sums.iter().zip(zero_points).map(|(sum, zero)| sum / moments.samples - zero);
            let inputs: Vec<f64> = inputs.collect();
            let mean =
                |row: &[f64]| row.iter().zip(&inputs).map(|(weight, input)| weight * input).sum::<f64>();
            means.extend(weights.chunks_exact(self.columns).map(mean));
        }
        means
    }

    /// Calls `look` with the outputs of weights without bias, `[sample][row]`, of some samples at a
    /// time, from the inputs of each group.
    fn outputs(
        &self,
        weights: &[f64],
        (inputs, samples): (&[&[i8]], usize),
        mut look: impl FnMut(Range<usize>, &[f64]),
    ) {
        let rows = self.scales.len();
        let columns = self.columns;
        for first in (0..samples).step_by(SAMPLES_AT_ONCE) {
            let range = first..(first + SAMPLES_AT_ONCE).min(samples);
            let mut outputs = vec![0.0; range.len() * rows];
            for (group, (inputs, zero_points)) in inputs.iter().zip(&self.zero_points).enumerate() {
                let weights = &weights[group * self.group_rows * columns..];
                let mut of_group = vec![0.0; range.len() * self.group_rows];
                add_product(
                    &mut of_group,
                    self.group_rows,
                    columns,
                    |k, sample| f64::from(inputs[(first + sample) * columns + k]) - zero_points[k],
                    |k, row| weights[row * columns + k],
                );
                let at = group * self.group_rows;
                let samples = outputs.chunks_exact_mut(rows).zip(of_group.chunks_exact(self.group_rows));
                samples.for_each(|(all, group)| all[at..at + group.len()].copy_from_slice(group));
            }
            look(range, &outputs);
        }
    }

    /// How far an output is from its target, in the target's units. None where the ReLU cuts off
    /// both.
    fn distance(&self, output: f64, residual: Option<&i8>, target: i16) -> Option<f64> {
        let (scale, zero) = self.residual;
        let residual = residual.map_or(0.0, |&step| scale * (f64::from(step) - zero));
        let output = (output + residual) / self.unit;
        if self.relu && output <= 0.0 && target <= 0 {
            return None;
        }
        let output = if self.relu { output.max(0.0).min(self.ceiling) } else { output };
        Some(f64::from(target) - output)
    }

    /// The squared error on the images that were held out.
    pub(super) fn error(
        &self,
        moments: &LayerMoments,
        targets: &Targets,
        weights: &[i8],
        correction: &[f64],
    ) -> f64 {
        let rows = self.scales.len();
        let reals: Vec<f64> = weights
            .chunks_exact(self.columns)
            .zip(&self.scales)
            .flat_map(|(row, scale)| row.iter().map(move |&step| f64::from(step) * scale))
            .collect();
        let inputs: Vec<&[i8]> = moments.groups.iter().map(|group| group.held_out.as_slice()).collect();
        let mut error = 0.0;
        self.outputs(&reals, (&inputs, targets.held_out.len() / rows), |samples, outputs| {
            for (sample, outputs) in samples.zip(outputs.chunks_exact(rows)) {
                for (row, output) in outputs.iter().enumerate() {
                    let at = sample * rows + row;
                    let output = output + self.bias[row] + correction[row];
                    let residual = moments.held_out_residual.get(at);
                    error += self.distance(output, residual, targets.held_out[at]).unwrap_or(0.0).powi(2);
                }
            }
        });
        error
    }

    /// What the inputs tell of the error that the float weights have with them.
    pub(super) fn incoming(&self, moments: &LayerMoments, targets: &Targets, solved: &[Solved]) -> Incoming {
        let (rows, columns) = (self.scales.len(), self.columns);
        let inputs: Vec<&[i8]> = moments.groups.iter().map(|group| group.inputs.as_slice()).collect();
        let mut weights = vec![0.0; rows * columns];
        let (mut sums, mut counts) = (vec![0.0; rows], vec![0.0; rows]);
        self.outputs(&self.weights, (&inputs, targets.used.len() / rows), |samples, outputs| {
            let mut errors = vec![0.0; outputs.len()];
            for (index, (error, output)) in errors.iter_mut().zip(outputs).enumerate() {
                let (at, row) = (samples.start * rows + index, index % rows);
                let (output, residual) = (output + self.bias[row], moments.residual.get(at));
                if let Some(distance) = self.distance(output, residual, targets.used[at]) {
                    // Whole numbers: their sums are exact.
                    *error = distance.round();
                    sums[row] += *error;
                    counts[row] += 1.0;
                }
            }
            let groups = inputs.iter().zip(weights.chunks_exact_mut(self.group_rows * columns));
            for (group, (inputs, weights)) in groups.enumerate() {
                let at = group * self.group_rows;
                add_product(
                    weights,
                    columns,
                    samples.len(),
                    |k, row| errors[k * rows + at + row],
                    |k, column| f64::from(inputs[(samples.start + k) * columns + column]),
                );
            }
        });
        let groups = weights.chunks_exact_mut(self.group_rows * columns);
        for (group, ((weights, of_group), solved)) in groups.zip(&moments.groups).zip(solved).enumerate() {
            let sums = &sums[group * self.group_rows..];
            for (row, sum) in weights.chunks_exact_mut(columns).zip(sums) {
                for (value, input) in row.iter_mut().zip(&of_group.sums) {
                    *value = (*value - sum * input / moments.samples) / moments.samples * self.unit;
                }
            }
            solved.divide(weights);
        }
        let means = sums.iter().zip(&counts).map(|(sum, count)| sum / f64::max(*count, 1.0)).collect();
        let mut incoming = Incoming { means, weights, share: 0.0 };
        self.judge(moments, targets, &mut incoming);
        incoming
    }

    /// Keeps of what the inputs tell as much as is true of the images that were held out.
    fn judge(&self, moments: &LayerMoments, targets: &Targets, incoming: &mut Incoming) {
        let rows = self.scales.len();
        let inputs: Vec<&[i8]> = moments.groups.iter().map(|group| group.held_out.as_slice()).collect();
        let samples = targets.held_out.len() / rows;
        let offsets = self.means(moments, &incoming.weights);
        let mut told = Vec::with_capacity(targets.held_out.len());
        self.outputs(&incoming.weights, (&inputs, samples), |_, outputs| told.extend_from_slice(outputs));
        let mut sums = vec![(0.0, 0.0); rows];
        let (mut together, mut alone) = (0.0, 0.0);
        self.outputs(&self.weights, (&inputs, samples), |samples, outputs| {
            for (index, output) in outputs.iter().enumerate() {
                let (at, row) = (samples.start * rows + index, index % rows);
                let (output, residual) = (output + self.bias[row], moments.held_out_residual.get(at));
                let Some(distance) = self.distance(output, residual, targets.held_out[at]) else { continue };
                let told = (told[at] - offsets[row]) / self.unit;
                together += told * (distance - incoming.means[row]);
                alone += told * told;
                sums[row].0 += distance;
                sums[row].1 += 1.0;
            }
        });
        if alone > 0.0 {
            incoming.share = (together / alone).clamp(0.0, 1.0);
        }
        for (mean, (sum, count)) in incoming.means.iter_mut().zip(sums) {
            let held_out = sum / f64::max(count, 1.0);
            // Taking the mean off helps where the other images' is nearer to it than to zero.
            if (held_out - *mean).abs() >= held_out.abs() {
                *mean = 0.0;
            }
            *mean *= self.unit;
        }
    }
}
