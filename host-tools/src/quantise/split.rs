//! Splits channels of the first layer in two, so that its output has more than 8 bits where that pays.
//!
//! Every later layer's error starts from the first one's: rounded to 8 bits it is the largest source
//! of error among the activations of residual networks, and its values span a wide range. A channel becomes two
//! rows of the same weights: the first ends at a threshold, `min(x, T)`, the second begins there,
//! `max(x - T, 0)`. Their sum is the channel, both are in the same steps, half as large as without,
//! and a maximum over windows may be taken of each alone, for both only ever grow with `x`. Layers
//! that read them have the channel's weights twice. (Zhao et al., "Improving neural network
//! quantization without retraining using outlier channel splitting", 2019, halve values instead,
//! which does not commute with rounding.) What cannot read the parts reads their sum, which a layer
//! of ones rounds to 8 bits as before. Nothing of this is new to the arithmetic or to a kernel.

use crate::graph::{FloatConvolution, FloatGraph, Node, NodeId, Operator};

/// Which channels are split, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The first layer.
    pub(super) stem: NodeId,
    /// Where first parts end and second parts begin.
    pub threshold: f64,
    /// The channels that have a second part, in their order.
    pub channels: Vec<usize>,
}

impl Split {
    /// A tensor of the split nodes, `[channels][positions]`, in parts: all first ones, then the second
    /// ones.
    pub fn parts(&self, values: &[f32], channels: usize) -> Vec<f32> {
        let positions = values.len() / channels.max(1);
        let threshold = self.threshold as f32;
        let mut parts: Vec<f32> = values.iter().map(|value| value.min(threshold)).collect();
        for &channel in &self.channels {
            let plane = &values[channel * positions..(channel + 1) * positions];
            parts.extend(plane.iter().map(|value| (value - threshold).clamp(0.0, threshold)));
        }
        parts
    }

    /// The reverse of [`parts`](Self::parts).
    pub fn sums(&self, parts: &[f32], channels: usize) -> Vec<f32> {
        let positions = parts.len() / (channels + self.channels.len()).max(1);
        let (first, second) = parts.split_at(channels * positions);
        let mut sums = first.to_vec();
        for (&channel, plane) in self.channels.iter().zip(second.chunks_exact(positions.max(1))) {
            let sums = &mut sums[channel * positions..(channel + 1) * positions];
            sums.iter_mut().zip(plane).for_each(|(sum, more)| *sum += more);
        }
        sums
    }
}

/// A network whose first layer is split.
#[derive(Debug)]
pub struct Widened {
    /// The network: its logits are the same, but for what lies beyond twice the threshold.
    pub graph: FloatGraph,
    /// The node of the original network that gives each node's tensor.
    pub origins: Vec<NodeId>,
    /// Whether a node's tensor is in parts.
    pub in_parts: Vec<bool>,
}

/// The first layer, if it can be split: a convolution of the image with a ReLU and no ceiling.
pub(super) fn stem(float: &FloatGraph) -> Option<(NodeId, &FloatConvolution)> {
    let stem = float.nodes.iter().position(|node| matches!(node.operator, Operator::Convolution(_)))?;
    let node = &float.nodes[stem];
    match &node.operator {
        Operator::Convolution(layer)
            if node.inputs == [0] && layer.relu && layer.ceiling.is_none() && layer.groups == 1 =>
        {
            Some((stem, layer))
        }
        _ => None,
    }
}

/// Which nodes are in parts: the first layer, and what takes maxima of it.
pub(super) fn in_parts(float: &FloatGraph, stem: NodeId) -> Vec<bool> {
    let mut parts = vec![false; float.nodes.len()];
    for (id, node) in float.nodes.iter().enumerate() {
        let pools = matches!(node.operator, Operator::MaxPool { .. });
        parts[id] = id == stem || (pools && node.inputs.iter().all(|&input| parts[input]));
    }
    parts
}

/// Whether a node can read parts as its first input.
fn reads_parts(node: &Node) -> bool {
    matches!(&node.operator, Operator::Convolution(layer) if layer.groups == 1)
}

/// Nodes in parts of which some reader needs the sum.
fn summed(float: &FloatGraph, parts: &[bool]) -> Vec<NodeId> {
    let needs = |id: NodeId| {
        let reader = |(reader, node): (NodeId, &Node)| {
            let reads =
                |&(place, &input): &(usize, &NodeId)| input == id && (place > 0 || !reads_parts(node));
            !parts[reader] && node.inputs.iter().enumerate().any(|input| reads(&input))
        };
        float.nodes.iter().enumerate().any(reader)
    };
    (0..float.nodes.len()).filter(|&id| parts[id] && needs(id)).collect()
}

/// Multiplications of a node.
fn multiplications(float: &FloatGraph, id: NodeId) -> usize {
    let node = &float.nodes[id];
    let [_, height, width] = node.shape;
    match &node.operator {
        Operator::Convolution(layer) => layer.weights.len() * height * width,
        Operator::Linear { weights, .. } => weights.len(),
        _ => 0,
    }
}

/// How many channels may be split for `share` more multiplications, `0..`.
pub(super) fn affordable(float: &FloatGraph, stem: NodeId, share: f64) -> usize {
    let parts = in_parts(float, stem);
    let channels = float.nodes[stem].shape[0];
    let reads = |node: &Node| reads_parts(node) && node.inputs.first().is_some_and(|&input| parts[input]);
    let widened = (0..float.nodes.len()).filter(|&id| id == stem || reads(&float.nodes[id]));
    let wider: usize = widened.map(|id| multiplications(float, id)).sum();
    let all: usize = (0..float.nodes.len()).map(|id| multiplications(float, id)).sum();
    let positions = |&id: &NodeId| float.nodes[id].shape[1] * float.nodes[id].shape[2];
    let sums: usize = summed(float, &parts).iter().map(positions).sum();
    let budget = share * all as f64 - (sums * channels * channels) as f64;
    let each = wider as f64 / channels as f64 + (sums * channels) as f64;
    ((budget / each).max(0.0) as usize).min(channels)
}

/// The network with these channels split.
pub fn widened(float: &FloatGraph, split: &Split) -> Widened {
    let parts = in_parts(float, split.stem);
    let summed = summed(float, &parts);
    let mut widened = Widened {
        graph: FloatGraph { name: float.name.clone(), nodes: vec![], outputs: float.outputs.clone() },
        origins: vec![],
        in_parts: vec![],
    };
    // Where each node of the original is, and the sum of one in parts.
    let (mut places, mut sums) = (vec![0; float.nodes.len()], vec![0; float.nodes.len()]);
    for (id, node) in float.nodes.iter().enumerate() {
        let mut node = node.clone();
        let reads =
            !parts[id] && reads_parts(&node) && node.inputs.first().is_some_and(|&input| parts[input]);
        if id == split.stem {
            split_rows(&mut node, split);
        } else if reads {
            let channels = float.nodes[node.inputs[0]].shape[0];
            split_columns(&mut node, split, channels);
        }
        if parts[id] {
            node.shape[0] += split.channels.len();
        }
        for (place, input) in node.inputs.iter_mut().enumerate() {
            let takes_parts = parts[id] || (reads && place == 0);
            *input = if parts[*input] && !takes_parts { sums[*input] } else { places[*input] };
        }
        places[id] = widened.push(node, id, parts[id]);
        if summed.contains(&id) {
            let node = sum(&float.nodes[id], places[id], split);
            sums[id] = widened.push(node, id, false);
        }
    }
    widened.graph.outputs.iter_mut().for_each(|output| output.node = places[output.node]);
    widened
}

impl Widened {
    fn push(&mut self, node: Node, origin: NodeId, in_parts: bool) -> NodeId {
        self.graph.nodes.push(node);
        self.origins.push(origin);
        self.in_parts.push(in_parts);
        self.graph.nodes.len() - 1
    }
}

/// Adds the second parts' rows to the first layer.
fn split_rows(node: &mut Node, split: &Split) {
    let rows = node.shape[0];
    let Operator::Convolution(layer) = &mut node.operator else { return };
    let columns = layer.weights.len() / rows.max(1);
    for &channel in &split.channels {
        layer.weights.to_mut().extend_from_within(channel * columns..(channel + 1) * columns);
        layer.bias.push((f64::from(layer.bias[channel]) - split.threshold) as f32);
    }
    layer.ceiling = Some(split.threshold as f32);
}

/// Adds the second parts' columns to a layer that reads `channels`.
fn split_columns(node: &mut Node, split: &Split, channels: usize) {
    let rows = node.shape[0];
    let Operator::Convolution(layer) = &mut node.operator else { return };
    let taps = layer.kernel[0] * layer.kernel[1];
    let mut weights = Vec::with_capacity(rows * (channels + split.channels.len()) * taps);
    for row in layer.weights.chunks_exact(channels * taps) {
        weights.extend_from_slice(row);
        split.channels.iter().for_each(|channel| {
            weights.extend_from_slice(&row[channel * taps..(channel + 1) * taps]);
        });
    }
    layer.weights = weights.into();
}

/// The layer that adds the parts of a node.
fn sum(node: &Node, place: NodeId, split: &Split) -> Node {
    let channels = node.shape[0];
    let columns = channels + split.channels.len();
    let mut weights = vec![0.0; channels * columns];
    (0..channels).for_each(|channel| weights[channel * columns + channel] = 1.0);
    for (second, &channel) in split.channels.iter().enumerate() {
        weights[channel * columns + channels + second] = 1.0;
    }
    let layer = FloatConvolution {
        weights: weights.into(),
        bias: vec![0.0; channels],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        residual: false,
        relu: true,
        ceiling: None,
    };
    Node {
        name: format!("{}.sum", node.name),
        operator: Operator::Convolution(layer),
        inputs: vec![place],
        tensor: node.tensor.clone(),
        shape: node.shape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(weights: Vec<f32>, outputs: usize, residual: bool) -> Operator {
        Operator::Convolution(FloatConvolution {
            weights: weights.into(),
            bias: vec![0.25; outputs],
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
            residual,
            relu: true,
            ceiling: None,
        })
    }

    /// Image, stem of three channels, pool, a layer, another that adds the pool's output.
    fn graph() -> FloatGraph {
        let node = |name: &str, operator, inputs: &[NodeId], channels: usize| Node {
            name: name.into(),
            operator,
            inputs: inputs.to_vec(),
            tensor: name.into(),
            shape: [channels, 4, 4],
        };
        let pool = Operator::MaxPool { kernel: [1, 1], stride: [1, 1], padding: [0; 4] };
        let nodes = vec![
            node("image", Operator::Input, &[], 2),
            node("stem", layer(vec![1.0, 2.0, -1.0, 0.5, 3.0, 1.0], 3, false), &[0], 3),
            node("pool", pool, &[1], 3),
            node("inside", layer(vec![1.0, -2.0, 0.5, 0.25, 1.0, -1.0], 2, false), &[2], 2),
            node("end", layer(vec![1.0, 0.5, -0.5, 1.0, 2.0, -1.0], 3, true), &[3, 2], 3),
        ];
        FloatGraph { name: "test".into(), nodes, outputs: vec![] }
    }

    /// Every node's output at one position.
    fn run(graph: &FloatGraph, image: &[f64]) -> Vec<Vec<f64>> {
        let mut all: Vec<Vec<f64>> = vec![];
        for node in &graph.nodes {
            all.push(match &node.operator {
                Operator::Input => image.to_vec(),
                Operator::Convolution(layer) => {
                    let input = &all[node.inputs[0]];
                    let row = |(row, weights): (usize, &[f32])| {
                        let sum: f64 = weights.iter().zip(input).map(|(&w, x)| f64::from(w) * x).sum();
                        let residual = if layer.residual { all[node.inputs[1]][row] } else { 0.0 };
                        let ceiling = layer.ceiling.map_or(f64::INFINITY, f64::from);
                        (sum + f64::from(layer.bias[row]) + residual).clamp(0.0, ceiling)
                    };
                    layer.weights.chunks_exact(input.len()).enumerate().map(row).collect()
                }
                _ => all[node.inputs[0]].clone(),
            });
        }
        all
    }

    fn split() -> Split {
        Split { stem: 1, threshold: 1.5, channels: vec![0, 2] }
    }

    #[test]
    fn the_network_stays_the_same() {
        let (graph, split) = (graph(), split());
        let widened = widened(&graph, &split);
        assert_eq!(widened.origins, [0, 1, 2, 2, 3, 4]);
        assert_eq!(widened.in_parts, [false, true, true, false, false, false]);
        assert_eq!(widened.graph.nodes[5].inputs, [4, 3]);
        for image in [[0.3, 0.2], [0.5, 0.6], [-0.4, 0.1], [0.7, -0.1]] {
            let (before, after) = (run(&graph, &image), run(&widened.graph, &image));
            for (id, &origin) in widened.origins.iter().enumerate() {
                let before: Vec<f32> = before[origin].iter().map(|&value| value as f32).collect();
                let expected = if widened.in_parts[id] { split.parts(&before, 3) } else { before };
                assert_eq!(expected.len(), widened.graph.nodes[id].shape[0], "{id}");
                for (found, expected) in after[id].iter().zip(&expected) {
                    assert!((found - f64::from(*expected)).abs() < 1e-6, "{id}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn parts_add_up() {
        let split = split();
        let values = [0.5, 2.0, 1.0, 0.0, 3.0, 1.75];
        let parts = split.parts(&values, 3);
        assert_eq!(parts, [0.5, 1.5, 1.0, 0.0, 1.5, 1.5, 0.0, 0.5, 1.5, 0.25]);
        assert_eq!(split.sums(&parts, 3), values);
    }

    #[test]
    fn no_more_is_split_than_may_be_spent() {
        let graph = graph();
        // 16 positions: stem 6, inside 6, end 6 weights, sums of 3 x 3 and 3 more for each part.
        assert_eq!(affordable(&graph, 1, 0.0), 0);
        // 9 + 1 * (2 + 2 + 3) of 18.
        assert_eq!(affordable(&graph, 1, 15.9 / 18.0), 0);
        assert_eq!(affordable(&graph, 1, 16.1 / 18.0), 1);
        assert_eq!(affordable(&graph, 1, 9.0), 3);
    }

    #[test]
    fn a_ceiling_or_another_input_is_left_alone() {
        let mut capped = graph();
        if let Operator::Convolution(layer) = &mut capped.nodes[1].operator {
            layer.ceiling = Some(6.0);
        }
        assert!(stem(&capped).is_none());
        assert_eq!(stem(&graph()).map(|(id, _)| id), Some(1));
    }
}
