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

mod layer;
mod solved;

use self::layer::Layer;
use self::solved::Solved;
use super::fold;
use crate::graph::NodeId;
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::moments::{LayerMoments, Plan, Targets, targets};
use crate::quantise::walk::{Walk, images};

/// Elements of the moments of a layer that is rounded by them; 1 GB.
const LARGEST_ELEMENTS: usize = 128 << 20;
/// With fewer samples for each input of a layer its moments are not trusted.
const LEAST_SAMPLES_PER_COLUMN: usize = 2;
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
    let plans: Vec<Plan> = plans.into_iter().filter(|plan| says_enough(graph, plan)).collect();
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

/// Whether there are enough samples for the moments to be the layer's and not the pictures' own.
/// With fewer, a layer's error on pictures that are held out does not fall (below 0.02 dB in the last
/// stage of ResNet-18), but the largest moments are those that take half of the time.
fn says_enough(graph: &QuantisationGraph<'_>, plan: &Plan) -> bool {
    let (samples, columns) = (plan.samples(), graph.matrix(plan.id).columns);
    let enough = samples >= LEAST_SAMPLES_PER_COLUMN * columns;
    if !enough {
        log::debug!("{}: {samples} samples of {columns} inputs are too few", graph.annotations[plan.id].name);
    }
    enough
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
    choose("nearest", annotation.weights.to_vec(), Some(annotation.bias_correction.clone()));
    choose("nearest with the mean", annotation.weights.to_vec(), None);
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
        graph.set_weights(id, &weights)?;
        let annotation = &mut graph.annotations[id];
        annotation.bias_correction = correction;
        annotation.folded = Some(folded);
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::moments::GroupMoments;
    use crate::quantise::passes::round;

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
