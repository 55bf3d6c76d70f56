//! Model files for tests.

use super::*;

/// The smallest network, as a model file.
pub(super) fn model(folder: &Path) {
    std::fs::write(folder.join("m.tar"), resight_fixtures::TINY_MODEL).unwrap();
}

/// The same network, as one whose classes do not exclude each other.
pub(super) fn model_with_labels(folder: &Path) {
    use resight_model_file::{Archive, ArchiveBuilder, Task};
    let archive = Archive::from_bytes("m.tar", resight_fixtures::TINY_MODEL.to_vec()).unwrap();
    let mut builder = ArchiveBuilder::from(&archive);
    builder.add_task(&Task::Classes { activation: Activation::Sigmoid }).unwrap();
    std::fs::write(folder.join("m.tar"), builder.to_bytes().unwrap()).unwrap();
}

/// A network of 8 x 8 pixels whose outputs are channels of its image, in these orders.
pub(super) fn model_of_channels(
    folder: &Path,
    orders: &[&[usize]],
    task: resight_model_file::Task,
    labels: &[u8],
) {
    use resight_imaging::{Fit, Preprocessing};
    use resight_model_file::{Expected, Golden, Labels, Provenance};
    use resight_runtime::layers::Channels;
    use resight_runtime::tract::{DatumType, DatumTypeExt as _, SpecialOps as _, TypedModel};
    use resight_runtime::{Layers, ModelParts, Program, Sequential};

    let mut graph = TypedModel::default();
    let image = graph.add_source("image", DatumType::I8.fact([1, 8, 8, 3])).unwrap();
    let layer = |order: &[usize]| Channels { order: order.to_vec() };
    let outputs: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(index, order)| graph.wire_node(format!("o{index}"), layer(order), &[image]).unwrap()[0])
        .collect();
    graph.select_output_outlets(&outputs).unwrap();
    let layers = Layers::default();
    let input = vec![3; 8 * 8 * 3];
    let mut program = Program::compile(&graph, &layers, &Target::reference()).unwrap();
    let outputs = program.run(&Sequential, &input).unwrap();
    let expected = Expected::Tensors(outputs.iter().map(|output| output.little_endian()).collect());
    let parts = ModelParts {
        name: "red",
        layers: &layers,
        graph: &graph,
        task,
        labels: &Labels::parse("", labels).unwrap(),
        preprocessing: &Preprocessing { fit: Fit::Squash, ..Preprocessing::for_input(8, 8) },
        provenance: &Provenance {
            source: "red.onnx".into(),
            source_sha256: "0".repeat(64),
            calibration: None,
            tool: "test".into(),
        },
        report: &serde_json::Value::Null,
        golden: &[Golden { input, expected }],
    };
    std::fs::write(folder.join("m.tar"), parts.to_bytes().unwrap()).unwrap();
}

pub(super) fn output_map(name: &str, activation: Option<Activation>) -> resight_model_file::OutputMap {
    resight_model_file::OutputMap { name: name.into(), scale: 0.05, zero_point: 0, activation }
}

/// One that takes what is red for a thing, green for its width and blue for its height.
pub(super) fn model_of_boxes(folder: &Path) {
    use resight_model_file::{BoxDecoder, CenterNet, Task};

    let outputs = vec![output_map("heatmap", Some(Activation::Sigmoid)), output_map("size", None)];
    let centernet = CenterNet { offset: None, threshold: 0.9, overlap: 0.1, ..CenterNet::default() };
    let task = Task::Boxes { outputs, decoder: BoxDecoder::CenterNet(centernet) };
    model_of_channels(folder, &[&[0], &[1, 2]], task, b"thing\n");
}

/// One that takes the place that is most of a colour for the point of that colour.
pub(super) fn model_of_points(folder: &Path) {
    use resight_model_file::{PointDecoder, Task};

    let outputs = vec![output_map("heatmaps", None)];
    let decoder = PointDecoder { offset: 0.5, ..PointDecoder::default() };
    let labels = b"thing red\nthing green\nthing blue\n";
    model_of_channels(folder, &[&[0, 1, 2]], Task::Points { outputs, decoder }, labels);
}

/// One that takes what is red and what is blue for two points, which what is green joins to the right and
/// downwards.
pub(super) fn model_of_things(folder: &Path) {
    use resight_model_file::{Fields, PointDecoder, Task};

    let outputs = vec![output_map("heatmaps", None), output_map("fields", None)];
    let fields = Fields {
        map: "fields".into(),
        links: vec![[0, 1]],
        order: resight_model_file::FieldOrder::RightFirst,
        threshold: 0.1,
        fewest: 2,
        most: 5,
    };
    let decoder =
        PointDecoder { offset: 0.5, threshold: 0.3, fields: Some(fields), ..PointDecoder::default() };
    let task = Task::Points { outputs, decoder };
    model_of_channels(folder, &[&[0, 2], &[1, 1]], task, b"thing red\nthing blue\n");
}

/// The smallest network with something else at its end, as a model file of this task and with these labels.
fn model_with_another_end(
    folder: &Path,
    task: resight_model_file::Task,
    labels: &str,
    wire: impl FnOnce(&mut resight_runtime::tract::TypedModel) -> Vec<resight_runtime::tract::OutletId>,
) {
    use resight_model_file::{Expected, Golden, Labels};
    use resight_runtime::{Model, ModelParts, Sequential};
    let model = Model::from_bytes("m.tar", resight_fixtures::TINY_MODEL.to_vec()).unwrap();
    let mut graph = model.graph().clone();
    let outputs = wire(&mut graph);
    graph.select_output_outlets(&outputs).unwrap();
    let mut program =
        resight_runtime::Program::compile(&graph, model.layers(), &Target::reference()).unwrap();
    let input = model.golden()[0].input.clone();
    let outputs = program.run(&Sequential, &input).unwrap();
    let expected = match &task {
        resight_model_file::Task::Classes { .. } => {
            Expected::Logits(outputs.get(0).unwrap().slice::<f32>().unwrap().to_vec())
        }
        _ => Expected::Tensors(outputs.iter().map(|output| output.little_endian()).collect()),
    };
    let parts = ModelParts {
        name: "another",
        layers: model.layers(),
        graph: &graph,
        task,
        labels: &Labels::parse("", labels.as_bytes()).unwrap(),
        preprocessing: model.preprocessing(),
        provenance: model.provenance(),
        report: model.report(),
        golden: &[Golden { input, expected }],
    };
    parts.write(&folder.join("m.tar")).unwrap();
}

/// The node before the global average, and the average.
fn ends(graph: &resight_runtime::tract::TypedModel) -> [resight_runtime::tract::OutletId; 2] {
    let average =
        graph.nodes.iter().find(|node| node.op_is::<resight_runtime::layers::GlobalAverage>()).unwrap();
    [average.inputs[0], average.id.into()]
}

/// A model that finds anomalies: whatever is not zero.
pub(super) fn model_of_anomalies(folder: &Path) {
    use resight_runtime::layers::{Anomaly, NearestNeighbour};
    use resight_runtime::tract::{IntoArcTensor, SpecialOps, Tensor};
    model_with_another_end(folder, resight_model_file::Task::Anomaly, "good\nanomaly\n", |graph| {
        let [features, _] = ends(graph);
        let channels = graph.outlet_fact(features).unwrap().shape.as_concrete().unwrap()[3];
        let memory = Tensor::from_shape(&[1, channels], &vec![0_i8; channels]).unwrap().into_arc_tensor();
        let map = graph.wire_node("map", NearestNeighbour { memory, scale: 0.02 }, &[features]).unwrap()[0];
        let anomaly = Anomaly { farthest: 2, threshold: 1.0, slope: 5.0 };
        let logits = graph.wire_node("anomaly", anomaly, &[map]).unwrap()[0];
        vec![logits, map]
    });
}

/// A model with the class `unknown`, of whatever is not like one taught picture.
pub(super) fn model_with_unknown(folder: &Path) {
    use resight_runtime::layers::{Linear, Unknown};
    use resight_runtime::tract::{IntoArcTensor, SpecialOps, Tensor, tensor1};
    let labels: String =
        (0..10).map(|class| format!("thing_{class}\n")).chain(["unknown\n".into()]).collect();
    model_with_another_end(folder, resight_model_file::Task::default(), &labels, |graph| {
        let [_, average] = ends(graph);
        let logits = graph.output_outlets().unwrap()[0];
        let features = graph.outlet_fact(average).unwrap().shape.as_concrete().unwrap()[1];
        let products = Linear {
            weights: Tensor::from_shape(&[1, features], &vec![3_i8; features]).unwrap().into_arc_tensor(),
            bias: tensor1(&[0]).into_arc_tensor(),
            scale: tensor1(&[0.1_f32]).into_arc_tensor(),
            input_limit: i16::MAX,
        };
        let products = graph.wire_node("products", products, &[average]).unwrap()[0];
        let unknown = Unknown { zero_point: 0, nearest: 1, threshold: 0.5, slope: 20.0 };
        vec![graph.wire_node("unknown", unknown, &[average, products, logits]).unwrap()[0]]
    });
}
