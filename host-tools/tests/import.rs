//! What the importer takes, compared with tract, and what it refuses, and how.

mod common;

use std::path::Path;

use proptest::prelude::*;
use prost::Message as _;
use resight::graph::{FloatGraph, Operator};
use resight::import::{ImportError, Imported, import, import_proto};
use resight::synth::{Architecture, synth, write};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataType, Segment};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    StringStringEntryProto, TensorProto,
};

const CHANNELS: usize = 4;

fn node(operator: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        name: name.into(),
        input: inputs.iter().map(|&i| i.into()).collect(),
        output: vec![format!("{name}_out")],
        attribute,
        ..Default::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..Default::default() }
}

fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

fn integers(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, AttributeType::Float) }
}

fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.into(), ..attribute(name, AttributeType::String) }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

/// Values that look random, from -1 to 1.
fn random(name: &str, dims: &[i64]) -> TensorProto {
    let seed = name.bytes().fold(dims.len() as u64, |s, b| s * 31 + u64::from(b));
    tensor(name, dims, &common::image(dims.iter().product::<i64>() as usize, seed))
}

fn shape(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
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
    });
    names.collect()
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
    let new = accepted(with_node(13, clip, vec![tensor("low", &[], &[0.0])]));
    assert_eq!(operators(&new), operators(&relu));
    refused(
        with_node(10, node("Clip", "r", &["conv_out"], vec![float("min", 0.0), float("max", 6.0)]), vec![]),
        "r",
        "0 and 6",
    );
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
    // The image's normalisation cannot go into a convolution with padding.
    let mut proto = network(
        13,
        vec![
            node("Sub", "mean", &["input", "m"], vec![]),
            node("Div", "deviation", &["mean_out", "d"], vec![]),
            node("Relu", "r", &["conv_out"], vec![]),
        ],
        vec![random("m", &[3, 1, 1]), random("d", &[3, 1, 1])],
        "r_out",
        4,
    );
    graph(&mut proto).node[0].input[0] = "deviation_out".into();
    assert_eq!(operators(&accepted(proto)), ["input", "conv", "conv+relu", "average", "linear"]);
    refused(with_node(13, node("Mul", "a", &["conv_out", "k"], vec![]), vec![random("k", &[8])]), "a", "[8]");
    refused(
        with_node(13, node("Div", "a", &["conv_out", "k"], vec![]), vec![tensor("k", &[1], &[0.0])]),
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
    assert_eq!(operators(&own), ["input", "conv+relu", "max", "conv+add", "conv", "average", "linear"]);

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
    assert_eq!(operators(&shared), ["input", "conv", "conv+relu", "conv+add", "average", "linear"]);
    let mut proto = with_node(13, node("Add", "add", &["conv_out", "input"], vec![]), vec![]);
    refused(proto.clone(), "add", "same shape");
    graph(&mut proto).node[1].op_type = "Mul".into();
    refused(proto, "add", "squeeze-and-excitation");
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
        refused(
            network(opset, vec![pad, node("Relu", "r", &["pad_out"], vec![])], constants, "r_out", 4),
            "r",
            "folded into a convolution",
        );
    }
    // Opset 18 names the padded axes.
    let pad = node("Pad", "pad", &["conv_out", "p", "", "axes"], vec![]);
    let second = node("Conv", "second", &["pad_out", "w2"], vec![]);
    let constants = vec![random("w2", &[4, 4, 3, 3]), shape("p", &[2, 1]), shape("axes", &[-1])];
    accepted(network(18, vec![pad, second], constants, "second_out", 4));

    let pad = |attributes, inputs: &[&str]| node("Pad", "pad", inputs, attributes);
    let eight = || shape("p", &[0, 0, 1, 1, 0, 0, 1, 1]);
    refused(
        with_node(13, pad(vec![string("mode", "reflect")], &["conv_out", "p"]), vec![eight()]),
        "pad",
        "reflect",
    );
    refused(
        with_node(13, pad(vec![], &["conv_out", "p", "v"]), vec![eight(), tensor("v", &[], &[1.0])]),
        "pad",
        "pads with 1",
    );
    refused(
        with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[-1; 8])]),
        "pad",
        "out of range",
    );
    refused(with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[1; 7])]), "pad", "does not fit");
    refused(
        with_node(13, pad(vec![], &["conv_out", "p"]), vec![shape("p", &[1, 0, 0, 0, 0, 0, 0, 0])]),
        "pad",
        "pads the batch",
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
    refused(sliced(&[1], &[8], &[2], &[1]), "slice", "1..8");
    refused(sliced(&[0], &[7], &[2], &[1]), "slice", "0..7");
    refused(sliced(&[0], &[8], &[2], &[-1]), "slice", "steps of -1");
    refused(sliced(&[0], &[4], &[1], &[2]), "slice", "axis 1");
    refused(sliced(&[0], &[4], &[9], &[1]), "slice", "axis 9");
    refused(sliced(&[0, 0], &[8], &[2], &[1]), "slice", "differ in number");
}

#[test]
fn pooling_over_the_image_and_over_windows() {
    let average = |attributes| with_node(13, node("AveragePool", "a", &["conv_out"], attributes), vec![]);
    let whole = accepted(average(vec![integers("kernel_shape", &[8, 8])]));
    assert_eq!(operators(&whole), ["input", "conv", "average", "average", "linear"]);
    let windows = accepted(average(vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])]));
    assert_eq!(operators(&windows), ["input", "conv", "conv", "average", "linear"]);
    let padded = vec![integers("kernel_shape", &[3, 3]), integers("pads", &[1; 4])];
    refused(average(padded.clone()), "a", "neither the whole image");
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
    refused(max(vec![kernel(3), integers("strides", &[2, 2]), integer("ceil_mode", 1)]), "m", "ceil_mode");
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
        "f",
        "flattens 4x8x8",
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
    let short = vec![tensor("target", &[3], &[0.0; 3])];
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
    assert_eq!(operators(&graph), ["input", "conv", "average", "conv+relu", "linear"]);
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
    graph_proto.initializer.push(tensor("unused", &[2], &[f32::NAN; 2]));
    graph_proto.name.clear();
    for node in &mut graph_proto.node {
        node.name.clear();
    }
    let graph = accepted(proto);
    assert_eq!(graph.name, "hostile");
    assert_eq!(graph.nodes[1].name, "conv1");
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
    refused(one("LeakyRelu"), "odd", "not supported");
    refused(one("LeakyRelu"), "odd", "(LeakyRelu)");
    refused(one("Transpose"), "odd", "NCHW");
    for operator in ["QLinearConv", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "QLinearAdd"] {
        refused(one(operator), "odd", "already quantised; export the f32 model");
    }
    let mut foreign = one("FusedConv");
    graph(&mut foreign).node[1].domain = "com.microsoft".into();
    refused(foreign, "odd", "com.microsoft");
    let mut unnamed = one("Sigmoid");
    graph(&mut unnamed).node[1].name.clear();
    refused(unnamed, "odd_out", "(Sigmoid)");
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
        with_node(13, node("Sub", "odd", &["conv_out", "conv_out"], vec![]), vec![]),
        "odd",
        "only the addition",
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
    refused(with(|t| t.data_type = DataType::Int8 as i32), "conv", "already quantised");
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
        with_node(13, node("Mul", "m", &["conv_out", "k"], vec![]), vec![tensor("k", &[1], &[3e38])]);
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
    graph(&mut twice).initializer.push(tensor("conv1.weight", &[1], &[1.0]));
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
    file_refused(inputs.clone(), "2 inputs");
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
    tensor.elem_type = DataType::Uint8 as i32;
    file_refused(integers, "UINT8");
    for version in [6, 23, -1] {
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
    file_refused(sparse, "`sparse.w` is sparse");
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
