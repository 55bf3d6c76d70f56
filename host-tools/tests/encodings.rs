//! A network of floats with AIMET's encodings beside it: the same int8 network from each version of these files, and
//! what is refused.

mod common;

use std::path::{Path, PathBuf};

use prost::Message as _;
use resight::convert::convert;
use resight::graph::Operator;
use resight::import::{Wanted, import_proto, import_quantised};
use resight::quantise::Noise;
use resight::reference::Reference;
use resight::synth::{Architecture, synth};
use resight_imaging::Preprocessing;
use resight_kernels::Sequential;
use resight_runtime::{Classes, Layers, Program, Target};
use serde_json::{Value, json};
use tract_onnx::pb::{ModelProto, TensorProto};

/// What a tensor is rounded to: scales, and the integer of uint8 that is zero.
struct Entry {
    name: String,
    scales: Vec<f32>,
    zero: i64,
}

fn images() -> Vec<Vec<f32>> {
    (0..4).map(|seed| common::image(3 * 32 * 32, seed)).collect()
}

/// The results of the network that an int8 network rounds, in ranges that the images have.
fn activations(proto: &ModelProto) -> Vec<Entry> {
    let imported = import_proto(proto.clone(), "float.onnx".as_ref()).unwrap();
    let is_rounded =
        |operator: &Operator| !matches!(operator, Operator::Linear { .. } | Operator::GlobalAverage);
    let nodes = imported.graph.nodes.iter().filter(|node| is_rounded(&node.operator));
    let tensors: Vec<String> = nodes.map(|node| node.tensor.clone()).collect();
    let reference = Reference::new(&imported, &tensors).unwrap();
    let mut ranges = vec![(0.0f32, 0.0f32); tensors.len()];
    for image in images() {
        let values = reference.run(&image).unwrap();
        for (index, (low, high)) in ranges.iter_mut().enumerate() {
            for &value in values.tensor(index) {
                (*low, *high) = (low.min(value), high.max(value));
            }
        }
    }
    let entry = |(name, (low, high)): (String, (f32, f32))| {
        let scale = (high - low) / 255.0;
        Entry { name, scales: vec![scale], zero: (-low / scale).round() as i64 }
    };
    tensors.into_iter().zip(ranges).map(entry).collect()
}

/// The weights of layers, with a scale for each output.
fn parameters(proto: &ModelProto) -> Vec<Entry> {
    let graph = proto.graph.as_ref().unwrap();
    let layers = graph.node.iter().filter(|node| ["Conv", "Gemm"].contains(&node.op_type.as_str()));
    let weights = |name: &str| -> TensorProto {
        graph.initializer.iter().find(|tensor| tensor.name == name).unwrap().clone()
    };
    let entry = |name: &String| {
        let tensor = weights(name);
        let (values, _) = tensor.raw_data.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let rows = values.chunks(values.len() / tensor.dims[0] as usize);
        let largest = |row: &[f32]| row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        Entry { name: name.clone(), scales: rows.map(|row| largest(row) / 127.0).collect(), zero: 128 }
    };
    layers.map(|node| entry(&node.input[1])).collect()
}

/// As AIMET 1 writes it.
fn version_0(activations: &[Entry], parameters: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        let one = |scale: &f32| json!({"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "offset": -entry.zero, "scale": scale});
        (entry.name.clone(), entry.scales.iter().map(one).collect::<Value>())
    };
    let all = |entries: &[Entry]| Value::Object(entries.iter().map(entry).collect());
    let mut parameters = all(parameters);
    // Biases of 32 bits are left as they are.
    parameters["fc.bias"] = json!([{"bitwidth": 32, "dtype": "int", "offset": 0, "scale": 1e-6}]);
    json!({"version": "0.6.1", "activation_encodings": all(activations), "param_encodings": parameters})
}

fn version_1(activations: &[Entry], parameters: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        let kind = if entry.scales.len() == 1 { "PER_TENSOR" } else { "PER_CHANNEL" };
        let offsets = vec![-entry.zero; entry.scales.len()];
        json!({"name": entry.name, "bw": 8, "dtype": "INT", "enc_type": kind, "scale": entry.scales, "offset": offsets})
    };
    let all = |entries: &[Entry]| entries.iter().map(entry).collect::<Value>();
    json!({"version": "1.0.0", "activation_encodings": all(activations), "param_encodings": all(parameters)})
}

fn version_2(activations: &[Entry], parameters: &[Entry]) -> Value {
    let activation = |entry: &Entry| json!({"name": entry.name, "output_dtype": "uint8", "y_scale": entry.scales[0], "y_zero_point": entry.zero});
    let parameter = |entry: &Entry| json!({"name": entry.name, "output_dtype": "int8", "y_scale": entry.scales, "axis": 0});
    let all: Vec<Value> =
        activations.iter().map(activation).chain(parameters.iter().map(parameter)).collect();
    json!({"version": "2.0.0", "encodings": all})
}

struct Files {
    folder: tempfile::TempDir,
    network: PathBuf,
}

fn files(proto: &ModelProto) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let network = folder.path().join("float.onnx");
    std::fs::write(&network, proto.encode_to_vec()).unwrap();
    Files { folder, network }
}

impl Files {
    fn encodings(&self, value: &Value) -> PathBuf {
        let path = self.folder.path().join("float.encodings");
        std::fs::write(&path, value.to_string()).unwrap();
        path
    }

    fn refusal(&self, value: &Value) -> String {
        let encodings = self.encodings(value);
        let wanted = Wanted { encodings: Some(encodings.clone()), ..Wanted::default() };
        let error = import_quantised(&self.network, &wanted).map(|_| ()).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", encodings.display())).unwrap_or(&error).to_owned()
    }
}

/// The logits of the int8 network, and those of the f32 network that rounds as the encodings say.
fn logits(network: &Path, encodings: PathBuf, channels: [f32; 2]) -> (Vec<f32>, Vec<f32>) {
    let wanted = Wanted { encodings: Some(encodings), ..Wanted::default() };
    let (imported, quantisation) = import_quantised(network, &wanted).unwrap();
    let mut preprocessing = Preprocessing::for_input(32, 32);
    preprocessing.mean = [channels[0]; 3];
    preprocessing.standard_deviation = [channels[1]; 3];
    let converted = convert(&imported, &quantisation, &preprocessing).unwrap();
    assert_eq!(converted.report.int8_mac_coverage_percent, 100.0);
    let layers = Layers::default();
    let mut program = Program::compile(&converted.model, &layers, &Target::reference()).unwrap();
    let reference = Reference::new(&imported, &[]).unwrap();
    let (mut ours, mut theirs) = (vec![], vec![]);
    for image in images() {
        let level = |value: &f32| ((value * channels[1] + channels[0]) * 255.0).round().clamp(0.0, 255.0);
        let levels: Vec<f32> = image.iter().map(level).collect();
        let real: Vec<f32> = levels.iter().map(|level| (level / 255.0 - channels[0]) / channels[1]).collect();
        let positions = levels.len() / 3;
        let bytes: Vec<i8> =
            (0..levels.len()).map(|at| (levels[at % 3 * positions + at / 3] - 128.0) as i8).collect();
        ours.extend_from_slice(Classes::logits(program.run(&Sequential, &bytes).unwrap()).unwrap());
        theirs.extend_from_slice(reference.run(&real).unwrap().logits());
    }
    (ours, theirs)
}

#[test]
fn all_versions_are_the_same_network() {
    let proto = synth(Architecture::TinyBasic, 1);
    let (activations, parameters) = (activations(&proto), parameters(&proto));
    let files = files(&proto);
    let versions = [version_0, version_1, version_2].map(|write| {
        let encodings = files.encodings(&write(&activations, &parameters));
        logits(&files.network, encodings, [0.5, 0.25])
    });
    let (ours, theirs) = &versions[0];
    let decibel = Noise::of(theirs, ours).decibel();
    assert!(decibel > 30.0, "{decibel:.1} dB");
    assert!(versions.iter().all(|version| version.0 == *ours));
}

#[test]
fn what_does_not_fit_is_named() {
    let proto = synth(Architecture::TinyBasic, 1);
    let (activations, parameters) = (activations(&proto), parameters(&proto));
    let files = files(&proto);
    let whole = || version_2(&activations, &parameters);
    let changed = |key: &str, value: Value| {
        let mut all = whole();
        all["encodings"][1][key] = value;
        files.refusal(&all)
    };
    let name = &activations[1].name;
    let of = |fault: &str| format!("the encoding of `{name}` {fault}");
    assert_eq!(
        changed("name", json!("other")),
        "the encoding of `other` is of no tensor of the network; give the ONNX file that was exported with it"
    );
    assert_eq!(
        changed("output_dtype", json!("uint16")),
        of("is of 16 bits; only 8 bits are supported, quantise the network to them")
    );
    assert_eq!(
        changed("output_dtype", json!("float16")),
        of("is of floats of 16 bits; quantise to integers of 8 bits")
    );
    assert_eq!(changed("y_scale", json!("large")), of("has no usable `y_scale`; export the encodings again"));
    assert_eq!(
        changed("y_zero_point", json!(256)),
        of("has the zero point 256, which its 8 bits do not hold; export the encodings again")
    );
    assert_eq!(
        changed("y_zero_point", json!([1, 2])),
        of("has 1 scales and 2 zero points; export the encodings again")
    );
    assert_eq!(
        changed("block_size", json!(32)),
        of("is for blocks of values; quantise per tensor or per channel")
    );
    assert_eq!(
        files.refusal(&json!({"version": "3.0.0"})),
        "not a file of AIMET's encodings of the versions 0.4 to 2.0: it says version 3.0.0; export them again"
    );
    assert!(files.refusal(&json!([1])).contains("it says no version"));
    let negative = changed("y_scale", json!(-1.0));
    assert!(
        negative.contains("a scale must be positive and finite, quantise the network again"),
        "{negative}"
    );
    // What is not rounded stays a float layer, which is named.
    let mut all = whole();
    all["encodings"].as_array_mut().unwrap().retain(|entry| entry["name"] != json!(parameters[0].name));
    let refused = files.refusal(&all);
    assert!(refused.contains("are in f32: a float layer inside of a quantised network"), "{refused}");
}

#[test]
fn a_file_that_rounds_itself_takes_no_encodings() {
    let mut proto = synth(Architecture::TinyBasic, 1);
    proto.graph.as_mut().unwrap().node[0].op_type = "QuantizeLinear".into();
    let files = files(&proto);
    let refused = files.refusal(&json!({}));
    assert_eq!(
        refused,
        format!(
            "{}: the network has QuantizeLinear of its own; leave the encodings out, or export it without them",
            files.network.display()
        )
    );
}
