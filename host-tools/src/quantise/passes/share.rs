//! Gives what is concatenated, and phases that are put together, one range, so that bytes can be copied: each layer whose output goes
//! nowhere else is quantised with the scale of the concatenation. What goes elsewhere too keeps its
//! own, and is rescaled by a table on its way.

use crate::graph::{NodeId, Operator};
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::range::choose;
use crate::quantise::statistics::Histogram;

/// Changes `range` of concatenations and of what they take.
///
/// # Errors
/// None.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let nodes = &graph.float.nodes;
    let is_concat = |id: NodeId| matches!(nodes[id].operator, Operator::Concat | Operator::Interleave(_));
    let concats: Vec<NodeId> = (0..nodes.len()).filter(|&id| is_concat(id)).collect();
    // The first concatenation of each one's group: those that take the same layers are one.
    let mut group: Vec<NodeId> = (0..nodes.len()).collect();
    let find = |group: &[NodeId], mut id: NodeId| {
        while group[id] != id {
            id = group[id];
        }
        id
    };
    let mut members: Vec<(NodeId, NodeId)> = vec![];
    for &concat in &concats {
        for &input in &nodes[concat].inputs {
            let layer = source(graph, input);
            if is_alone(graph, layer) {
                let (a, b) = (find(&group, concat), find(&group, layer));
                group[a.max(b)] = a.min(b);
                members.push((layer, concat));
            }
        }
    }
    let mut histograms: Vec<Option<Histogram>> = vec![None; nodes.len()];
    for &concat in &concats {
        if let Some(statistics) = &calibration.statistics[concat] {
            let root = find(&group, concat);
            match &mut histograms[root] {
                Some(histogram) => histogram.merge(statistics.histogram.clone()),
                empty => *empty = Some(statistics.histogram.clone()),
            }
        }
    }
    let mut ranges: Vec<Option<(f64, f64)>> = vec![None; nodes.len()];
    for &concat in &concats {
        let root = find(&group, concat);
        if let (None, Some(histogram)) = (ranges[root], &histograms[root]) {
            ranges[root] = Some(choose(calibration.options.method, histogram));
        }
        if let Some(range) = ranges[root] {
            graph.annotations[concat].range = Some(range);
        }
    }
    for (layer, concat) in members {
        let Some(range) = ranges[find(&group, concat)] else { continue };
        // A ReLU is what ends at the lowest number: it needs a range from zero on.
        let is_relu = match &nodes[layer].operator {
            Operator::Convolution(convolution) => convolution.relu,
            Operator::Add { relu } => *relu,
            _ => false,
        };
        if range.0 == 0.0 || !is_relu {
            graph.annotations[layer].range = Some(range);
        }
    }
    Ok(())
}

/// The node that chooses the scale of what this one gives.
fn source(graph: &QuantisationGraph<'_>, mut id: NodeId) -> NodeId {
    while graph.node(id).operator.keeps_values() {
        id = graph.input(id);
    }
    id
}

/// Whether a layer's output, perhaps pooled, goes into concatenations alone, and can take their
/// scale.
fn is_alone(graph: &QuantisationGraph<'_>, layer: NodeId) -> bool {
    let adapts = match &graph.node(layer).operator {
        Operator::Convolution(convolution) => convolution.ceiling.is_none(),
        Operator::Input | Operator::GlobalAverage | Operator::Linear { .. } => false,
        _ => true,
    };
    let is_output = |id: NodeId| graph.float.outputs.iter().any(|output| output.node == id);
    let mut waiting = vec![layer];
    let mut alone = adapts;
    while let (true, Some(id)) = (alone, waiting.pop()) {
        alone = !is_output(id);
        for user in graph.users(id) {
            match &graph.node(user).operator {
                Operator::Concat | Operator::Interleave(_) => {}
                operator if operator.keeps_values() => waiting.push(user),
                _ => alone = false,
            }
        }
    }
    alone
}
