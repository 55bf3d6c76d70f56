//! Rounds weights so that a layer's output is closest to f32, by the second moments of its inputs.
//!
//! With `H` the covariance of a layer's inputs and `e` the error of a row of weights, the layer's
//! output changes by `e * H * transpose(e)` on average; what changes its mean goes into the bias.
//! The weights are rounded one column after the other, and each one's error is moved to the
//! columns that are left (Frantar et al., "GPTQ", 2023). With `H = L * transpose(L)` that is
//! Babai's nearest plane: column `i`, from the last to the first, is the nearest step to
//! `w[i] + sum(L[j][i] * e[j] for j > i) / L[i][i]`, so no inverse is needed.
//!
//! The inputs are those of the int8 network, whose earlier layers are final: they are not what f32
//! has there. What of the output's error the inputs tell is taken out first: its mean by the bias,
//! and as much of what depends linearly on the inputs (`cov(error, input) * inverse(H)`) as lowers
//! the error of images that were held out.
//!
//! On those images a layer's output must be closer to f32 than with the nearest steps; else those
//! stay.

use std::ops::Range;

use rayon::prelude::*;

use super::{fold, round};
use crate::graph::{NodeId, Operator};
use crate::quantise::calibrate::Calibration;
use crate::quantise::cholesky::factorise;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::moments::{LayerMoments, Plan, TARGET_PARTS, Targets, targets};
use crate::quantise::product::{Panels, TILE_COLUMNS, TILE_ROWS, add_product, add_tiles};
use crate::quantise::walk::{Walk, images};

/// What is added to the diagonal of the covariance, in parts of its mean.
const DAMPING: f64 = 0.01;
/// Elements of the moments of a layer that is rounded by them; 1 GB.
const LARGEST_ELEMENTS: usize = 128 << 20;
/// Samples whose outputs are computed at a time.
const SAMPLES_AT_ONCE: usize = 1024;
/// Rows that are rounded by one task.
const ROWS_AT_ONCE: usize = 8 * TILE_ROWS;
/// Columns that are rounded before their errors are moved to all others.
const BLOCK: usize = 128;
/// Less of what the inputs tell of the error is not worth another round.
const LEAST_SHARE: f64 = 0.02;

/// Replaces `weights`, `bias_correction` and `folded` of the convolutions where that helps.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let images = images(graph.float, calibration);
    let fits = |&id: &NodeId| {
        let matrix = graph.matrix(id);
        // A flattened image of 25,088 values would take 5 GB.
        let fits = matrix.columns * matrix.columns * matrix.groups <= LARGEST_ELEMENTS;
        if !fits {
            log::info!("{}: too wide to be rounded by its moments", graph.annotations[id].name);
        }
        fits
    };
    let plans = graph
        .layers()
        .filter(fits)
        .map(|id| Plan::new(graph, id, images.len()))
        .filter_map(Result::transpose)
        .collect::<Result<Vec<Plan>, _>>()?;
    let all = targets(graph, calibration, &plans, &images)?;
    if all.iter().any(|targets| targets.held_out.is_empty()) {
        return Ok(());
    }
    let mut walk = Walk::new(graph, calibration, &images)?;
    let total = plans.len();
    for (done, (plan, targets)) in plans.iter().zip(all).enumerate() {
        (calibration.progress)("rounding", done, total);
        walk.advance(graph, &graph.node(plan.id).inputs)?;
        let moments = plan.gather(graph, &walk)?;
        layer(graph, moments, &targets)?;
    }
    (calibration.progress)("rounding", total, total);
    Ok(())
}

/// A way to round a layer.
struct Choice {
    weights: Vec<i8>,
    correction: Vec<f64>,
    name: &'static str,
    error: f64,
}

/// Rounds a layer again, and keeps the result where it is better.
fn layer(
    graph: &mut QuantisationGraph<'_>,
    mut moments: LayerMoments,
    targets: &Targets,
) -> Result<(), QuantiseError> {
    let id = moments.id;
    let layer = Layer::new(graph, id)?;
    let solved: Option<Vec<Solved>> = moments
        .groups
        .iter_mut()
        .map(|group| Solved::new(std::mem::take(&mut group.products), &group.sums, moments.samples))
        .collect();
    let Some(solved) = solved else { return Ok(()) };
    let incoming = layer.incoming(&moments, targets, &solved);
    let annotation = &graph.annotations[id];
    let mut choices = vec![];
    let mut choose = |name: &'static str, weights: Vec<i8>, correction: Option<Vec<f64>>| {
        let correction = correction.unwrap_or_else(|| {
            let means = layer.means(&moments, &layer.errors(&weights));
            means.iter().zip(&incoming.means).map(|(own, incoming)| own + incoming).collect()
        });
        let error = layer.error(&moments, targets, &weights, &correction);
        choices.push(Choice { weights, correction, name, error });
    };
    choose("nearest", annotation.weights.clone(), Some(annotation.bias_correction.clone()));
    choose("nearest with the mean", annotation.weights.clone(), None);
    choose("second order", layer.round(&layer.weights, &solved), None);
    if incoming.share > LEAST_SHARE {
        let all = layer.weights.iter().zip(&incoming.weights);
        let weights: Vec<f64> = all.map(|(weight, more)| weight + incoming.share * more).collect();
        choose("second order of what comes in", layer.round(&weights, &solved), None);
    }
    let gain = |choice: &Choice| {
        format!("{} {:.2} dB", choice.name, 10.0 * (choices[0].error / choice.error).log10())
    };
    log::debug!(
        "{}: share {:.3}, {}",
        annotation.name,
        incoming.share,
        choices.iter().map(gain).collect::<Vec<_>>().join(", ")
    );
    choices.sort_by(|a, b| a.error.total_cmp(&b.error));
    let output = graph.known(id, annotation.output, "output scale")?;
    for Choice { weights, correction, .. } in choices {
        let scales = &graph.annotations[id].weight_scales;
        let folded = fold::convolution(graph, id, &output, scales, &weights, &correction)?;
        // A row whose weights are rounded away from zero may just not fit any more.
        let Some(folded) = folded else { continue };
        let annotation = &mut graph.annotations[id];
        annotation.weights = weights;
        annotation.bias_correction = correction;
        annotation.folded = Some(folded);
        break;
    }
    Ok(())
}

/// A layer in float, in steps of its input.
struct Layer {
    columns: usize,
    group_rows: usize,
    weights: Vec<f64>,
    scales: Vec<f64>,
    /// Zero point of each column, by group.
    zero_points: Vec<Vec<f64>>,
    bias: Vec<f64>,
    relu: bool,
    /// What larger outputs become, in the target's units.
    ceiling: f64,
    /// Scale and zero point of what is added.
    residual: (f64, f64),
    /// What a unit of the targets is worth.
    unit: f64,
}

/// What the inputs tell of the error of a layer's output.
struct Incoming {
    /// Its mean, by row.
    means: Vec<f64>,
    /// Weights for what depends on the inputs, `[row][column]`.
    weights: Vec<f64>,
    /// How much of that lowers the error of images that were held out.
    share: f64,
}

/// What rounding a group needs.
struct Solved {
    /// The factor of the damped covariance, in the order of `order`.
    factor: Vec<f64>,
    /// Columns from the last to be rounded to the first.
    order: Vec<usize>,
}

impl Solved {
    /// Factorises the damped covariance. `None` where it is not positive definite.
    fn new(products: Vec<f64>, sums: &[f64], samples: f64) -> Option<Self> {
        let columns = sums.len();
        let covariance = |row: usize, column: usize| {
            let product = products[row.max(column) * columns + row.min(column)];
            (product - sums[row] * sums[column] / samples) / samples
        };
        let variances: Vec<f64> = (0..columns).map(|column| covariance(column, column)).collect();
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| variances[a].total_cmp(&variances[b]).then(a.cmp(&b)));
        let mean = variances.iter().sum::<f64>() / columns as f64;
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        let mut factor = vec![0.0; columns * columns];
        factor.par_chunks_mut(columns).enumerate().for_each(|(row, line)| {
            for (column, value) in line[..=row].iter_mut().enumerate() {
                *value = covariance(order[row], order[column]);
            }
            line[row] += damping;
        });
        drop(products);
        factorise(&mut factor, columns).then_some(Self { factor, order })
    }

    /// `rows * inverse(H)`, in the columns' own order.
    fn divide(&self, rows: &mut [f64]) {
        let columns = self.order.len();
        let tasks = ROWS_AT_ONCE * columns;
        rows.par_chunks_mut(columns).for_each(|row| {
            let ordered: Vec<f64> = self.order.iter().map(|&column| row[column]).collect();
            row.copy_from_slice(&ordered);
        });
        for start in (0..columns).step_by(BLOCK) {
            let end = (start + BLOCK).min(columns);
            let factor = |k: usize, column: usize| self.factor[(end + column) * columns + start + k];
            let factors = Panels::new(end - start, columns - end, TILE_COLUMNS, factor);
            rows.par_chunks_mut(tasks).for_each(|rows| {
                for row in rows.chunks_exact_mut(columns) {
                    for at in start..end {
                        let line = &self.factor[at * columns..=at * columns + at];
                        let known = line[start..at].iter().zip(&row[start..at]);
                        let known: f64 = known.map(|(factor, value)| factor * value).sum();
                        row[at] = (row[at] - known) / line[at];
                    }
                }
                take_off(rows, columns, start..end, (end..columns, &factors));
            });
        }
        for start in (0..columns).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(columns);
            let factor = |k: usize, column: usize| self.factor[(start + k) * columns + column];
            let factors = Panels::new(end - start, start, TILE_COLUMNS, factor);
            rows.par_chunks_mut(tasks).for_each(|rows| {
                for row in rows.chunks_exact_mut(columns) {
                    for at in (start..end).rev() {
                        let line = &self.factor[at * columns..=at * columns + at];
                        row[at] /= line[at];
                        let value = row[at];
                        let rest = row[start..at].iter_mut().zip(&line[start..]);
                        rest.for_each(|(rest, factor)| *rest -= value * factor);
                    }
                }
                take_off(rows, columns, start..end, (0..start, &factors));
            });
        }
        rows.par_chunks_mut(columns).for_each(|row| {
            let ordered = row.to_vec();
            self.order.iter().zip(ordered).for_each(|(&column, value)| row[column] = value);
        });
    }
}

/// Takes `rows[..][block] * factors` off other columns.
fn take_off(
    rows: &mut [f64],
    columns: usize,
    block: Range<usize>,
    (others, factors): (Range<usize>, &Panels),
) {
    let left = Panels::new(block.len(), rows.len() / columns, TILE_ROWS, |k, row| {
        -rows[row * columns + block.start + k]
    });
    add_tiles(rows, columns, others, (&left, 0), factors);
}

/// Some rows of a group while they are rounded.
struct Rows {
    first: usize,
    columns: usize,
    /// `[row][column]`.
    weights: Vec<i8>,
    /// What the errors of columns that are done add to the others, `[row][place in the order]`.
    moved: Vec<f64>,
}

impl Rows {
    fn new(first: usize, count: usize, columns: usize) -> Self {
        Self { first, columns, weights: vec![0; count * columns], moved: vec![0.0; count * columns] }
    }

    /// Rounds the columns of a block, from the last to the first. Gives their errors,
    /// `[row][column of the block]`.
    fn round(&mut self, (reals, scales): (&[f64], &[f64]), solved: &Solved, block: Range<usize>) -> Vec<f64> {
        let columns = self.columns;
        let mut errors = Vec::with_capacity(self.weights.len() / columns * block.len());
        let rows = self.weights.chunks_exact_mut(columns).zip(self.moved.chunks_exact_mut(columns));
        for (row, (weights, moved)) in rows.enumerate() {
            let reals = &reals[(self.first + row) * columns..];
            let scale = scales[self.first + row];
            let at = errors.len();
            errors.resize(at + block.len(), 0.0);
            for index in block.clone().rev() {
                let line = &solved.factor[index * columns..=index * columns + index];
                let column = solved.order[index];
                let step = round::step(reals[column] + moved[index] / line[index], scale);
                weights[column] = step;
                let error = reals[column] - f64::from(step) * scale;
                errors[at + index - block.start] = error;
                for (moved, factor) in moved[block.start..index].iter_mut().zip(&line[block.start..]) {
                    *moved += error * factor;
                }
            }
        }
        errors
    }

    /// Adds what the errors of a block, which starts at `start`, add to the columns before it.
    fn move_errors(&mut self, errors: &[f64], factors: &Panels, start: usize) {
        let count = self.weights.len() / self.columns;
        let depth = errors.len() / count;
        let left = Panels::new(depth, count, TILE_ROWS, |k, row| errors[row * depth + k]);
        add_tiles(&mut self.moved, self.columns, 0..start, (&left, 0), factors);
    }
}

impl Layer {
    fn new(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<Self, QuantiseError> {
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
            weights: graph.real_weights(id)?,
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
    fn round(&self, weights: &[f64], solved: &[Solved]) -> Vec<i8> {
        let groups = solved.iter().enumerate();
        groups.flat_map(|(group, solved)| self.round_group(weights, group, solved)).collect()
    }

    /// Steps for the weights of a group, `[row of the group][column]`.
    ///
    /// What an error adds to the columns of its own block is added at once, what all errors of a
    /// block add to those before it when the block is done.
    fn round_group(&self, weights: &[f64], group: usize, solved: &Solved) -> Vec<i8> {
        let columns = self.columns;
        let first = group * self.group_rows;
        let mut rows: Vec<Rows> = (0..self.group_rows)
            .step_by(ROWS_AT_ONCE)
            .map(|row| Rows::new(first + row, ROWS_AT_ONCE.min(self.group_rows - row), columns))
            .collect();
        for start in (0..columns).step_by(BLOCK).rev() {
            let block = start..(start + BLOCK).min(columns);
            let factor = |k: usize, column: usize| solved.factor[(start + k) * columns + column];
            let factors = Panels::new(block.len(), start, TILE_COLUMNS, factor);
            rows.par_iter_mut().for_each(|rows| {
                let errors = rows.round((weights, &self.scales), solved, block.clone());
                rows.move_errors(&errors, &factors, start);
            });
        }
        rows.into_iter().flat_map(|rows| rows.weights).collect()
    }

    /// The float weights less the rounded ones.
    fn errors(&self, weights: &[i8]) -> Vec<f64> {
        let rows = self.weights.chunks_exact(self.columns).zip(weights.chunks_exact(self.columns));
        let error = |((real, steps), scale): ((&[f64], &[i8]), &f64)| -> Vec<f64> {
            real.iter().zip(steps).map(|(real, step)| real - f64::from(*step) * scale).collect()
        };
        rows.zip(&self.scales).flat_map(error).collect()
    }

    /// What such weights add to the output of each row on average.
    fn means(&self, moments: &LayerMoments, weights: &[f64]) -> Vec<f64> {
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
    fn error(&self, moments: &LayerMoments, targets: &Targets, weights: &[i8], correction: &[f64]) -> f64 {
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
    fn incoming(&self, moments: &LayerMoments, targets: &Targets, solved: &[Solved]) -> Incoming {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::moments::GroupMoments;

    const COLUMNS: usize = 12;
    const ROWS: usize = 10;

    /// Small whole numbers that follow no pattern (the finaliser of SplitMix64).
    fn number(seed: usize) -> f64 {
        let mut bits = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % 199) as f64 - 99.0
    }

    fn layer() -> Layer {
        Layer {
            columns: COLUMNS,
            group_rows: ROWS,
            weights: (0..ROWS * COLUMNS).map(|at| number(at) / 10.0).collect(),
            scales: vec![1.0; ROWS],
            zero_points: vec![vec![0.0; COLUMNS]],
            bias: vec![0.0; ROWS],
            relu: false,
            ceiling: f64::INFINITY,
            residual: (0.0, 0.0),
            unit: 1.0,
        }
    }

    /// Inputs that share what `shared` says of their size.
    fn inputs(shared: f64, from: usize) -> Vec<i8> {
        let sample = |n: usize| {
            (0..COLUMNS).map(move |column| {
                let own = number(1_000_000 + n * COLUMNS + column);
                (shared * number(1000 + n) + (1.0 - shared) * own) as i8
            })
        };
        (from..from + 400).flat_map(sample).collect()
    }

    fn moments(used: Vec<i8>, held_out: Vec<i8>) -> LayerMoments {
        let groups = vec![GroupMoments::new(COLUMNS, used, held_out)];
        LayerMoments { id: 0, samples: 400.0, groups, residual: vec![], held_out_residual: vec![] }
    }

    /// What f32 gives where its inputs are those of the int8 network, and what is `missing` there.
    fn targets(layer: &Layer, moments: &LayerMoments, missing: impl Fn(&[i8], usize) -> f64) -> Targets {
        let target = |inputs: &[i8], row: usize| {
            let weights = &layer.weights[row * COLUMNS..(row + 1) * COLUMNS];
            let sum: f64 = weights.iter().zip(inputs).map(|(w, &q)| w * f64::from(q)).sum();
            ((sum + missing(inputs, row)) / layer.unit).round() as i16
        };
        let all = |inputs: &[i8]| -> Vec<i16> {
            let samples = inputs.chunks_exact(COLUMNS);
            samples.flat_map(|inputs| (0..ROWS).map(|row| target(inputs, row)).collect::<Vec<_>>()).collect()
        };
        let group = &moments.groups[0];
        Targets { used: all(&group.inputs), held_out: all(&group.held_out) }
    }

    fn solved(moments: &LayerMoments) -> Vec<Solved> {
        let group = &moments.groups[0];
        vec![Solved::new(group.products.clone(), &group.sums, moments.samples).unwrap()]
    }

    /// Decibel that weights gain over the nearest ones.
    fn gain(layer: &Layer, moments: &LayerMoments, targets: &Targets, weights: &[i8], add: &[f64]) -> f64 {
        let nearest = round::nearest(&layer.weights, &layer.scales);
        let error = |weights: &[i8], add: &[f64]| {
            let own = layer.means(moments, &layer.errors(weights));
            let correction: Vec<f64> = own.iter().zip(add).map(|(own, add)| own + add).collect();
            layer.error(moments, targets, weights, &correction)
        };
        10.0 * (error(&nearest, &[0.0; ROWS]) / error(weights, add)).log10()
    }

    #[test]
    fn inputs_that_share_much_are_rounded_together() {
        let (layer, moments) = (layer(), moments(inputs(0.8, 0), inputs(0.8, 400)));
        let weights = layer.round(&layer.weights, &solved(&moments));
        let gain = gain(&layer, &moments, &targets(&layer, &moments, |_, _| 0.0), &weights, &[0.0; ROWS]);
        assert!(gain > 3.0, "{gain} dB");
        assert!(weights.iter().all(|weight| (-127..=127).contains(weight)));
        // No weight is further than some steps from where it was.
        for (weight, step) in layer.weights.iter().zip(&weights) {
            assert!((weight - f64::from(*step)).abs() < 4.0, "{weight} {step}");
        }
    }

    #[test]
    fn what_comes_in_wrong_is_made_good() {
        let (layer, moments) = (layer(), moments(inputs(0.3, 0), inputs(0.3, 400)));
        // Every row lacks a constant and some of two inputs.
        let missing = |inputs: &[i8], row: usize| {
            20.0 + row as f64 + 3.0 * f64::from(inputs[row]) - 2.0 * f64::from(inputs[row + 1])
        };
        let targets = targets(&layer, &moments, missing);
        let incoming = layer.incoming(&moments, &targets, &solved(&moments));
        assert!(incoming.share > 0.95, "{}", incoming.share);
        for row in 0..ROWS {
            let found = &incoming.weights[row * COLUMNS..(row + 1) * COLUMNS];
            assert!((found[row] - 3.0).abs() < 0.2 && (found[row + 1] + 2.0).abs() < 0.2, "{row}: {found:?}");
        }
        let all = layer.weights.iter().zip(&incoming.weights);
        let weights: Vec<f64> = all.map(|(weight, more)| weight + incoming.share * more).collect();
        let weights = layer.round(&weights, &solved(&moments));
        let gain = gain(&layer, &moments, &targets, &weights, &incoming.means);
        assert!(gain > 10.0, "{gain} dB");
    }

    #[test]
    fn what_is_luck_is_left_alone() {
        let (layer, moments) = (layer(), moments(inputs(0.3, 0), inputs(0.3, 400)));
        let noise = |inputs: &[i8], row: usize| {
            let bytes = inputs.iter().map(|&q| (i32::from(q) + 128) as usize);
            number(bytes.fold(row, |seed, byte| seed.wrapping_mul(257).wrapping_add(byte)))
        };
        let targets = targets(&layer, &moments, noise);
        let incoming = layer.incoming(&moments, &targets, &solved(&moments));
        assert!(incoming.share < 0.3, "{}", incoming.share);
    }

    #[test]
    fn dividing_by_the_moments_undoes_multiplying() {
        let moments = moments(inputs(0.5, 0), inputs(0.5, 400));
        let solved = &solved(&moments)[0];
        let row: Vec<f64> = (0..COLUMNS).map(number).collect();
        // In the order of the factor: row * L * transpose(L).
        let ordered: Vec<f64> = solved.order.iter().map(|&column| row[column]).collect();
        let line = |at: usize| &solved.factor[at * COLUMNS..=at * COLUMNS + at];
        let half: Vec<f64> =
            (0..COLUMNS).map(|k| (k..COLUMNS).map(|at| ordered[at] * line(at)[k]).sum()).collect();
        let mut product = vec![0.0; COLUMNS];
        for (at, &column) in solved.order.iter().enumerate() {
            product[column] = line(at).iter().zip(&half).map(|(factor, half)| factor * half).sum();
        }
        solved.divide(&mut product);
        for (found, expected) in product.iter().zip(&row) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn inputs_that_share_nothing_are_rounded_to_the_nearest() {
        let layer = layer();
        let mut products = vec![0.0; COLUMNS * COLUMNS];
        (0..COLUMNS).for_each(|column| products[column * COLUMNS + column] = 1.0 + column as f64);
        let solved = vec![Solved::new(products, &[0.0; COLUMNS], 1.0).unwrap()];
        assert_eq!(layer.round(&layer.weights, &solved), round::nearest(&layer.weights, &layer.scales));
    }

    #[test]
    fn the_columns_that_vary_most_come_first() {
        let mut products = vec![0.0; 9];
        for (at, variance) in [(0, 5.0), (1, 1.0), (2, 9.0)] {
            products[at * 3 + at] = variance;
        }
        let solved = Solved::new(products, &[0.0; 3], 1.0).unwrap();
        assert_eq!(solved.order, [1, 0, 2]);
    }

    #[test]
    fn inputs_that_never_change_go_into_the_bias() {
        let (layer, moments) = (layer(), moments(vec![5; 400 * COLUMNS], vec![5; 400 * COLUMNS]));
        let weights = layer.round(&layer.weights, &solved(&moments));
        assert_eq!(weights, round::nearest(&layer.weights, &layer.scales));
        let means = layer.means(&moments, &layer.errors(&weights));
        let first: f64 = (0..COLUMNS).map(|at| (layer.weights[at] - f64::from(weights[at])) * 5.0).sum();
        assert!((means[0] - first).abs() < 1e-9);
        // What is left is the rounding of the targets.
        let targets = targets(&layer, &moments, |_, _| 0.0);
        let error = layer.error(&moments, &targets, &weights, &means);
        assert!(error <= 0.25 * (400 * ROWS) as f64, "{error}");
    }
}
