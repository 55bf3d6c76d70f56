//! Scales channels so that those of a tensor use its int8 range alike.
//!
//! A tensor has one scale, so a channel whose values are a tenth of the largest channel's has three
//! bits less. A factor on a channel costs nothing: what computes it has a scale for each row of
//! weights, what reads it takes the factor out of its columns, and a ReLU, a maximum, an average
//! and a sum of tensors with the same factors let positive factors through. Tensors that are added
//! to each other, or are pooled from one another, share their factors.

use std::collections::HashMap;

use rayon::prelude::*;

use super::error::QuantiseError;
use super::observed::{Factors, InputImage, ObservedReference};
use crate::graph::{FloatGraph, Node, NodeId, Operator};

/// The largest factor.
const LIMIT: f64 = 16.0;

/// Which nodes share their factors: a number for each, 0 for those whose channels stay as they are.
fn classes(float: &FloatGraph) -> Vec<usize> {
    let mut parents: Vec<NodeId> = (0..float.nodes.len()).collect();
    let mut join = |a: NodeId, b: NodeId| {
        let (a, b) = (root(&parents, a), root(&parents, b));
        parents[a.max(b)] = a.min(b);
    };
    for (id, node) in float.nodes.iter().enumerate() {
        match &node.operator {
            Operator::MaxPool { .. } | Operator::GlobalAverage => join(id, node.inputs[0]),
            Operator::Convolution(convolution) => {
                if convolution.residual {
                    join(id, node.inputs[1]);
                }
                if convolution.ceiling.is_some() {
                    join(id, 0);
                }
            }
            Operator::Input | Operator::Linear { .. } => {}
            // What lets no factor through, or mixes channels.
            _ => {
                join(id, 0);
                node.inputs.iter().for_each(|&input| join(input, 0));
            }
        }
    }
    // What a decoder reads stays as it is, as the image does, which is node 0.
    for output in &float.outputs {
        join(output.node, 0);
    }
    // The logits are nobody's input.
    let last = root(&parents, float.nodes.len().saturating_sub(1));
    let class = |id| Some(root(&parents, id)).filter(|&class| class != last).unwrap_or(0);
    (0..float.nodes.len()).map(class).collect()
}

fn root(parents: &[NodeId], mut id: NodeId) -> NodeId {
    while parents[id] != id {
        id = parents[id];
    }
    id
}

/// Mean square and largest size of each channel.
#[derive(Clone)]
struct Channels {
    squares: Vec<f64>,
    largest: Vec<f64>,
}

impl Channels {
    fn of(values: &[f32], channels: usize) -> Self {
        let positions = (values.len() / channels.max(1)).max(1);
        let planes = values.chunks_exact(positions);
        let square = |plane: &[f32]| {
            plane.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / positions as f64
        };
        let largest =
            |plane: &[f32]| f64::from(plane.iter().fold(0.0f32, |most, value| most.max(value.abs())));
        Self { squares: planes.clone().map(square).collect(), largest: planes.map(largest).collect() }
    }

    fn add(&mut self, other: &Self) {
        self.squares.iter_mut().zip(&other.squares).for_each(|(sum, more)| *sum += more);
        self.largest.iter_mut().zip(&other.largest).for_each(|(most, more)| *most = most.max(*more));
    }

    /// In parts of the largest channel's, whatever the tensor's size.
    fn relative(mut self) -> Self {
        for values in [&mut self.squares, &mut self.largest] {
            let most = values.iter().fold(f64::MIN_POSITIVE, |most, value| most.max(*value));
            for value in values.iter_mut() {
                *value /= most;
            }
        }
        self
    }

    /// What brings each channel to the size of the largest, and none beyond the largest value.
    fn factors(&self) -> Vec<f64> {
        let factor = |(square, largest): (&f64, &f64)| {
            if *largest <= 0.0 {
                return 1.0;
            }
            let wanted = square.max(f64::MIN_POSITIVE).powf(-0.5);
            // As f32, because f32 tensors are scaled by it.
            f64::from(wanted.min(largest.recip()).clamp(1.0, LIMIT) as f32)
        };
        self.squares.iter().zip(&self.largest).map(factor).collect()
    }
}

/// The factors that fit what f32 makes of some images.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn factors(
    float: &FloatGraph,
    reference: &ObservedReference,
    images: &[usize],
    load: &(dyn Fn(usize) -> Result<InputImage, QuantiseError> + Sync),
) -> Result<Factors, QuantiseError> {
    let classes = classes(float);
    let of_image = |&image: &usize| {
        let image = load(image)?;
        let values = reference.run(&image.float)?;
        let of = |id: NodeId| {
            let tensor = values.tensor(id).filter(|_| classes[id] != 0);
            tensor.map(|tensor| Channels::of(&tensor, float.nodes[id].shape[0]))
        };
        Ok((0..float.nodes.len()).map(of).collect())
    };
    let images: Vec<Vec<Option<Channels>>> =
        images.par_iter().map(of_image).collect::<Result<_, QuantiseError>>()?;
    let mut nodes: Vec<Option<Channels>> = vec![None; float.nodes.len()];
    for image in &images {
        for (all, one) in nodes.iter_mut().zip(image) {
            match (all.as_mut(), one) {
                (Some(all), Some(one)) => all.add(one),
                (None, Some(one)) => *all = Some(one.clone()),
                (_, None) => {}
            }
        }
    }
    let mut by_class: HashMap<usize, Channels> = HashMap::new();
    for (node, &class) in nodes.into_iter().zip(&classes) {
        let Some(node) = node.map(Channels::relative) else { continue };
        by_class.entry(class).and_modify(|all| all.add(&node)).or_insert(node);
    }
    let by_class: HashMap<usize, Vec<f64>> =
        by_class.into_iter().map(|(class, channels)| (class, channels.relative().factors())).collect();
    Ok(classes.iter().map(|class| by_class.get(class).cloned().unwrap_or_default()).collect())
}

/// The network whose channels are scaled: its logits are the same. `None` where all factors are 1.
pub fn scaled(float: &FloatGraph, factors: &Factors) -> Option<FloatGraph> {
    if factors.iter().all(Vec::is_empty) {
        return None;
    }
    let factor = |id: NodeId, channel: usize| factors[id].get(channel).copied().unwrap_or(1.0);
    let mut nodes = float.nodes.clone();
    for (id, node) in nodes.iter_mut().enumerate() {
        let Node { operator, inputs, shape, .. } = node;
        let (weights, bias, taps, groups) = match operator {
            Operator::Convolution(convolution) => (
                &mut convolution.weights,
                &mut convolution.bias,
                convolution.kernel[0] * convolution.kernel[1],
                convolution.groups,
            ),
            Operator::Linear { weights, bias } => (weights, bias, 1, 1),
            _ => continue,
        };
        let rows = shape[0];
        let columns = weights.len() / rows.max(1);
        let channels = columns / taps.max(1);
        for (row, (weights, bias)) in
            weights.to_mut().chunks_exact_mut(columns).zip(bias.iter_mut()).enumerate()
        {
            let out = factor(id, row);
            *bias = (f64::from(*bias) * out) as f32;
            let first = row / (rows / groups) * channels;
            for (channel, weights) in weights.chunks_exact_mut(taps).enumerate() {
                let by = out / factor(inputs[0], first + channel);
                for weight in weights {
                    *weight = (f64::from(*weight) * by) as f32;
                }
            }
        }
    }
    Some(FloatGraph { name: float.name.clone(), nodes, outputs: float.outputs.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::FloatConvolution;

    fn convolution(weights: Vec<f32>, residual: bool, relu: bool) -> Operator {
        Operator::Convolution(FloatConvolution {
            weights: weights.into(),
            bias: vec![1.0, -2.0],
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
            residual,
            relu,
            ceiling: None,
        })
    }

    /// Image, stem, a layer inside a block, the block's end, its average, two logits.
    fn graph() -> FloatGraph {
        let node = |name: &str, operator, inputs: &[NodeId], positions: usize| Node {
            name: name.into(),
            operator,
            inputs: inputs.to_vec(),
            tensor: name.into(),
            shape: [2, positions, 1],
        };
        let linear = Operator::Linear { weights: vec![1.0, 2.0, -1.0, 0.5].into(), bias: vec![0.5, 0.0] };
        let nodes = vec![
            node("image", Operator::Input, &[], 3),
            node("stem", convolution(vec![1.0, 0.5, 2.0, -1.0], false, true), &[0], 3),
            node("inside", convolution(vec![-1.0, 3.0, 0.25, 1.0], false, true), &[1], 3),
            node("end", convolution(vec![1.0, 1.0, 2.0, -0.5], true, true), &[2, 1], 3),
            node("average", Operator::GlobalAverage, &[3], 1),
            node("logits", linear, &[4], 1),
        ];
        FloatGraph { name: "test".into(), nodes, outputs: vec![] }
    }

    /// Every node's output for an image, `[channel][position]`.
    fn run(graph: &FloatGraph, image: [[f64; 3]; 2]) -> Vec<[[f64; 3]; 2]> {
        let mut all: Vec<[[f64; 3]; 2]> = vec![];
        for node in &graph.nodes {
            let input = node.inputs.first().map_or(image, |&input| all[input]);
            let (weights, bias, residual, relu) = match &node.operator {
                Operator::Convolution(c) => (&c.weights, &c.bias, c.residual, c.relu),
                Operator::Linear { weights, bias } => (weights, bias, false, false),
                Operator::GlobalAverage => {
                    all.push(input.map(|plane| [plane.iter().sum::<f64>() / 3.0; 3]));
                    continue;
                }
                _ => {
                    all.push(image);
                    continue;
                }
            };
            all.push([0, 1].map(|row| {
                [0, 1, 2].map(|position| {
                    let sum: f64 = (0..2).map(|c| f64::from(weights[row * 2 + c]) * input[c][position]).sum();
                    let residual = if residual { all[node.inputs[1]][row][position] } else { 0.0 };
                    let value = sum + f64::from(bias[row]) + residual;
                    if relu { value.max(0.0) } else { value }
                })
            }));
        }
        all
    }

    #[test]
    fn what_is_added_or_averaged_shares_its_factors() {
        assert_eq!(classes(&graph()), [0, 1, 2, 1, 1, 0]);
    }

    #[test]
    fn channels_stay_where_an_operator_lets_no_factor_through() {
        let mut capped = graph();
        if let Operator::Convolution(inside) = &mut capped.nodes[2].operator {
            inside.ceiling = Some(6.0);
        }
        assert_eq!(classes(&capped), [0, 1, 0, 1, 1, 0]);
        let mut added = graph();
        added.nodes[3].operator = Operator::Add { relu: true };
        assert_eq!(classes(&added), [0; 6]);
    }

    #[test]
    fn factors_change_tensors_and_no_logit() {
        let graph = graph();
        let factors: Factors =
            vec![vec![], vec![4.0, 1.0], vec![1.0, 8.0], vec![4.0, 1.0], vec![4.0, 1.0], vec![]];
        let image = [[1.0, -0.5, 0.25], [0.5, 2.0, -1.0]];
        let (before, after) = (run(&graph, image), run(&scaled(&graph, &factors).unwrap(), image));
        for (id, (before, after)) in before.iter().zip(&after).enumerate() {
            for channel in 0..2 {
                let factor = factors[id].get(channel).copied().unwrap_or(1.0);
                for (before, after) in before[channel].iter().zip(&after[channel]) {
                    assert!((before * factor - after).abs() < 1e-6, "{id} {channel}: {before} {after}");
                }
            }
        }
        assert!(scaled(&graph, &vec![vec![]; 6]).is_none());
    }

    #[test]
    fn small_channels_are_brought_to_the_size_of_the_largest_but_not_beyond() {
        // The second channel is a quarter as large throughout, the third has one value as large as
        // the first's, the last has none.
        let values = [4.0, 2.0, 1.0, 0.5, 4.0, 0.0, 0.0, 0.0];
        let factors = Channels::of(&values, 4).relative().factors();
        assert_eq!(factors, [1.0, 4.0, 1.0, 1.0]);
    }
}
