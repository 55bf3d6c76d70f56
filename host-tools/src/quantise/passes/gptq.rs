//! Rounds weights so that a layer's output changes least, by the second moments of its inputs.
//!
//! With `H` the covariance of a layer's inputs and `e` the error of a row of weights, the layer's
//! output changes by `e * H * transpose(e)` on average; what changes its mean goes into the bias.
//! The weights are rounded one column after the other, and each one's error is moved to the
//! columns that are left (Frantar et al., "GPTQ", 2023). With `H = L * transpose(L)` that is
//! Babai's nearest plane: column `i`, from the last to the first, is the nearest step to
//! `w[i] + sum(L[j][i] * e[j] for j > i) / L[i][i]`, so no inverse is needed.
//!
//! The inputs are those of the int8 network so far. On inputs of images that were held out, a
//! layer's output must be closer to what its float weights give than with the nearest steps;
//! else those stay.

use std::sync::atomic::AtomicUsize;

use rayon::prelude::*;
use resight_runtime::Target;

use super::{fold, round};
use crate::graph::{NodeId, Operator};
use crate::quantise::calibrate::Calibration;
use crate::quantise::cholesky::factorise;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::lower::lower;
use crate::quantise::moments::{GroupMoments, LayerMoments, gather, matrix};

/// What is added to the diagonal of the covariance, in parts of its mean.
const DAMPING: f64 = 0.01;
/// Elements of the moments that are gathered at a time: 48 million are 384 MB.
const ELEMENTS_AT_ONCE: usize = 48 << 20;
/// Elements of the moments of a layer that is rounded by them; 1 GB.
const LARGEST_ELEMENTS: usize = 128 << 20;
/// Samples that were held out whose outputs are computed at a time.
const HELD_OUT_AT_ONCE: usize = 256;
/// Rows that are rounded while a line of the factor is in the cache.
const ROWS_AT_ONCE: usize = 8;

/// Replaces `weights`, `bias_correction` and `folded` of the convolutions where that helps.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let target = Target::of_this_machine()?;
    let stages = stages(graph);
    let total = stages.len() * calibration.images.len();
    let done = AtomicUsize::new(0);
    for layers in stages {
        let model = lower(graph)?;
        let moments = gather(graph, calibration, (&model, &target), &layers, (&done, total))?;
        for moments in moments {
            layer(graph, moments)?;
        }
    }
    Ok(())
}

/// The convolutions in runs whose moments fit in memory.
fn stages(graph: &QuantisationGraph<'_>) -> Vec<Vec<NodeId>> {
    let mut stages: Vec<Vec<NodeId>> = vec![];
    let mut elements = 0;
    for id in graph.layers().filter(|&id| matches!(graph.node(id).operator, Operator::Convolution(_))) {
        let matrix = graph.matrix(id);
        let more = matrix.columns * matrix.columns * matrix.groups;
        // A flattened image of 25,088 values would take 5 GB.
        if more > LARGEST_ELEMENTS {
            log::info!("{}: too wide to be rounded by its moments", graph.annotations[id].name);
            continue;
        }
        match stages.last_mut() {
            Some(stage) if elements + more <= ELEMENTS_AT_ONCE => {
                stage.push(id);
                elements += more;
            }
            _ => {
                stages.push(vec![id]);
                elements = more;
            }
        }
    }
    stages
}

/// Rounds a layer again, and keeps the result where it is better.
fn layer(graph: &mut QuantisationGraph<'_>, mut moments: LayerMoments) -> Result<(), QuantiseError> {
    let id = moments.id;
    if moments.groups.iter().any(|group| group.held_out.is_empty()) {
        return Ok(());
    }
    let layer = Layer::new(graph, id)?;
    let solved: Option<Vec<Solved>> = moments
        .groups
        .iter_mut()
        .map(|group| Solved::new(std::mem::take(&mut group.products), &group.sums, moments.samples))
        .collect();
    let Some(solved) = solved else { return Ok(()) };
    let weights: Vec<i8> =
        solved.iter().enumerate().flat_map(|(group, solved)| layer.round(group, solved)).collect();
    drop(solved);
    let annotation = &graph.annotations[id];
    let nearest = layer.change(&moments, &annotation.weights);
    let change = layer.change(&moments, &weights);
    log::debug!(
        "{}: rounding changes {:.3e}, to the nearest {:.3e}",
        annotation.name,
        change.held_out,
        nearest.held_out
    );
    if change.held_out >= nearest.held_out {
        return Ok(());
    }
    let output = graph.known(id, annotation.output, "output scale")?;
    let folded = fold::convolution(graph, id, &output, &annotation.weight_scales, &weights, &change.means)?;
    // A row whose weights are rounded away from zero may just not fit any more.
    let Some(folded) = folded else { return Ok(()) };
    let annotation = &mut graph.annotations[id];
    annotation.weights = weights;
    annotation.bias_correction = change.means;
    annotation.folded = Some(folded);
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
}

/// What rounding changes.
struct Change {
    /// By how much each row's output becomes smaller on average.
    means: Vec<f64>,
    /// Sum of the squares of what else changes, over the samples that were held out.
    held_out: f64,
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
        Ok(Self {
            columns: matrix.columns,
            group_rows: matrix.group_rows(),
            weights: graph.real_weights(id)?,
            scales: graph.annotations[id].weight_scales.clone(),
            zero_points: (0..matrix.groups).map(zero_points).collect(),
        })
    }

    /// The weights of a group, `[row of the group][column]`.
    fn round(&self, group: usize, solved: &Solved) -> Vec<i8> {
        let columns = self.columns;
        let first = group * self.group_rows;
        let mut weights = vec![0i8; self.group_rows * columns];
        weights.par_chunks_mut(ROWS_AT_ONCE * columns).enumerate().for_each(|(chunk, weights)| {
            let first = first + chunk * ROWS_AT_ONCE;
            let rows = weights.len() / columns;
            let mut moved = vec![0.0; rows * columns];
            for (index, line) in solved.factor.chunks_exact(columns).enumerate().rev() {
                let column = solved.order[index];
                for row in 0..rows {
                    let weight = self.weights[(first + row) * columns + column];
                    let scale = self.scales[first + row];
                    let moved = &mut moved[row * columns..=row * columns + index];
                    let step = round::step(weight + moved[index] / line[index], scale);
                    weights[row * columns + column] = step;
                    let error = weight - f64::from(step) * scale;
                    for (moved, factor) in moved[..index].iter_mut().zip(line) {
                        *moved += error * factor;
                    }
                }
            }
        });
        weights
    }

    /// What rounded weights change: on average over all samples, and beyond that over those that
    /// were held out.
    fn change(&self, moments: &LayerMoments, weights: &[i8]) -> Change {
        let mut change = Change { means: vec![], held_out: 0.0 };
        for (group, (of_group, zero_points)) in moments.groups.iter().zip(&self.zero_points).enumerate() {
            let rows = group * self.group_rows..(group + 1) * self.group_rows;
            let errors = self.errors(rows, weights);
            let means = self.means(of_group, zero_points, &errors, moments.samples);
            // A few samples at a time: their inputs are eight times as large in f64.
            for inputs in of_group.held_out.chunks(HELD_OUT_AT_ONCE * self.columns) {
                let inputs: Vec<f64> = inputs
                    .chunks_exact(self.columns)
                    .flat_map(|patch| patch.iter().zip(zero_points).map(|(&q, zero)| f64::from(q) - zero))
                    .collect();
                let changes = matrix(&errors, self.columns).dot(&matrix(&inputs, self.columns).t());
                let squares = changes.rows().into_iter().zip(&means);
                change.held_out += squares
                    .map(|(row, mean)| row.iter().map(|change| (change - mean).powi(2)).sum::<f64>())
                    .sum::<f64>();
            }
            change.means.extend(means);
        }
        change
    }

    /// The float weights of some rows less the rounded ones.
    fn errors(&self, rows: std::ops::Range<usize>, weights: &[i8]) -> Vec<f64> {
        let mut errors = Vec::with_capacity(rows.len() * self.columns);
        for row in rows {
            let at = row * self.columns..(row + 1) * self.columns;
            let pairs = self.weights[at.clone()].iter().zip(&weights[at]);
            errors.extend(pairs.map(|(weight, &step)| weight - f64::from(step) * self.scales[row]));
        }
        errors
    }

    /// What errors of the weights take from the output of each row on average.
    fn means(&self, moments: &GroupMoments, zero_points: &[f64], errors: &[f64], samples: f64) -> Vec<f64> {
        let inputs: Vec<f64> =
            moments.sums.iter().zip(zero_points).map(|(sum, zero)| sum / samples - zero).collect();
        let mean = |errors: &[f64]| errors.iter().zip(&inputs).map(|(error, input)| error * input).sum();
        errors.chunks_exact(self.columns).map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: usize = 12;
    const ROWS: usize = 10;

    /// Small whole numbers that follow no pattern.
    fn number(seed: usize) -> f64 {
        ((seed * 7919 + 13) * 104_729 % 199) as f64 - 99.0
    }

    fn layer() -> Layer {
        Layer {
            columns: COLUMNS,
            group_rows: ROWS,
            weights: (0..ROWS * COLUMNS).map(|at| number(at) / 10.0).collect(),
            scales: vec![1.0; ROWS],
            zero_points: vec![vec![0.0; COLUMNS]],
        }
    }

    /// Moments of inputs that share what `shared` says of their size.
    fn moments(shared: f64) -> LayerMoments {
        let inputs = |from: usize| -> Vec<i8> {
            let sample = |n: usize| {
                (0..COLUMNS).map(move |column| {
                    (shared * number(1000 + n) + (1.0 - shared) * number(n * COLUMNS + column)) as i8
                })
            };
            (from..from + 400).flat_map(sample).collect()
        };
        let mut group = GroupMoments {
            products: vec![0.0; COLUMNS * COLUMNS],
            sums: vec![0.0; COLUMNS],
            held_out: inputs(400),
        };
        group.add(&inputs(0));
        LayerMoments { id: 0, samples: 400.0, groups: vec![group] }
    }

    fn solved(moments: &LayerMoments) -> Solved {
        let group = &moments.groups[0];
        Solved::new(group.products.clone(), &group.sums, moments.samples).unwrap()
    }

    #[test]
    fn inputs_that_share_much_are_rounded_together() {
        let (layer, moments) = (layer(), moments(0.8));
        let nearest = layer.change(&moments, &round::nearest(&layer.weights, &layer.scales));
        let weights = layer.round(0, &solved(&moments));
        let change = layer.change(&moments, &weights);
        let gain = 10.0 * (nearest.held_out / change.held_out).log10();
        assert!(gain > 3.0, "{gain} dB");
        assert!(weights.iter().all(|weight| (-127..=127).contains(weight)));
        // No weight is further than some steps from where it was.
        for (weight, step) in layer.weights.iter().zip(&weights) {
            assert!((weight - f64::from(*step)).abs() < 4.0, "{weight} {step}");
        }
    }

    #[test]
    fn inputs_that_share_nothing_are_rounded_to_the_nearest() {
        let layer = layer();
        let mut products = vec![0.0; COLUMNS * COLUMNS];
        (0..COLUMNS).for_each(|column| products[column * COLUMNS + column] = 1.0 + column as f64);
        let solved = Solved::new(products, &[0.0; COLUMNS], 1.0).unwrap();
        assert_eq!(layer.round(0, &solved), round::nearest(&layer.weights, &layer.scales));
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
        let layer = layer();
        let mut moments = moments(0.0);
        let group = &mut moments.groups[0];
        group.products.fill(400.0 * 25.0);
        group.sums.fill(400.0 * 5.0);
        group.held_out.fill(5);
        let weights = layer.round(0, &solved(&moments));
        assert_eq!(weights, round::nearest(&layer.weights, &layer.scales));
        let change = layer.change(&moments, &weights);
        assert!(change.held_out < 1e-9, "{}", change.held_out);
        let first: f64 = (0..COLUMNS).map(|at| (layer.weights[at] - f64::from(weights[at])) * 5.0).sum();
        assert!((change.means[0] - first).abs() < 1e-9);
    }
}
