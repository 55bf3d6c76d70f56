//! The roundings of a quantised file, in operators of floats that the reference engine runs.

use std::collections::HashMap;

use resight_runtime::Quantisation;
use tract_onnx::pb::{ModelProto, NodeProto};

use super::marks::MARK;
use crate::import::array::Array;
use crate::import::tensor;

/// Replaces each mark of `proto` by what it stands for:
/// `scale * clamp(round(x / scale), -128 - zero_point, 127 - zero_point)`, where halves go to the even
/// number. That is `QuantizeLinear` and `DequantizeLinear` as ONNX defines them.
pub(in crate::import) fn with_rounding(proto: &mut ModelProto, roundings: &HashMap<String, Quantisation>) {
    let Some(graph) = proto.graph.as_mut() else { return };
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
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
