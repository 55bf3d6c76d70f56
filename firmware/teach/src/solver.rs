//! Multinomial logistic regression with L2, the same bits whatever the threads.
//!
//! Minimises `sum_i(w_i * -log p(y_i | x_i)) / sum_i(w_i) + strength / 2 * |W|^2` over the weights `W`
//! of centred, scaled features and the biases (which are not held back) by L-BFGS with ten pairs
//! (Nocedal and Wright, *Numerical Optimization*, 7.2) and a line search that halves its step. Rows are
//! summed in blocks of a fixed size, blocks in their order.

use rayon::prelude::*;

use crate::features::{Features, Scaling};

/// Rows that are summed together.
const BLOCK: usize = 64;
/// Pairs that the inverse Hessian is approximated by.
const PAIRS: usize = 10;
const ITERATIONS: usize = 300;

/// When a solution is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// For cross-validation: when a step lowers the loss by less than a part in 10 000.
    Tested,
    /// For weights that are kept: a part in 10^9.
    Kept,
}

impl Exactness {
    /// The largest element of the gradient, in parts of a probability, and the smallest gain of a step, in
    /// parts of the loss.
    fn tolerances(self) -> (f64, f64) {
        match self {
            Self::Tested => (1e-4, 1e-4),
            Self::Kept => (1e-5, 1e-9),
        }
    }
}

/// What of a slope a step must keep (Armijo).
const SUFFICIENT: f64 = 1e-4;

/// What is learnt from.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    /// Of all rows.
    pub features: &'a Features,
    /// Which rows are learnt from.
    pub rows: &'a [usize],
    /// The class of each row of `features`.
    pub classes: &'a [usize],
    /// How many classes there are.
    pub count: usize,
    /// How much each class counts.
    pub weights: &'a [f64],
    /// What the features are centred on and divided by.
    pub scaling: &'a Scaling,
}

/// Weights and biases of a linear layer over the features as they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// `[class][feature]`, of scaled features.
    scaled: Vec<f64>,
    /// `[class]`, of scaled features.
    bias: Vec<f64>,
}

impl Weights {
    /// None that speaks for anything.
    pub fn zero(classes: usize, features: usize) -> Self {
        Self { scaled: vec![0.0; classes * features], bias: vec![0.0; classes] }
    }

    /// `[class][feature]` and `[class]` for features that are not scaled.
    pub fn unscaled(&self, scaling: &Scaling) -> (Vec<f64>, Vec<f64>) {
        let columns = scaling.mean.len();
        let mut weights = self.scaled.clone();
        let mut bias = self.bias.clone();
        for (row, bias) in weights.chunks_exact_mut(columns).zip(&mut bias) {
            for (weight, mean) in row.iter_mut().zip(&scaling.mean) {
                *weight /= scaling.deviation;
                *bias -= *weight * mean;
            }
        }
        (weights, bias)
    }

    fn numbers(self) -> Vec<f64> {
        let mut numbers = self.scaled;
        numbers.extend(self.bias);
        numbers
    }

    fn of(mut numbers: Vec<f64>, classes: usize) -> Self {
        let bias = numbers.split_off(numbers.len() - classes);
        Self { scaled: numbers, bias }
    }
}

/// The sum of products, in eight interleaved sums so that the compiler can use vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(target: &mut [f64], factor: f64, source: &[f64]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += factor * source;
    }
}

/// The logits of a row by unscaled weights, into `logits`.
fn logits_of(row: &[f64], weights: &[f64], bias: &[f64], logits: &mut [f64]) {
    let rows = weights.chunks_exact(row.len());
    for ((logit, weights), bias) in logits.iter_mut().zip(rows).zip(bias) {
        *logit = bias + dot(weights, row);
    }
}

/// Turns logits into probabilities, in place; gives the logarithm of the sum of their exponentials.
pub(crate) fn softmax(logits: &mut [f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = libm::exp(*logit - largest);
        sum += *logit;
    }
    for value in logits.iter_mut() {
        *value /= sum;
    }
    largest + libm::log(sum)
}

fn to_f64(row: &[i16], into: &mut [f64]) {
    for (into, &value) in into.iter_mut().zip(row) {
        *into = f64::from(value);
    }
}

impl Examples<'_> {
    fn total_weight(&self) -> f64 {
        self.rows.iter().map(|&row| self.weights[self.classes[row]]).sum()
    }

    /// The loss and its gradient at `numbers`.
    fn evaluate(&self, numbers: &[f64], strength: f64, gradient: &mut [f64]) -> f64 {
        let columns = self.features.columns();
        let size = self.count * columns;
        let at = Weights { scaled: numbers[..size].to_vec(), bias: numbers[size..].to_vec() };
        let (weights, bias) = at.unscaled(self.scaling);
        let block = |rows: &[usize]| {
            let mut partial = vec![0.0; size + self.count];
            let mut loss = 0.0;
            let mut row = vec![0.0; columns];
            let mut logits = vec![0.0; self.count];
            for &index in rows {
                to_f64(self.features.row(index), &mut row);
                logits_of(&row, &weights, &bias, &mut logits);
                let class = self.classes[index];
                let right = logits[class];
                let weight = self.weights[class];
                loss += weight * (softmax(&mut logits) - right);
                logits[class] -= 1.0;
                for (class, error) in logits.iter().enumerate() {
                    let error = error * weight;
                    add_scaled(&mut partial[class * columns..][..columns], error, &row);
                    partial[size + class] += error;
                }
            }
            (loss, partial)
        };
        // A few blocks at a time: their gradients are as large as the weights.
        let mut loss = 0.0;
        gradient.fill(0.0);
        for rows in self.rows.chunks(BLOCK * 16) {
            let blocks: Vec<(f64, Vec<f64>)> = rows.par_chunks(BLOCK).map(block).collect();
            for (partial_loss, partial) in blocks {
                loss += partial_loss;
                add_scaled(gradient, 1.0, &partial);
            }
        }
        let total = self.total_weight();
        for class in 0..self.count {
            let of_bias = gradient[size + class] / total;
            gradient[size + class] = of_bias;
            let scaled = &numbers[class * columns..][..columns];
            let Scaling { mean, deviation } = self.scaling;
            for (column, value) in gradient[class * columns..][..columns].iter_mut().enumerate() {
                *value = (*value / total - of_bias * mean[column]) / deviation + strength * scaled[column];
            }
        }
        loss / total + strength / 2.0 * dot(&numbers[..size], &numbers[..size])
    }

    /// The weights that minimise the loss, from `start` on.
    pub fn solve(&self, strength: f64, exactness: Exactness, start: Weights) -> Weights {
        let (tolerance, least_gain) = exactness.tolerances();
        let mut at = start.numbers();
        let mut gradient = vec![0.0; at.len()];
        let mut loss = self.evaluate(&at, strength, &mut gradient);
        let mut pairs: Vec<(Vec<f64>, Vec<f64>, f64)> = vec![];
        for _ in 0..ITERATIONS {
            let largest = gradient.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            if largest < tolerance {
                break;
            }
            let direction = descent(&gradient, &pairs);
            let slope = dot(&direction, &gradient);
            // At first nothing is known of the curvature.
            let mut step =
                if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1e-12) } else { 1.0 };
            let mut next_gradient = vec![0.0; at.len()];
            let mut found = None;
            for _ in 0..40 {
                let mut next = at.clone();
                add_scaled(&mut next, step, &direction);
                let next_loss = self.evaluate(&next, strength, &mut next_gradient);
                if next_loss <= loss + SUFFICIENT * step * slope {
                    found = Some((next, next_loss));
                    break;
                }
                step /= 2.0;
            }
            let Some((next, next_loss)) = found else { break };
            let moved: Vec<f64> = next.iter().zip(&at).map(|(next, at)| next - at).collect();
            let bent: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(next, at)| next - at).collect();
            let curvature = dot(&moved, &bent);
            if curvature > 1e-14 {
                if pairs.len() == PAIRS {
                    pairs.remove(0);
                }
                pairs.push((moved, bent, 1.0 / curvature));
            }
            let gained = loss - next_loss;
            (at, loss, gradient) = (next, next_loss, next_gradient);
            if gained < least_gain * loss.abs().max(1e-3) {
                break;
            }
        }
        Weights::of(at, self.count)
    }
}

/// Minus the gradient times the approximate inverse Hessian: two loops over the pairs.
fn descent(gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>, f64)]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|value| -value).collect();
    let mut factors = vec![0.0; pairs.len()];
    for (factor, (moved, bent, inverse)) in factors.iter_mut().zip(pairs).rev() {
        *factor = inverse * dot(moved, &direction);
        add_scaled(&mut direction, -*factor, bent);
    }
    if let Some((_, bent, inverse)) = pairs.last() {
        let scale = 1.0 / (inverse * dot(bent, bent));
        for value in &mut direction {
            *value *= scale;
        }
    }
    for (factor, (moved, bent, inverse)) in factors.iter().zip(pairs) {
        let back = inverse * dot(bent, &direction);
        add_scaled(&mut direction, factor - back, moved);
    }
    direction
}

/// The logits of rows by weights of scaled features, `[row][class]`.
pub fn logits(features: &Features, rows: &[usize], weights: &Weights, scaling: &Scaling) -> Vec<Vec<f64>> {
    let (unscaled, bias) = weights.unscaled(scaling);
    rows.par_iter()
        .map(|&index| {
            let mut row = vec![0.0; features.columns()];
            to_f64(features.row(index), &mut row);
            let mut logits = vec![0.0; bias.len()];
            logits_of(&row, &unscaled, &bias, &mut logits);
            logits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Clouds around corners.
    fn clouds(rows: usize, columns: usize, count: usize, spread: f64) -> (Features, Vec<usize>) {
        let mut random = Random::new(3, &[]);
        let mut features = Features::new(columns);
        let mut classes = vec![];
        for row in 0..rows {
            let class = row % count;
            let value = |column: usize, random: &mut Random| {
                let centre = if column % count == class { 800.0 } else { 0.0 };
                (centre + random.between(-spread, spread)) as i16
            };
            features.push(&(0..columns).map(|column| value(column, &mut random)).collect::<Vec<i16>>());
            classes.push(class);
        }
        (features, classes)
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let (features, classes) = clouds(30, 5, 3, 2000.0);
        let rows: Vec<usize> = (0..30).collect();
        let scaling = Scaling::of(&features, &rows);
        let examples = Examples {
            features: &features,
            rows: &rows,
            classes: &classes,
            count: 3,
            weights: &[1.0, 2.0, 0.5],
            scaling: &scaling,
        };
        let mut random = Random::new(4, &[]);
        let at: Vec<f64> = (0..18).map(|_| random.between(-1.0, 1.0)).collect();
        let mut gradient = vec![0.0; 18];
        let mut ignored = vec![0.0; 18];
        examples.evaluate(&at, 0.1, &mut gradient);
        for index in 0..18 {
            let mut loss = |step: f64| {
                let mut moved = at.clone();
                moved[index] += step;
                examples.evaluate(&moved, 0.1, &mut ignored)
            };
            let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!((slope - gradient[index]).abs() < 1e-8, "{index}: {slope} {}", gradient[index]);
        }
    }

    #[test]
    fn clouds_that_lie_apart_are_told_apart_by_the_same_bits_on_any_number_of_threads() {
        let (features, classes) = clouds(300, 24, 3, 1500.0);
        let rows: Vec<usize> = (0..300).collect();
        let scaling = Scaling::of(&features, &rows);
        let examples = Examples {
            features: &features,
            rows: &rows,
            classes: &classes,
            count: 3,
            weights: &[1.0; 3],
            scaling: &scaling,
        };
        let solve = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| examples.solve(0.01, Exactness::Kept, Weights::zero(3, 24)))
        };
        let weights = solve(1);
        assert_eq!(weights, solve(3));
        let logits = logits(&features, &rows, &weights, &scaling);
        let right = logits.iter().zip(&classes).filter(|(logits, class)| {
            logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(best, _)| best) == Some(**class)
        });
        assert!(right.count() > 290);
        // At the minimum nothing is left to be gained.
        let mut gradient = vec![0.0; 3 * 25];
        examples.evaluate(&weights.numbers(), 0.01, &mut gradient);
        assert!(gradient.iter().all(|value| value.abs() < 1e-4), "{gradient:?}");
    }
}
