//! The order in which nodes are read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::error::ImportError;
use super::fault::ModelFault;
use super::fault::structure::StructureFault;
use super::model::Model;

/// The nodes that the outputs depend on, each after its inputs, otherwise as in the file.
pub(super) fn order(model: &Model, path: &Path) -> Result<Vec<usize>, ImportError> {
    let Model { graph, initialisers, input, outputs, .. } = model;
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let taken = producers.insert(name, index).is_some();
            if taken || initialisers.contains_key(name) || name == input {
                let cause = StructureFault::OutputTwice { name: name.clone() };
                return Err(ImportError::node(path, node, cause));
            }
        }
    }
    let inputs = |index: usize| graph.node[index].input.iter().filter(|name| !name.is_empty());

    let mut live = vec![false; graph.node.len()];
    let mut waiting = vec![0usize; graph.node.len()];
    let mut dependants: Vec<Vec<usize>> = vec![vec![]; graph.node.len()];
    let mut stack = vec![];
    for output in outputs {
        let Some(&last) = producers.get(output.as_str()) else {
            return Err(ImportError::file(path, ModelFault::UnmadeOutput { name: output.clone() }));
        };
        if !std::mem::replace(&mut live[last], true) {
            stack.push(last);
        }
    }
    while let Some(index) = stack.pop() {
        for name in inputs(index) {
            if let Some(&producer) = producers.get(name.as_str()) {
                dependants[producer].push(index);
                waiting[index] += 1;
                if !live[producer] {
                    live[producer] = true;
                    stack.push(producer);
                }
            } else if !initialisers.contains_key(name) && name != input {
                let cause = StructureFault::UnmadeInput { name: name.clone() };
                return Err(ImportError::node(path, &graph.node[index], cause));
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..graph.node.len()).filter(|&i| live[i] && waiting[i] == 0).collect();
    let mut order = Vec::new();
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &next in &dependants[index] {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                ready.insert(next);
            }
        }
    }
    // From a node that waits for ever, its waiting producers lead into the cycle.
    if let Some(mut at) = (0..graph.node.len()).find(|&i| live[i] && waiting[i] > 0) {
        let mut seen = HashSet::new();
        while seen.insert(at) {
            let blocked =
                inputs(at).filter_map(|name| producers.get(name.as_str())).find(|&&p| waiting[p] > 0);
            at = blocked.copied().unwrap_or(at);
        }
        return Err(ImportError::node(path, &graph.node[at], StructureFault::Cycle));
    }
    Ok(order)
}
