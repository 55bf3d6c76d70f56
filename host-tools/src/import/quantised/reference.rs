//! The roundings of a quantised file, in operators of floats that the reference engine runs.

use std::collections::HashMap;

use resight_runtime::Quantisation;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::marks::{FIRST, MARK, STEP, TABLE};
use crate::import::array::Array;
use crate::import::tensor;
use crate::onnx;

/// Replaces each mark of `proto` by what it stands for:
/// `scale * clamp(round(x / scale), -128 - zero_point, 127 - zero_point)`, where halves go to the even
/// number. That is `QuantizeLinear` and `DequantizeLinear` as ONNX defines them. A table becomes a `Gather`.
pub(in crate::import) fn with_rounding(proto: &mut ModelProto, roundings: &HashMap<String, Quantisation>) {
    let Some(graph) = proto.graph.as_mut() else { return };
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        if node.op_type == TABLE {
            nodes.extend(gathered(graph, &node));
            continue;
        }
        let output = node.output.first().cloned().unwrap_or_default();
        let Some(quantisation) = roundings.get(&output).filter(|_| node.op_type == MARK) else {
            nodes.push(node);
            continue;
        };
        let constant = |suffix: &str, value: f32| {
            tensor::to_proto(&format!("{output}/{suffix}"), &Array { dims: vec![], data: vec![value] })
        };
        let zero = quantisation.zero_point as f32;
        let constants = [
            constant("scale", quantisation.scale),
            constant("least", -128.0 - zero),
            constant("most", 127.0 - zero),
        ];
        let [scale, least, most] = constants.each_ref().map(|constant| constant.name.clone());
        graph.initializer.extend(constants);
        let steps = [
            ("Div", Some(scale.clone())),
            ("Round", None),
            ("Max", Some(least)),
            ("Min", Some(most)),
            ("Mul", Some(scale)),
        ];
        let mut from = node.input.first().cloned().unwrap_or_default();
        for (index, (operator, constant)) in steps.into_iter().enumerate() {
            let to = if index == 4 { output.clone() } else { format!("{output}/{operator}") };
            nodes.push(NodeProto {
                op_type: operator.into(),
                input: [from].into_iter().chain(constant).collect(),
                output: vec![to.clone()],
                ..NodeProto::default()
            });
            from = to;
        }
    }
    graph.node = nodes;
}

/// What a table stands for: the numbers at the places that its input's steps are.
fn gathered(graph: &mut GraphProto, table: &NodeProto) -> [NodeProto; 4] {
    let find = |name: &str| table.attribute.iter().find(|attribute| attribute.name == name);
    let step = find(STEP).map_or(1.0, |attribute| attribute.f);
    let first = find(FIRST).map_or(0, |attribute| attribute.i) as f32;
    let output = table.output.first().cloned().unwrap_or_default();
    let [input, numbers] = [0, 1].map(|at| table.input.get(at).cloned().unwrap_or_default());
    let [steps, places, whole] = ["steps", "places", "whole"].map(|suffix| format!("{output}/{suffix}"));
    let mut constant = |suffix: &str, value: f32| {
        let name = format!("{output}/{suffix}");
        graph.initializer.push(tensor::to_proto(&name, &Array { dims: vec![], data: vec![value] }));
        name
    };
    // A cast to an integer drops what is behind the point.
    let (step, offset) = (constant("step", step), constant("offset", 0.5 - first));
    let node = |operator: &str, inputs: [String; 2], output: &str, attribute| NodeProto {
        op_type: operator.into(),
        input: inputs.into_iter().filter(|input| !input.is_empty()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    };
    let to = vec![onnx::integer("to", DataType::Int64 as i64)];
    [
        node("Div", [input, step], &steps, vec![]),
        node("Add", [steps.clone(), offset], &places, vec![]),
        node("Cast", [places.clone(), String::new()], &whole, to),
        node("Gather", [numbers, whole.clone()], &output, vec![onnx::integer("axis", 0)]),
    ]
}
