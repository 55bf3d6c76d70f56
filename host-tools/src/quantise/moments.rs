//! Second moments of what layers read, gathered from the int8 network.
//!
//! The inputs are int8, so all sums are integers, and exact in the floating point that they are
//! kept in: the result depends neither on the threads nor on the order of the images, and its
//! size not on how many there are.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_kernels::Sequential;
use resight_runtime::{Layers, Program, Target};
use tract_onnx::prelude::TypedModel;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, s};

use super::calibrate::{Calibration, is_held_out};
use super::compare::nodes_of_steps;
use super::error::QuantiseError;
use super::graph::QuantisationGraph;
use super::patches::Patches;
use crate::graph::NodeId;

/// Positions that are sampled of a layer: so many for each column, within these bounds.
const SAMPLES_PER_COLUMN: usize = 2;
const SAMPLES: std::ops::RangeInclusive<usize> = 4096..=16384;
/// Positions that are sampled of the images that are held out.
const HELD_OUT_SAMPLES: usize = 1024;
/// Images that are run before their samples are added to the sums.
const IMAGES_AT_ONCE: usize = 8;
/// Samples whose products are summed in `f32`: `1024 * 128 * 128 = 2^24` is exact.
const EXACT_SAMPLES: usize = 1024;
/// Columns of a tile of products.
const TILE: usize = 256;

/// What was gathered of one group of a layer.
#[derive(Debug)]
pub struct GroupMoments {
    /// Sums of `q[i] * q[j]`, `[column][column]`; only the tiles that touch the lower triangle.
    pub products: Vec<f64>,
    /// Sums of `q`, `[column]`.
    pub sums: Vec<f64>,
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
}

/// One layer while its moments are gathered.
struct Plan {
    id: NodeId,
    input: NodeId,
    groups: usize,
    patches: Patches,
    samples_per_image: usize,
    held_out_per_image: usize,
}

/// Gathers the moments of `layers`, those of them that are convolutions, from `model`, the int8
/// network so far. `done` counts the images that were run, for the progress of `total`.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn gather(
    graph: &QuantisationGraph<'_>,
    calibration: &Calibration<'_>,
    (model, target): (&TypedModel, &Target),
    layers: &[NodeId],
    (done, total): (&AtomicUsize, usize),
) -> Result<Vec<LayerMoments>, QuantiseError> {
    let images: Vec<&Path> =
        calibration.by_content.iter().map(|&index| calibration.images[index].as_path()).collect();
    let held_out = |index: usize| is_held_out(index, images.len());
    let count = (0..images.len()).filter(|&index| held_out(index)).count();
    let plans: Vec<Plan> = layers
        .iter()
        .map(|&id| Plan::new(graph, id, images.len() - count, count))
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    let mut moments: Vec<LayerMoments> = plans.iter().map(LayerMoments::empty).collect();
    let indices: Vec<usize> = (0..images.len()).collect();
    for chunk in indices.chunks(IMAGES_AT_ONCE) {
        let samples: Vec<Vec<Samples>> = chunk
            .par_iter()
            .map_init(
                || Program::compile(model, &Layers::default(), target),
                |program, &index| {
                    let program =
                        program.as_mut().map_err(|error| QuantiseError::Graph(error.to_string()))?;
                    let image = calibration.load(images[index])?;
                    let samples = sample(graph, program, &image.quantised, &plans, index, held_out(index))?;
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    (calibration.progress)("rounding", done, total);
                    Ok(samples)
                },
            )
            .collect::<Result<_, QuantiseError>>()?;
        moments.par_iter_mut().enumerate().for_each(|(layer, moments)| {
            let of_images = |wanted: bool| {
                let images = chunk.iter().zip(&samples);
                images.filter(move |&(&index, _)| held_out(index) == wanted).map(move |(_, all)| &all[layer])
            };
            moments.add(&of_images(false).collect::<Vec<_>>());
            of_images(true).for_each(|samples| moments.hold_out(samples));
        });
    }
    Ok(moments)
}

impl Plan {
    fn new(
        graph: &QuantisationGraph<'_>,
        id: NodeId,
        images: usize,
        held_out: usize,
    ) -> Result<Option<Self>, QuantiseError> {
        let Some(patches) = Patches::new(graph, id)? else { return Ok(None) };
        let wanted = (patches.depth() * SAMPLES_PER_COLUMN).clamp(*SAMPLES.start(), *SAMPLES.end());
        let per_image =
            |wanted: usize, images: usize| wanted.div_ceil(images.max(1)).clamp(1, patches.positions());
        Ok(Some(Self {
            id,
            input: graph.input(id),
            groups: graph.matrix(id).groups,
            samples_per_image: per_image(wanted, images),
            held_out_per_image: per_image(HELD_OUT_SAMPLES, held_out),
            patches,
        }))
    }

    /// Positions that are sampled of an image: evenly spread, from another start in each.
    fn positions(&self, index: usize, held_out: bool) -> impl Iterator<Item = usize> + use<> {
        let count = if held_out { self.held_out_per_image } else { self.samples_per_image };
        let positions = self.patches.positions();
        // The fraction of the golden ratio spreads the starts evenly, however many there are.
        let start = f64::from((index as u32).wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
        let at = move |k: usize| ((k as f64 + start) * positions as f64 / count as f64) as usize;
        (0..count).map(move |k| at(k).min(positions - 1))
    }
}

/// A layer's inputs in one image: by group, `[sample][column]`.
type Samples = Vec<Vec<i8>>;

/// Runs the network on an image and takes the samples of every layer.
fn sample(
    graph: &QuantisationGraph<'_>,
    program: &mut Program,
    image: &[i8],
    plans: &[Plan],
    index: usize,
    held_out: bool,
) -> Result<Vec<Samples>, QuantiseError> {
    let nodes = nodes_of_steps(graph, program);
    let mut samples: Vec<Samples> = vec![vec![]; plans.len()];
    let mut look = |id: NodeId, output: &[i8]| {
        for (plan, samples) in plans.iter().zip(&mut samples).filter(|(plan, _)| plan.input == id) {
            for group in 0..plan.groups {
                let mut patches = Vec::with_capacity(plan.samples_per_image * plan.patches.depth());
                for position in plan.positions(index, held_out) {
                    plan.patches.append(output, group, position, &mut patches);
                }
                samples.push(patches);
            }
        }
    };
    // The first node is the image.
    look(0, image);
    program.run_observed(&Sequential, image, |step, output| {
        if let (Some(id), Ok(output)) = (nodes[step], output.slice()) {
            look(id, output);
        }
    })?;
    Ok(samples)
}

impl LayerMoments {
    fn empty(plan: &Plan) -> Self {
        let columns = plan.patches.depth();
        let group = |_| GroupMoments {
            products: vec![0.0; columns * columns],
            sums: vec![0.0; columns],
            held_out: vec![],
        };
        Self { id: plan.id, samples: 0.0, groups: (0..plan.groups).map(group).collect() }
    }

    fn add(&mut self, images: &[&Samples]) {
        self.groups.par_iter_mut().enumerate().for_each(|(group, moments)| {
            let inputs: Vec<i8> = images.iter().flat_map(|samples| &samples[group]).copied().collect();
            for inputs in inputs.chunks(EXACT_SAMPLES * moments.sums.len()) {
                moments.add(inputs);
            }
        });
        let columns = self.groups.first().map_or(1, |group| group.sums.len());
        let samples = images.iter().filter_map(|samples| samples.first());
        self.samples += samples.map(|inputs| (inputs.len() / columns) as f64).sum::<f64>();
    }

    fn hold_out(&mut self, samples: &Samples) {
        for (group, inputs) in self.groups.iter_mut().zip(samples) {
            group.held_out.extend_from_slice(inputs);
        }
    }
}

impl GroupMoments {
    /// Adds samples, `[sample][column]`, at most so many that their sums are exact in `f32`.
    pub(super) fn add(&mut self, inputs: &[i8]) {
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
#[expect(clippy::missing_panics_doc, reason = "the slice is cut to rows * columns values")]
pub fn matrix<T>(values: &[T], columns: usize) -> ArrayView2<'_, T> {
    let columns = columns.max(1);
    let rows = values.len() / columns;
    ArrayView2::from_shape((rows, columns), &values[..rows * columns]).expect("rows * columns values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_sums_are_exact_whatever_the_grouping() {
        let columns = 300;
        let input = |sample: usize, column: usize| ((sample * 7919 + column * 104_729) % 256) as i32 - 128;
        let samples: Vec<i8> = (0..200 * columns).map(|at| input(at / columns, at % columns) as i8).collect();
        let empty = || LayerMoments {
            id: 0,
            samples: 0.0,
            groups: vec![GroupMoments {
                products: vec![0.0; columns * columns],
                sums: vec![0.0; columns],
                held_out: vec![],
            }],
        };
        let (first, second) = samples.split_at(50 * columns);
        let (first, second) = (vec![first.to_vec()], vec![second.to_vec()]);
        let (mut once, mut twice) = (empty(), empty());
        once.add(&[&first, &second]);
        twice.add(&[&second]);
        twice.add(&[&first]);
        assert_eq!(once.samples, 200.0);
        let group = &once.groups[0];
        for (row, column) in [(0, 0), (17, 3), (299, 0), (299, 299), (270, 260)] {
            let product: i64 = (0..200).map(|n| i64::from(input(n, row) * input(n, column))).sum();
            assert_eq!(group.products[row * columns + column], product as f64, "{row} {column}");
        }
        assert!(group.products == twice.groups[0].products && group.sums == twice.groups[0].sums);
    }

    #[test]
    fn the_extremes_stay_exact() {
        let mut group = GroupMoments { products: vec![0.0], sums: vec![0.0], held_out: vec![] };
        group.add(&[-128; EXACT_SAMPLES]);
        group.add(&[127; EXACT_SAMPLES - 1]);
        assert_eq!(group.products, [f64::from(1024 * 128 * 128 + 1023 * 127 * 127)]);
        assert_eq!(group.sums, [f64::from(-1024 * 128 + 1023 * 127)]);
    }
}
