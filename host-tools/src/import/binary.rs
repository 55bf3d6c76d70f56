//! Networks of one output: one logit, whose sigmoid is the probability of the second of two
//! classes.
//!
//! The softmax of the logits `[0, x]` is `[1 - sigmoid(x), sigmoid(x)]`, so that such a network is
//! one of two classes whose first logit is always zero, for the quantiser, for the board and for
//! rules alike.

use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

use crate::graph::{FloatGraph, Operator};

use super::array::Array;
use super::tensor;

/// Gives a network of one output a first one that is always zero. Says whether it is one.
pub(super) fn two_classes(graph: &mut FloatGraph, proto: &mut ModelProto) -> bool {
    let Some((last, before)) = graph.nodes.split_last_mut() else { return false };
    // In a quantised file the logit may be rounded.
    let layer = match last.operator {
        Operator::Table(_) => last.inputs.first().and_then(|&input| before.get_mut(input)),
        _ => None,
    };
    let (weights, bias, shape) = match layer.map(|layer| (&mut layer.operator, &mut layer.shape)) {
        Some((Operator::Convolution(layer), shape)) => (&mut layer.weights, &mut layer.bias, Some(shape)),
        Some(_) => return false,
        None => match &mut last.operator {
            Operator::Linear { weights, bias } => (weights, bias, None),
            _ => return false,
        },
    };
    let ([_], Some(reference)) = (bias.as_slice(), proto.graph.as_mut()) else { return false };
    let mut doubled = vec![0.0; weights.len()];
    doubled.append(weights.to_mut());
    *weights = doubled.into();
    bias.insert(0, 0.0);
    if let Some(shape) = shape {
        shape[0] = 2;
    }
    last.shape[0] = 2;
    // Weights that lie outside are known by the nodes that take them.
    let names = reference.node.iter().flat_map(|node| node.output.iter().chain(&node.input));
    let taken: HashSet<&String> = names.chain(reference.initializer.iter().map(|t| &t.name)).collect();
    let unused = |suffix: &str| {
        let mut name = format!("{}{suffix}", last.tensor);
        while taken.contains(&name) {
            name.push('_');
        }
        name
    };
    let (zero, other, both) = (unused("_factor"), unused("_other"), unused("_classes"));
    reference.initializer.push(tensor::to_proto(&zero, &Array { dims: vec![], data: vec![0.0] }));
    reference.node.push(NodeProto {
        op_type: "Mul".into(),
        input: vec![last.tensor.clone(), zero],
        output: vec![other.clone()],
        ..Default::default()
    });
    reference.node.push(NodeProto {
        op_type: "Concat".into(),
        input: vec![other, last.tensor.clone()],
        output: vec![both.clone()],
        attribute: vec![AttributeProto {
            name: "axis".into(),
            r#type: AttributeType::Int as i32,
            i: 1,
            ..Default::default()
        }],
        ..Default::default()
    });
    last.tensor = both;
    true
}
