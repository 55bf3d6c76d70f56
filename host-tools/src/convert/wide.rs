//! Weights of more than 127 steps, which no int8 weight holds: asymmetric ones, and -128. What is beyond is
//! multiplied with the same input once more, so that the sum is the file's.

use std::collections::HashMap;

use super::structure::Rounded;
use crate::graph::{FloatGraph, Node, NodeId, Operator};

/// The most steps of a weight.
const MOST: u32 = 127;

/// A layer's weights with some input channels twice.
struct Wide {
    /// The channels of its input, in their new order.
    order: Vec<usize>,
    weights: Vec<f32>,
    /// The largest magnitude in steps of each output.
    largest: Vec<u32>,
    /// See [`Widening::changed`].
    changed: usize,
}

/// What became of the weights of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Widening {
    /// Input channels that it has twice.
    pub(super) channels: usize,
    /// Weights of more steps than two int8 weights hold, which are the nearest that they do.
    pub(super) changed: usize,
}

/// Gives layers with wide weights, whose largest magnitudes `largest` has, these input channels twice. Gives for
/// each node of the new graph what became of it.
pub(super) fn widen(rounded: Rounded, largest: &mut HashMap<String, Vec<u32>>) -> (Rounded, Vec<Widening>) {
    let Rounded { graph, outputs } = rounded;
    let mut wide: HashMap<NodeId, Wide> =
        (0..graph.nodes.len()).filter_map(|id| Some((id, wide(&graph, id, largest)?))).collect();
    // The average before a linear layer is of its features, in their order.
    let averages: HashMap<NodeId, Vec<usize>> = wide
        .iter()
        .filter(|(id, _)| matches!(graph.nodes[**id].operator, Operator::Linear { .. }))
        .map(|(&id, wide)| (graph.nodes[id].inputs[0], wide.order.clone()))
        .collect();
    let FloatGraph { name, nodes, outputs: maps } = graph;
    let mut new = Rounded { graph: FloatGraph { name, nodes: vec![], outputs: maps }, outputs: vec![] };
    let (mut place, mut widenings) = (Vec::with_capacity(nodes.len()), vec![]);
    for (id, mut node) in nodes.into_iter().enumerate() {
        node.inputs = node.inputs.iter().map(|&input| place[input]).collect();
        let layer = wide.remove(&id);
        let is_linear = matches!(node.operator, Operator::Linear { .. });
        let order = averages.get(&id).or(layer.as_ref().filter(|_| !is_linear).map(|layer| &layer.order));
        if let Some(order) = order {
            let input = node.inputs[0];
            let before: &Node = &new.graph.nodes[input];
            let [_, height, width] = before.shape;
            let twice = Node {
                name: format!("{}_twice", node.name),
                operator: Operator::Channels(order.clone()),
                inputs: vec![input],
                tensor: before.tensor.clone(),
                shape: [order.len(), height, width],
            };
            if averages.contains_key(&id) {
                node.shape[0] = order.len();
            }
            let output = new.outputs[input];
            new.graph.nodes.push(twice);
            new.outputs.push(output);
            widenings.push(Widening::default());
            node.inputs[0] = new.outputs.len() - 1;
        }
        let mut widening = Widening::default();
        if let Some(layer) = layer {
            let own = layer.order.iter().max().map_or(0, |most| most + 1);
            widening = Widening { channels: layer.order.len() - own, changed: layer.changed };
            match &mut node.operator {
                Operator::Convolution(convolution) => convolution.weights = layer.weights.into(),
                Operator::Linear { weights, .. } => *weights = layer.weights.into(),
                _ => {}
            }
            largest.insert(node.name.clone(), layer.largest);
        }
        new.graph.nodes.push(node);
        new.outputs.push(outputs[id]);
        widenings.push(widening);
        place.push(new.outputs.len() - 1);
    }
    (new, widenings)
}

/// The layer with the channels twice that have weights of more than [`MOST`] steps in any output; `None` where
/// there are none, or where its steps are not known.
fn wide(graph: &FloatGraph, id: NodeId, largest: &HashMap<String, Vec<u32>>) -> Option<Wide> {
    let node = &graph.nodes[id];
    let (weights, rows, groups, taps) = match &node.operator {
        Operator::Convolution(c) => (&c.weights, c.bias.len(), c.groups, c.kernel[0] * c.kernel[1]),
        Operator::Linear { weights, bias } => (weights, bias.len(), 1, 1),
        _ => return None,
    };
    let magnitudes = super::annotate::integers(&node.name, largest, rows)?;
    if magnitudes.iter().all(|&magnitude| magnitude <= MOST) || rows == 0 || taps == 0 {
        return None;
    }
    let columns = weights.len() / rows;
    let channels = columns / taps;
    let step = |row: usize| {
        let own = &weights[row * columns..(row + 1) * columns];
        let most = own.iter().fold(0.0f64, |most, &weight| f64::from(weight).abs().max(most));
        most / f64::from(magnitudes[row].max(1))
    };
    let steps: Vec<f64> = (0..rows).map(step).collect();
    let most = f64::from(MOST);
    let beyond = |row: usize, column: usize| {
        let integer =
            if steps[row] > 0.0 { f64::from(weights[row * columns + column]) / steps[row] } else { 0.0 };
        integer.round() - integer.round().clamp(-most, most)
    };
    let excess = |row: usize, column: usize| beyond(row, column).clamp(-most, most);
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let changed = places.filter(|&(row, column)| beyond(row, column).abs() > most).count();
    let is_wide =
        |channel: &usize| (0..rows).any(|row| (0..taps).any(|tap| excess(row, channel * taps + tap) != 0.0));
    let twice: Vec<usize> = (0..channels).filter(is_wide).collect();
    let order = (0..groups).flat_map(|group| {
        let first = group * channels;
        (0..channels).chain(twice.iter().copied()).map(move |channel| first + channel).collect::<Vec<_>>()
    });
    let mut new = Vec::with_capacity(rows * (channels + twice.len()) * taps);
    for row in 0..rows {
        for column in 0..columns {
            let excess = excess(row, column);
            let weight = f64::from(weights[row * columns + column]);
            new.push(if excess == 0.0 {
                weight as f32
            } else {
                (weight.signum() * most * steps[row]) as f32
            });
        }
        for channel in &twice {
            new.extend((0..taps).map(|tap| (excess(row, channel * taps + tap) * steps[row]) as f32));
        }
    }
    let largest = magnitudes.iter().map(|&magnitude| magnitude.min(MOST)).collect();
    Some(Wide { order: order.collect(), weights: new, largest, changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::FloatConvolution;

    fn layer(weights: &[f32], groups: usize) -> FloatGraph {
        let node = |name: &str, operator, inputs: &[NodeId]| Node {
            name: name.into(),
            operator,
            inputs: inputs.to_vec(),
            tensor: name.into(),
            shape: [2, 4, 4],
        };
        let convolution = FloatConvolution {
            weights: weights.to_vec().into(),
            bias: vec![0.0; 2],
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups,
            residual: false,
            relu: false,
            ceiling: None,
        };
        let nodes = vec![
            node("image", Operator::Input, &[]),
            node("layer", Operator::Convolution(convolution), &[0]),
        ];
        FloatGraph { name: "test".into(), nodes, outputs: vec![] }
    }

    #[test]
    fn what_is_beyond_is_multiplied_with_the_same_channel_again() {
        let mut largest = HashMap::from([("layer".to_owned(), vec![128, 200])]);
        // Steps of 0.5: -128 and 3; 20 and 200.
        let rounded = Rounded { graph: layer(&[-64.0, 1.5, 10.0, 100.0], 1), outputs: vec![None; 2] };
        let (new, widenings) = widen(rounded, &mut largest);
        assert_eq!(widenings[2], Widening { channels: 2, changed: 0 });
        assert!(matches!(&new.graph.nodes[1].operator, Operator::Channels(order) if *order == [0, 1, 0, 1]));
        let Operator::Convolution(convolution) = &new.graph.nodes[2].operator else {
            panic!("a convolution")
        };
        assert_eq!(*convolution.weights, [-63.5, 1.5, -0.5, 0.0, 10.0, 63.5, 0.0, 36.5]);
        assert_eq!(new.graph.nodes[2].inputs, [1]);
        assert_eq!(largest["layer"], [127, 127]);
    }

    #[test]
    fn groups_have_their_channels_twice_within_them() {
        let mut largest = HashMap::from([("layer".to_owned(), vec![255, 100])]);
        let rounded = Rounded { graph: layer(&[255.0, 100.0], 2), outputs: vec![None; 2] };
        let (new, widenings) = widen(rounded, &mut largest);
        assert_eq!(widenings[2], Widening { channels: 2, changed: 1 });
        assert!(matches!(&new.graph.nodes[1].operator, Operator::Channels(order) if *order == [0, 0, 1, 1]));
        let Operator::Convolution(convolution) = &new.graph.nodes[2].operator else {
            panic!("a convolution")
        };
        // 255 is one more than two weights hold.
        assert_eq!(*convolution.weights, [127.0, 127.0, 100.0, 0.0]);
        let mut narrow = HashMap::from([("layer".to_owned(), vec![127, 100])]);
        let rounded = Rounded { graph: layer(&[127.0, 100.0], 2), outputs: vec![None; 2] };
        assert_eq!(widen(rounded, &mut narrow).0.graph.nodes.len(), 2);
    }
}
