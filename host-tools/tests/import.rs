//! What the importer takes, compared with tract, and what it refuses, and how.
#![allow(clippy::too_many_lines, reason = "tables of what is taken and what is refused")]

mod common;

use std::path::Path;

use proptest::prelude::*;
use prost::Message as _;
use resight::graph::{FloatGraph, Operator};
use resight::import::{
    ImportError, Imported, ModelFault, NodeFault, import, import_proto, import_proto_maps, import_proto_sized,
};
use resight::synth::{Architecture, synth, write};
use resight_model_file::Activation;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataType, Segment};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    StringStringEntryProto, TensorProto,
};

use common::protobuf::{attribute, float, floats, integer, integers, node, shape, string};

const CHANNELS: usize = 4;

/// Values that look random, from -1 to 1.
fn random(name: &str, dims: &[i64]) -> TensorProto {
    let seed = name.bytes().fold(dims.len() as u64, |s, b| s * 31 + u64::from(b));
    floats(name, dims, &common::image(dims.iter().product::<i64>() as usize, seed))
}

fn constant(name: &str, value: TensorProto) -> NodeProto {
    let value = AttributeProto { t: Some(value), ..attribute("value", AttributeType::Tensor) };
    let mut node = node("Constant", name, &[], vec![value]);
    node.output = vec![name.into()];
    node
}

/// A 3x3 convolution of the input to [`CHANNELS`] channels of 8x8, called `conv`.
fn convolution() -> (NodeProto, Vec<TensorProto>) {
    let node = node("Conv", "conv", &["input", "w", "b"], vec![integers("pads", &[1; 4])]);
    (node, vec![random("w", &[CHANNELS as i64, 3, 3, 3]), random("b", &[CHANNELS as i64])])
}

/// A network of opset `opset`: input `input` [N, 3, 8, 8], the convolution `conv`, `nodes`,
/// and a classifier `fc` on the global average of `last`, which has `channels` channels.
fn network(
    opset: i64,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    last: &str,
    channels: i64,
) -> ModelProto {
    let mut proto = headless(opset, nodes, constants);
    let graph = proto.graph.as_mut().unwrap();
    graph.node.extend([
        node("GlobalAveragePool", "average", &[last], vec![]),
        node("Flatten", "flatten", &["average_out"], vec![]),
        node("Gemm", "fc", &["flatten_out", "fc.w", "fc.b"], vec![integer("transB", 1)]),
    ]);
    graph.initializer.extend([random("fc.w", &[5, channels]), random("fc.b", &[5])]);
    graph.output[0].name = "fc_out".into();
    proto
}

/// The same without a classifier; its output is that of the last node.
fn headless(opset: i64, nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let mut proto = synth(Architecture::TinyBasic, 1);
    proto.opset_import[0].version = opset;
    let graph = proto.graph.as_mut().unwrap();
    set_dimension(graph, 2, DimensionValue::DimValue(8));
    set_dimension(graph, 3, DimensionValue::DimValue(8));
    let (convolution, weights) = convolution();
    graph.node = vec![convolution];
    graph.node.extend(nodes);
    graph.initializer = weights;
    graph.initializer.extend(constants);
    graph.output[0].name.clone_from(&graph.node.last().unwrap().output[0]);
    proto
}

fn set_dimension(graph: &mut GraphProto, axis: usize, value: DimensionValue) {
    let Some(TypeValue::TensorType(tensor)) = &mut graph.input[0].r#type.as_mut().unwrap().value else {
        panic!("the input is a tensor")
    };
    tensor.shape.as_mut().unwrap().dim[axis].value = Some(value);
}

fn graph(proto: &mut ModelProto) -> &mut GraphProto {
    proto.graph.as_mut().unwrap()
}

fn read(proto: ModelProto) -> Result<Imported, ImportError> {
    import_proto(proto, Path::new("folder/hostile.onnx"))
}

/// Imports and compares every node with tract.
fn accepted(proto: ModelProto) -> FloatGraph {
    let imported = read(proto).unwrap_or_else(|error| panic!("{error}"));
    common::assert_equals_tract(&imported);
    imported.graph
}

fn is_one_line_with(error: &ImportError, parts: &[&str]) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message:?}");
    assert!(message.len() < 600, "{message:?}");
    for part in parts {
        assert!(message.contains(part), "{message:?} does not contain {part:?}");
    }
}

/// The message names the file and the node with its operator, and the cause.
fn refused(proto: ModelProto, node: &str, cause: &str) {
    let error = read(proto).map(|i| i.graph).expect_err(cause);
    let parts = ["hostile.onnx", &format!("node `{node}`"), cause];
    is_one_line_with(&error, &parts);
    assert!(matches!(error, ImportError::Node { .. }), "{error:?}");
}

/// The message names the file and the cause.
fn file_refused(proto: ModelProto, cause: &str) {
    let error = read(proto).map(|i| i.graph).expect_err(cause);
    is_one_line_with(&error, &["hostile.onnx", cause]);
    assert!(matches!(error, ImportError::File { .. }), "{error:?}");
}

/// A network with one more node after the convolution.
fn with_node(opset: i64, added: NodeProto, constants: Vec<TensorProto>) -> ModelProto {
    let last = added.output[0].clone();
    network(opset, vec![added], constants, &last, CHANNELS as i64)
}

fn operators(graph: &FloatGraph) -> Vec<&'static str> {
    let names = graph.nodes.iter().map(|n| match &n.operator {
        Operator::Input => "input",
        Operator::Convolution(c) => match (c.residual, c.relu) {
            (false, false) => "conv",
            (false, true) => "conv+relu",
            (true, false) => "conv+add",
            (true, true) => "conv+add+relu",
        },
        Operator::MaxPool { .. } => "max",
        Operator::GlobalAverage => "average",
        Operator::Linear { .. } => "linear",
        Operator::AveragePool { .. } => "mean",
        Operator::Table(_) => "table",
        Operator::GeneralisedMean { .. } => "generalised mean",
        Operator::Add { relu: false } => "add",
        Operator::Add { relu: true } => "add+relu",
        Operator::Multiply => "multiply",
        Operator::Normalise(_) => "normalise",
        Operator::Concat => "concat",
        Operator::Channels(_) => "channels",
        Operator::View => "view",
        Operator::Pad { .. } => "pad",
        Operator::Upsample(_) => "upsample",
        Operator::Resize { .. } => "resize",
        Operator::Interleave(_) => "interleave",
    });
    names.collect()
}

/// Whoever imports can tell causes apart without reading messages.
#[test]
fn causes_are_types() {
    let of_node = |operator: &str, opset: i64| {
        let added = node(operator, "added", &["conv_out"], vec![]);
        read(with_node(opset, added, vec![])).map(|imported| imported.graph).expect_err(operator)
    };
    let ImportError::Node { cause, .. } = of_node("LSTM", 13) else { panic!("a node is refused") };
    assert!(matches!(*cause, NodeFault::Operator(_)), "{cause:?}");
    let ImportError::Node { cause, .. } = of_node("MaxPool", 13) else { panic!("a node is refused") };
    assert!(matches!(*cause, NodeFault::Window(_)), "{cause:?}");
    let ImportError::File { cause, .. } = of_node("Relu", 3) else { panic!("the file is refused") };
    assert!(matches!(*cause, ModelFault::OperatorSet { found: 3, first: 7, .. }), "{cause:?}");
}

#[test]
fn relu_and_clip_are_one() {
    let relu = accepted(with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]));
    assert_eq!(operators(&relu), ["input", "conv+relu", "average", "linear"]);
    assert_eq!(relu.nodes[1].name, "conv");
    assert_eq!(relu.nodes[1].tensor, "r_out");
    let old = accepted(with_node(10, node("Clip", "r", &["conv_out"], vec![float("min", 0.0)]), vec![]));
    assert_eq!(operators(&old), operators(&relu));
    let clip = node("Clip", "r", &["conv_out", "low"], vec![]);
    let new = accepted(with_node(13, clip, vec![floats("low", &[], &[0.0])]));
    assert_eq!(operators(&new), operators(&relu));
    // A ceiling costs nothing either; other limits are a table.
    let limited = |low: f32, high: f32| {
        accepted(with_node(
            10,
            node("Clip", "r", &["conv_out"], vec![float("min", low), float("max", high)]),
            vec![],
        ))
    };
    let six = limited(0.0, 0.75);
    assert_eq!(operators(&six), operators(&relu));
    let Operator::Convolution(c) = &six.nodes[1].operator else { panic!("a convolution") };
    assert_eq!(c.ceiling, Some(0.75));
    assert_eq!(operators(&limited(-1.0, 1.0)), ["input", "conv", "table", "average", "linear"]);
    assert_eq!(operators(&limited(f32::MIN, f32::MAX)), ["input", "conv", "average", "linear"]);
}

#[test]
fn functions_of_one_value_are_tables() {
    let table = ["input", "conv", "table", "average", "linear"];
    for (opset, operator, attributes) in [
        (13, "LeakyRelu", vec![float("alpha", 0.2)]),
        (13, "LeakyRelu", vec![]),
        (14, "HardSwish", vec![]),
        (13, "HardSigmoid", vec![]),
        (13, "HardSigmoid", vec![float("alpha", 0.3), float("beta", 0.4)]),
        (13, "Sigmoid", vec![]),
        (13, "Tanh", vec![]),
        (13, "Elu", vec![float("alpha", 0.7)]),
        (13, "Selu", vec![]),
        (13, "Softplus", vec![]),
        (13, "Softsign", vec![]),
        (13, "Erf", vec![]),
        (13, "Exp", vec![]),
        (13, "Abs", vec![]),
        (18, "Mish", vec![]),
        (20, "Gelu", vec![]),
        (20, "Gelu", vec![string("approximate", "tanh")]),
    ] {
        let proto = with_node(opset, node(operator, "f", &["conv_out"], attributes), vec![]);
        println!("{operator}");
        assert_eq!(operators(&accepted(proto)), table, "{operator}");
    }
    for slopes in [&[1i64][..], &[4, 1, 1], &[1, 4, 1, 1]] {
        let proto =
            with_node(13, node("PRelu", "f", &["conv_out", "slope"], vec![]), vec![random("slope", slopes)]);
        assert_eq!(operators(&accepted(proto)), table);
    }
}

/// A network of `nodes` behind the convolution, the last of which is `f`.
fn written(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> Vec<&'static str> {
    operators(&accepted(network(14, nodes, constants, "f_out", CHANNELS as i64)))
}

#[test]
fn functions_may_be_written_in_parts() {
    let number = |name: &str, value: f32| floats(name, &[], &[value]);
    let table = ["input", "conv", "table", "average", "linear"];
    let sigmoid = || node("Sigmoid", "s", &["conv_out"], vec![]);
    let silu = vec![sigmoid(), node("Mul", "f", &["conv_out", "s_out"], vec![])];
    assert_eq!(written(silu, vec![]), table);
    let gelu = vec![
        node("Div", "d", &["conv_out", "root"], vec![]),
        node("Erf", "e", &["d_out"], vec![]),
        node("Add", "a", &["e_out", "one"], vec![]),
        node("Mul", "m", &["conv_out", "a_out"], vec![]),
        node("Mul", "f", &["m_out", "half"], vec![]),
    ];
    let constants = vec![number("root", std::f32::consts::SQRT_2), number("one", 1.0), number("half", 0.5)];
    assert_eq!(written(gelu, constants), table);
    let by_tanh = vec![
        node("Pow", "p", &["conv_out", "three"], vec![]),
        node("Mul", "k", &["p_out", "small"], vec![]),
        node("Add", "i", &["conv_out", "k_out"], vec![]),
        node("Mul", "j", &["i_out", "factor"], vec![]),
        node("Tanh", "t", &["j_out"], vec![]),
        node("Add", "a", &["t_out", "one"], vec![]),
        node("Mul", "h", &["conv_out", "half"], vec![]),
        node("Mul", "f", &["h_out", "a_out"], vec![]),
    ];
    let constants = vec![
        number("three", 3.0),
        number("small", 0.044_715),
        number("factor", 0.797_884_6),
        number("one", 1.0),
        number("half", 0.5),
    ];
    assert_eq!(written(by_tanh, constants), table);
    let hard_swish = vec![
        node("Add", "a", &["conv_out", "three"], vec![]),
        node("Clip", "c", &["a_out", "zero", "six"], vec![]),
        node("Mul", "m", &["conv_out", "c_out"], vec![]),
        node("Div", "f", &["m_out", "six"], vec![]),
    ];
    let constants = vec![number("zero", 0.0), number("three", 3.0), number("six", 6.0)];
    let found = written(hard_swish, constants.clone());
    assert_eq!(found, table);
    // A hard sigmoid: the division goes into the convolution with the ceiling.
    let hard_sigmoid = vec![
        node("Add", "a", &["conv_out", "three"], vec![]),
        node("Clip", "c", &["a_out", "zero", "six"], vec![]),
        node("Div", "f", &["c_out", "six"], vec![]),
    ];
    assert_eq!(written(hard_sigmoid, constants), ["input", "conv+relu", "average", "linear"]);
    let mish = vec![
        node("Softplus", "s", &["conv_out"], vec![]),
        node("Tanh", "t", &["s_out"], vec![]),
        node("Mul", "f", &["conv_out", "t_out"], vec![]),
    ];
    assert_eq!(written(mish, vec![]), table);
    let one_less = vec![sigmoid(), node("Sub", "f", &["one", "s_out"], vec![])];
    assert_eq!(written(one_less, vec![number("one", 1.0)]), table);
    let difference = vec![sigmoid(), node("Sub", "f", &["conv_out", "s_out"], vec![])];
    assert_eq!(written(difference, vec![]), table);
}

#[test]
fn gates_multiply_channels_or_positions() {
    // Squeeze and excitation.
    let gate = |image: &str, gate: &str| {
        vec![
            node("GlobalAveragePool", "g", &["conv_out"], vec![]),
            node("Conv", "reduce", &["g_out", "w1"], vec![]),
            node("Relu", "r", &["reduce_out"], vec![]),
            node("Conv", "expand", &["r_out", "w2"], vec![]),
            node("Sigmoid", "s", &["expand_out"], vec![]),
            node("Mul", "f", &[image, gate], vec![]),
        ]
    };
    let weights = || vec![random("w1", &[2, 4, 1, 1]), random("w2", &[4, 2, 1, 1])];
    let expected = ["input", "conv", "mean", "conv+relu", "conv", "table", "multiply", "average", "linear"];
    assert_eq!(written(gate("conv_out", "s_out"), weights()), expected);
    assert_eq!(written(gate("s_out", "conv_out"), weights()), expected);
    let positions = vec![
        node("Conv", "one", &["conv_out", "w3"], vec![]),
        node("Sigmoid", "s", &["one_out"], vec![]),
        node("Mul", "m", &["conv_out", "s_out"], vec![]),
        node("Add", "a", &["m_out", "conv_out"], vec![]),
        node("Relu", "f", &["a_out"], vec![]),
    ];
    assert_eq!(
        written(positions, vec![random("w3", &[1, 4, 1, 1])]),
        ["input", "conv", "conv", "table", "multiply", "add+relu", "average", "linear"]
    );
    let other = vec![
        node("Conv", "other", &["input", "w4"], vec![]),
        node("Relu", "r", &["other_out"], vec![]),
        node("Mul", "m", &["conv_out", "r_out"], vec![]),
        node("Relu", "f", &["m_out"], vec![]),
    ];
    assert_eq!(
        written(other, vec![random("w4", &[4, 3, 1, 1])]),
        ["input", "conv", "conv+relu", "multiply", "table", "average", "linear"]
    );
}

#[test]
fn channels_are_divided_joined_and_shuffled() {
    let size = || shape("sizes", &[1, 3]);
    let split = NodeProto {
        output: vec!["left".into(), "right".into()],
        ..node("Split", "s", &["conv_out", "sizes"], vec![integer("axis", 1)])
    };
    // As Res2Net does.
    let parts = vec![
        split,
        node("Conv", "one", &["left", "w1"], vec![]),
        node("Relu", "r", &["right"], vec![]),
        node("Concat", "f", &["r_out", "one_out", "left"], vec![integer("axis", 1)]),
    ];
    let proto = network(14, parts, vec![size(), random("w1", &[2, 1, 1, 1])], "f_out", 6);
    let expected = ["input", "conv", "channels", "channels", "conv", "table", "concat", "average", "linear"];
    assert_eq!(operators(&accepted(proto)), expected);
    // Slices of what was put side by side are there already.
    let slices = vec![
        node("Relu", "r", &["conv_out"], vec![]),
        node("Concat", "c", &["r_out", "conv_out"], vec![integer("axis", 1)]),
        node("Slice", "a", &["c_out", "four", "eight", "one"], vec![]),
        node("Slice", "b", &["c_out", "minus", "eight", "one"], vec![]),
        node("Concat", "f", &["a_out", "b_out"], vec![integer("axis", 1)]),
    ];
    let constants =
        vec![shape("four", &[4]), shape("eight", &[8]), shape("one", &[1]), shape("minus", &[-2])];
    let found = operators(&accepted(network(14, slices, constants, "f_out", 6)));
    assert_eq!(found, ["input", "conv", "conv+relu", "concat", "channels", "concat", "average", "linear"]);
    // ShuffleNet's exchange of channels.
    let shuffle = vec![
        node("Reshape", "d", &["conv_out", "groups"], vec![]),
        node("Transpose", "t", &["d_out"], vec![integers("perm", &[0, 2, 1, 3, 4])]),
        node("Reshape", "f", &["t_out", "whole"], vec![]),
    ];
    let constants = vec![shape("groups", &[-1, 2, 2, 8, 8]), shape("whole", &[-1, 4, 8, 8])];
    let shuffled = accepted(network(14, shuffle, constants, "f_out", 4));
    assert_eq!(operators(&shuffled), ["input", "conv", "channels", "average", "linear"]);
    let Operator::Channels(order) = &shuffled.nodes[2].operator else { panic!("channels") };
    assert_eq!(order, &[0, 2, 1, 3]);
    // The average and the maximum, as fastai's networks end.
    let mut both = headless(
        14,
        vec![
            node("GlobalAveragePool", "a", &["conv_out"], vec![]),
            node("GlobalMaxPool", "m", &["conv_out"], vec![]),
            node("Concat", "c", &["m_out", "a_out"], vec![integer("axis", 1)]),
            node("Flatten", "flatten", &["c_out"], vec![]),
            node("Gemm", "fc", &["flatten_out", "fc.w"], vec![integer("transB", 1)]),
        ],
        vec![random("fc.w", &[5, 8])],
    );
    graph(&mut both).output[0].name = "fc_out".into();
    assert_eq!(operators(&accepted(both))[..4], ["input", "conv", "conv", "max"]);
}

#[test]
fn images_that_are_stacked_before_the_batch_are_summed() {
    // As `torch.stack(maps).sum(dim=0)`.
    let nodes = vec![
        node("Conv", "other", &["input", "w2"], vec![integers("pads", &[1; 4])]),
        node("Conv", "third", &["input", "w3"], vec![integers("pads", &[1; 4])]),
        node("Unsqueeze", "u", &["conv_out", "zero"], vec![]),
        node("Unsqueeze", "v", &["other_out", "zero"], vec![]),
        node("Unsqueeze", "w", &["third_out", "zero"], vec![]),
        node("Concat", "stack", &["u_out", "v_out", "w_out"], vec![integer("axis", 0)]),
        node("ReduceSum", "f", &["stack_out", "zero"], vec![integer("keepdims", 0)]),
    ];
    let constants = vec![random("w2", &[4, 3, 3, 3]), random("w3", &[4, 3, 3, 3]), shape("zero", &[0])];
    let found = written(nodes, constants);
    assert_eq!(found, ["input", "conv", "conv+add", "conv+add", "average", "linear"]);
}

#[test]
fn groups_of_channels_are_weighed_against_each_other() {
    // As selective kernels do: two branches, stacked, summed, and their shares.
    let nodes = vec![
        node("Conv", "other", &["input", "w2"], vec![integers("pads", &[1; 4])]),
        node("Unsqueeze", "u", &["conv_out", "one"], vec![]),
        node("Unsqueeze", "v", &["other_out", "one"], vec![]),
        node("Concat", "stack", &["u_out", "v_out"], vec![integer("axis", 1)]),
        node("ReduceSum", "sum", &["stack_out", "one"], vec![integer("keepdims", 0)]),
        node("ReduceMean", "mean", &["sum_out"], vec![integers("axes", &[2, 3])]),
        node("Conv", "select", &["mean_out", "w3"], vec![]),
        node("Reshape", "shares", &["select_out", "groups"], vec![]),
        node("Softmax", "softmax", &["shares_out"], vec![integer("axis", 1)]),
        node("Mul", "weighed", &["stack_out", "softmax_out"], vec![]),
        node("ReduceSum", "f", &["weighed_out", "one"], vec![integer("keepdims", 0)]),
    ];
    let constants = vec![
        random("w2", &[4, 3, 3, 3]),
        random("w3", &[8, 4, 1, 1]),
        shape("one", &[1]),
        shape("groups", &[-1, 2, 4, 1, 1]),
    ];
    let found = written(nodes, constants);
    assert_eq!(
        found,
        [
            "input", "conv", "conv", "concat", "add", "mean", "conv", "conv", "table", "multiply",
            "channels", "channels", "add", "average", "linear"
        ]
    );
}

#[test]
fn channels_may_see_their_neighbours() {
    let nodes = vec![
        node("ReduceMean", "mean", &["conv_out"], vec![integers("axes", &[2, 3]), integer("keepdims", 0)]),
        node("Reshape", "row", &["mean_out", "as_row"], vec![]),
        node(
            "Conv",
            "one",
            &["row_out", "w1"],
            vec![integers("pads", &[1, 1]), integers("kernel_shape", &[3])],
        ),
        node("Sigmoid", "s", &["one_out"], vec![]),
        node("Reshape", "back", &["s_out", "as_image"], vec![]),
        node("Expand", "e", &["back_out", "all"], vec![]),
        node("Mul", "f", &["conv_out", "e_out"], vec![]),
    ];
    let constants = vec![
        random("w1", &[1, 1, 3]),
        shape("as_row", &[-1, 1, 4]),
        shape("as_image", &[-1, 4, 1, 1]),
        shape("all", &[1, 4, 8, 8]),
    ];
    assert_eq!(
        written(nodes, constants),
        ["input", "conv", "mean", "view", "conv", "view", "table", "multiply", "average", "linear"]
    );
}

#[test]
fn images_are_flattened_before_fully_connected_layers() {
    let flattened = |flatten: NodeProto, constants: Vec<TensorProto>| {
        let mut nodes = vec![
            node("Relu", "r", &["conv_out"], vec![]),
            node(
                "MaxPool",
                "p",
                &["r_out"],
                vec![integers("kernel_shape", &[4, 3]), integers("strides", &[4, 3])],
            ),
            flatten,
            node("Gemm", "fc1", &["flat_out", "w1", "b1"], vec![integer("transB", 1)]),
        ];
        let mut constants = constants;
        constants.extend([random("w1", &[6, 16]), random("b1", &[6])]);
        let last = headless(14, nodes.clone(), constants.clone());
        nodes.extend([
            node("Relu", "r1", &["fc1_out"], vec![]),
            node("Gemm", "fc2", &["r1_out", "w2"], vec![integer("transB", 1)]),
        ]);
        constants.push(random("w2", &[5, 6]));
        let hidden = headless(14, nodes, constants);
        (operators(&accepted(last)), operators(&accepted(hidden)))
    };
    let expected = ["input", "conv+relu", "max", "view", "average", "linear"];
    let hidden = ["input", "conv+relu", "max", "view", "conv+relu", "average", "linear"];
    let found = flattened(node("Flatten", "flat", &["p_out"], vec![]), vec![]);
    assert_eq!((&found.0[..], &found.1[..]), (&expected[..], &hidden[..]));
    let found = flattened(node("Reshape", "flat", &["p_out", "s"], vec![]), vec![shape("s", &[-1, 16])]);
    assert_eq!((&found.0[..], &found.1[..]), (&expected[..], &hidden[..]));
}

#[test]
fn windows_may_reach_over_the_border() {
    let pool = |operator: &str, attributes: &[AttributeProto]| {
        let mut all = vec![integers("kernel_shape", &[3, 3]), integers("strides", &[2, 2])];
        all.extend_from_slice(attributes);
        written(vec![node(operator, "f", &["conv_out"], all)], vec![])
    };
    let (ceil, pads, counts) =
        (integer("ceil_mode", 1), integers("pads", &[1; 4]), integer("count_include_pad", 1));
    let mean = ["input", "conv", "mean", "average", "linear"];
    assert_eq!(pool("MaxPool", std::slice::from_ref(&ceil)), ["input", "conv", "max", "average", "linear"]);
    assert_eq!(pool("AveragePool", std::slice::from_ref(&ceil)), mean);
    assert_eq!(pool("AveragePool", std::slice::from_ref(&pads)), mean);
    assert_eq!(pool("AveragePool", &[pads, counts.clone()]), ["input", "conv", "conv", "average", "linear"]);
    assert_eq!(pool("AveragePool", &[ceil, counts]), mean);
    // Rows first, then columns.
    let rows = vec![
        node("ReduceMean", "r", &["conv_out"], vec![integers("axes", &[3])]),
        node("ReduceMean", "f", &["r_out"], vec![integers("axes", &[2])]),
    ];
    assert_eq!(written(rows, vec![]), ["input", "conv", "average", "linear"]);
    for mode in ["reflect", "edge"] {
        let bordered = vec![
            node("Pad", "b", &["conv_out", "border"], vec![string("mode", mode)]),
            node(
                "AveragePool",
                "f",
                &["b_out"],
                vec![integers("kernel_shape", &[3, 3]), integers("strides", &[2, 2])],
            ),
        ];
        let found = written(bordered, vec![shape("border", &[0, 0, 1, 2, 0, 0, 3, 0])]);
        assert_eq!(found, ["input", "conv", "pad", "conv", "average", "linear"]);
    }
    let larger = vec![
        node(
            "MaxPool",
            "p",
            &["conv_out"],
            vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])],
        ),
        node(
            "Resize",
            "u",
            &["p_out", "", "scales"],
            vec![
                string("mode", "nearest"),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ],
        ),
        node("Add", "f", &["conv_out", "u_out"], vec![]),
    ];
    let found = written(larger, vec![floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0])]);
    assert_eq!(found, ["input", "conv", "max", "upsample", "add", "average", "linear"]);
}

#[test]
fn what_integers_cannot_is_named() {
    let normalised = |groups: &[i64]| {
        let nodes = vec![
            node("Reshape", "g", &["conv_out", "groups"], vec![]),
            node("InstanceNormalization", "n", &["g_out", "one", "zero"], vec![]),
            node("Reshape", "f", &["n_out", "back"], vec![]),
        ];
        let constants = vec![
            shape("groups", groups),
            shape("back", &[-1, 4, 8, 8]),
            floats("one", &[2], &[1.0; 2]),
            floats("zero", &[2], &[0.0; 2]),
        ];
        network(14, nodes, constants, "f_out", 4)
    };
    refused(normalised(&[0, 2, -1]), "g", "group normalisation takes mean and deviation of each picture");
    let one = |operator: &str| with_node(17, node(operator, "odd", &["conv_out"], vec![]), vec![]);
    refused(one("LayerNormalization"), "odd", "layer normalisation takes");
    refused(one("GroupNormalization"), "odd", "group or instance normalisation");
    refused(one("Attention"), "odd", "attention multiplies two results");
    refused(
        with_node(13, node("MatMul", "odd", &["conv_out", "conv_out"], vec![]), vec![]),
        "odd",
        "attention is not supported",
    );
    refused(
        with_node(13, node("ReduceMean", "odd", &["conv_out"], vec![integers("axes", &[1])]), vec![]),
        "odd",
        "layer normalisation",
    );
    // Three parts cannot be weighed in pairs.
    refused(
        parts_of_groups(2, 3),
        "softmax",
        "it is over 3 parts of 24 channels; 2, 4, 8 and so on are supported",
    );
}

/// As `ResNeSt`'s blocks with several groups: the parts of each exclude each other.
fn parts_of_groups(groups: i64, parts: i64) -> ModelProto {
    let nodes = vec![
        node("GlobalAveragePool", "mean", &["conv_out"], vec![]),
        node("Conv", "more", &["mean_out", "w2"], vec![]),
        node("Reshape", "parts", &["more_out", "groups"], vec![]),
        node("Transpose", "t", &["parts_out"], vec![integers("perm", &[0, 2, 1, 3])]),
        node("Softmax", "softmax", &["t_out"], vec![integer("axis", 1)]),
        node("Reshape", "f", &["softmax_out", "back"], vec![]),
    ];
    let channels = groups * parts * 4;
    let constants = vec![
        random("w2", &[channels, 4, 1, 1]),
        shape("groups", &[1, groups, parts, -1]),
        shape("back", &[1, channels, 1, 1]),
    ];
    network(17, nodes, constants, "f_out", channels)
}

#[test]
fn parts_of_groups_are_weighed_in_pairs() {
    let once = ["input", "conv", "conv", "conv", "channels", "conv", "table", "channels", "channels"];
    let imported = accepted(parts_of_groups(2, 2));
    assert_eq!(operators(&imported)[..9], once);
    let twice = [
        "input", "conv", "conv", "conv", "channels", "conv", "table", "table", "add", "conv", "table",
        "multiply", "channels", "channels",
    ];
    let imported = accepted(parts_of_groups(2, 4));
    assert_eq!(operators(&imported)[..14], twice);
}

#[test]
fn arithmetic_with_constants_folds_into_the_convolution() {
    for (operator, dims) in [
        ("Add", &[4i64, 1, 1][..]),
        ("Sub", &[1, 4, 1, 1]),
        ("Mul", &[1]),
        ("Div", &[]),
        ("Mul", &[4, 1, 1]),
        ("Sum", &[4, 1, 1]),
    ] {
        let added = node(operator, "a", &["conv_out", "k"], vec![]);
        let proto = with_node(13, added.clone(), vec![random("k", dims)]);
        assert_eq!(operators(&accepted(proto)), ["input", "conv", "average", "linear"]);
        if !["Sub", "Div"].contains(&operator) {
            let swapped = NodeProto { input: vec!["k".into(), "conv_out".into()], ..added };
            accepted(with_node(13, swapped, vec![random("k", dims)]));
        }
    }
    // The image's normalisation belongs to its preprocessing.
    let mut proto = network(
        13,
        vec![
            node("Sub", "mean", &["input", "m"], vec![]),
            node("Div", "deviation", &["mean_out", "d"], vec![]),
            node("Relu", "r", &["conv_out"], vec![]),
        ],
        vec![floats("m", &[3, 1, 1], &[0.5, 0.25, 1.0]), floats("d", &[3, 1, 1], &[0.5, 0.25, 0.125])],
        "r_out",
        4,
    );
    graph(&mut proto).node[0].input[0] = "deviation_out".into();
    let imported = read(proto.clone()).unwrap();
    common::assert_equals_tract(&imported);
    assert_eq!(operators(&imported.graph), ["input", "conv+relu", "average", "linear"]);
    assert_eq!(imported.preparation.scale, [2.0, 4.0, 8.0]);
    assert_eq!(imported.preparation.offset, [-1.0, -1.0, -8.0]);
    assert!(imported.preparation.is_normalised);
    // A factor that is not positive stays in the network, and so does what others see otherwise.
    let mut negative = proto.clone();
    graph(&mut negative).initializer[3].float_data[1] = -0.25;
    let imported = read(negative).unwrap();
    common::assert_equals_tract(&imported);
    assert_eq!(operators(&imported.graph), ["input", "conv", "conv+relu", "average", "linear"]);
    assert_eq!(imported.preparation.scale, [1.0; 3]);
    assert!(imported.preparation.is_normalised);
    graph(&mut proto).node[0].input[0] = "mean_out".into();
    let shared = node("Add", "both", &["mean_out", "deviation_out"], vec![]);
    let second = node("Conv", "second", &["both_out", "w"], vec![integers("pads", &[1; 4])]);
    let last = node("Add", "sum", &["r_out", "second_out"], vec![]);
    graph(&mut proto).node.extend([shared, second, last]);
    let average = graph(&mut proto).node.iter_mut().find(|n| n.name == "average").unwrap();
    average.input[0] = "sum_out".into();
    let imported = read(proto).unwrap();
    common::assert_equals_tract(&imported);
    assert_eq!((imported.preparation.scale[0], imported.preparation.offset[0]), (1.0, -0.5));
    refused(with_node(13, node("Mul", "a", &["conv_out", "k"], vec![]), vec![random("k", &[8])]), "a", "[8]");
    refused(
        with_node(13, node("Div", "a", &["conv_out", "k"], vec![]), vec![floats("k", &[1], &[0.0])]),
        "a",
        "not finite",
    );
    refused(
        with_node(13, node("Div", "a", &["k", "conv_out"], vec![]), vec![random("k", &[1])]),
        "a",
        "dividing",
    );
    refused(
        with_node(13, node("Sub", "a", &["k", "conv_out"], vec![]), vec![random("k", &[1])]),
        "a",
        "subtracting",
    );
}

#[test]
fn residual_additions_are_absorbed_or_become_nodes() {
    // Both operands are convolutions: the later one takes the addition.
    let second = node("Conv", "second", &["input", "w2"], vec![integers("pads", &[1; 4])]);
    let proto = network(
        13,
        vec![
            second,
            node("Add", "add", &["second_out", "conv_out"], vec![]),
            node("Relu", "r", &["add_out"], vec![]),
        ],
        vec![random("w2", &[4, 3, 3, 3])],
        "r_out",
        4,
    );
    let both = accepted(proto);
    assert_eq!(operators(&both), ["input", "conv", "conv+add+relu", "average", "linear"]);
    assert_eq!((both.nodes[2].name.as_str(), &both.nodes[2].inputs[..]), ("second", &[0, 1][..]));

    // The absorbing convolution comes before the other operand in the file.
    let proto = network(
        13,
        vec![
            node("MaxPool", "p", &["input"], vec![integers("kernel_shape", &[1, 1])]),
            node("Conv", "second", &["p_out", "w2"], vec![]),
            node("Relu", "r", &["second_out"], vec![]),
            node("Add", "add", &["conv_out", "r_out"], vec![]),
        ],
        vec![random("w2", &[4, 3, 1, 1])],
        "add_out",
        4,
    );
    let moved = accepted(proto);
    assert_eq!(operators(&moved), ["input", "max", "conv+relu", "conv+add", "average", "linear"]);

    // Nothing can take the addition of two activations.
    let proto = network(
        13,
        vec![
            node("Relu", "r", &["conv_out"], vec![]),
            node(
                "MaxPool",
                "p",
                &["r_out"],
                vec![integers("kernel_shape", &[3, 3]), integers("pads", &[1; 4])],
            ),
            node("Add", "add", &["r_out", "p_out"], vec![]),
            node("Add", "twice", &["add_out", "add_out"], vec![]),
        ],
        vec![],
        "twice_out",
        4,
    );
    let own = accepted(proto);
    assert_eq!(operators(&own), ["input", "conv+relu", "max", "add", "conv", "average", "linear"]);

    // Two ReLUs and an addition of the same convolution: its result is needed as it is.
    let proto = network(
        13,
        vec![
            node("Relu", "r", &["conv_out"], vec![]),
            node("Relu", "again", &["r_out"], vec![]),
            node("Add", "add", &["conv_out", "again_out"], vec![]),
        ],
        vec![],
        "add_out",
        4,
    );
    let shared = accepted(proto);
    assert_eq!(operators(&shared), ["input", "conv", "conv+relu", "add", "average", "linear"]);
    let mut proto = with_node(13, node("Add", "add", &["conv_out", "input"], vec![]), vec![]);
    refused(proto.clone(), "add", "same shape");
    graph(&mut proto).node[1].op_type = "Mul".into();
    refused(proto, "add", "it multiplies [4, 8, 8] and [3, 8, 8]");
}

#[test]
fn padding_folds_into_convolutions_and_pools() {
    for opset in [10, 13, 18] {
        let pads = [0, 0, 1, 2, 0, 0, 3, 0];
        let (pad, constants) = if opset < 11 {
            (node("Pad", "pad", &["conv_out"], vec![integers("pads", &pads), float("value", 0.0)]), vec![])
        } else {
            (node("Pad", "pad", &["conv_out", "p"], vec![]), vec![shape("p", &pads)])
        };
        let second = node("Conv", "second", &["pad_out", "w2"], vec![integers("strides", &[2, 2])]);
        let mut all = vec![random("w2", &[4, 4, 3, 3])];
        all.extend(constants.clone());
        let folded = accepted(network(opset, vec![pad.clone(), second], all, "second_out", 4));
        assert_eq!(operators(&folded), ["input", "conv", "conv", "average", "linear"]);

        let pool = node("MaxPool", "pool", &["pad_out"], vec![integers("kernel_shape", &[4, 3])]);
        let mut after_relu = vec![node("Relu", "r", &["conv_out"], vec![]), pad.clone(), pool.clone()];
        after_relu[1].input[0] = "r_out".into();
        accepted(network(opset, after_relu, constants.clone(), "pool_out", 4));
        refused(
            network(opset, vec![pad.clone(), pool], constants.clone(), "pool_out", 4),
            "pool",
            "more than negative",
        );
        // What no convolution takes is made.
        accepted(network(opset, vec![pad, node("Relu", "r", &["pad_out"], vec![])], constants, "r_out", 4));
    }
    // Opset 18 names the padded axes.
    let pad = node("Pad", "pad", &["conv_out", "p", "", "axes"], vec![]);
    let second = node("Conv", "second", &["pad_out", "w2"], vec![]);
    let constants = vec![random("w2", &[4, 4, 3, 3]), shape("p", &[2, 1]), shape("axes", &[-1])];
    accepted(network(18, vec![pad, second], constants, "second_out", 4));

    let pad = |attributes, inputs: &[&str]| node("Pad", "pad", inputs, attributes);
    let eight = || shape("p", &[0, 0, 1, 1, 0, 0, 1, 1]);
    refused(
        with_node(13, pad(vec![string("mode", "wrap")], &["conv_out", "p"]), vec![eight()]),
        "pad",
        "wrap",
    );
    refused(
        with_node(13, pad(vec![], &["conv_out", "p", "v"]), vec![eight(), floats("v", &[], &[1.0])]),
        "pad",
        "pads with 1",
    );
    refused(
        with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[-1; 8])]),
        "pad",
        "[-1, -1, -1, -1, -1, -1, -1, -1] is negative; cut rows and columns off by slicing",
    );
    let mixed = vec![shape("p", &[0, 0, -1, 1, 0, 0, 0, 0])];
    refused(with_node(13, pad(vec![], &["conv_out", "p"]), mixed), "pad", "is negative");
    refused(with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[1; 7])]), "pad", "does not fit");
    refused(
        with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[1, 0, 0, 0, 0, 0, 0, 0])]),
        "pad",
        "pads [batch, channels, height, width]",
    );
    refused(
        with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[0, 0, 65536, 0, 0, 0, 0, 0])]),
        "pad",
        "65536",
    );
    let wide = node("Conv", "wide", &["conv_out", "w2"], vec![]);
    let constants = vec![random("w2", &[300, 4, 1, 1]), shape("p", &[0, 60000, 0, 0, 0, 0, 0, 0])];
    let proto = network(13, vec![wide, pad(vec![], &["wide_out", "p"])], constants, "pad_out", 60300);
    refused(proto, "pad", "too many weights");
}

#[test]
fn option_a_shortcuts_become_one_convolution() {
    let slice = |opset: i64| {
        if opset < 10 {
            let all = vec![
                integers("axes", &[2, 3]),
                integers("starts", &[0, 0]),
                integers("ends", &[i64::MAX, 8]),
            ];
            return (node("Slice", "slice", &["conv_out"], all), vec![]);
        }
        let constants =
            vec![shape("s", &[0, 0]), shape("e", &[i64::MAX, 8]), shape("a", &[2, -1]), shape("t", &[2, 3])];
        (node("Slice", "slice", &["conv_out", "s", "e", "a", "t"], vec![]), constants)
    };
    for pad_first in [false, true] {
        let (mut slice, mut constants) = slice(13);
        let mut pad = node("Pad", "pad", &["slice_out", "p"], vec![]);
        constants.push(shape("p", &[0, 1, 0, 0, 0, 2, 0, 0]));
        let (nodes, last) = if pad_first {
            pad.input[0] = "conv_out".into();
            slice.input[0] = "pad_out".into();
            (vec![pad, slice], "slice_out")
        } else {
            (vec![slice, pad], "pad_out")
        };
        let folded = accepted(network(13, nodes, constants, last, 7));
        assert_eq!(operators(&folded), ["input", "conv", "conv", "average", "linear"]);
        assert_eq!(folded.nodes[2].shape, [7, 4, 3]);
        let Operator::Convolution(c) = &folded.nodes[2].operator else { panic!("a convolution") };
        assert_eq!(c.weights.iter().filter(|&&w| w != 0.0).count(), 4);
        assert_eq!((c.groups, c.stride), (1, [2, 3]));
    }
    let (subsample, constants) = slice(13);
    let depthwise = accepted(network(13, vec![subsample], constants, "slice_out", 4));
    let Operator::Convolution(c) = &depthwise.nodes[2].operator else { panic!("a convolution") };
    assert_eq!(c.groups, 4);
    let (nothing, constants) = slice(9);
    let nothing = accepted(network(9, vec![nothing], constants, "slice_out", 4));
    assert_eq!(operators(&nothing), ["input", "conv", "average", "linear"]);

    let sliced = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        let constants = vec![shape("s", starts), shape("e", ends), shape("a", axes), shape("t", steps)];
        with_node(13, node("Slice", "slice", &["conv_out", "s", "e", "a", "t"], vec![]), constants)
    };
    // Rows and columns cut off.
    accepted(sliced(&[1], &[8], &[2], &[1]));
    accepted(sliced(&[0], &[7], &[2], &[1]));
    accepted(sliced(&[1, -5], &[-2, 8], &[2, 3], &[1, 1]));
    accepted(sliced(&[0, -5], &[6, 8], &[2, 3], &[2, 1]));
    refused(sliced(&[1], &[8], &[2], &[2]), "slice", "1..8 in steps of 2");
    refused(sliced(&[5], &[5], &[2], &[1]), "slice", "5..5");
    refused(sliced(&[0], &[8], &[2], &[-1]), "slice", "steps of -1");
    refused(sliced(&[0], &[4], &[9], &[1]), "slice", "axis 9");
    refused(sliced(&[0, 0], &[8], &[2], &[1]), "slice", "differ in number");
}

#[test]
fn pooling_over_the_image_and_over_windows() {
    let average = |attributes| with_node(13, node("AveragePool", "a", &["conv_out"], attributes), vec![]);
    let whole = accepted(average(vec![integers("kernel_shape", &[8, 8])]));
    assert_eq!(operators(&whole), ["input", "conv", "average", "linear"]);
    let windows = accepted(average(vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])]));
    assert_eq!(operators(&windows), ["input", "conv", "conv", "average", "linear"]);
    let padded = vec![integers("kernel_shape", &[3, 3]), integers("pads", &[1; 4])];
    assert_eq!(operators(&accepted(average(padded.clone()))), ["input", "conv", "mean", "average", "linear"]);
    accepted(average([padded, vec![integer("count_include_pad", 1)]].concat()));

    let max = |attributes| with_node(13, node("MaxPool", "m", &["conv_out"], attributes), vec![]);
    for automatic in ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"] {
        let graph = accepted(max(vec![
            integers("kernel_shape", &[3, 4]),
            integers("strides", &[2, 3]),
            string("auto_pad", automatic),
        ]));
        let expected = if automatic.starts_with("SAME") { [4, 4, 3] } else { [4, 3, 2] };
        assert_eq!(graph.nodes[2].shape, expected, "{automatic}");
    }
    let kernel = |k: i64| integers("kernel_shape", &[k, k]);
    accepted(max(vec![kernel(2), integers("strides", &[2, 2]), integer("ceil_mode", 1)]));
    refused(max(vec![kernel(2), integers("dilations", &[2, 2])]), "m", "dilation");
    refused(max(vec![kernel(2), integers("pads", &[2; 4])]), "m", "not smaller than its window");
    refused(max(vec![kernel(9)]), "m", "window spans");
    refused(max(vec![]), "m", "kernel_shape is missing");
    refused(max(vec![integers("kernel_shape", &[2])]), "m", "2 values");
    refused(max(vec![kernel(0)]), "m", "kernel_shape");
    refused(max(vec![kernel(2), integers("strides", &[0, 1])]), "m", "strides");
    refused(max(vec![kernel(2), integers("strides", &[i64::MAX, 1])]), "m", "strides");
    refused(max(vec![kernel(2), integers("pads", &[-1; 4])]), "m", "pads");
    refused(max(vec![kernel(2), string("auto_pad", "MAYBE")]), "m", "MAYBE");
    refused(max(vec![kernel(2), integer("colour", 1)]), "m", "`colour`");
    refused(max(vec![kernel(2), integers("ceil_mode", &[1])]), "m", "is no INT");
    let mut indices = max(vec![kernel(2)]);
    graph(&mut indices).node[1].output.push("where".into());
    accepted(indices.clone());
    let graph_proto = graph(&mut indices);
    graph_proto.node[2].input[0] = "where".into();
    refused(indices, "m", "second output");
}

#[test]
fn the_head_may_be_written_in_many_ways() {
    let relu = || node("Relu", "r", &["conv_out"], vec![]);
    let matrix = || vec![random("fc.w", &[4, 5]), random("fc.b", &[5])];
    let head = |opset, nodes: Vec<NodeProto>, constants: Vec<TensorProto>| {
        let graph = accepted(headless(opset, nodes, [constants, matrix()].concat()));
        assert_eq!(operators(&graph), ["input", "conv+relu", "average", "linear"]);
        assert_eq!(graph.nodes[3].shape, [5, 1, 1]);
    };
    let product = |input: &str| node("MatMul", "mm", &[input, "fc.w"], vec![]);
    let bias = || node("Add", "bias", &["fc.b", "mm_out"], vec![]);
    let gemm = |input: &str| {
        node("Gemm", "fc", &[input, "fc.w", "fc.b"], vec![float("alpha", 0.5), float("beta", 2.0)])
    };
    let mean = |axes: &[i64], keep| {
        node("ReduceMean", "mean", &["r_out"], vec![integers("axes", axes), integer("keepdims", keep)])
    };
    head(13, vec![relu(), mean(&[2, 3], 0), product("mean_out"), bias()], vec![]);
    head(13, vec![relu(), mean(&[-1, -2], 0), gemm("mean_out")], vec![]);
    let newer = node("ReduceMean", "mean", &["r_out", "axes"], vec![integer("keepdims", 0)]);
    head(18, vec![relu(), newer, gemm("mean_out")], vec![shape("axes", &[-2, -1])]);
    let squeeze = node("Squeeze", "s", &["mean_out"], vec![integers("axes", &[2, 3])]);
    head(11, vec![relu(), mean(&[3, 2], 1), squeeze, gemm("s_out")], vec![]);
    let squeeze = node("Squeeze", "s", &["mean_out", "axes"], vec![]);
    head(13, vec![relu(), mean(&[2, 3], 1), squeeze, gemm("s_out")], vec![shape("axes", &[2, 3])]);
    for target in [&[0i64, -1][..], &[-1, 4], &[1, -1], &[1, 4], &[0, 4], &[0, 0]] {
        let reshape = node("Reshape", "s", &["mean_out", "target"], vec![]);
        head(13, vec![relu(), mean(&[2, 3], 1), reshape, gemm("s_out")], vec![shape("target", target)]);
    }
    // x.view(x.size(0), -1), dropout and softmax, as PyTorch writes them.
    let chain = |unknown: bool| {
        vec![
            relu(),
            mean(&[2, 3], 1),
            node("Shape", "size", &["mean_out"], vec![]),
            constant("zero", TensorProto { dims: vec![], ..shape("", &[0]) }),
            node("Gather", "batch", &["size_out", "zero"], vec![integer("axis", 0)]),
            node(if unknown { "Abs" } else { "Identity" }, "same", &["batch_out"], vec![]),
            node("Unsqueeze", "list", &["same_out", "first"], vec![]),
            node("Concat", "target", &["list_out", "rest"], vec![integer("axis", 0)]),
            node("Reshape", "s", &["mean_out", "target_out"], vec![]),
            node("Dropout", "d", &["s_out"], vec![]),
            node("Identity", "i", &["s_out"], vec![]),
            gemm("i_out"),
            node("Softmax", "p", &["fc_out"], vec![integer("axis", 1)]),
        ]
    };
    let constants = || vec![shape("first", &[0]), shape("rest", &[-1])];
    head(13, chain(false), constants());
    let mut unknown = chain(true);
    unknown[11].input[0] = "s_out".into();
    unknown.remove(10);
    head(13, unknown, constants());

    let refuse = |nodes: Vec<NodeProto>, constants: Vec<TensorProto>, at: &str, cause: &str| {
        refused(headless(13, nodes, [constants, matrix()].concat()), at, cause);
    };
    let reshape = || node("Reshape", "s", &["mean_out", "target"], vec![]);
    for target in
        [&[3i64, -1][..], &[4], &[2, 2], &[-1, -1], &[0, 0, 0, 0, 0, 0], &[i64::MIN, 4], &[65536; 8]]
    {
        refuse(
            vec![relu(), mean(&[2, 3], 1), reshape(), gemm("s_out")],
            vec![shape("target", target)],
            "s",
            "reshapes",
        );
    }
    refuse(vec![relu(), mean(&[1, 2], 1), gemm("mean_out")], vec![], "mean", "[1, 2]");
    refuse(vec![relu(), mean(&[2, 3], 1), gemm("mean_out")], vec![], "fc", "flatten it");
    refuse(
        vec![relu(), node("Flatten", "f", &["r_out"], vec![]), gemm("f_out")],
        vec![],
        "fc",
        "do not fit an input of 256 features",
    );
    refuse(
        vec![relu(), node("Flatten", "f", &["r_out"], vec![integer("axis", 2)]), gemm("f_out")],
        vec![],
        "f",
        "axis is 2",
    );
    let mut transposed = gemm("mean_out");
    transposed.attribute.push(integer("transA", 1));
    refuse(vec![relu(), mean(&[2, 3], 0), transposed], vec![], "fc", "transA");
    let mut wrong = gemm("mean_out");
    wrong.attribute.push(integer("transB", 1));
    refuse(vec![relu(), mean(&[2, 3], 0), wrong], vec![], "fc", "do not fit");
    let mut wrong = gemm("mean_out");
    wrong.input[2] = "target".into();
    let short = vec![floats("target", &[3], &[0.0; 3])];
    refuse(vec![relu(), mean(&[2, 3], 0), wrong], short, "fc", "[3]");
    refuse(vec![relu(), mean(&[2, 3], 0)], vec![], "mean", "fully connected");
    refuse(
        vec![relu(), mean(&[2, 3], 0), gemm("mean_out"), node("Relu", "last", &["fc_out"], vec![])],
        vec![],
        "fc",
        "plain fully connected",
    );
    refuse(
        vec![relu(), node("Softmax", "p", &["r_out"], vec![]), node("Relu", "last", &["p_out"], vec![])],
        vec![],
        "p",
        "",
    );
    let softmax = node("Softmax", "p", &["mean_out"], vec![]);
    let mut after = gemm("p_out");
    after.input[0] = "p_out".into();
    refuse(vec![relu(), mean(&[2, 3], 0), softmax, after], vec![], "p", "not the last node");
}

#[test]
fn hidden_fully_connected_layers_are_1x1_convolutions() {
    let nodes = vec![
        node("GlobalAveragePool", "mean", &["conv_out"], vec![]),
        node("Flatten", "flat", &["mean_out"], vec![]),
        node("Gemm", "hidden", &["flat_out", "h"], vec![]),
        node("Relu", "r", &["hidden_out"], vec![]),
        node("Gemm", "fc", &["r_out", "w2"], vec![]),
    ];
    let graph = accepted(headless(13, nodes, vec![random("h", &[4, 6]), random("w2", &[6, 3])]));
    // The average over the image is one of them, and the one before the last layer widens only.
    assert_eq!(operators(&graph), ["input", "conv", "conv", "conv+relu", "average", "linear"]);
    let Operator::Convolution(c) = &graph.nodes[2].operator else { panic!("a convolution") };
    assert_eq!((c.kernel, c.groups), ([8, 8], CHANNELS));
}

#[test]
fn the_root_of_a_mean_of_powers_is_one_operation() {
    let nodes = |first: &str, last: &str| {
        vec![
            node("Relu", "r", &["conv_out"], vec![]),
            node("Pow", "powers", &[first, "three"], vec![]),
            node("GlobalAveragePool", "mean", &["powers_out"], vec![]),
            node("Pow", "roots", &["mean_out", "third"], vec![]),
            node("Flatten", "flat", &[last], vec![]),
            node("Gemm", "fc", &["flat_out", "h"], vec![]),
        ]
    };
    let constants = |channels: usize| {
        let [three, third] =
            [("three", 3.0), ("third", 1.0 / 3.0)].map(|(name, value)| floats(name, &[], &[value]));
        vec![three, third, random("h", &[channels as i64, 6])]
    };
    let graph = accepted(headless(13, nodes("r_out", "roots_out"), constants(CHANNELS)));
    assert_eq!(operators(&graph), ["input", "conv+relu", "generalised mean", "average", "linear"]);

    // The root of a power that was learnt, and of one that has none.
    let mut learnt = nodes("r_out", "roots_out");
    learnt.insert(0, node("Reciprocal", "root", &["three"], vec![]));
    learnt[4].input[1] = "root_out".into();
    let graph = accepted(headless(13, learnt.clone(), constants(CHANNELS)));
    assert_eq!(operators(&graph), ["input", "conv+relu", "generalised mean", "average", "linear"]);
    let mut zero = constants(CHANNELS);
    zero[0] = floats("three", &[], &[0.0]);
    let refused = read(headless(13, learnt, zero)).unwrap_err().to_string();
    assert!(refused.contains("computed by Reciprocal"), "{refused}");

    // The mean itself is needed too.
    let mut both = nodes("r_out", "both_out");
    both.insert(4, node("Concat", "both", &["mean_out", "roots_out"], vec![integer("axis", 1)]));
    let graph = accepted(headless(13, both, constants(2 * CHANNELS)));
    assert!(!operators(&graph).contains(&"generalised mean"), "{:?}", operators(&graph));
    // The powers may be negative, so that their mean may be too; of this importing is all that can be compared.
    let negative = headless(13, nodes("conv_out", "roots_out"), constants(CHANNELS));
    let graph = read(negative).unwrap().graph;
    assert!(!operators(&graph).contains(&"generalised mean"), "{:?}", operators(&graph));
}

/// The five nodes of a head: pool, flatten, normalisation, and two layers with a ReLU between.
fn normalised_head() -> (Vec<NodeProto>, Vec<TensorProto>) {
    let parameters = ["gamma", "beta", "mean", "variance"];
    let nodes = vec![
        node("Relu", "r", &["conv_out"], vec![]),
        node("GlobalAveragePool", "pool", &["r_out"], vec![]),
        node("Flatten", "flat", &["pool_out"], vec![]),
        node("BatchNormalization", "bn", &["flat_out", "gamma", "beta", "mean", "variance"], vec![]),
        node("Gemm", "fc", &["bn_out", "h"], vec![]),
    ];
    let mut constants = parameters.map(|name| random(name, &[4])).to_vec();
    constants[3].float_data = vec![1.0, 2.0, 0.5, 0.25];
    constants.push(random("h", &[4, 6]));
    (nodes, constants)
}

#[test]
fn normalisation_before_a_fully_connected_layer_goes_into_it() {
    let (nodes, constants) = normalised_head();
    let graph = accepted(headless(13, nodes, constants));
    assert_eq!(operators(&graph), ["input", "conv+relu", "average", "linear"]);

    let (mut nodes, mut constants) = normalised_head();
    nodes.extend([
        node("Relu", "r2", &["fc_out"], vec![]),
        node("Dropout", "d", &["r2_out"], vec![]),
        node("Gemm", "last", &["d_out", "w2"], vec![]),
    ]);
    constants.push(random("w2", &[6, 3]));
    let graph = accepted(headless(13, nodes, constants));
    assert_eq!(operators(&graph), ["input", "conv+relu", "conv", "conv+relu", "average", "linear"]);

    // Into a convolution of several groups and taps, but not into one with padding.
    for (pads, expected) in
        [(0, vec!["input", "conv+relu", "conv"]), (1, vec!["input", "conv+relu", "conv", "conv"])]
    {
        let nodes = vec![
            node("Relu", "r", &["conv_out"], vec![]),
            node("Mul", "m", &["r_out", "k"], vec![]),
            node("Add", "a", &["m_out", "k"], vec![]),
            node("Conv", "second", &["a_out", "w2"], vec![integers("pads", &[pads; 4]), integer("group", 2)]),
        ];
        let constants = vec![random("k", &[4, 1, 1]), random("w2", &[6, 2, 3, 2])];
        let graph = accepted(network(13, nodes, constants, "second_out", 6));
        assert_eq!(operators(&graph)[..expected.len()], expected);
        assert_eq!(graph.nodes.len(), expected.len() + 2);
    }
}

#[test]
fn classifiers_may_be_convolutions() {
    let relu = || node("Relu", "r", &["conv_out"], vec![]);
    let pool = |input: &str| node("GlobalAveragePool", "pool", &[input], vec![]);
    let flat = |input: &str| node("Flatten", "flat", &[input], vec![]);
    let classes = |input: &str| node("Conv", "classes", &[input, "w2"], vec![]);
    let weights = || vec![random("w2", &[3, 4, 1, 1])];
    let behind = vec![relu(), pool("r_out"), classes("pool_out"), flat("classes_out")];
    let read_graph = accepted(headless(13, behind, weights()));
    assert_eq!(operators(&read_graph), ["input", "conv+relu", "average", "linear"]);
    for last_relu in [false, true] {
        let mut before = vec![relu(), classes("r_out")];
        if last_relu {
            before.push(node("Relu", "r2", &["classes_out"], vec![]));
        }
        before.extend([pool(if last_relu { "r2_out" } else { "classes_out" }), flat("pool_out")]);
        let read_graph = accepted(headless(13, before, weights()));
        let second = if last_relu { "conv+relu" } else { "conv" };
        assert_eq!(operators(&read_graph), ["input", "conv+relu", second, "average", "linear"]);
        assert_eq!(read_graph.nodes[4].shape, [3, 1, 1]);
    }
    let maximum = vec![
        relu(),
        node("GlobalMaxPool", "pool", &["r_out"], vec![]),
        flat("pool_out"),
        node("Gemm", "fc", &["flat_out", "w2"], vec![]),
    ];
    let largest = accepted(headless(13, maximum, vec![random("w2", &[4, 3])]));
    assert_eq!(operators(&largest), ["input", "conv+relu", "max", "average", "linear"]);
    // Features without a classifier are no classes.
    refused(headless(13, vec![relu(), pool("r_out")], vec![]), "pool", "export it with its classifier");
    let mut image = headless(
        13,
        vec![
            node("GlobalMaxPool", "pool", &["input"], vec![]),
            flat("pool_out"),
            node("Gemm", "fc", &["flat_out", "w2"], vec![]),
        ],
        vec![random("w2", &[3, 2])],
    );
    // Nothing needs the convolution.
    graph(&mut image).node.remove(0);
    refused(image, "fc", "the image itself");
}

#[test]
fn dimensions_of_one_come_and_go() {
    let relu = || node("Relu", "r", &["conv_out"], vec![]);
    let pool = || node("GlobalAveragePool", "pool", &["r_out"], vec![]);
    let fc = |input: &str| node("Gemm", "fc", &[input, "fc.w"], vec![]);
    let head = |nodes: Vec<NodeProto>, mut constants: Vec<TensorProto>| {
        constants.push(random("fc.w", &[4, 3]));
        let graph = accepted(headless(13, nodes, constants));
        assert_eq!(operators(&graph), ["input", "conv+relu", "average", "linear"]);
    };
    let squeeze = |name: &str, input: &str, axes: &str| node("Squeeze", name, &[input, axes], vec![]);
    head(
        vec![relu(), pool(), squeeze("s", "pool_out", "a"), squeeze("t", "s_out", "second"), fc("t_out")],
        vec![shape("a", &[3]), shape("second", &[2])],
    );
    // What is dropped may come back elsewhere.
    head(
        vec![
            relu(),
            pool(),
            squeeze("s", "pool_out", "both"),
            node("Unsqueeze", "u", &["s_out", "a"], vec![]),
            node("Reshape", "t", &["u_out", "second"], vec![]),
            node("Flatten", "f", &["t_out"], vec![integer("axis", 2)]),
            fc("f_out"),
        ],
        vec![shape("both", &[2, 3]), shape("a", &[1, 3]), shape("second", &[-1, 1, 4, 1])],
    );
    let refuse = |nodes: Vec<NodeProto>, constants: Vec<TensorProto>, at: &str, cause: &str| {
        refused(headless(13, nodes, constants), at, cause);
    };
    let all = node("Squeeze", "s", &["pool_out"], vec![]);
    refuse(vec![relu(), pool(), all], vec![], "s", "it has no axes");
    refuse(vec![relu(), squeeze("s", "r_out", "a")], vec![shape("a", &[2])], "s", "only dimensions of 1");
    refuse(vec![relu(), pool(), squeeze("s", "pool_out", "a")], vec![shape("a", &[0])], "s", "not the batch");
    refuse(
        vec![relu(), pool(), node("Flatten", "f", &["pool_out"], vec![integer("axis", 0)])],
        vec![],
        "f",
        "axis is 0",
    );
}

/// The network of [`network`] with an input of [N, 8, 8, 3] that is transposed.
fn channels_last(
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    last: &str,
    channels: i64,
) -> ModelProto {
    let mut proto = network(13, nodes, constants, last, channels);
    let graph_proto = graph(&mut proto);
    for (axis, size) in [(1, 8), (2, 8), (3, 3)] {
        set_dimension(graph_proto, axis, DimensionValue::DimValue(size));
    }
    graph_proto.node[0].input[0] = "nchw_out".into();
    graph_proto.node.push(node("Transpose", "nchw", &["input"], vec![integers("perm", &[0, 3, 1, 2])]));
    proto
}

#[test]
fn images_may_come_with_channels_last() {
    let relu = || node("Relu", "r", &["conv_out"], vec![]);
    let imported = read(channels_last(vec![relu()], vec![], "r_out", 4)).unwrap();
    common::assert_equals_tract(&imported);
    assert_eq!(imported.graph.nodes[0].shape, [3, 8, 8]);
    assert_eq!(operators(&imported.graph), ["input", "conv+relu", "average", "linear"]);

    // Back and forth in the middle, where the value of a node is looked at in NHWC.
    let last = || integers("perm", &[0, 2, 3, 1]);
    let nodes = vec![
        node("Transpose", "there", &["conv_out"], vec![last()]),
        node("Mul", "scaled", &["there_out", "k"], vec![]),
        node("Relu", "r", &["scaled_out"], vec![]),
        node("Transpose", "back", &["r_out"], vec![integers("perm", &[0, 3, 1, 2])]),
    ];
    let graph_read = accepted(channels_last(nodes, vec![random("k", &[4])], "back_out", 4));
    assert_eq!(operators(&graph_read), ["input", "conv+relu", "average", "linear"]);

    // A network that works on NHWC to its end.
    let mut proto = channels_last(vec![relu()], vec![], "r_out", 4);
    let graph_proto = graph(&mut proto);
    graph_proto.node.retain(|n| !["average", "flatten", "fc"].contains(&n.name.as_str()));
    graph_proto.node.extend([
        node("Transpose", "there", &["r_out"], vec![last()]),
        node("ReduceMean", "mean", &["there_out"], vec![integers("axes", &[1, 2]), integer("keepdims", 0)]),
        node("MatMul", "mm", &["mean_out", "w2"], vec![]),
        node("Add", "bias", &["mm_out", "b2"], vec![]),
        node("Softmax", "p", &["bias_out"], vec![]),
    ]);
    graph_proto.initializer.extend([random("w2", &[4, 3]), random("b2", &[3])]);
    graph_proto.output[0].name = "p_out".into();
    assert_eq!(operators(&accepted(proto.clone())), ["input", "conv+relu", "average", "linear"]);
    // The normalisation before the transposition, as tf2onnx leaves it.
    let graph_proto = graph(&mut proto);
    graph_proto.node.push(node("Sub", "centred", &["input", "c"], vec![]));
    graph_proto.initializer.push(floats("c", &[3], &[103.0, 116.0, 123.0]));
    let transposition = graph_proto.node.iter_mut().find(|n| n.name == "nchw").unwrap();
    transposition.input[0] = "centred_out".into();
    let imported = read(proto.clone()).unwrap();
    common::assert_equals_tract(&imported);
    assert_eq!(imported.preparation.offset, [-103.0, -116.0, -123.0]);
    assert_eq!(imported.graph.nodes[0].tensor, "nchw_out");

    let direct = graph(&mut proto).node.iter_mut().find(|n| n.name == "conv").unwrap();
    direct.input[0] = "centred_out".into();
    refused(proto, "conv", "[batch, height, width, channels] where");
}

#[test]
fn channels_of_the_image_may_be_exchanged() {
    let gather = |order: &[i64]| {
        let swapped = node("Gather", "swap", &["input", "order"], vec![integer("axis", 1)]);
        let mut proto = network(13, vec![swapped], vec![shape("order", order)], "conv_out", 4);
        graph(&mut proto).node[0].input[0] = "swap_out".into();
        proto
    };
    for order in [[2, 1, 0], [-1, -2, -3]] {
        let imported = read(gather(&order)).unwrap();
        common::assert_equals_tract(&imported);
        assert_eq!(imported.preparation.channels, [2, 1, 0]);
        assert!(!imported.preparation.is_normalised);
        assert_eq!(operators(&imported.graph), ["input", "conv", "average", "linear"]);
    }
    let chosen = accepted(gather(&[0, 0, 1]));
    assert_eq!(operators(&chosen), ["input", "channels", "conv", "average", "linear"]);
    refused(gather(&[0, 3, 1]), "swap", "another order");
    let slice = |end: i64, step: i64| {
        let swapped = node("Slice", "swap", &["input", "s", "e", "a", "t"], vec![]);
        let constants = vec![shape("s", &[-1]), shape("e", &[end]), shape("a", &[1]), shape("t", &[step])];
        let mut proto = network(13, vec![swapped], constants, "conv_out", 4);
        graph(&mut proto).node[0].input[0] = "swap_out".into();
        proto
    };
    assert_eq!(read(slice(i64::MIN, -1)).unwrap().preparation.channels, [2, 1, 0]);
    refused(slice(0, -1), "swap", "steps of -1");
    let swapped = node("Gather", "swap", &["conv_out", "order"], vec![integer("axis", 1)]);
    let later = network(13, vec![swapped], vec![shape("order", &[3, 1, 2, 0])], "swap_out", 4);
    assert_eq!(operators(&accepted(later)), ["input", "conv", "channels", "average", "linear"]);
}

#[test]
fn images_may_come_as_bytes() {
    let mut proto = network(
        13,
        vec![
            node("Cast", "float", &["input"], vec![integer("to", 1)]),
            node("Mul", "unit", &["float_out", "k"], vec![]),
        ],
        vec![floats("k", &[], &[0.5])],
        "conv_out",
        4,
    );
    graph(&mut proto).node[0].input[0] = "unit_out".into();
    let Some(TypeValue::TensorType(tensor)) = &mut graph(&mut proto).input[0].r#type.as_mut().unwrap().value
    else {
        panic!("a tensor")
    };
    tensor.elem_type = DataType::Uint8 as i32;
    let imported = read(proto).unwrap();
    common::assert_equals_tract(&imported);
    assert!(imported.preparation.grey_levels);
    assert_eq!(imported.preparation.scale, [0.5; 3]);
}

#[test]
fn one_output_is_two_classes_of_which_the_first_has_the_logit_zero() {
    let head = |last: Vec<NodeProto>| {
        let mut nodes = vec![
            node("GlobalAveragePool", "pool", &["conv_out"], vec![]),
            node("Flatten", "flat", &["pool_out"], vec![]),
            node("Gemm", "fc", &["flat_out", "w2"], vec![]),
        ];
        nodes.extend(last);
        headless(13, nodes, vec![random("w2", &[4, 1])])
    };
    for last in [vec![], vec![node("Sigmoid", "s", &["fc_out"], vec![])]] {
        let imported = read(head(last)).unwrap();
        assert!(imported.is_binary);
        common::assert_equals_tract(&imported);
        let last = imported.graph.nodes.last().unwrap();
        assert_eq!(last.shape, [2, 1, 1]);
        let Operator::Linear { weights, bias } = &last.operator else { panic!("a linear layer") };
        assert_eq!((&weights[..4], bias[0], weights.len()), (&[0.0; 4][..], 0.0, 8));
        let reference = resight::reference::Reference::new(&imported, &[]).unwrap();
        let logits = reference.run(&common::image(3 * 8 * 8, 5)).unwrap().logits().to_vec();
        assert!(logits[0].abs() < f32::MIN_POSITIVE && logits[1].abs() > 1e-6, "{logits:?}");
    }
    assert!(!read(with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![])).unwrap().is_binary);
    refused(head(vec![node("Softmax", "p", &["fc_out"], vec![])]), "p", "always 1");
    let mut several = with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]);
    graph(&mut several).node.push(node("Sigmoid", "s", &["fc_out"], vec![]));
    graph(&mut several).output[0].name = "s_out".into();
    let several = read(several).unwrap();
    assert_eq!((several.activation, several.is_binary), (Activation::Sigmoid, false));
    assert_eq!(several.graph.nodes.last().unwrap().shape, [5, 1, 1]);
    common::assert_equals_tract(&several);
    let map = vec![node("Relu", "r", &["conv_out"], vec![]), node("Sigmoid", "s", &["r_out"], vec![])];
    refused(headless(13, map, vec![]), "s", "segmentation");
}

#[test]
fn of_several_outputs_the_one_that_the_others_lead_to_is_taken() {
    let with_outputs = |names: &[&str]| {
        let mut proto = with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]);
        graph(&mut proto).node.push(node("Softmax", "p", &["fc_out"], vec![]));
        let output = graph(&mut proto).output[0].clone();
        graph(&mut proto).output = names
            .iter()
            .map(|name| tract_onnx::pb::ValueInfoProto { name: (*name).into(), ..output.clone() })
            .collect();
        proto
    };
    for names in [["r_out", "fc_out"], ["fc_out", "r_out"], ["fc_out", "p_out"]] {
        let imported = read(with_outputs(&names)).unwrap();
        assert_eq!(imported.graph.nodes.last().unwrap().shape, [5, 1, 1], "{names:?}");
        common::assert_equals_tract(&imported);
    }
    file_refused(with_outputs(&["p_out", "nowhere"]), "2 outputs, of which none is made of all others");
}

/// The network of these nodes with these outputs, as maps, compared with tract.
fn maps(opset: i64, nodes: Vec<NodeProto>, constants: Vec<TensorProto>, names: &[&str]) -> FloatGraph {
    let mut proto = headless(opset, nodes, constants);
    let output = graph(&mut proto).output[0].clone();
    let named = |name: &&str| tract_onnx::pb::ValueInfoProto { name: (*name).into(), ..output.clone() };
    graph(&mut proto).output = names.iter().map(named).collect();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let imported = import_proto_maps(proto, Path::new("folder/maps.onnx"), &names)
        .unwrap_or_else(|error| panic!("{error}"));
    common::assert_equals_tract(&imported);
    imported.graph
}

#[test]
fn transposed_convolutions_are_their_phases() {
    for (kernel, stride, pads, beyond, groups, size) in [
        ([4, 4], [2, 2], [1, 1, 1, 1], [0, 0], 1, [16, 16]),
        ([2, 2], [2, 2], [0, 0, 0, 0], [0, 0], 2, [16, 16]),
        ([3, 3], [2, 2], [1, 1, 1, 1], [1, 1], 1, [16, 16]),
        ([3, 2], [2, 1], [1, 0, 1, 0], [0, 0], 4, [15, 9]),
        ([3, 5], [1, 3], [1, 2, 1, 0], [0, 1], 1, [8, 25]),
    ] {
        let attributes = vec![
            integers("kernel_shape", &kernel),
            integers("strides", &stride),
            integers("pads", &pads),
            integers("output_padding", &beyond),
            integer("group", groups),
        ];
        let nodes = vec![
            node("ConvTranspose", "up", &["conv_out", "up.w", "up.b"], attributes),
            node("BatchNormalization", "bn", &["up_out", "scale", "shift", "mean", "variance"], vec![]),
            node("Relu", "relu", &["bn_out"], vec![]),
            node("Conv", "end", &["relu_out", "end.w"], vec![]),
        ];
        let constants = vec![
            random("up.w", &[CHANNELS as i64, 4 / groups, kernel[0], kernel[1]]),
            random("up.b", &[4]),
            floats("scale", &[4], &[0.5, 1.5, -1.0, 2.0]),
            random("shift", &[4]),
            random("mean", &[4]),
            floats("variance", &[4], &[1.0, 0.5, 2.0, 1.0]),
            random("end.w", &[3, 4, 1, 1]),
        ];
        let graph = maps(13, nodes, constants, &["end_out"]);
        let phases = (stride[0] * stride[1]) as usize;
        let mut expected = vec!["input", "conv"];
        expected.extend(vec!["conv+relu"; phases]);
        expected.extend(if phases > 1 { vec!["interleave"] } else { vec![] });
        expected.push("conv");
        assert_eq!(operators(&graph), expected, "{kernel:?}");
        assert_eq!(graph.nodes.last().unwrap().shape, [3, size[0], size[1]], "{kernel:?}");
    }
    let odd = |attributes: Vec<AttributeProto>| {
        let mut proto = with_node(13, node("ConvTranspose", "up", &["conv_out", "up.w"], attributes), vec![]);
        graph(&mut proto).initializer.push(random("up.w", &[CHANNELS as i64, 4, 3, 3]));
        proto
    };
    refused(odd(vec![integers("dilations", &[2, 2])]), "up", "no dilation are supported");
    refused(odd(vec![integers("strides", &[9, 9])]), "up", "64 phases at most");
    refused(odd(vec![string("auto_pad", "SAME_UPPER")]), "up", "export it with `pads`");
    refused(odd(vec![integers("pads", &[5, 5, 5, 5])]), "up", "leaves less than a step");
    refused(odd(vec![integer("group", 3)]), "up", "in 3 groups do not fit an input of");
}

#[test]
fn images_are_resized_as_the_standard_says() {
    let resized = |mode: &str, places: &str, nearest: &str, size: [i64; 2]| {
        let attributes = vec![
            string("mode", mode),
            string("coordinate_transformation_mode", places),
            string("nearest_mode", nearest),
        ];
        let nodes = vec![node("Resize", "size", &["conv_out", "", "", "sizes"], attributes)];
        maps(13, nodes, vec![shape("sizes", &[1, CHANNELS as i64, size[0], size[1]])], &["size_out"])
    };
    for size in [[16, 16], [13, 5], [8, 31], [1, 1]] {
        for places in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"] {
            let graph = resized("linear", places, "floor", size);
            assert_eq!(operators(&graph), ["input", "conv", "resize"], "{places} {size:?}");
            assert_eq!(graph.nodes[2].shape, [CHANNELS, size[0] as usize, size[1] as usize]);
        }
    }
    for (places, nearest) in [("half_pixel", "round_prefer_floor"), ("asymmetric", "floor")] {
        resized("nearest", places, nearest, [13, 11]);
        assert_eq!(operators(&resized("nearest", places, nearest, [16, 24]))[2], "upsample");
    }
    // The global branch of ASPP: an average over the image, spread over it again.
    let nodes = vec![
        node("GlobalAveragePool", "average", &["conv_out"], vec![]),
        node("Resize", "size", &["average_out", "", "", "sizes"], vec![string("mode", "linear")]),
        node("Concat", "both", &["conv_out", "size_out"], vec![integer("axis", 1)]),
        node("Conv", "end", &["both_out", "end.w"], vec![integers("dilations", &[2, 2])]),
        node("Sigmoid", "p", &["end_out"], vec![]),
    ];
    let channels = CHANNELS as i64;
    let constants = vec![shape("sizes", &[1, channels, 8, 8]), random("end.w", &[2, 2 * channels, 3, 3])];
    let graph = maps(13, nodes, constants, &["p_out"]);
    assert_eq!(operators(&graph), ["input", "conv", "mean", "resize", "concat", "conv"]);
    assert_eq!(graph.outputs[0].activation, Some(Activation::Sigmoid));
    let cubic = node("Resize", "odd", &["conv_out", "", "s"], vec![string("mode", "cubic")]);
    let scales = floats("s", &[4], &[1.0, 1.0, 2.0, 2.0]);
    refused(with_node(13, cubic, vec![scales]), "odd", "only nearest and linear are supported");
}

#[test]
fn maps_are_outputs_in_their_order() {
    let nodes = || {
        vec![
            node("Relu", "r", &["conv_out"], vec![]),
            node("Conv", "a", &["r_out", "a.w"], vec![]),
            node("Conv", "b", &["r_out", "b.w"], vec![]),
            node("Sigmoid", "p", &["a_out"], vec![]),
            node("Softmax", "q", &["b_out"], vec![integer("axis", 1)]),
        ]
    };
    let channels = CHANNELS as i64;
    let constants = || vec![random("a.w", &[2, channels, 1, 1]), random("b.w", &[3, channels, 1, 1])];
    let graph = maps(13, nodes(), constants(), &["q_out", "p_out", "r_out"]);
    let found: Vec<(&str, [usize; 3], Option<Activation>)> = graph
        .outputs
        .iter()
        .map(|output| (output.name.as_str(), graph.nodes[output.node].shape, output.activation))
        .collect();
    let expected = [
        ("q_out", [3, 8, 8], Some(Activation::Softmax)),
        ("p_out", [2, 8, 8], Some(Activation::Sigmoid)),
        ("r_out", [CHANNELS, 8, 8], None),
    ];
    assert_eq!(found, expected);
    assert_eq!(graph.output_nodes().len(), 3);
    let error = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut proto = headless(13, nodes(), constants());
        let output = proto.graph.as_ref().unwrap().output[0].clone();
        let named = |name: &str| tract_onnx::pb::ValueInfoProto { name: name.into(), ..output.clone() };
        proto.graph.as_mut().unwrap().output = vec![named("p_out"), named("input")];
        import_proto_maps(proto, Path::new("maps.onnx"), &names).map(|i| i.graph).unwrap_err().to_string()
    };
    assert_eq!(
        error(&["heat"]),
        "maps.onnx: it has no output `heat`, but `p_out`, `input`; say in the decoder's file which output is what"
    );
    assert_eq!(error(&["input"]), "maps.onnx: no node makes the output `input`; the file is damaged");
}

/// The network with these nodes between the input and the convolution.
fn prepared(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> Imported {
    let last = nodes.last().map_or("input".to_owned(), |node| node.output[0].clone());
    let mut proto = network(13, nodes, constants, "conv_out", 4);
    graph(&mut proto).node[0].input[0] = last;
    read(proto).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn normalisation_in_the_network_is_found_and_not_done_twice() {
    use resight::preprocess::{Convention, find};
    let nowhere = Path::new("folder/hostile.onnx");
    let imagenet = Convention::imagenet();
    let expect = |imported: &Imported, given: &Convention, mean: [f64; 3], deviation: [f64; 3]| {
        let found = find(imported, nowhere).unwrap();
        assert_eq!(&found.convention, given, "{found:?}");
        let preprocessing = found.preprocessing(imported).unwrap();
        for channel in 0..3 {
            let error = f64::from(preprocessing.mean[channel]) - mean[channel];
            assert!(error.abs() < 1e-6, "{preprocessing:?}");
            let ratio = f64::from(preprocessing.standard_deviation[channel]) / deviation[channel];
            assert!((ratio - 1.0).abs() < 1e-6, "{preprocessing:?}");
        }
    };
    let constant = |name: &str, values: [f64; 3]| floats(name, &[3, 1, 1], &values.map(|v| v as f32));
    let sub = |input: &str| node("Sub", "sub", &[input, "m"], vec![]);
    let div = || node("Div", "div", &["sub_out", "d"], vec![]);
    let mul = |k: f32| (node("Mul", "mul", &["input", "k"], vec![]), floats("k", &[], &[k]));
    let statistics = || vec![constant("m", imagenet.mean), constant("d", imagenet.standard_deviation)];

    // Nothing: as most networks.
    expect(&prepared(vec![], vec![]), &imagenet, imagenet.mean, imagenet.standard_deviation);
    assert!(find(&prepared(vec![], vec![]), nowhere).unwrap().is_guess);
    // From 0 to 1, as torchvision's transforms within a module.
    let unit = prepared(vec![sub("input"), div()], statistics());
    expect(&unit, &Convention::unit(), imagenet.mean, imagenet.standard_deviation);
    // From grey levels, in three steps, in two, and in one.
    let (first, k) = mul(1.0 / 255.0);
    let levels = prepared(vec![first, sub("mul_out"), div()], [statistics(), vec![k]].concat());
    expect(&levels, &Convention::grey_levels(), imagenet.mean, imagenet.standard_deviation);
    let (first, k) = mul(1.0 / 127.5);
    let minus_one = prepared(vec![first, sub("mul_out")], vec![k, constant("m", [1.0; 3])]);
    expect(&minus_one, &Convention::grey_levels(), [0.5; 3], [0.5; 3]);
    let centred = prepared(vec![sub("input")], vec![constant("m", [103.939, 116.779, 123.68])]);
    let caffe = [103.939, 116.779, 123.68].map(|v| v / 255.0);
    expect(&centred, &Convention::grey_levels(), caffe, [1.0 / 255.0; 3]);
    // A batch normalisation of pictures from 0 to 1, and one of normalised pictures.
    let normalisation = |mean: f32, variance: f32| {
        let parameters = [("gamma", 1.0), ("beta", 0.0), ("mean", mean), ("variance", variance)];
        let constants = parameters.map(|(name, value)| floats(name, &[3], &[value; 3])).to_vec();
        let inputs = ["input", "gamma", "beta", "mean", "variance"];
        prepared(vec![node("BatchNormalization", "bn", &inputs, vec![float("epsilon", 0.0)])], constants)
    };
    expect(&normalisation(0.5, 0.0625), &Convention::unit(), [0.5; 3], [0.25; 3]);
    let deviation = imagenet.standard_deviation.map(|d| d * 2.0);
    expect(&normalisation(0.0, 4.0), &imagenet, imagenet.mean, deviation);
    // What is said goes before what is found, and what the network does is taken off it too.
    let given = Convention::tf().preprocessing(&unit).unwrap();
    assert!((f64::from(given.standard_deviation[0]) - 0.5 * 0.229).abs() < 1e-6);
    assert!((f64::from(given.mean[0]) - (0.5 + 0.485 * 0.5)).abs() < 1e-6);
}

#[test]
fn the_order_of_channels_and_metadata_reach_preprocessing() {
    use resight::preprocess::{Convention, find};
    use resight_imaging::Channels;
    let nowhere = Path::new("folder/hostile.onnx");
    let swap = node("Gather", "swap", &["input", "order"], vec![integer("axis", 1)]);
    let swapped = prepared(vec![swap.clone()], vec![shape("order", &[2, 1, 0])]);
    let preprocessing = Convention::imagenet().preprocessing(&swapped).unwrap();
    assert_eq!((preprocessing.channels, preprocessing.mean), (Channels::Bgr, [0.406, 0.456, 0.485]));
    let back = Convention::caffe().preprocessing(&swapped).unwrap();
    assert_eq!(back.channels, Channels::Rgb);
    assert!((f64::from(back.mean[0]) - 123.68 / 255.0).abs() < 1e-6);
    let turned = prepared(vec![swap], vec![shape("order", &[1, 0, 2])]);
    let error = Convention::imagenet().preprocessing(&turned).unwrap_err().to_string();
    assert!(error.contains("[1, 0, 2]") && error.contains("only red and blue"), "{error}");
    let gray = Convention { channels: Some(Channels::Gray), ..Convention::unit() };
    let error = gray.preprocessing(&swapped).unwrap_err().to_string();
    assert!(error.contains("takes 3 channels, `gray` pictures have 1"), "{error}");

    let mut proto = with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]);
    for (key, value) in
        [("Image.BitmapPixelFormat", "Bgr8"), ("Image.NominalPixelRange", "NominalRange_0_255")]
    {
        proto.metadata_props.push(StringStringEntryProto { key: key.into(), value: value.into() });
    }
    let found = find(&read(proto).unwrap(), nowhere).unwrap();
    let expected = Convention { channels: Some(Channels::Bgr), ..Convention::grey_levels() };
    assert_eq!((found.convention, found.is_guess), (expected, false));
}

#[test]
fn files_beside_the_network_say_what_it_is_given() {
    use resight::preprocess::{Convention, find, named_or_file};
    let imported = prepared(vec![], vec![]);
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("net.onnx");
    std::fs::write(&model, "").unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    // A configuration that says nothing of pictures is passed over.
    write("config.json", r#"{"model_type": "resnet"}"#);
    assert!(find(&imported, &model).unwrap().is_guess);
    write(
        "config.json",
        r#"{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_mode": "squash"}}"#,
    );
    let found = find(&imported, &model).unwrap();
    assert_eq!((found.convention.mean, found.is_guess), ([0.5; 3], false));
    assert!(found.origin.ends_with("config.json"), "{}", found.origin);
    write("preprocessor_config.json", r#"{"image_mean": [0.1], "image_std": [1.0]}"#);
    assert_eq!(find(&imported, &model).unwrap().convention.mean, [0.1; 3]);
    write("preprocessor_config.json", "{");
    let error = find(&imported, &model).unwrap_err().to_string();
    assert!(error.contains("preprocessor_config.json: it is no JSON"), "{error}");

    assert_eq!(named_or_file("caffe").unwrap().convention, Convention::caffe());
    let file = folder.path().join("config.json");
    assert_eq!(named_or_file(file.to_str().unwrap()).unwrap().convention.mean, [0.5; 3]);
    let error = named_or_file("imagenett").unwrap_err().to_string();
    assert!(error.contains("imagenett: neither a file nor one of imagenet, torchvision, caffe"), "{error}");
    write("other.json", "{}");
    let error = named_or_file(folder.path().join("other.json").to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("other.json: it holds neither `image_mean`"), "{error}");
}

#[test]
fn weights_come_in_every_float_type() {
    let base = accepted(with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]));
    let weights = |graph: &FloatGraph| match &graph.nodes[1].operator {
        Operator::Convolution(c) => c.weights.clone(),
        _ => panic!("a convolution"),
    };
    let bytes =
        |f: fn(f32) -> Vec<u8>, values: &[f32]| values.iter().flat_map(|&v| f(v)).collect::<Vec<u8>>();
    // f16 of values that have few digits: sign, exponent, upper fraction bits.
    let to_f16 = |v: f32| {
        let bits = v.to_bits();
        let exponent = ((bits >> 23 & 0xff) as i32 - 112).max(0) as u32;
        ((bits >> 31 << 15 | exponent << 10 | (bits >> 13 & 0x3ff)) as u16).to_le_bytes().to_vec()
    };
    for (data_type, convert) in [
        (DataType::Float, (|v: f32| v.to_le_bytes().to_vec()) as fn(f32) -> Vec<u8>),
        (DataType::Double, |v| f64::from(v).to_le_bytes().to_vec()),
        (DataType::Bfloat16, |v| ((v.to_bits() >> 16) as u16).to_le_bytes().to_vec()),
        (DataType::Float16, to_f16),
    ] {
        let mut proto = with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]);
        let tensor = &mut graph(&mut proto).initializer[0];
        tensor.raw_data = bytes(convert, &tensor.float_data);
        tensor.float_data.clear();
        tensor.data_type = data_type as i32;
        let graph = accepted(proto);
        assert!(common::relative_error(&weights(&base), &weights(&graph)) < 0.01, "{data_type:?}");
    }
}

#[test]
fn a_network_in_half_precision_becomes_f32() {
    let mut proto = with_node(13, node("Cast", "c", &["conv_out"], vec![integer("to", 10)]), vec![]);
    let one = TensorProto {
        data_type: DataType::Float16 as i32,
        dims: vec![],
        int32_data: vec![0x3e00],
        ..Default::default()
    };
    let graph_proto = graph(&mut proto);
    graph_proto.node.insert(2, constant("k", one));
    graph_proto.node.insert(3, node("Mul", "m", &["c_out", "k"], vec![]));
    graph_proto.node[4].input[0] = "m_out".into();
    let Some(TypeValue::TensorType(tensor)) = &mut graph_proto.input[0].r#type.as_mut().unwrap().value else {
        panic!("a tensor")
    };
    tensor.elem_type = DataType::Float16 as i32;
    assert_eq!(operators(&accepted(proto)), ["input", "conv", "average", "linear"]);
}

#[test]
fn the_file_may_be_in_any_order_and_hold_what_is_not_needed() {
    let mut proto = synth(Architecture::TinyBasic, 1);
    let graph_proto = graph(&mut proto);
    graph_proto.node.reverse();
    graph_proto.node.push(node("NonMaxSuppression", "dead", &["logits"], vec![]));
    graph_proto.initializer.push(floats("unused", &[2], &[f32::NAN; 2]));
    graph_proto.name.clear();
    for node in &mut graph_proto.node {
        node.name.clear();
    }
    let graph = accepted(proto);
    assert_eq!(graph.name, "hostile");
    assert_eq!(graph.nodes[1].name, "conv1");
}

#[test]
fn height_and_width_may_be_open() {
    let mut proto = with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]);
    for axis in [2, 3] {
        set_dimension(graph(&mut proto), axis, DimensionValue::DimParam("side".into()));
    }
    let path = Path::new("folder/hostile.onnx");
    let imported = import_proto_sized(proto.clone(), path, Some([6, 9])).unwrap();
    assert_eq!(imported.graph.nodes[0].shape, [3, 6, 9]);
    common::assert_equals_tract(&imported);
    // What the file says counts.
    set_dimension(graph(&mut proto), 3, DimensionValue::DimValue(7));
    let imported = import_proto_sized(proto.clone(), path, Some([6, 9])).unwrap();
    assert_eq!(imported.graph.nodes[0].shape, [3, 6, 7]);
    file_refused(proto, "give open height and width by `--input HxW`");
}

#[test]
fn fixed_batches_and_equal_names_are_taken() {
    for batch in [1, 8, -1, 0] {
        let mut proto = synth(Architecture::TinyBottleneck, 1);
        set_dimension(graph(&mut proto), 0, DimensionValue::DimValue(batch));
        for node in &mut graph(&mut proto).node {
            node.name = "same".into();
        }
        let graph = accepted(proto);
        let names: std::collections::HashSet<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names.len(), graph.nodes.len());
        assert!(names.contains("same_2"));
    }
}

#[test]
fn unsupported_nodes_are_named() {
    let one = |operator: &str| with_node(13, node(operator, "odd", &["conv_out"], vec![]), vec![]);
    refused(one("DepthToSpace"), "odd", "not supported");
    refused(one("DepthToSpace"), "odd", "(DepthToSpace)");
    refused(one("Transpose"), "odd", "NCHW");
    refused(one("Gather"), "odd", "missing");
    for operator in ["QLinearConv", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "QLinearAdd"] {
        refused(one(operator), "odd", "quantised already; `resight convert` takes such files");
    }
    let mut foreign = one("FusedConv");
    graph(&mut foreign).node[1].domain = "com.microsoft".into();
    refused(foreign, "odd", "com.microsoft");
    let mut unnamed = one("DepthToSpace");
    graph(&mut unnamed).node[1].name.clear();
    refused(unnamed, "odd_out", "(DepthToSpace)");
    let mut hostile = one("Bad\nName");
    graph(&mut hostile).node[1].name = "line\nbreak\u{1b}[31m".repeat(1000);
    let error = read(hostile).map(|i| i.graph).unwrap_err();
    is_one_line_with(&error, &["node `line\\nbreak", "(Bad\\nName)"]);
    let mut branch = one("If");
    let subgraph =
        AttributeProto { g: Some(GraphProto::default()), ..attribute("then_branch", AttributeType::Graph) };
    graph(&mut branch).node[1].attribute.push(subgraph);
    refused(branch, "odd", "subgraph");
    refused(with_node(13, node("Sum", "odd", &["conv_out"; 3], vec![]), vec![]), "odd", "adds 3 tensors");
    refused(
        with_node(13, node("Mod", "odd", &["conv_out", "conv_out"], vec![]), vec![]),
        "odd",
        "not supported",
    );
    refused(
        with_node(13, node("Cast", "odd", &["conv_out"], vec![integer("to", 7)]), vec![]),
        "odd",
        "type 7",
    );
    refused(with_node(13, node("Relu", "odd", &[], vec![]), vec![]), "odd", "missing");
    refused(
        with_node(13, node("Dropout", "odd", &["conv_out", "", "t"], vec![]), vec![shape("t", &[1])]),
        "odd",
        "training mode",
    );
}

#[test]
fn batch_normalisation_in_training_is_refused() {
    let parameters = || ["gamma", "beta", "mean", "variance"].map(|n| random(n, &[4])).to_vec();
    let positive = || {
        let mut all = parameters();
        all[3].float_data = vec![1.0, 2.0, 0.5, 0.0];
        all
    };
    let inputs = ["conv_out", "gamma", "beta", "mean", "variance"];
    let with = |attributes, constants| {
        with_node(14, node("BatchNormalization", "bn", &inputs, attributes), constants)
    };
    accepted(with(vec![float("momentum", 0.9)], positive()));
    refused(with(vec![integer("training_mode", 1)], positive()), "bn", "model.eval()");
    refused(with(vec![integer("spatial", 0)], positive()), "bn", "spatial");
    let mut negative = positive();
    negative[3].float_data[1] = -1.0;
    refused(with(vec![], negative), "bn", "variance of channel 1");
    let mut nan = positive();
    nan[0].float_data[2] = f32::NAN;
    refused(with(vec![], nan), "bn", "`gamma` holds NaN at position 2");
    let mut short = positive();
    short[1] = random("beta", &[3]);
    refused(with(vec![], short), "bn", "[3]");
    refused(with(vec![float("epsilon", f32::NAN)], positive()), "bn", "epsilon");
    let mut large = positive();
    large[0].float_data[0] = 3e38;
    large[3].float_data[0] = 0.0;
    refused(with(vec![], large), "bn", "not finite");
}

#[test]
fn unusable_weights_are_named() {
    let with = |change: fn(&mut TensorProto)| {
        let mut proto = with_node(13, node("Relu", "r", &["conv_out"], vec![]), vec![]);
        change(&mut graph(&mut proto).initializer[0]);
        proto
    };
    refused(with(|t| t.float_data[7] = f32::NAN), "conv", "initialiser `w` holds NaN at position 7");
    refused(with(|t| t.float_data[0] = f32::INFINITY), "conv", "initialiser `w` holds inf");
    refused(with(|t| t.float_data.truncate(100)), "conv", "`w` has 100 values");
    refused(with(|t| t.float_data.clear()), "conv", "`w` has 0 bytes");
    refused(with(|t| t.raw_data = vec![0; 7]), "conv", "7 bytes where its dimensions [4, 3, 3, 3] need 432");
    refused(with(|t| t.dims[0] = -4), "conv", "invalid dimensions");
    refused(with(|t| t.dims[0] = i64::MAX), "conv", "above 65536");
    refused(with(|t| t.dims = vec![65536; 4]), "conv", "elements");
    refused(with(|t| t.dims = vec![108]), "conv", "[108]");
    refused(with(|t| t.dims = vec![4, 9, 3, 1]), "conv", "do not fit an input of 3 channels");
    refused(
        with(|t| {
            t.dims = vec![0, 3, 3, 3];
            t.float_data.clear();
        }),
        "conv",
        "empty",
    );
    refused(with(|t| t.data_type = DataType::Int8 as i32), "conv", "quantised already");
    refused(with(|t| t.data_type = DataType::String as i32), "conv", "STRING");
    refused(with(|t| t.data_type = 99), "conv", "number 99");
    refused(with(|t| t.segment = Some(Segment::default())), "conv", "segments");
    refused(with(|t| t.name = "other".into()), "conv", "`w` is neither an initialiser nor");

    let mut computed = with(|_| ());
    graph(&mut computed).node[0].input[1] = "input".into();
    refused(computed, "conv", "weights must be constants");
    let mut groups = with(|_| ());
    graph(&mut groups).node[0].attribute.push(integer("group", 0));
    refused(groups.clone(), "conv", "0 groups");
    graph(&mut groups).node[0].attribute[1] = integer("group", i64::MIN);
    refused(groups, "conv", "groups");
    let mut kernel = with(|_| ());
    graph(&mut kernel).node[0].attribute.push(integers("kernel_shape", &[5, 5]));
    refused(kernel, "conv", "[3, 3]");
    let mut wide = with(|_| ());
    graph(&mut wide).node[0].attribute =
        vec![integers("dilations", &[65536, 65536]), string("auto_pad", "SAME_UPPER")];
    refused(wide, "conv", "65536");
    let mut folded =
        with_node(13, node("Mul", "m", &["conv_out", "k"], vec![]), vec![floats("k", &[1], &[3e38])]);
    graph(&mut folded).initializer[0].float_data[0] = 3e38;
    refused(folded, "conv", "overflows");
}

#[test]
fn damaged_graphs_are_refused() {
    let tiny = || synth(Architecture::TinyBasic, 1);
    let mut cycle = tiny();
    graph(&mut cycle).node[0].input[0] = "layer1.0.relu".into();
    let error = read(cycle).map(|i| i.graph).expect_err("a cycle");
    is_one_line_with(&error, &["hostile.onnx", "node `", "cycle"]);
    let mut own = tiny();
    graph(&mut own).node[1].input[0] = "relu".into();
    refused(own, "relu", "cycle");
    let mut twice = tiny();
    graph(&mut twice).node[4].output[0] = "relu".into();
    refused(twice, "layer1.0.conv2", "exists twice");
    let mut twice = tiny();
    graph(&mut twice).node[4].output[0] = "input".into();
    refused(twice, "layer1.0.conv2", "exists twice");
    let mut twice = tiny();
    graph(&mut twice).initializer.push(floats("conv1.weight", &[1], &[1.0]));
    file_refused(twice, "two initialisers have the name `conv1.weight`");
    let mut missing = tiny();
    graph(&mut missing).initializer.remove(0);
    refused(missing, "conv1", "`conv1.weight` is neither");
    let mut outputs = tiny();
    let again = graph(&mut outputs).output[0].clone();
    graph(&mut outputs).output.push(again);
    file_refused(outputs.clone(), "2 outputs");
    graph(&mut outputs).output.clear();
    file_refused(outputs, "0 outputs");
    let mut nowhere = tiny();
    graph(&mut nowhere).output[0].name = "nowhere".into();
    file_refused(nowhere, "`nowhere`");
    let mut shape_output = tiny();
    graph(&mut shape_output).node.push(node("Shape", "shape", &["logits"], vec![]));
    graph(&mut shape_output).output[0].name = "shape_out".into();
    file_refused(shape_output, "no result of the network");
    let mut inputs = tiny();
    let again = graph(&mut inputs).input[0].clone();
    graph(&mut inputs).input.push(tract_onnx::pb::ValueInfoProto { name: "second".into(), ..again });
    // What nothing needs is no input.
    assert!(read(inputs.clone()).is_ok());
    let mut both = inputs.clone();
    graph(&mut both).node.push(node("Add", "image", &["input", "second"], vec![]));
    graph(&mut both).node[0].input[0] = "image_out".into();
    file_refused(both, "2 inputs");
    graph(&mut inputs).input.clear();
    file_refused(inputs, "0 inputs");
    let mut untyped = tiny();
    graph(&mut untyped).input[0].r#type = None;
    file_refused(untyped, "no tensor");
    for (axis, value, cause) in [
        (2, DimensionValue::DimParam("H".into()), "[?, 3, ?, 32]"),
        (1, DimensionValue::DimValue(0), "[?, 0, 32, 32]"),
        (1, DimensionValue::DimValue(-3), "-3"),
        (3, DimensionValue::DimValue(i64::MAX), "above 65536"),
    ] {
        let mut proto = tiny();
        set_dimension(graph(&mut proto), axis, value);
        file_refused(proto, cause);
    }
    let mut huge = tiny();
    for axis in 1..4 {
        set_dimension(graph(&mut huge), axis, DimensionValue::DimValue(60000));
    }
    file_refused(huge.clone(), "elements");
    for (axis, size) in [(1, 3), (2, 10000), (3, 10000)] {
        set_dimension(graph(&mut huge), axis, DimensionValue::DimValue(size));
    }
    file_refused(huge, "use a smaller image");
    let mut integers = tiny();
    let Some(TypeValue::TensorType(tensor)) =
        &mut graph(&mut integers).input[0].r#type.as_mut().unwrap().value
    else {
        panic!("a tensor")
    };
    tensor.elem_type = DataType::Int16 as i32;
    file_refused(integers, "INT16");
    for version in [6, 27, -1] {
        let mut proto = tiny();
        proto.opset_import[0].version = version;
        file_refused(proto, "export with opset 13");
    }
    let mut no_opset = tiny();
    no_opset.opset_import.clear();
    file_refused(no_opset, "no ONNX operator set");
    let mut functions = tiny();
    functions.functions.push(FunctionProto { name: Some("f".into()), ..Default::default() });
    file_refused(functions, "the function `f`");
    let mut sparse = tiny();
    graph(&mut sparse)
        .sparse_initializer
        .push(SparseTensorProto { values: Some(random("sparse.w", &[1])), ..Default::default() });
    file_refused(sparse, "the sparse initialiser `sparse.w` is damaged");
    file_refused(ModelProto::default(), "not an ONNX file");
}

/// A tiny model whose first weights are in the file `location`, and the weights' bytes.
fn external(location: &str, extra: &[(&str, &str)]) -> (ModelProto, Vec<u8>) {
    let mut proto = synth(Architecture::TinyBasic, 1);
    let tensor = &mut graph(&mut proto).initializer[0];
    let bytes = std::mem::take(&mut tensor.raw_data);
    tensor.data_location = Some(1);
    tensor.external_data = [("location", location)]
        .iter()
        .chain(extra)
        .map(|&(key, value)| StringStringEntryProto { key: key.into(), value: value.into() })
        .collect();
    (proto, bytes)
}

#[test]
fn external_data_is_read_from_the_models_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.onnx");
    let (proto, bytes) = external("weights.bin", &[("offset", "5"), ("length", "864")]);
    assert_eq!(bytes.len(), 864);
    write(&proto, &path).unwrap();
    let error = import(&path).map(|i| i.graph).unwrap_err();
    is_one_line_with(&error, &["hostile.onnx", "node `conv1`", "`conv1.weight`", "weights.bin"]);
    std::fs::write(folder.path().join("weights.bin"), [&[9; 5], bytes.as_slice()].concat()).unwrap();
    common::assert_equals_tract(&import(&path).unwrap());

    let outside = folder.path().parent().unwrap().join("x.bin");
    for (location, extra, cause) in [
        ("../x.bin", ("offset", "0"), "outside of the model's folder"),
        ("a/../../x.bin", ("offset", "0"), "outside of the model's folder"),
        ("..\\x.bin", ("offset", "0"), "outside of the model's folder"),
        (outside.to_str().unwrap(), ("offset", "0"), "outside of the model's folder"),
        ("", ("offset", "0"), "without a location"),
        (".", ("offset", "0"), "not a regular file"),
        ("weights.bin", ("offset", "-1"), "invalid offset `-1`"),
        ("weights.bin", ("offset", "6"), "fewer than the model refers to"),
        ("weights.bin", ("offset", "18446744073709551615"), "fewer than the model refers to"),
        ("weights.bin", ("length", "863"), "863 bytes"),
    ] {
        write(&external(location, &[extra]).0, &path).unwrap();
        let error = import(&path).map(|i| i.graph).expect_err(cause);
        is_one_line_with(&error, &["hostile.onnx", "node `conv1`", cause]);
    }
}

fn bytes_refused(bytes: &[u8], cause: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.onnx");
    std::fs::write(&path, bytes).unwrap();
    is_one_line_with(&import(&path).map(|i| i.graph).expect_err(cause), &["hostile.onnx", cause]);
}

#[test]
fn files_that_are_not_onnx_are_refused() {
    bytes_refused(b"", "empty");
    bytes_refused(b"hello, this is a text file\n", "not an ONNX file");
    bytes_refused(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not an ONNX file");
    bytes_refused(&[0xff; 64], "not an ONNX file");
    bytes_refused(&[0; 64], "not an ONNX file");
    let whole = synth(Architecture::TinyBasic, 1).encode_to_vec();
    for length in [1, 2, 100, whole.len() / 2, whole.len() - 1] {
        bytes_refused(&whole[..length], "not an ONNX file");
    }
    bytes_refused(&whole[..whole.len() / 2], "truncated?");
    // A field that claims 2^60 bytes.
    bytes_refused(&[0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10], "truncated?");
    let folder = tempfile::tempdir().unwrap();
    let error = import(folder.path()).map(|i| i.graph).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let error = import(&folder.path().join("absent.onnx")).map(|i| i.graph).unwrap_err();
    is_one_line_with(&error, &["absent.onnx", "No such file"]);
}

#[test]
fn memory_is_bounded_before_decoding() {
    // A graph of a million empty nodes: two bytes each in the file.
    let nodes = [0x0a, 0].repeat(1 << 20);
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    bytes_refused(&bytes, "protobuf messages");
    // Graphs in attributes of nodes in graphs.
    let mut nested = GraphProto::default();
    for _ in 0..60 {
        let attribute = AttributeProto { g: Some(nested), ..Default::default() };
        let node = NodeProto { attribute: vec![attribute], ..Default::default() };
        nested = GraphProto { node: vec![node], ..Default::default() };
    }
    let nested = ModelProto { graph: Some(nested), ..Default::default() };
    bytes_refused(&nested.encode_to_vec(), "nested");
    // A window of few bytes whose weights would take a gigabyte.
    let window = vec![
        integers("kernel_shape", &[8192, 8192]),
        integers("pads", &[4096; 4]),
        integer("count_include_pad", 1),
    ];
    let proto = with_node(13, node("AveragePool", "a", &["conv_out"], window), vec![]);
    refused(proto, "a", "weights; use a smaller one");
    // A sparse file above the limit.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.onnx");
    std::fs::File::create(&path).unwrap().set_len(resight::import::MAX_FILE_BYTES + 1).unwrap();
    is_one_line_with(&import(&path).map(|i| i.graph).unwrap_err(), &["hostile.onnx", "2147483649 bytes"]);
}

/// Changes bytes, cuts the end off, or doubles a part; the file must be imported or refused in
/// one line that names it.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.onnx");
    std::fs::write(&path, bytes).unwrap();
    if let Err(error) = import(&path) {
        let message = error.to_string();
        prop_assert!(message.contains("hostile.onnx") && !message.contains('\n'), "{:?}", message);
    }
    Ok(())
}

/// A network with most operators, of few bytes.
fn varied() -> Vec<u8> {
    let mut slice = node("Slice", "slice", &["conv_out", "s", "e", "a", "t"], vec![]);
    slice.domain = String::new();
    let nodes = vec![
        slice,
        node("Pad", "pad", &["slice_out", "p"], vec![string("mode", "constant")]),
        node("Relu", "r", &["pad_out"], vec![]),
        node(
            "MaxPool",
            "m",
            &["r_out"],
            vec![integers("kernel_shape", &[3, 3]), string("auto_pad", "SAME_LOWER")],
        ),
        node("Add", "add", &["m_out", "pad_out"], vec![]),
        node("ReduceMean", "mean", &["add_out"], vec![integers("axes", &[2, 3])]),
        node("Shape", "shape", &["mean_out"], vec![]),
        node("Slice", "head", &["shape_out", "s1", "e1"], vec![]),
        node("Concat", "target", &["head_out", "rest"], vec![integer("axis", 0)]),
        node("Reshape", "flat", &["mean_out", "target_out"], vec![]),
        node("Gemm", "fc", &["flat_out", "fw"], vec![float("alpha", 0.5), integer("transB", 1)]),
    ];
    let constants = vec![
        shape("s", &[0, 0]),
        shape("e", &[i64::MAX, 8]),
        shape("a", &[2, 3]),
        shape("t", &[2, 2]),
        shape("p", &[0, 1, 0, 0, 0, 1, 0, 0]),
        shape("s1", &[0]),
        shape("e1", &[1]),
        shape("rest", &[-1]),
        random("fw", &[2, 6]),
    ];
    headless(13, nodes, constants).encode_to_vec()
}

#[test]
fn the_varied_network_is_accepted() {
    accepted(ModelProto::decode(varied().as_slice()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn altered_files_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = varied();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes)?;
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&bytes)?;
    }
}
