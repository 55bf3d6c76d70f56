//! The tensors of the phases of transposed convolutions: for the reference, each is every so many
//! rows and columns of the whole.

use std::collections::HashSet;

use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

use crate::graph::{FloatGraph, Operator};

use super::fault::ModelFault;
use super::model::integers;

/// The first operator set whose `Slice` has steps.
const STEPS_SINCE: i64 = 10;

/// Gives each phase the tensor that it makes of what is behind it, after everything was folded.
pub(super) fn name(graph: &mut FloatGraph, proto: &mut ModelProto) -> Result<(), ModelFault> {
    let version = proto.opset_import.first().map_or(0, |set| set.version);
    let Some(reference) = proto.graph.as_mut() else { return Ok(()) };
    let mut taken: HashSet<String> = reference
        .node
        .iter()
        // Weights that lie outside are known by the nodes that take them.
        .flat_map(|node| node.output.iter().chain(&node.input).cloned())
        .collect();
    taken.extend(reference.initializer.iter().map(|tensor| tensor.name.clone()));
    for id in 0..graph.nodes.len() {
        let Operator::Interleave(factor) = graph.nodes[id].operator else { continue };
        if version < STEPS_SINCE {
            return Err(ModelFault::TransposedConvolution { since: STEPS_SINCE });
        }
        let (whole, inputs) = (graph.nodes[id].tensor.clone(), graph.nodes[id].inputs.clone());
        let mut add = |operator: &str, input: Vec<String>, attribute: Vec<AttributeProto>| {
            let mut name = format!("{whole}_{}", operator.to_lowercase());
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            reference.node.push(NodeProto {
                op_type: operator.into(),
                input,
                output: vec![name.clone()],
                attribute,
                ..Default::default()
            });
            name
        };
        let mut constant = |values: &[i64]| add("Constant", vec![], vec![integers(values)]);
        let ends = constant(&[i64::from(i32::MAX); 2]);
        let axes = constant(&[2, 3]);
        let steps = constant(&factor.map(|factor| factor as i64));
        for (place, &phase) in inputs.iter().enumerate() {
            let first = [place / factor[1], place % factor[1]].map(|at| at as i64);
            let starts = add("Constant", vec![], vec![integers(&first)]);
            let input = vec![whole.clone(), starts, ends.clone(), axes.clone(), steps.clone()];
            graph.nodes[phase].tensor = add("Slice", input, vec![]);
        }
    }
    Ok(())
}
