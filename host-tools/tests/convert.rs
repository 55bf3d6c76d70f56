//! Networks that others have quantised, against a plain reading of ONNX's definition: the same numbers,
//! and what is refused, and how.
#![allow(clippy::too_many_lines, reason = "tables of what is taken and what is refused")]

mod common;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use resight::comparison::compare;
use resight::convert::convert;
use resight::export::{Format, export, write};
use resight::import::{Wanted, import_proto, import_quantised, import_quantised_proto};
use resight::preprocess::Convention;
use resight::reference::Reference;
use resight::save::save_converted;
use resight::synth::{Architecture, synth};
use resight_fixtures::Random;
use resight_imaging::{Preprocessing, RgbImage};
use resight_kernels::Sequential;
use resight_model_file::Labels;
use resight_runtime::{Isa, Layers, Model, Program, Target};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

use common::protobuf::{floats, integer, integers, shape};

/// Side of the image. The pool leaves 3 x 3 positions: over an odd number of them no average is half
/// way between two integers.
const SIDE: usize = 6;
const PATH: &str = "folder/int8.onnx";

/// Scale and zero point of a tensor of uint8.
type Steps = (f32, i64);

/// Scales of inputs and outputs have ratios with odd numbers, so that nothing lies half way between two
/// integers, where ONNX rounds to the even one and our arithmetic up.
const UNIT: f32 = 1.0 / 4096.0;
const IMAGE: Steps = (128.0 * UNIT, 120);
const FIRST: Steps = (99.0 * UNIT, 0);
const SECOND: Steps = (401.0 * 99.0 / 128.0 * UNIT, 131);
const SUM: Steps = (3.0 * 401.0 * 99.0 / 128.0 * UNIT, 0);
const AVERAGE: Steps = SUM;
const LOGITS: Steps = (301.0 / 128.0 * SUM.0, 97);

fn stored(name: &str, dims: &[i64], data_type: DataType, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type as i32,
        int32_data: values.iter().map(|&value| value as i32).collect(),
        ..TensorProto::default()
    }
}

/// A quantised network while it is written, in either form.
struct Writer {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    random: Random,
    /// Whether activations and weights are int8 or uint8.
    activations: DataType,
    weights: DataType,
    per_channel: bool,
}

/// A layer's weights and bias as the file holds them.
struct Layer {
    name: &'static str,
    dims: Vec<i64>,
    stride: i64,
}

impl Writer {
    fn new(activations: DataType, weights: DataType, per_channel: bool) -> Self {
        let random = Random::new(11);
        Self { nodes: vec![], constants: vec![], random, activations, weights, per_channel }
    }

    fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let domain = match operator {
            "QLinearAdd" | "QLinearGlobalAveragePool" | "QGemm" => "com.microsoft",
            _ => "",
        };
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: name.into(),
            domain: domain.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![format!("{name}_out")],
            attribute,
            ..NodeProto::default()
        });
        format!("{name}_out")
    }

    /// Names of constants for scale and zero point of activations.
    fn steps(&mut self, name: &str, (scale, zero): Steps) -> [String; 2] {
        let names = [format!("{name}.scale"), format!("{name}.zero")];
        let zero = if self.activations == DataType::Int8 { zero - 128 } else { zero };
        if !self.constants.iter().any(|constant| constant.name == names[0]) {
            self.constants.push(floats(&names[0], &[], &[scale]));
            self.constants.push(stored(&names[1], &[], self.activations, &[zero]));
        }
        names
    }

    /// Names of the constants of a layer: weights, their scales and zero points, and the bias; the input
    /// has steps of `input`.
    fn layer(&mut self, layer: &Layer, input: Steps) -> [String; 4] {
        let (name, rows) = (layer.name, layer.dims[0]);
        let names = ["w", "ws", "wz", "b"].map(|part| format!("{name}.{part}"));
        let shift = if self.weights == DataType::Uint8 { 128 } else { 0 };
        let count = layer.dims.iter().product::<i64>();
        let mut integer = |most: f32| (self.random.reals(1)[0] * most) as i64;
        let weights: Vec<i64> = (0..count).map(|_| integer(127.0) + shift).collect();
        let bias: Vec<i64> = (0..rows).map(|_| integer(4000.0)).collect();
        let scales: Vec<f32> =
            (0..rows).map(|row| if row % 2 == 0 { 1.0 / 128.0 } else { 1.0 / 64.0 }).collect();
        let scales = if self.per_channel { scales } else { vec![1.0 / 128.0] };
        let count = scales.len() as i64;
        let dims = if self.per_channel { vec![count] } else { vec![] };
        self.constants.push(stored(&names[0], &layer.dims, self.weights, &weights));
        self.constants.push(floats(&names[1], &dims, &scales));
        self.constants.push(stored(&names[2], &dims, self.weights, &vec![shift; scales.len()]));
        self.constants.push(stored(&names[3], &[rows], DataType::Int32, &bias));
        let of_bias: Vec<f32> = scales.iter().map(|scale| scale * input.0).collect();
        self.constants.push(floats(&format!("{name}.bs"), &dims, &of_bias));
        names
    }

    fn quantise(&mut self, name: &str, input: &str, steps: Steps) -> String {
        let [scale, zero] = self.steps(name, steps);
        self.node("QuantizeLinear", &format!("{name}_quantise"), &[input, &scale, &zero], vec![])
    }

    /// Rounds a tensor and makes floats of it.
    fn round(&mut self, name: &str, input: &str, steps: Steps) -> String {
        let [scale, zero] = self.steps(name, steps);
        let stored = self.quantise(name, input, steps);
        self.node("DequantizeLinear", &format!("{name}_dequantise"), &[&stored, &scale, &zero], vec![])
    }

    /// Weights and bias of a layer as floats.
    fn real_layer(&mut self, layer: &Layer, input: Steps) -> [String; 2] {
        let [w, ws, wz, b] = self.layer(layer, input);
        let name = layer.name;
        let axis = if self.per_channel { vec![integer("axis", 0)] } else { vec![] };
        let weights = self.node("DequantizeLinear", &format!("{name}.dw"), &[&w, &ws, &wz], axis.clone());
        let bias = self.node("DequantizeLinear", &format!("{name}.db"), &[&b, &format!("{name}.bs")], axis);
        [weights, bias]
    }
}

fn window(stride: i64) -> Vec<AttributeProto> {
    vec![integers("pads", &[1; 4]), integers("kernel_shape", &[3, 3]), integers("strides", &[stride; 2])]
}

fn layers() -> [Layer; 3] {
    [
        Layer { name: "conv1", dims: vec![8, 3, 3, 3], stride: 1 },
        Layer { name: "conv2", dims: vec![8, 8, 3, 3], stride: 1 },
        Layer { name: "fc", dims: vec![5, 8], stride: 1 },
    ]
}

/// The model of the nodes, whose output is `output`.
fn model(writer: Writer, output: &str, opset: i64) -> ModelProto {
    let mut proto = synth(Architecture::TinyBasic, 1);
    proto.opset_import[0].version = opset;
    let graph = proto.graph.as_mut().unwrap();
    let Some(TypeValue::TensorType(tensor)) = &mut graph.input[0].r#type.as_mut().unwrap().value else {
        panic!("the input is a tensor")
    };
    for axis in [2, 3] {
        tensor.shape.as_mut().unwrap().dim[axis].value = Some(DimensionValue::DimValue(SIDE as i64));
    }
    graph.node = writer.nodes;
    graph.initializer = writer.constants;
    graph.output.truncate(1);
    graph.output[0].name = output.into();
    proto
}

/// A residual network in the form of `QuantizeLinear` and `DequantizeLinear`.
fn rounded(mut writer: Writer, tail: bool) -> ModelProto {
    let [first, second, last] = layers();
    let image = writer.round("image", "input", IMAGE);
    let [w, b] = writer.real_layer(&first, IMAGE);
    let convolution = writer.node("Conv", "conv1", &[&image, &w, &b], window(first.stride));
    let relu = writer.node("Relu", "relu1", &[&convolution], vec![]);
    let shortcut = writer.round("first", &relu, FIRST);
    let [w, b] = writer.real_layer(&second, FIRST);
    let convolution = writer.node("Conv", "conv2", &[&shortcut, &w, &b], window(second.stride));
    let branch = writer.round("second", &convolution, SECOND);
    let sum = writer.node("Add", "add", &[&branch, &shortcut], vec![]);
    let relu = writer.node("Relu", "relu2", &[&sum], vec![]);
    let sum = writer.round("sum", &relu, SUM);
    let pool = vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])];
    let pooled = writer.node("MaxPool", "pool", &[&sum], pool);
    let pooled = writer.round("pooled", &pooled, SUM);
    let average = writer.node("GlobalAveragePool", "average", &[&pooled], vec![]);
    let average = writer.round("average", &average, AVERAGE);
    let flat = writer.node("Flatten", "flatten", &[&average], vec![]);
    let [w, b] = writer.real_layer(&last, AVERAGE);
    let logits = writer.node("Gemm", "fc", &[&flat, &w, &b], vec![integer("transB", 1)]);
    let mut logits = writer.round("logits", &logits, LOGITS);
    if tail {
        logits = writer.node("Softmax", "softmax", &[&logits], vec![]);
    }
    model(writer, &logits, 13)
}

/// The same network in the form of operators.
fn operators(mut writer: Writer) -> ModelProto {
    let [first, second, last] = layers();
    let image = writer.quantise("image", "input", IMAGE);
    let convolution =
        |writer: &mut Writer, layer: &Layer, x: &str, of_x: (&str, Steps), of_y: (&str, Steps)| {
            let [w, ws, wz, b] = writer.layer(layer, of_x.1);
            let ([xs, xz], [ys, yz]) = (writer.steps(of_x.0, of_x.1), writer.steps(of_y.0, of_y.1));
            let inputs: [&str; 9] = [x, &xs, &xz, &w, &ws, &wz, &ys, &yz, &b];
            writer.node("QLinearConv", layer.name, &inputs, window(layer.stride))
        };
    let shortcut = convolution(&mut writer, &first, &image, ("image", IMAGE), ("first", FIRST));
    let branch = convolution(&mut writer, &second, &shortcut, ("first", FIRST), ("second", SECOND));
    let ([as_, az], [bs, bz]) = (writer.steps("second", SECOND), writer.steps("first", FIRST));
    let [cs, cz] = writer.steps("sum", SUM);
    let inputs: [&str; 8] = [&branch, &as_, &az, &shortcut, &bs, &bz, &cs, &cz];
    let sum = writer.node("QLinearAdd", "add", &inputs, vec![]);
    let pool = vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])];
    let pooled = writer.node("MaxPool", "pool", &[&sum], pool);
    let [ys, yz] = writer.steps("average", AVERAGE);
    let inputs: [&str; 5] = [&pooled, &cs, &cz, &ys, &yz];
    let average = writer.node("QLinearGlobalAveragePool", "average", &inputs, vec![]);
    let flat = writer.node("Flatten", "flatten", &[&average], vec![]);
    let [w, ws, wz, b] = writer.layer(&last, AVERAGE);
    let [zs, zz] = writer.steps("logits", LOGITS);
    let inputs: [&str; 9] = [&flat, &ys, &yz, &w, &ws, &wz, &b, &zs, &zz];
    let logits = writer.node("QGemm", "fc", &inputs, vec![integer("transB", 1)]);
    let logits = writer.node("DequantizeLinear", "logits_dequantise", &[&logits, &zs, &zz], vec![]);
    model(writer, &logits, 13)
}

/// A plain reading of ONNX's definition, in f64.
struct Plain<'a> {
    constants: HashMap<&'a str, (Vec<usize>, Vec<f64>)>,
    types: HashMap<&'a str, i32>,
}

type Tensor = (Vec<usize>, Vec<f64>);

impl<'a> Plain<'a> {
    fn new(proto: &'a ModelProto) -> Self {
        let constants = &proto.graph.as_ref().unwrap().initializer;
        let value = |tensor: &TensorProto| {
            let real = tensor.float_data.iter().map(|&value| f64::from(value));
            let integers = tensor.int32_data.iter().map(|&value| f64::from(value));
            let sizes = tensor.int64_data.iter().map(|&value| value as f64);
            (tensor.dims.iter().map(|&d| d as usize).collect(), real.chain(integers).chain(sizes).collect())
        };
        Self {
            constants: constants.iter().map(|tensor| (tensor.name.as_str(), value(tensor))).collect(),
            types: constants.iter().map(|tensor| (tensor.name.as_str(), tensor.data_type)).collect(),
        }
    }

    fn run(&self, proto: &'a ModelProto, image: &[f64]) -> Vec<f64> {
        let graph = proto.graph.as_ref().unwrap();
        let mut values: HashMap<&str, Tensor> =
            self.constants.iter().map(|(name, value)| (*name, value.clone())).collect();
        values.insert("input", (vec![1, 3, SIDE, SIDE], image.to_vec()));
        for node in &graph.node {
            let inputs: Vec<&Tensor> = node.input.iter().map(|name| &values[name.as_str()]).collect();
            let result = self.node(node, &inputs);
            values.insert(&node.output[0], result);
        }
        values[graph.output[0].name.as_str()].1.clone()
    }

    fn node(&self, node: &NodeProto, inputs: &[&Tensor]) -> Tensor {
        let (dims, x) = inputs[0];
        let ints =
            |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(vec![], |a| a.ints.clone());
        match node.op_type.as_str() {
            "QuantizeLinear" => {
                let (scale, zero) = (inputs[1].1[0], inputs[2].1[0]);
                let is_signed = self.types[node.input[2].as_str()] == DataType::Int8 as i32;
                let (least, most) = if is_signed { (-128.0, 127.0) } else { (0.0, 255.0) };
                let round = |v: &f64| ((v / scale).round_ties_even() + zero).clamp(least, most);
                (dims.clone(), x.iter().map(round).collect())
            }
            "DequantizeLinear" => {
                let per = dims.iter().skip(1).product::<usize>().max(1);
                let at = |values: &[f64], index: usize| {
                    if values.len() == 1 { values[0] } else { values[index / per] }
                };
                let zero = |index| inputs.get(2).map_or(0.0, |zero| at(&zero.1, index));
                let real = |(index, v): (usize, &f64)| (v - zero(index)) * at(&inputs[1].1, index);
                (dims.clone(), x.iter().enumerate().map(real).collect())
            }
            "Relu" => (dims.clone(), x.iter().map(|v| v.max(0.0)).collect()),
            "Add" => (dims.clone(), x.iter().zip(&inputs[1].1).map(|(a, b)| a + b).collect()),
            "Flatten" => (vec![1, x.len()], x.clone()),
            "GlobalAveragePool" => {
                let area = dims[2] * dims[3];
                (
                    vec![1, dims[1], 1, 1],
                    x.chunks(area).map(|p| p.iter().sum::<f64>() / area as f64).collect(),
                )
            }
            // Zeros above and to the left.
            "Pad" => {
                let (h, w) = (dims[2] + inputs[1].1[2] as usize, dims[3] + inputs[1].1[3] as usize);
                let mut out = vec![0.0; dims[1] * h * w];
                for (index, value) in x.iter().enumerate() {
                    let (row, column) = (index / dims[3], index % dims[3]);
                    let (c, y) = (row / dims[2], row % dims[2]);
                    out[(c * h + h - dims[2] + y) * w + w - dims[3] + column] = *value;
                }
                (vec![1, dims[1], h, w], out)
            }
            "MaxPool" => {
                let (h, w) = (dims[2] / 2, dims[3] / 2);
                let at = |c: usize, y: usize, column: usize| x[(c * dims[2] + y) * dims[3] + column];
                let mut out = vec![];
                for index in 0..dims[1] * h * w {
                    let (c, y, column) = (index / (h * w), index / w % h * 2, index % w * 2);
                    let (top, bottom) = (at(c, y, column).max(at(c, y, column + 1)), at(c, y + 1, column));
                    out.push(top.max(bottom).max(at(c, y + 1, column + 1)));
                }
                (vec![1, dims[1], h, w], out)
            }
            "Conv" => {
                let ((shape, w), bias) = (inputs[1], &inputs[2].1);
                let stride = ints("strides")[0] as usize;
                let (height, width) = (dims[2].div_ceil(stride), dims[3].div_ceil(stride));
                let mut out = vec![];
                for index in 0..shape[0] * height * width {
                    let (o, y, column) = (index / (height * width), index / width % height, index % width);
                    let mut sum = bias[o];
                    for tap in 0..shape[1] * 9 {
                        let (c, ky, kx) = (tap / 9, tap / 3 % 3, tap % 3);
                        let (y, column) = (y * stride + ky, column * stride + kx);
                        if (1..=dims[2]).contains(&y) && (1..=dims[3]).contains(&column) {
                            sum +=
                                w[o * shape[1] * 9 + tap] * x[(c * dims[2] + y - 1) * dims[3] + column - 1];
                        }
                    }
                    out.push(sum);
                }
                (vec![1, shape[0], height, width], out)
            }
            "Gemm" => {
                let ((shape, w), bias) = (inputs[1], &inputs[2].1);
                let row = |o: usize| {
                    bias[o] + w[o * shape[1]..][..shape[1]].iter().zip(x).map(|(w, v)| w * v).sum::<f64>()
                };
                (vec![1, shape[0]], (0..shape[0]).map(row).collect())
            }
            other => panic!("{other} is not read here"),
        }
    }
}

fn preprocessing() -> Preprocessing {
    Preprocessing::for_input(SIDE as u32, SIDE as u32)
}

/// Grey levels - 128 in rows, columns and channels, and the network's input for them.
fn picture(seed: u64) -> (Vec<i8>, Vec<f64>) {
    let preprocessing = preprocessing();
    let levels: Vec<i8> =
        Random::new(seed).reals(SIDE * SIDE * 3).iter().map(|value| (value * 127.9) as i8).collect();
    let mut real = vec![0.0; levels.len()];
    for (index, &level) in levels.iter().enumerate() {
        let (position, channel) = (index / 3, index % 3);
        let (mean, deviation) = (preprocessing.mean[channel], preprocessing.standard_deviation[channel]);
        let level = f64::from(i32::from(level) + 128) / 255.0;
        real[channel * SIDE * SIDE + position] = (level - f64::from(mean)) / f64::from(deviation);
    }
    (levels, real)
}

/// The logits of the converted network.
fn converted(proto: ModelProto, pictures: &[Vec<i8>]) -> Vec<Vec<f32>> {
    let (imported, quantisation) =
        import_quantised_proto(proto, Path::new(PATH), None).unwrap_or_else(|error| panic!("{error}"));
    let converted =
        convert(&imported, &quantisation, &preprocessing()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(converted.report.int8_mac_coverage_percent, 100.0);
    let mut all = vec![];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let target = Target::of_this_machine().unwrap().with_isa(isa);
        let mut program = Program::compile(&converted.model, &Layers::default(), &target).unwrap();
        let mut run = |picture: &Vec<i8>| {
            let outputs = program.run(&Sequential, picture).unwrap();
            outputs.get(0).unwrap().slice::<f32>().unwrap().to_vec()
        };
        all.push(pictures.iter().map(&mut run).collect::<Vec<_>>());
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    all.swap_remove(0)
}

fn pictures() -> (Vec<Vec<i8>>, Vec<Vec<f64>>) {
    (1..=20).map(picture).unzip()
}

/// Every type that activations and weights can have.
fn writers() -> Vec<Writer> {
    let mut writers = vec![];
    for activations in [DataType::Uint8, DataType::Int8] {
        for weights in [DataType::Int8, DataType::Uint8] {
            for per_channel in [false, true] {
                writers.push(Writer::new(activations, weights, per_channel));
            }
        }
    }
    writers
}

#[test]
fn a_rounded_network_gives_the_numbers_that_onnx_defines() {
    let (pictures, real) = pictures();
    for writer in writers() {
        let proto = rounded(writer, false);
        let plain = Plain::new(&proto);
        let expected: Vec<Vec<f32>> = real
            .iter()
            .map(|image| plain.run(&proto, image).into_iter().map(|logit| logit as f32).collect())
            .collect();
        let found = converted(proto.clone(), &pictures);
        assert_eq!(found, expected);
        // They are not all the same, nor at the ends.
        let (low, high) = ((0.0 - LOGITS.1 as f32) * LOGITS.0, (255.0 - LOGITS.1 as f32) * LOGITS.0);
        let inside = expected.concat().iter().filter(|&&logit| logit > low && logit < high).count();
        assert!(inside > 80, "{inside} of 100 logits are within their range");
    }
}

#[test]
fn zeros_before_a_maximum_are_taken_where_nothing_is_below_zero() {
    let (pictures, real) = pictures();
    let padded = |writer: Writer| {
        let mut proto = rounded(writer, false);
        let graph = proto.graph.as_mut().unwrap();
        let at = graph.node.iter().position(|node| node.name == "pool").unwrap();
        let pad = NodeProto {
            op_type: "Pad".into(),
            name: "border".into(),
            input: vec![graph.node[at].input[0].clone(), "sides".into()],
            output: vec!["border_out".into()],
            ..NodeProto::default()
        };
        graph.node[at].input[0] = "border_out".into();
        graph.node.insert(at, pad);
        graph.initializer.push(shape("sides", &[0, 0, 1, 1, 0, 0, 0, 0]));
        proto
    };
    let without_function = |proto: &mut ModelProto| {
        let before = node(proto, "relu2").input[0].clone();
        node(proto, "sum_quantise").input[0] = before;
        proto.graph.as_mut().unwrap().node.retain(|node| node.name != "relu2");
    };
    for writer in writers() {
        // Said by the function, and by numbers of which the least is zero.
        let mut proto = padded(writer);
        for removed in [false, true] {
            if removed {
                without_function(&mut proto);
            }
            let plain = Plain::new(&proto);
            let of =
                |image: &Vec<f64>| plain.run(&proto, image).into_iter().map(|logit| logit as f32).collect();
            let expected: Vec<Vec<f32>> = real.iter().map(of).collect();
            assert_eq!(converted(proto.clone(), &pictures), expected, "without the function: {removed}");
        }
    }
    let mut proto = padded(Writer::new(DataType::Uint8, DataType::Int8, true));
    without_function(&mut proto);
    constant(&mut proto, "sum.zero").int32_data[0] = 40;
    let said = refusal(proto);
    assert!(
        said.ends_with(
            "it follows a Pad with zeros, which are more than negative values; pad within the MaxPool"
        ),
        "{said}"
    );
}

#[test]
fn weights_far_from_their_zero_point_are_kept() {
    let (pictures, real) = pictures();
    let compare = |proto: &ModelProto| {
        let plain = Plain::new(proto);
        let of = |image: &Vec<f64>| plain.run(proto, image).into_iter().map(|logit| logit as f32).collect();
        let expected: Vec<Vec<f32>> = real.iter().map(of).collect();
        assert_eq!(converted(proto.clone(), &pictures), expected);
        let all: HashSet<u32> = expected.concat().iter().map(|logit| logit.to_bits()).collect();
        assert!(all.len() > 15, "{} logits of 100 differ", all.len());
    };
    // Asymmetric: from 30 steps below zero to 225 above, in the first layer, within, and in the last one.
    for name in ["conv1", "conv2", "fc"] {
        let mut proto = rounded(Writer::new(DataType::Uint8, DataType::Uint8, false), false);
        constant(&mut proto, &format!("{name}.wz")).int32_data[0] = 30;
        let weights = &mut constant(&mut proto, &format!("{name}.w")).int32_data;
        let random = Random::new(3).reals(weights.len());
        for (weight, value) in weights.iter_mut().zip(random) {
            *weight = (30.0 + value * 100.0).clamp(0.0, 255.0) as i32;
        }
        (weights[5], weights[7]) = (255, 200);
        compare(&proto);
    }
    // -128 alone.
    for name in ["conv1", "conv2", "fc"] {
        let mut proto = rounded(Writer::new(DataType::Int8, DataType::Int8, true), false);
        constant(&mut proto, &format!("{name}.w")).int32_data[4] = -128;
        compare(&proto);
    }
}

#[test]
fn a_sum_that_is_rounded_once_is_on_the_steps_of_the_file() {
    let (pictures, real) = pictures();
    let mut proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    // PyTorch's quantisers for x86 add to a convolution before they round.
    node(&mut proto, "add").input[0] = "conv2_out".into();
    let plain = Plain::new(&proto);
    let expected: Vec<f32> =
        real.iter().flat_map(|image| plain.run(&proto, image)).map(|logit| logit as f32).collect();
    let found = converted(proto.clone(), &pictures).concat();
    let steps = |(one, other): (&f32, &f32)| ((one - other) / LOGITS.0).abs();
    let differences: Vec<f32> = found.iter().zip(&expected).map(steps).collect();
    let same = differences.iter().filter(|&&steps| steps == 0.0).count();
    assert!(differences.iter().all(|&steps| steps < 1.5) && same > 80, "{same} of 100 are the same");
}

#[test]
fn biases_between_the_steps_of_an_accumulator_are_kept() {
    let (pictures, real) = pictures();
    // NNCF leaves biases in floats.
    let mut proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    let mut random = Random::new(5);
    for name in ["conv1", "conv2"] {
        let steps = constant(&mut proto, &format!("{name}.bs")).float_data.clone();
        let whole = constant(&mut proto, &format!("{name}.b")).int32_data.clone();
        let parts = random.reals(whole.len());
        let between = whole.iter().zip(&parts).zip(&steps);
        let real: Vec<f32> =
            between.map(|((&whole, part), step)| (whole as f32 + part / 2.0) * step).collect();
        let graph = proto.graph.as_mut().unwrap();
        graph.node.retain(|node| node.name != format!("{name}.db"));
        graph.initializer.push(floats(&format!("{name}.db_out"), &[real.len() as i64], &real));
    }
    let plain = Plain::new(&proto);
    let of = |image: &Vec<f64>| plain.run(&proto, image).into_iter().map(|logit| logit as f32).collect();
    let expected: Vec<Vec<f32>> = real.iter().map(of).collect();
    assert_eq!(converted(proto.clone(), &pictures), expected);
}

#[test]
fn both_forms_are_one_network() {
    let (pictures, _) = pictures();
    for (one, other) in writers().into_iter().zip(writers()) {
        assert_eq!(converted(operators(one), &pictures), converted(rounded(other, false), &pictures));
    }
}

#[test]
fn a_bias_may_stand_behind_the_rounded_logits() {
    let (pictures, real) = pictures();
    // As Neural Compressor splits a fully connected layer.
    let mut proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    let graph = proto.graph.as_mut().unwrap();
    let bias = [0.5, -0.25, 0.125, 0.75, -1.0];
    graph.initializer.push(floats("behind", &[5], &bias));
    let logits = graph.output[0].name.clone();
    graph.node.push(NodeProto {
        op_type: "Add".into(),
        name: "bias".into(),
        input: vec![logits, "behind".into()],
        output: vec!["bias_out".into()],
        ..NodeProto::default()
    });
    graph.output[0].name = "bias_out".into();
    let plain = Plain::new(&proto);
    for (found, image) in converted(proto.clone(), &pictures).iter().zip(&real) {
        for (found, expected) in found.iter().zip(plain.run(&proto, image)) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }
}

#[test]
fn a_softmax_behind_the_logits_is_left_out() {
    let (pictures, _) = pictures();
    let writer = || Writer::new(DataType::Uint8, DataType::Int8, true);
    assert_eq!(converted(rounded(writer(), true), &pictures), converted(rounded(writer(), false), &pictures));
}

#[test]
fn the_reference_rounds_as_the_file_does() {
    let (_, real) = pictures();
    let proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    let plain = Plain::new(&proto);
    let (imported, _) = import_quantised_proto(proto.clone(), Path::new(PATH), None).unwrap();
    let reference = Reference::new(&imported, &[]).unwrap();
    for image in &real {
        let narrow: Vec<f32> = image.iter().map(|&value| value as f32).collect();
        let expected: Vec<f32> = plain.run(&proto, image).into_iter().map(|logit| logit as f32).collect();
        assert_eq!(reference.run(&narrow).unwrap().logits(), expected);
    }
}

/// The message of a refusal, by import or by conversion.
fn refusal(proto: ModelProto) -> String {
    let (imported, quantisation) = match import_quantised_proto(proto, Path::new(PATH), None) {
        Ok(imported) => imported,
        Err(error) => return error.to_string(),
    };
    convert(&imported, &quantisation, &preprocessing()).map(|_| ()).unwrap_err().to_string()
}

fn constant<'a>(proto: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    let constants = &mut proto.graph.as_mut().unwrap().initializer;
    constants.iter_mut().find(|constant| constant.name == name).unwrap()
}

fn node<'a>(proto: &'a mut ModelProto, name: &str) -> &'a mut NodeProto {
    let nodes = &mut proto.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.name == name).unwrap()
}

/// A network with one change.
fn with(change: impl FnOnce(&mut ModelProto)) -> ModelProto {
    let mut proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    change(&mut proto);
    proto
}

#[test]
fn unusable_scales_and_zero_points_are_named() {
    for (value, shown) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let refused = refusal(with(|proto| constant(proto, "first.scale").float_data[0] = value));
        let expected = format!(
            "folder/int8.onnx: node `first_quantise` (QuantizeLinear): its scale `first.scale` is {shown} at position 0; \
             a scale must be positive and finite, quantise the network again"
        );
        assert_eq!(refused, expected);
    }
    let refused = refusal(with(|proto| constant(proto, "conv2.ws").float_data[3] = f32::NAN));
    assert!(
        refused.contains("node `conv2.dw` (DequantizeLinear): its scale `conv2.ws` is NaN at position 3"),
        "{refused}"
    );
    let refused = refusal(with(|proto| constant(proto, "second.zero").int32_data[0] = 300));
    assert!(
        refused.contains(
            "its zero point `second.zero` holds 300, which is none of 0 to 255; quantise the network again"
        ),
        "{refused}"
    );
    let refused = refusal(with(|proto| {
        let zero = constant(proto, "first.zero");
        zero.data_type = DataType::Uint16 as i32;
    }));
    assert!(
        refused.contains("its zero point `first.zero` has the type UINT16; only int8 and uint8 are supported: quantise to 8 bits"),
        "{refused}"
    );
}

#[test]
fn scales_that_no_layer_can_have_are_refused() {
    // Per input channel instead of per output channel.
    let refused = refusal(with(|proto| node(proto, "conv2.dw").attribute[0].i = 1));
    let expected = "folder/int8.onnx: node `conv2` (Conv): its weights have a scale for each index of axis 1, which is not \
                    that of the outputs (0); quantise per output channel or per tensor";
    assert_eq!(refused, expected);
    let refused = refusal(with(|proto| node(proto, "conv1.dw").attribute[0].i = 2));
    assert!(refused.contains("its 8 scales lie along axis 2 of a tensor [8, 3, 3, 3]"), "{refused}");
    let refused = refusal(with(|proto| node(proto, "conv1.dw").attribute.push(integer("block_size", 32))));
    assert!(
        refused.contains("its scales are for blocks of 32 values (block-wise quantisation)"),
        "{refused}"
    );
    let refused = refusal(with(|proto| {
        let scales = constant(proto, "fc.ws");
        scales.dims = vec![5, 2];
        scales.float_data = vec![0.5; 10];
    }));
    assert!(
        refused.contains("node `fc.dw` (DequantizeLinear): its scales have 2 dimensions (block-wise"),
        "{refused}"
    );
    let refused = refusal(with(|proto| {
        constant(proto, "first.scale").dims = vec![8];
        constant(proto, "first.scale").float_data = vec![0.5; 8];
    }));
    assert!(
        refused.contains("(QuantizeLinear): it has a scale for each channel of a result of the network"),
        "{refused}"
    );
    let refused = refusal(with(|proto| constant(proto, "conv1.w").data_type = DataType::Int4 as i32));
    assert!(
        refused.contains(
            "node `conv1.dw` (DequantizeLinear): its input `conv1.w` has the type INT4; only int8 and uint8"
        ),
        "{refused}"
    );
    let refused = refusal(with(|proto| node(proto, "sum_dequantise").input[1] = "first.scale".into()));
    let expected =
        format!("its input `sum_quantise_out` has scale {} and zero point -128, here it is read with", SUM.0);
    assert!(refused.contains(&expected), "{refused}");
}

#[test]
fn what_stays_in_floats_is_named() {
    // A layer whose weights are floats.
    let refused = refusal(with(|proto| {
        node(proto, "conv2").input[1] = "real".into();
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer.push(floats("real", &[8, 8, 3, 3], &Random::new(3).reals(576)));
    }));
    let expected = "folder/int8.onnx: node `conv2` (Conv): its weights `real` are in f32: a float layer inside of a quantised \
                    network; quantise it too (leave it out of the nodes that are excluded), or `resight quantize` the f32 file";
    assert_eq!(refused, expected);
    // A sum that is nowhere rounded: two uses, one of which takes it as it is.
    let refused = refusal(with(|proto| {
        node(proto, "pool").input[0] = "relu2_out".into();
        node(proto, "average").input[0] = "pool_out".into();
    }));
    assert!(
        refused.contains("node `add`: its result stays in floats, which makes it a float island inside of a quantised network"),
        "{refused}"
    );
    let refused = refusal(with(|proto| node(proto, "conv1").input[0] = "input".into()));
    assert_eq!(
        refused,
        "node `conv1`: it takes the image in floats; put a QuantizeLinear between, as the tools do that quantise inputs too"
    );
    let refused =
        refusal(with(|proto| node(proto, "first_quantise").op_type = "DynamicQuantizeLinear".into()));
    assert!(refused.contains("it finds scales anew for each picture (dynamic quantisation)"), "{refused}");
    let refused = refusal(with(|proto| node(proto, "relu2").input[0] = "second_quantise_out".into()));
    assert!(
        refused
            .contains("it takes the 8-bit numbers of `second_quantise_out` as they are, which Relu cannot"),
        "{refused}"
    );
}

#[test]
fn each_command_names_the_other_one() {
    let error = import_proto(with(|_| ()), Path::new(PATH)).unwrap_err().to_string();
    assert!(error.contains("the file is quantised already; `resight convert` takes such files"), "{error}");
    let error = import_quantised_proto(synth(Architecture::TinyBasic, 1), Path::new(PATH), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "folder/int8.onnx: the network is not quantised; `resight quantize` makes an int8 network of it"
    );
    // The mark of a rounding is no operator of files.
    let error = import_proto(
        with(|proto| {
            for node in &mut proto.graph.as_mut().unwrap().node {
                node.op_type = "ResightRounding".into();
            }
        }),
        Path::new(PATH),
    );
    assert!(error.unwrap_err().to_string().contains("(ResightRounding): the operator is not supported"));
}

/// The converted network as a model file in a folder, with the ONNX file beside it.
fn saved(folder: &Path, name: &str, proto: &ModelProto) -> (PathBuf, PathBuf) {
    let (onnx, file) = (folder.join(format!("{name}.onnx")), folder.join(format!("{name}.resight.tar")));
    write(proto, &onnx).unwrap();
    let (imported, quantisation) = import_quantised_proto(proto.clone(), &onnx, None).unwrap();
    let converted = convert(&imported, &quantisation, &preprocessing()).unwrap();
    let labels = Labels::parse("labels", b"a\nb\nc\nd\ne\n").unwrap();
    save_converted(&file, &onnx, &labels, &preprocessing(), &converted).unwrap();
    (onnx, file)
}

/// Pictures of the network's size in a folder.
fn photographs(folder: &Path) -> Vec<PathBuf> {
    let photograph = |seed: u64| {
        let file = folder.join(format!("{seed}.png"));
        let (levels, _) = picture(seed);
        let bytes = levels.iter().map(|&level| level.cast_unsigned() ^ 0x80).collect();
        RgbImage::from_raw(SIDE as u32, SIDE as u32, bytes).unwrap().save(&file).unwrap();
        file
    };
    (1..=6).map(photograph).collect()
}

#[test]
fn an_exported_network_comes_back_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, _) = pictures();
    let proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    let (_, file) = saved(folder.path(), "one", &proto);
    let exported = export(&Model::load(&file).unwrap(), Format::Qdq).unwrap();
    assert_eq!(exported.opset_import[0].version, 13);
    let graph = exported.graph.as_ref().unwrap();
    assert_eq!((graph.input[0].name.as_str(), graph.output[0].name.as_str()), ("input", "logits"));
    let names: HashSet<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names.len(), graph.node.len());
    assert_eq!(converted(exported, &pictures), converted(proto, &pictures));
}

/// A model that was quantised here and its export, on pictures of noise.
fn quantised_here(folder: &Path) -> (PathBuf, PathBuf, Model, Vec<PathBuf>) {
    let (file, onnx) = (folder.join("here.resight.tar"), folder.join("here.onnx"));
    std::fs::write(&file, resight_fixtures::TINY_MODEL).unwrap();
    let model = Model::load(&file).unwrap();
    write(&export(&model, Format::Qdq).unwrap(), &onnx).unwrap();
    let [height, width] = model.preprocessing().crop;
    let picture = |seed: u64| {
        let count = (height * width * 3) as usize;
        let noise = Random::new(seed).reals(count);
        let bytes = noise.iter().map(|value| ((value + 1.0) * 127.5) as u8).collect();
        let picture = folder.join(format!("noise{seed}.png"));
        RgbImage::from_raw(width, height, bytes).unwrap().save(&picture).unwrap();
        picture
    };
    (file, onnx, model, (1..=20).map(picture).collect())
}

#[test]
fn a_network_quantised_here_is_exported_and_comes_back_with_the_same_classes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, onnx, model, pictures) = quantised_here(folder.path());
    let target = Target::of_this_machine().unwrap();
    // The export by ONNX's definition, its picture rounded to grey levels and padded with the mean.
    let exported = compare(&file, &onnx, &pictures, &target, &|_, _, _| ()).unwrap();
    assert_eq!(exported.agreement, 100.0);
    assert!(exported.sqnr_db > 50.0, "{exported:?}");
    let (imported, quantisation) = import_quantised(&onnx, &Wanted::default()).unwrap();
    let preprocessing = Convention::imagenet().preprocessing(&imported).unwrap();
    let converted = convert(&imported, &quantisation, &preprocessing).unwrap();
    let back = folder.path().join("back.resight.tar");
    save_converted(&back, &onnx, model.labels(), &preprocessing, &converted).unwrap();
    let returned = compare(&file, &back, &pictures, &target, &|_, _, _| ()).unwrap();
    assert_eq!(returned.agreement, 100.0);
    assert!(returned.sqnr_db > 60.0, "{returned:?}");
    // Its picture is of grey levels with its own normalisation alone.
    let other = Convention::tf().preprocessing(&imported).unwrap();
    let refused = convert(&imported, &quantisation, &other).unwrap_err().to_string();
    assert!(
        refused.contains("it is rounded to whole grey levels, which it is not with this normalisation"),
        "{refused}"
    );
}

#[test]
fn an_export_in_f32_computes_without_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let proto = rounded(Writer::new(DataType::Uint8, DataType::Int8, true), false);
    let (onnx, file) = saved(folder.path(), "one", &proto);
    let exported = export(&Model::load(&file).unwrap(), Format::F32).unwrap();
    let operators: HashSet<&str> =
        exported.graph.as_ref().unwrap().node.iter().map(|node| node.op_type.as_str()).collect();
    assert!(
        !operators.contains("QuantizeLinear") && !operators.contains("DequantizeLinear"),
        "{operators:?}"
    );
    let real = folder.path().join("real.onnx");
    write(&exported, &real).unwrap();
    let target = Target::of_this_machine().unwrap();
    let compared = compare(&onnx, &real, &photographs(folder.path()), &target, &|_, _, _| ()).unwrap();
    assert!((25.0..70.0).contains(&compared.sqnr_db), "{compared:?}");
}

#[test]
fn a_file_and_its_model_are_the_same_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (onnx, file) =
        saved(folder.path(), "one", &rounded(Writer::new(DataType::Int8, DataType::Int8, true), false));
    let target = Target::of_this_machine().unwrap();
    let pictures = photographs(folder.path());
    let same = compare(&onnx, &file, &pictures, &target, &|_, _, _| ()).unwrap();
    assert_eq!((same.pictures, same.agreement), (6, 100.0));
    assert_eq!((same.sqnr_db, same.centred_sqnr_db), (200.0, 200.0));
    let names: Vec<&str> = same.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["image_quantise", "conv1", "conv2", "add", "pool", "average", "fc"]);
    // Real numbers have 24 bits in f32, and the integers that they stand for are exact.
    assert!(same.layers.iter().all(|layer| layer.sqnr_db > 120.0), "{same:?}");
    // Another network of the same layers is another one.
    let other = rounded(Writer::new(DataType::Int8, DataType::Int8, false), false);
    let (other, _) = saved(folder.path(), "other", &other);
    let differs = compare(&file, &other, &pictures, &target, &|_, _, _| ()).unwrap();
    assert!(
        differs.sqnr_db < 20.0 && differs.layers[0].sqnr_db > 120.0 && differs.layers[1].sqnr_db < 20.0,
        "{differs:?}"
    );
}
