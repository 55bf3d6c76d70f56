//! Chooses what each int8 tensor covers, from its histogram.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::function::Function;
use crate::graph::{NodeId, Operator};
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::range::{choose, choose_for, settle};

/// Sets `range` of every node that has one of its own.
///
/// # Errors
/// None.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let nodes = &graph.float.nodes;
    let done = AtomicUsize::new(0);
    let total = nodes.len();
    let (method, progress) = (calibration.options.method, calibration.progress);
    let functions: Vec<Option<Function>> = (0..nodes.len()).map(|id| function(graph, id)).collect();
    let ends: Vec<bool> = (0..nodes.len())
        .map(|id| {
            graph.users(id).next().is_none() && graph.float.outputs.iter().any(|output| output.node == id)
        })
        .collect();
    graph.annotations.par_iter_mut().enumerate().for_each(|(id, annotation)| {
        let chosen = matches!(
            nodes[id].operator,
            Operator::Convolution(_)
                | Operator::Table(_)
                | Operator::GeneralisedMean { .. }
                | Operator::Add { .. }
                | Operator::Multiply
                | Operator::Normalise(_)
                | Operator::Concat
                | Operator::Interleave(_)
                | Operator::AveragePool { .. }
        );
        if let (true, Some(statistics)) = (chosen, &calibration.statistics[id]) {
            let histogram = &statistics.histogram;
            let range = match &functions[id] {
                Some(function) => choose_for(method, histogram, &|x| function.at(x, 0)),
                None => choose(method, histogram),
            };
            annotation.range = Some(if ends[id] {
                let function = |x| functions[id].as_ref().map_or(x, |function| function.at(x, 0));
                settle(method, histogram, range, &function)
            } else {
                range
            });
        }
        progress("choosing ranges", done.fetch_add(1, Ordering::Relaxed) + 1, total);
    });
    Ok(())
}

/// The function that alone takes a node's output, the same for all channels: a table of the network,
/// or what the decoder begins with.
fn function(graph: &QuantisationGraph<'_>, id: NodeId) -> Option<Function> {
    let mut users = graph.users(id);
    let output = graph.float.outputs.iter().find(|output| output.node == id);
    match (users.next().map(|user| &graph.node(user).operator), users.next(), output) {
        (Some(Operator::Table(function) | Operator::GeneralisedMean { inner: function, .. }), None, None)
            if function.channels().is_none() =>
        {
            Some(function.clone())
        }
        (None, _, Some(output)) => output.function(),
        _ => None,
    }
}
