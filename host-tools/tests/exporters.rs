//! What exporters and tools make of a network besides its layers: fixed batches, unused inputs, further
//! outputs, and weights that are no plain initialisers.

mod common;

use std::path::Path;

use resight::graph::Operator;
use resight::import::{Imported, Wanted, import_proto, import_wanted};
use resight::synth::{Architecture, synth, write};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto,
};

use common::protobuf::{attribute, floats, integer, integers, node, shape};

const PATH: &str = "folder/network.onnx";

fn random(name: &str, dims: &[i64]) -> TensorProto {
    floats(name, dims, &common::image(dims.iter().product::<i64>() as usize, name.len() as u64))
}

fn graph(proto: &mut ModelProto) -> &mut GraphProto {
    proto.graph.as_mut().unwrap()
}

/// An image `input` [N, 3, 8, 8], a convolution to 4 channels with a ReLU, `relu_out`, then `nodes`; the last
/// of them makes the output.
fn network(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let mut proto = synth(Architecture::TinyBasic, 1);
    proto.opset_import[0].version = 18;
    for axis in [2, 3] {
        set_dimension(&mut proto, axis, 8);
    }
    let graph = graph(&mut proto);
    graph.node = vec![
        node("Conv", "conv", &["input", "w", "b"], vec![integers("pads", &[1; 4])]),
        node("Relu", "relu", &["conv_out"], vec![]),
    ];
    graph.node.extend(nodes);
    graph.initializer = vec![random("w", &[4, 3, 3, 3]), random("b", &[4])];
    graph.initializer.extend(constants);
    graph.output.truncate(1);
    graph.output[0].name.clone_from(&graph.node.last().unwrap().output[0]);
    proto
}

fn set_dimension(proto: &mut ModelProto, axis: usize, size: i64) {
    let kind = graph(proto).input[0].r#type.as_mut().unwrap();
    let Some(TypeValue::TensorType(tensor)) = &mut kind.value else { panic!("the input is a tensor") };
    tensor.shape.as_mut().unwrap().dim[axis].value = Some(DimensionValue::DimValue(size));
}

/// The average and a classifier.
fn head() -> Vec<NodeProto> {
    vec![
        node("GlobalAveragePool", "pool", &["relu_out"], vec![]),
        node("Flatten", "flat", &["pool_out"], vec![]),
        node("Gemm", "fc", &["flat_out", "fc.w"], vec![]),
    ]
}

fn plain() -> ModelProto {
    network(head(), vec![random("fc.w", &[4, 5])])
}

/// Imports and compares every node with tract.
fn accepted(proto: ModelProto) -> Imported {
    let imported = import_proto(proto, Path::new(PATH)).unwrap_or_else(|error| panic!("{error}"));
    common::assert_equals_tract(&imported);
    imported
}

fn refusal(proto: ModelProto) -> String {
    import_proto(proto, Path::new(PATH)).map(|_| ()).unwrap_err().to_string()
}

/// The weights of the linear layer at the end.
fn last_weights(imported: &Imported) -> Vec<f32> {
    match &imported.graph.nodes.last().unwrap().operator {
        Operator::Linear { weights, .. } => weights.to_vec(),
        other => panic!("{other:?} is no linear layer"),
    }
}

#[test]
fn a_batch_of_four_becomes_one_picture() {
    let expected = last_weights(&accepted(plain()));
    for allow_zero in [0, 1] {
        let reshape = node("Reshape", "flat", &["pool_out", "size"], vec![integer("allowzero", allow_zero)]);
        for (target, as_node) in [([4i64, 4], false), ([4, -1], false), ([4, 4], true)] {
            let mut nodes = head();
            nodes[1] = reshape.clone();
            let mut proto = network(nodes, vec![random("fc.w", &[4, 5])]);
            set_dimension(&mut proto, 0, 4);
            if as_node {
                let value = AttributeProto {
                    t: Some(shape("", &target)),
                    ..attribute("value", AttributeType::Tensor)
                };
                let mut constant = node("Constant", "size", &[], vec![value]);
                constant.output = vec!["size".into()];
                graph(&mut proto).node.push(constant);
            } else {
                graph(&mut proto).initializer.push(shape("size", &target));
            }
            assert_eq!(last_weights(&accepted(proto)), expected);
        }
    }
    // What is not the batch stays.
    let mut nodes = head();
    nodes[1] = node("Reshape", "flat", &["pool_out", "size"], vec![]);
    let mut proto = network(nodes, vec![random("fc.w", &[4, 5]), shape("size", &[2, 8])]);
    set_dimension(&mut proto, 0, 4);
    let refused = refusal(proto);
    assert!(refused.contains("node `flat` (Reshape): it reshapes"), "{refused}");
}

#[test]
fn inputs_that_nothing_needs_are_left_out() {
    let mut proto = plain();
    let flag = ValueInfoProto { name: "training".into(), ..graph(&mut proto).input[0].clone() };
    graph(&mut proto).input.push(flag);
    graph(&mut proto).node.push(node("Identity", "dead", &["training"], vec![]));
    accepted(proto.clone());
    graph(&mut proto).node[1].op_type = "Add".into();
    graph(&mut proto).node[1].input.push("training".into());
    assert_eq!(refusal(proto), "folder/network.onnx: the network has 2 inputs; only one image is supported");
}

#[test]
fn the_output_with_the_logits_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.onnx");
    let mut proto = plain();
    let graph_proto = graph(&mut proto);
    graph_proto.node.extend([
        node("Gemm", "other", &["flat_out", "other.w"], vec![]),
        node("Softmax", "shares", &["other_out"], vec![]),
    ]);
    graph_proto.initializer.push(random("other.w", &[4, 7]));
    let further = ValueInfoProto { name: "shares_out".into(), ..graph_proto.output[0].clone() };
    graph_proto.output.push(further);
    write(&proto, &file).unwrap();
    let classes = |name: &str| {
        let wanted = Wanted { logits: Some(name.into()), ..Wanted::default() };
        import_wanted(&file, &wanted).map(|imported| {
            common::assert_equals_tract(&imported);
            imported.graph.nodes.last().unwrap().shape[0]
        })
    };
    assert_eq!(["fc_out", "shares_out", "other_out"].map(|name| classes(name).unwrap()), [5, 7, 7]);
    let none = classes("nowhere").unwrap_err().to_string();
    assert!(none.ends_with("it has no result `nowhere`; its outputs are `fc_out`, `shares_out`"), "{none}");
    let open = import_wanted(&file, &Wanted::default()).map(|_| ()).unwrap_err().to_string();
    assert!(
        open.ends_with(
            "the network has 2 outputs, of which none is made of all others; say which one holds the logits \
             (`--logits NAME`), or export it with the logits alone"
        ),
        "{open}"
    );
}

#[test]
fn weights_may_be_made_by_nodes() {
    let filled = |value: Option<TensorProto>, dims: &[i64]| {
        let value = value.map(|t| AttributeProto { t: Some(t), ..attribute("value", AttributeType::Tensor) });
        let mut made = node("ConstantOfShape", "fc.w", &["size"], value.into_iter().collect());
        made.output = vec!["fc.w".into()];
        let mut proto = network(head(), vec![shape("size", dims)]);
        graph(&mut proto).node.insert(0, made);
        proto
    };
    let value = || Some(floats("", &[1], &[0.02]));
    assert_eq!(last_weights(&accepted(filled(value(), &[4, 5]))), [0.02; 20]);
    // Without a value it is 0.
    assert_eq!(last_weights(&accepted(filled(None, &[4, 5]))), [0.0; 20]);
    let refused = refusal(filled(value(), &[1 << 15, 1 << 15]));
    assert!(refused.contains("more than 268435456 weights"), "{refused}");
    let refused = refusal(filled(value(), &[4, -5]));
    assert!(
        refused.contains("node `fc.w` (ConstantOfShape): its shape holds -5, which is no size"),
        "{refused}"
    );
}

#[test]
fn weights_that_are_made_at_random_are_refused() {
    let mut made = node("RandomNormal", "fc.w", &[], vec![]);
    made.output = vec!["fc.w".into()];
    let mut proto = network(head(), vec![]);
    graph(&mut proto).node.insert(0, made);
    let refused = refusal(proto);
    assert!(
        refused.ends_with(
            "node `fc.w` (RandomNormal): its results are random, other ones in each runtime and each run, so that the \
             file does not say which network it is; export the model with its weights, in evaluation mode"
        ),
        "{refused}"
    );
}

/// The network with the weights of its classifier as a sparse tensor [4, 5].
fn sparse(values: &[f32], indices: TensorProto) -> ModelProto {
    let mut proto = network(head(), vec![]);
    graph(&mut proto).sparse_initializer.push(SparseTensorProto {
        values: Some(floats("fc.w", &[values.len() as i64], values)),
        indices: Some(indices),
        dims: vec![4, 5],
    });
    proto
}

#[test]
fn sparse_weights_become_dense() {
    let mut expected = vec![0.0; 20];
    // The linear layer has them as [output][input].
    (expected[4], expected[3 * 4 + 3]) = (0.5, -2.0);
    let linear = sparse(&[0.5, -2.0], shape("", &[1, 18]));
    assert_eq!(last_weights(&accepted(linear)), expected);
    let places = || TensorProto { dims: vec![2, 2], ..shape("", &[0, 1, 3, 3]) };
    assert_eq!(last_weights(&accepted(sparse(&[0.5, -2.0], places()))), expected);
    let damaged = "folder/network.onnx: the sparse initialiser `fc.w` is damaged: its values, indices and dimensions do not \
                   fit; export it again";
    let outside = TensorProto { dims: vec![2, 2], ..shape("", &[0, 5, 3, 3]) };
    for indices in [outside, shape("", &[1, 20]), shape("", &[-1, 2]), shape("", &[1]), places()] {
        let values: &[f32] = if indices == places() { &[0.5] } else { &[0.5, -2.0] };
        assert_eq!(refusal(sparse(values, indices)), damaged);
    }
}

#[test]
fn positions_are_averaged_one_axis_at_a_time() {
    let mean = |name: &str, input: &str, axes: &str| {
        node("ReduceMean", name, &[input, axes], vec![integer("keepdims", 0)])
    };
    let nodes = vec![
        mean("rows", "relu_out", "third"),
        mean("columns", "rows_out", "second"),
        node("Gemm", "fc", &["columns_out", "fc.w"], vec![]),
    ];
    let constants = vec![random("fc.w", &[4, 5]), shape("third", &[3]), shape("second", &[2])];
    assert_eq!(last_weights(&accepted(network(nodes, constants))), last_weights(&accepted(plain())));
}

#[test]
fn average_and_maximum_may_be_concatenated_before_the_head() {
    // As fastai's heads: both pools, a normalisation, and two layers.
    let pools = vec![
        node("GlobalMaxPool", "most", &["relu_out"], vec![]),
        node("GlobalAveragePool", "mean", &["relu_out"], vec![]),
        node("Concat", "both", &["most_out", "mean_out"], vec![integer("axis", 1)]),
        node("Flatten", "flat", &["both_out"], vec![]),
        node("BatchNormalization", "bn", &["flat_out", "s", "o", "m", "v"], vec![]),
        node("Gemm", "hidden", &["bn_out", "hidden.w"], vec![]),
        node("Relu", "relu2", &["hidden_out"], vec![]),
        node("Gemm", "fc", &["relu2_out", "fc.w"], vec![]),
    ];
    let mut constants = vec![random("hidden.w", &[8, 6]), random("fc.w", &[6, 5])];
    constants.extend(["s", "o", "m"].map(|name| random(name, &[8])));
    constants.push(floats("v", &[8], &[0.5; 8]));
    let imported = accepted(network(pools, constants));
    let concat = |node: &resight::graph::Node| matches!(node.operator, Operator::Concat);
    assert!(imported.graph.nodes.iter().any(concat));
}

#[test]
fn a_vector_on_the_way_changes_dimensions_alone() {
    let detour = |indices: &[i64]| {
        let mut nodes = head();
        nodes.insert(1, node("Reshape", "vector", &["pool_out", "size"], vec![]));
        nodes.insert(2, node("Gather", "strided", &["vector_out", "indices"], vec![integer("axis", 0)]));
        nodes[3].input[0] = "strided_out".into();
        let indices = TensorProto { dims: vec![1, 4, 1, 1], ..shape("indices", indices) };
        network(nodes, vec![random("fc.w", &[4, 5]), shape("size", &[-1]), indices])
    };
    assert_eq!(last_weights(&accepted(detour(&[0, 1, 2, 3]))), last_weights(&accepted(plain())));
    let refused = refusal(detour(&[0, 1, 3, 2]));
    assert!(refused.contains("node `vector` (Reshape): it reshapes [1, 4, 1, 1] to [-1]"), "{refused}");
}

#[test]
fn a_convolution_may_be_the_head_without_a_flattening() {
    for before in [false, true] {
        let classes = |input: &str| node("Conv", "classes", &[input, "classes.w"], vec![]);
        let pool = |input: &str| node("GlobalAveragePool", "pool", &[input], vec![]);
        let nodes = if before {
            vec![classes("relu_out"), pool("classes_out")]
        } else {
            vec![pool("relu_out"), classes("pool_out")]
        };
        let imported = accepted(network(nodes, vec![random("classes.w", &[5, 4, 1, 1])]));
        assert_eq!(imported.graph.nodes.last().unwrap().shape, [5, 1, 1]);
    }
}
