//! Second moments of what layers read in the int8 network, and samples of what they should give.
//!
//! The inputs are int8, so all sums are integers, and exact in the floating point that they are
//! kept in: the result depends neither on the threads nor on the order of the images, and its
//! size not on how many there are.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, s};

use super::calibrate::{Calibration, is_held_out};
use super::error::QuantiseError;
use super::graph::QuantisationGraph;
use super::patches::Patches;
use super::walk::Walk;
use crate::graph::NodeId;

/// Positions that are sampled of a layer: so many for each column, within these bounds.
const SAMPLES_PER_COLUMN: usize = 4;
const SAMPLES: std::ops::RangeInclusive<usize> = 4096..=12288;
/// Positions that are sampled of the images that are held out.
const HELD_OUT_SAMPLES: usize = 1024;
/// Samples whose products are summed in `f32`: `1024 * 128 * 128 = 2^24` is exact.
const EXACT_SAMPLES: usize = 1024;
/// Columns of a tile of products.
const TILE: usize = 256;
/// Parts of a step of a layer's output in which its f32 output is kept.
pub const TARGET_PARTS: f64 = 64.0;

/// What was gathered of one group of a layer.
#[derive(Debug)]
pub struct GroupMoments {
    /// Sums of `q[i] * q[j]`, `[column][column]`; only the tiles that touch the lower triangle.
    pub products: Vec<f64>,
    /// Sums of `q`, `[column]`.
    pub sums: Vec<f64>,
    /// Inputs of the images that count, `[sample][column]`.
    pub inputs: Vec<i8>,
    /// Inputs of the images that were held out, `[sample][column]`.
    pub held_out: Vec<i8>,
}

/// What was gathered of a layer.
#[derive(Debug)]
pub struct LayerMoments {
    /// The layer.
    pub id: NodeId,
    /// Positions in the sums.
    pub samples: f64,
    /// By group.
    pub groups: Vec<GroupMoments>,
    /// What is added to the output of the images that count, `[sample][row]`; empty without one.
    pub residual: Vec<i8>,
    /// The same of the images that were held out.
    pub held_out_residual: Vec<i8>,
}

/// The f32 outputs of a layer in [`TARGET_PARTS`] of a step, `[sample][row]`.
#[derive(Debug, Default, Clone)]
pub struct Targets {
    /// Of the images that count.
    pub used: Vec<i16>,
    /// Of the images that were held out.
    pub held_out: Vec<i16>,
}

/// Which positions of a layer are sampled.
pub struct Plan {
    /// The layer.
    pub id: NodeId,
    groups: usize,
    patches: Patches,
    images: usize,
    samples_per_image: usize,
    held_out_per_image: usize,
}

impl Plan {
    /// Of a layer, when so many images are looked at. `None` for what is no convolution.
    ///
    /// # Errors
    /// A layer whose scales were not chosen.
    pub fn new(
        graph: &QuantisationGraph<'_>,
        id: NodeId,
        images: usize,
    ) -> Result<Option<Self>, QuantiseError> {
        let Some(patches) = Patches::new(graph, id)? else { return Ok(None) };
        let held_out = (0..images).filter(|&index| is_held_out(index, images)).count();
        let wanted = (patches.depth() * SAMPLES_PER_COLUMN).clamp(*SAMPLES.start(), *SAMPLES.end());
        let per_image =
            |wanted: usize, images: usize| wanted.div_ceil(images.max(1)).clamp(1, patches.positions());
        Ok(Some(Self {
            id,
            groups: graph.matrix(id).groups,
            images,
            samples_per_image: per_image(wanted, images - held_out),
            held_out_per_image: per_image(HELD_OUT_SAMPLES, held_out),
            patches,
        }))
    }

    /// Positions that are sampled of the images that count.
    pub fn samples(&self) -> usize {
        let used = (0..self.images).filter(|&index| !is_held_out(index, self.images)).count();
        used * self.samples_per_image
    }

    /// Positions that are sampled of an image: evenly spread, from another start in each.
    fn positions(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        let held_out = is_held_out(index, self.images);
        let count = if held_out { self.held_out_per_image } else { self.samples_per_image };
        let positions = self.patches.positions();
        // The fraction of the golden ratio spreads the starts evenly, however many there are.
        let start = f64::from((index as u32).wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
        let at = move |k: usize| ((k as f64 + start) * positions as f64 / count as f64) as usize;
        (0..count).map(move |k| at(k).min(positions - 1))
    }

    /// Gathers the moments where the walk is.
    ///
    /// # Errors
    /// Networks that cannot be run.
    pub fn gather(&self, graph: &QuantisationGraph<'_>, walk: &Walk) -> Result<LayerMoments, QuantiseError> {
        let node = graph.node(self.id);
        let rows = node.shape[0];
        // By group, and what is added.
        let samples: Vec<(Vec<Vec<i8>>, Vec<i8>)> = walk.look(graph, &node.inputs, |index, tensors| {
            let of_group = |group: usize| {
                let mut patches = Vec::with_capacity(self.samples_per_image * self.patches.depth());
                for position in self.positions(index) {
                    self.patches.append(tensors[0], group, position, &mut patches);
                }
                patches
            };
            let residual = tensors.get(1).map_or_else(Vec::new, |tensor| {
                let of = |position: usize| &tensor[position * rows..(position + 1) * rows];
                self.positions(index).flat_map(of).copied().collect()
            });
            ((0..self.groups).map(of_group).collect(), residual)
        })?;
        let chosen = |held_out: bool| {
            let all = samples.iter().enumerate();
            all.filter(move |&(index, _)| is_held_out(index, self.images) == held_out).map(|(_, all)| all)
        };
        let residual = |held_out| chosen(held_out).flat_map(|(_, residual)| residual).copied().collect();
        let group = |group: usize| {
            let inputs =
                |held_out| chosen(held_out).flat_map(|(groups, _)| &groups[group]).copied().collect();
            GroupMoments::new(self.patches.depth(), inputs(false), inputs(true))
        };
        let groups: Vec<GroupMoments> = (0..self.groups).map(group).collect();
        let samples = groups.first().map_or(0, |group| group.inputs.len() / self.patches.depth());
        Ok(LayerMoments {
            id: self.id,
            samples: samples as f64,
            residual: residual(false),
            held_out_residual: residual(true),
            groups,
        })
    }
}

/// What f32 gives at the positions of all plans, by plan.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn targets(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    plans: &[Plan],
    images: &[usize],
) -> Result<Vec<Targets>, QuantiseError> {
    let scales: Vec<f64> = plans
        .iter()
        .map(|plan| {
            let output = graph.known(plan.id, graph.annotations[plan.id].output, "output scale")?;
            Ok(output.scale / TARGET_PARTS)
        })
        .collect::<Result<_, QuantiseError>>()?;
    let done = AtomicUsize::new(0);
    let of_image = |(index, &image): (usize, &usize)| {
        let image = calibration.load(&calibration.images[image])?;
        let values = calibration.reference.run(&image.float)?;
        let of_plan = |(plan, scale): (&Plan, &f64)| {
            let positions = plan.patches.positions();
            let tensor = values.tensor(plan.id).unwrap_or_default();
            let step = |value: &f32| (f64::from(*value) / scale).round() as i16;
            let of = |position: usize| tensor.iter().skip(position).step_by(positions).map(step);
            plan.positions(index).flat_map(of).collect()
        };
        let all: Vec<Vec<i16>> = plans.iter().zip(&scales).map(of_plan).collect();
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        (calibration.progress)("sampling f32", done, images.len());
        Ok(all)
    };
    let all: Vec<Vec<Vec<i16>>> =
        images.par_iter().enumerate().map(of_image).collect::<Result<_, QuantiseError>>()?;
    let mut targets = vec![Targets::default(); plans.len()];
    for (index, image) in all.into_iter().enumerate() {
        for (targets, samples) in targets.iter_mut().zip(image) {
            let held_out = is_held_out(index, images.len());
            let all = if held_out { &mut targets.held_out } else { &mut targets.used };
            all.extend(samples);
        }
    }
    Ok(targets)
}

impl GroupMoments {
    /// Of inputs, `[sample][column]`.
    pub fn new(columns: usize, inputs: Vec<i8>, held_out: Vec<i8>) -> Self {
        let (products, sums) = (vec![0.0; columns * columns], vec![0.0; columns]);
        let mut moments = Self { products, sums, inputs: vec![], held_out };
        for inputs in inputs.chunks(EXACT_SAMPLES * columns) {
            moments.add(inputs);
        }
        moments.inputs = inputs;
        moments
    }

    /// Adds samples, `[sample][column]`, at most so many that their sums are exact in `f32`.
    fn add(&mut self, inputs: &[i8]) {
        let columns = self.sums.len();
        for inputs in inputs.chunks_exact(columns) {
            self.sums.iter_mut().zip(inputs).for_each(|(sum, &q)| *sum += f64::from(q));
        }
        let inputs: Vec<f32> = inputs.iter().map(|&q| f32::from(q)).collect();
        let inputs = matrix(&inputs, columns);
        self.products.par_chunks_mut(TILE * columns).enumerate().for_each(|(tile, products)| {
            let height = products.len() / columns;
            let these = inputs.slice(s![.., tile * TILE..tile * TILE + height]);
            for first in (0..=tile * TILE).step_by(TILE) {
                let last = (first + TILE).min(columns);
                let tile = these.t().dot(&inputs.slice(s![.., first..last]));
                for (sums, products) in products.chunks_exact_mut(columns).zip(tile.rows()) {
                    for (sum, &product) in sums[first..last].iter_mut().zip(products) {
                        *sum += f64::from(product);
                    }
                }
            }
        });
    }
}

/// A slice as a matrix of so many columns.
fn matrix<T>(values: &[T], columns: usize) -> ArrayView2<'_, T> {
    let columns = columns.max(1);
    let rows = values.len() / columns;
    ArrayView2::from_shape((rows, columns), &values[..rows * columns]).expect("rows * columns values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_sums_are_exact() {
        let columns = 300;
        let input = |sample: usize, column: usize| ((sample * 7919 + column * 104_729) % 256) as i32 - 128;
        let samples: Vec<i8> =
            (0..1300 * columns).map(|at| input(at / columns, at % columns) as i8).collect();
        let group = GroupMoments::new(columns, samples, vec![]);
        for (row, column) in [(0, 0), (17, 3), (299, 0), (299, 299), (270, 260)] {
            let product: i64 = (0..1300).map(|n| i64::from(input(n, row) * input(n, column))).sum();
            assert_eq!(group.products[row * columns + column], product as f64, "{row} {column}");
        }
        let sum: i32 = (0..1300).map(|n| input(n, 17)).sum();
        assert_eq!(group.sums[17], f64::from(sum));
    }

    #[test]
    fn the_extremes_stay_exact() {
        let mut inputs = vec![-128; EXACT_SAMPLES];
        inputs.extend([127; EXACT_SAMPLES - 1]);
        let group = GroupMoments::new(1, inputs, vec![]);
        assert_eq!(group.products, [f64::from(1024 * 128 * 128 + 1023 * 127 * 127)]);
        assert_eq!(group.sums, [f64::from(-1024 * 128 + 1023 * 127)]);
    }
}
