//! The command line as a person uses it, on small synthetic networks and generated pictures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use prost::Message;
use serde_json::Value;
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::{Tensor, Value as TypeValue};
use tract_onnx::pb::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

#[path = "../../host-tools/tests/common/protobuf.rs"]
#[allow(dead_code, unreachable_pub)]
mod protobuf;

/// A folder with a tiny network, pictures, labels and helpers to run `resight` in it.
struct Workshop(TempDir);

impl Workshop {
    fn new() -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        workshop.ok(&["synth", "tiny-bottleneck", "-o", "net.onnx", "--seed", "3"]);
        fs::create_dir(workshop.path("pictures")).unwrap();
        let mut labels = String::new();
        for index in 0..12u32 {
            let name = format!("{index:02}.png");
            let picture = image::RgbImage::from_fn(48, 40, |x, y| {
                let wave = |a: u32, b: u32| ((x * a + y * b + index * 29) % 256) as u8;
                image::Rgb([wave(5, 3), wave(2 + index, 7), wave(11, 1 + index)])
            });
            picture.save(workshop.path("pictures").join(&name)).unwrap();
            labels.push_str(&format!("{name} {}\n", index % 10));
        }
        fs::write(workshop.path("pictures/labels.txt"), labels).unwrap();
        let names: String = (0..10).map(|class| format!("n{class:08} thing_{class}\n")).collect();
        fs::write(workshop.path("names.txt"), names).unwrap();
        workshop
    }

    /// One that has quantised its network already.
    fn with_model() -> Self {
        let workshop = Self::new();
        workshop.quantize("model.resight.tar", &[]);
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
        command.args(arguments).current_dir(self.0.path()).env_remove("RESIGHT_ISA").env_remove("RUST_LOG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and expects success; gives standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        text(self.run(arguments), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    fn quantize(&self, output: &str, more: &[&str]) -> String {
        let mut arguments =
            vec!["quantize", "net.onnx", "--calibration", "pictures", "--labels", "names.txt", "-o", output];
        arguments.extend(more);
        self.ok(&arguments)
    }

    /// Runs and expects exit code 1 and one line on standard error that holds every word.
    fn fails(&self, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
        for word in words {
            assert!(error.contains(word), "{arguments:?}: `{word}` is not in: {error}");
        }
        assert!(error.matches("os error").count() <= 1, "{arguments:?}: a cause is said twice: {error}");
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn text(output: Output, arguments: &[&str]) -> String {
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// As after `| head -1` that has read enough, and as on a disk that is full.
#[test]
fn every_command_ends_quietly_when_nobody_reads_and_says_when_nothing_can_be_written() {
    let workshop = Workshop::with_model();
    workshop.ok(&["keygen", "-o", "key"]);
    workshop.ok(&["sign", "model.resight.tar", "--key", "key.key"]);
    let model = "model.resight.tar";
    let commands: [&[&str]; 16] = [
        &["synth", "tiny-basic", "-o", "other.onnx"],
        &[
            "quantize",
            "net.onnx",
            "--calibration",
            "pictures",
            "--labels",
            "names.txt",
            "-o",
            "o.resight.tar",
        ],
        &["evaluate", model, "--images", "pictures"],
        &["evaluate", model, "--images", "pictures", "--json"],
        &["analyze", "net.onnx", "--calibration", "pictures"],
        &["thresholds", model, "pictures"],
        &["report", model, "-o", "report.html"],
        &["classify", model, "pictures/00.png", "pictures/01.png"],
        &["inspect", model],
        &["inspect", model, "--json"],
        &["bench", model, "--runs", "1", "--layers"],
        &["sign", model, "--key", "key.key"],
        &["verify", model, "--key", "key.pub"],
        &["fetch", "--list"],
        &["completions", "bash"],
        &["--help"],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = workshop.command(arguments).stdout(writer).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !error.contains("resight: "), "{arguments:?}: {error}");
        if arguments == ["--help"] {
            continue;
        }
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = workshop.command(arguments).stdout(full).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(
            error.contains("resight: standard output: cannot write: No space left"),
            "{arguments:?}: {error}"
        );
    }
    // The work was done all the same.
    assert!(workshop.path("o.resight.tar").exists() && workshop.path("other.onnx").exists());
}

#[test]
fn classes_that_do_not_exclude_each_other_are_a_task_of_their_own() {
    let workshop = Workshop::new();
    workshop.quantize("model.resight.tar", &["--activation", "sigmoid"]);
    let inspected = workshop.json(&["inspect", "model.resight.tar", "--json"]);
    assert_eq!((&inspected["activation"], &inspected["classes"]), (&"sigmoid".into(), &10.into()));
    let found = workshop.json(&["classify", "model.resight.tar", "pictures/00.png", "--top", "10", "--json"]);
    for class in found[0]["classes"].as_array().unwrap() {
        let (logit, probability) = (class["logit"].as_f64().unwrap(), class["probability"].as_f64().unwrap());
        assert!((probability - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6, "{class}");
    }
    // What the network itself says of each picture, as the truth.
    let pictures: Vec<String> = (0..12).map(|index| format!("{index:02}.png")).collect();
    let mut truth = String::new();
    for name in &pictures {
        let picture = format!("pictures/{name}");
        let found = workshop.json(&["classify", "model.resight.tar", &picture, "--top", "10", "--json"]);
        let said = found[0]["classes"].as_array().unwrap().iter();
        let said = said.filter(|class| class["probability"].as_f64().unwrap() >= 0.5);
        let said: Vec<String> = said.map(|class| class["class"].to_string()).collect();
        truth.push_str(&format!("{name} {}\n", said.join(";")));
    }
    assert!(truth.contains(';'), "a picture with several classes: {truth}");
    fs::write(workshop.path("pictures/labels.txt"), truth).unwrap();
    let arguments = ["evaluate", "net.onnx", "model.resight.tar", "--images", "pictures"];
    let results = workshop.json(&[&arguments[..], &["--json"]].concat());
    let [float, int8] = [&results[0], &results[1]];
    for key in ["mean_average_precision", "micro_f1", "macro_f1"] {
        assert_eq!(int8["decisions"][key], 100.0, "{int8}");
    }
    assert_eq!((&int8["decisions"]["threshold"], &int8["centred_sqnr_db"]), (&0.5.into(), &Value::Null));
    // f32 decides nearly the same, although its file does not name the activation.
    assert!(float["decisions"]["micro_f1"].as_f64().unwrap() > 90.0, "{float}");
    assert!(int8["agreement"].as_f64().unwrap() > 90.0, "{int8}");
    let all = workshop.json(&[
        "evaluate",
        "model.resight.tar",
        "--images",
        "pictures",
        "--threshold",
        "1",
        "--json",
    ]);
    assert_eq!(all[0]["decisions"]["micro_f1"], 0.0);
    let shown = workshop.ok(&arguments);
    assert!(shown.contains("model.resight.tar at 0.5: mAP 100.00 %, F1 100.00 % (micro)"), "{shown}");
    workshop
        .fails(&["evaluate", "model.resight.tar", "--images", "pictures", "--threshold", "0"], &["above 0"]);
    // One of one class: what a threshold decides is said when it is asked for.
    workshop.quantize("one.resight.tar", &[]);
    fs::write(workshop.path("pictures/labels.txt"), "00.png 3\n").unwrap();
    let one = ["evaluate", "one.resight.tar", "--images", "pictures", "--json"];
    assert_eq!(workshop.json(&one)[0].get("decisions"), None);
    let one = workshop.json(&[&one[..], &["--threshold", "0.2"]].concat());
    assert_eq!(one[0]["decisions"]["classes"][3]["pictures"], 1);
}

/// A network of one convolution that gives a map of one channel: what U-Nets for one thing end in.
fn one_map() -> Vec<u8> {
    use protobuf::{floats, integers, node};
    let side = |size: i64| Dimension { value: Some(DimensionValue::DimValue(size)), ..Dimension::default() };
    let images = |name: &str, channels: i64| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(Tensor {
                elem_type: DataType::Float as i32,
                shape: Some(TensorShapeProto { dim: [1, channels, 32, 32].map(side).to_vec() }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let weights: Vec<f32> = (0..27).map(|at| (at * 7 % 11) as f32 / 11.0 - 0.4).collect();
    let graph = GraphProto {
        node: vec![node("Conv", "mask", &["image", "w"], vec![integers("pads", &[1; 4])])],
        initializer: vec![floats("w", &[1, 3, 3, 3], &weights)],
        input: vec![images("image", 3)],
        output: vec![images("mask_out", 1)],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 13, ..OperatorSetIdProto::default() }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec()
}

#[test]
fn a_mask_of_one_thing_takes_the_name_of_the_thing() {
    let workshop = Workshop::new();
    fs::write(workshop.path("one.onnx"), one_map()).unwrap();
    let quantize = |names: &str| {
        fs::write(workshop.path("one.txt"), names).unwrap();
        [
            "quantize",
            "one.onnx",
            "--task",
            "segment",
            "--labels",
            "one.txt",
            "--calibration",
            "pictures",
            "-o",
        ]
    };
    workshop.ok(&[&quantize("crack\n")[..], &["one.resight.tar"]].concat());
    let found = workshop.json(&["classify", "one.resight.tar", "pictures/00.png", "--json"]);
    let text = found.to_string();
    assert!(text.contains("\"not crack\"") && text.contains("\"crack\""), "{text}");
    workshop.ok(&[&quantize("wall\ncrack\n")[..], &["two.resight.tar"]].concat());
    workshop.fails(
        &[&quantize("wall\ncrack\nhole\n")[..], &["three.resight.tar"]].concat(),
        &["one.txt: 3 labels, but one.onnx has one output: two classes", "or the name of the second alone"],
    );
    assert!(!workshop.path("three.resight.tar").exists());
}

/// From a network that ends in a vector to names for what it is alike to.
#[test]
fn vectors_tell_what_is_alike_and_get_names() {
    let workshop = Workshop::new();
    let quantize =
        ["quantize", "net.onnx", "--task", "embed", "--calibration", "pictures", "-o", "v.resight.tar"];
    let said = workshop.ok(&quantize);
    assert!(
        said.contains("cosine to f32 ") && said.contains(" at least, on 8") && !said.contains("dB"),
        "{said}"
    );
    let output = workshop.run(&["quantize", "net.onnx", "--calibration", "pictures", "-o", "v.resight.tar"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("--labels <FILE>"), "{error}");
    workshop.fails(&[&quantize[..], &["--labels", "names.txt"]].concat(), &["which a vector has not"]);
    workshop.fails(
        &[&quantize[..], &["--decoder", "centernet"]].concat(),
        &["makes boxes, which `--task embed` does not"],
    );
    // Things that are nearly the same lie in one folder.
    for index in 0..12u32 {
        let folder = workshop.path(&format!("things/thing_{}", index / 4));
        fs::create_dir_all(&folder).unwrap();
        let picture = image::RgbImage::from_fn(48, 40, |x, y| {
            let wave = |a: u32| ((x * a + y * (index / 4) * 9 + index) % 256) as u8;
            image::Rgb([wave(5), wave(2 + index / 4), wave(3)])
        });
        picture.save(folder.join(format!("{index:02}.png"))).unwrap();
    }
    let results = workshop.json(&["evaluate", "net.onnx", "v.resight.tar", "--images", "things", "--json"]);
    let [float, int8] = [&results[0], &results[1]];
    assert_eq!((&float["images"], &float["classes"], float.get("cosine")), (&12.into(), &3.into(), None));
    for result in [float, int8] {
        assert_eq!(
            (&result["recall_at_1"], &result["recall_at_5"]),
            (&100.0.into(), &100.0.into()),
            "{result}"
        );
        assert!(result["auroc"].as_f64().unwrap() > 99.0, "{result}");
    }
    assert!(int8["least_cosine"].as_f64().unwrap() > 0.9, "{int8}");
    let shown = workshop.ok(&["evaluate", "v.resight.tar", "--images", "things"]);
    assert!(shown.contains("recall@1 %") && shown.contains("100.00"), "{shown}");
    workshop.fails(
        &["evaluate", "v.resight.tar", "--images", "pictures"],
        &["a folder of pictures for each thing"],
    );
    // One picture: its vector; several: how alike each two are, the most alike first.
    let one = workshop.ok(&["classify", "v.resight.tar", "things/thing_0/00.png"]);
    assert_eq!(one.split_whitespace().filter_map(|number| number.parse::<f32>().ok()).count(), 10, "{one}");
    let three = ["things/thing_0/00.png", "things/thing_2/08.png", "things/thing_0/01.png"];
    let pairs = workshop.ok(&[&["classify", "v.resight.tar"], &three[..]].concat());
    let first = pairs.lines().next().unwrap();
    assert!(pairs.lines().count() == 3 && first.contains("00.png") && first.contains("01.png"), "{pairs}");
    let json = workshop.json(&[&["classify", "v.resight.tar", "--json"], &three[..]].concat());
    assert_eq!(json[0]["vector"].as_array().unwrap().len(), 10);
    assert!((json[0]["cosines"][0].as_f64().unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(json[0]["cosines"][1], json[1]["cosines"][0]);
    // Names: a class for each folder, whose probability is the cosine.
    let named =
        workshop.json(&["references", "v.resight.tar", "things", "-o", "named.resight.tar", "--json"]);
    let references = named["references"].as_array().unwrap();
    assert_eq!(references.len(), 3);
    for reference in references {
        assert_eq!(reference["photographs"], 4);
        let [own, others] = ["own", "others"].map(|key| reference[key].as_f64().unwrap());
        assert!(own > others, "{reference}");
    }
    let found = workshop.json(&["classify", "named.resight.tar", "things/thing_1/05.png", "--json"]);
    let best = &found[0]["classes"][0];
    assert_eq!(best["name"], "thing 1");
    assert!(best["probability"].as_f64().unwrap() >= references[1]["own"].as_f64().unwrap() - 1e-3, "{best}");
    let inspected = workshop.json(&["inspect", "named.resight.tar", "--json"]);
    assert_eq!((&inspected["activation"], &inspected["classes"]), (&"sigmoid".into(), &3.into()));
    workshop.fails(
        &["references", "named.resight.tar", "things", "-o", "again.resight.tar"],
        &["named.resight.tar: the network gives no vectors"],
    );
    let again = fs::read(workshop.path("named.resight.tar")).unwrap();
    workshop.ok(&["references", "v.resight.tar", "things", "-o", "again.resight.tar"]);
    let other = fs::read(workshop.path("again.resight.tar")).unwrap();
    assert_eq!(again.len(), other.len());
}

#[test]
fn quantize_evaluate_classify_inspect_bench() {
    let workshop = Workshop::with_model();
    let result =
        workshop.json(&["evaluate", "net.onnx", "model.resight.tar", "--images", "pictures", "--json"]);
    assert_eq!(result[0]["images"], 12);
    assert!(result[0].get("agreement").is_none(), "the f32 model is not compared with itself");
    assert!(result[1]["agreement"].as_f64().unwrap() >= 75.0, "{result}");
    assert!(result[1]["sqnr_db"].as_f64().unwrap() > 20.0, "{result}");
    for model in 0..2 {
        let [top1, top5] = ["top1", "top5"].map(|key| result[model][key].as_f64().unwrap());
        assert!(0.0 <= top1 && top1 <= top5 && top5 <= 100.0, "{result}");
    }

    let result = workshop.json(&["classify", "model.resight.tar", "pictures/00.png", "--top", "3", "--json"]);
    let classes = result[0]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 3);
    assert!(classes[0]["name"].as_str().unwrap().starts_with("thing "), "{result}");
    let probabilities: Vec<f64> =
        classes.iter().map(|class| class["probability"].as_f64().unwrap()).collect();
    assert!(probabilities[0] > 0.0 && probabilities.is_sorted_by(|a, b| a >= b), "{result}");
    let shown = workshop.ok(&["classify", "model.resight.tar", "pictures/00.png"]);
    assert_eq!(shown.lines().count(), 6, "{shown}");

    let result = workshop.json(&["inspect", "model.resight.tar", "--json"]);
    assert_eq!(result["int8_mac_coverage_percent"], 100.0);
    assert_eq!(result["input"], serde_json::json!([32, 32, 3]));
    let layers = result["layers"].as_array().unwrap();
    let convolution = layers.iter().find(|layer| layer["operator"] == "3x3 convolution").unwrap();
    assert!(convolution["quantisation"]["scale"].as_f64().unwrap() > 0.0, "{convolution}");
    let macs: u64 = layers.iter().map(|layer| layer["macs"].as_u64().unwrap()).sum();
    assert_eq!(result["macs"].as_u64(), Some(macs));
    // Kernels of boards that this is not.
    for isa in resight_runtime::Isa::ALL {
        let inspect = ["inspect", "model.resight.tar", "--isa", isa.name(), "--json"];
        let planned = workshop.json(&inspect);
        assert_eq!(planned["isa"], isa.name());
        assert_eq!(planned["working_bytes"].is_null(), !isa.is_available(), "{isa}");
        for layer in planned["layers"].as_array().unwrap() {
            let (kernel, convolution) =
                (layer["kernel"].as_str().unwrap(), layer["operator"].as_str().unwrap());
            assert_eq!(kernel.starts_with(isa.name()), convolution.contains("convolution"), "{isa}: {layer}");
        }
    }
    workshop.fails(&["inspect", "model.resight.tar", "--isa", "sse9"], &["sse9", "neon_dot"]);
    workshop.fails(&["bench", "model.resight.tar", "--isa", "sse9"], &["sse9"]);

    let result =
        workshop.json(&["bench", "model.resight.tar", "--runs", "3", "--layers", "--threads", "2", "--json"]);
    assert!(result["median_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(result["layers"].as_array().unwrap().len(), layers.len());
}

#[test]
fn every_method_works_and_they_differ() {
    let workshop = Workshop::new();
    let models: Vec<Vec<u8>> = ["best", "mse", "minmax", "percentile", "entropy"]
        .iter()
        .map(|method| {
            let mut more = vec!["--method", method];
            if *method == "percentile" {
                more.extend(["--percentile", "99"]);
            }
            workshop.quantize("x.resight.tar", &more);
            fs::read(workshop.path("x.resight.tar")).unwrap()
        })
        .collect();
    assert!(models.windows(2).all(|pair| pair[0] != pair[1]));
    workshop.quantize("x.resight.tar", &[]);
    assert!(fs::read(workshop.path("x.resight.tar")).unwrap() == models[0], "`best` is the default");
}

#[test]
fn analyze_tells_where_the_error_is_and_what_each_pass_gains() {
    let workshop = Workshop::new();
    let analysis = workshop.json(&[
        "analyze",
        "net.onnx",
        "--calibration",
        "pictures",
        "--method",
        "best",
        "--split",
        "0",
        "--json",
    ]);
    let layers = analysis["layers"].as_array().unwrap();
    workshop.quantize("best.resight.tar", &["--method", "best"]);
    let model = workshop.json(&["inspect", "best.resight.tar", "--json"]);
    let names = |layers: &[Value]| -> Vec<String> {
        layers.iter().map(|layer| layer["name"].as_str().unwrap().to_owned()).collect()
    };
    let weighted: Vec<Value> =
        model["layers"].as_array().unwrap().iter().filter(|layer| layer["macs"] != 0).cloned().collect();
    assert!(names(layers).iter().all(|name| names(&weighted).contains(name)), "{layers:?}");
    for layer in layers {
        // One layer alone is closer to f32 than its own rounding noise lets all of them be.
        let alone = layer["logits_alone_db"].as_f64().unwrap();
        assert!((5.0..=200.0).contains(&alone), "{layer}");
        assert!((0.0..5.0).contains(&layer["saturated_percent"].as_f64().unwrap()), "{layer}");
    }
    // What int8 is worth as a whole is less than what any layer alone leaves.
    let least =
        layers.iter().map(|layer| layer["logits_alone_db"].as_f64().unwrap()).fold(f64::INFINITY, f64::min);
    let passes = analysis["passes"].as_array().unwrap();
    let worth = |pass: &Value| pass["centred_sqnr_db"].as_f64().unwrap();
    assert!(worth(&passes[1]) < least + 3.0, "{passes:?} {least}");
    assert_eq!(passes.len(), 5, "{passes:?}");
    // With nearest rounding there are two passes to compare.
    let analyze = ["analyze", "net.onnx", "--calibration", "pictures", "--method", "mse", "--json"];
    let plain = workshop.json(&analyze);
    assert_eq!(plain["passes"].as_array().unwrap(), &passes[..2]);
    // Scaled channels are taken back before f32 goes on: the layers alone stay as close.
    let scaled = workshop.json(&[&analyze[..], &["--equalize"]].concat());
    for (layer, plain) in scaled["layers"].as_array().unwrap().iter().zip(plain["layers"].as_array().unwrap())
    {
        let [scaled, plain] = [layer, plain].map(|layer| layer["logits_alone_db"].as_f64().unwrap());
        assert!(scaled > plain - 6.0, "{layer}");
    }
}

#[test]
fn probabilities_are_calibrated_where_that_is_asked_for() {
    let workshop = Workshop::new();
    workshop.quantize("plain.resight.tar", &["--method", "mse"]);
    workshop.quantize("same.resight.tar", &["--method", "mse", "--temperature", "none"]);
    let read = |name: &str| fs::read(workshop.path(name)).unwrap();
    assert_eq!(read("plain.resight.tar"), read("same.resight.tar"));
    let reported = |more: &[&str]| -> Value {
        let mut more = more.to_vec();
        more.push("--json");
        serde_json::from_str(&workshop.quantize("other.resight.tar", &more)).unwrap()
    };
    let calibrated = reported(&["--method", "mse", "--temperature", "calibrated"]);
    // Where held-out pictures do not confirm it there is none; then the file is the same.
    match calibrated["report"]["temperature"].as_f64() {
        Some(temperature) => {
            assert!((0.5..=2.0).contains(&temperature), "{calibrated}");
            assert_ne!(read("other.resight.tar"), read("plain.resight.tar"));
            let classes = |model: &str| {
                workshop.json(&["classify", model, "pictures/00.png", "--json"])[0]["classes"][0]["class"]
                    .clone()
            };
            assert_eq!(classes("other.resight.tar"), classes("plain.resight.tar"));
        }
        None => assert_eq!(read("other.resight.tar"), read("plain.resight.tar")),
    }
    assert!(reported(&["--method", "best", "--temperature", "none"])["report"].get("temperature").is_none());
}

#[test]
fn a_report_is_one_page_that_asks_nobody_for_anything() {
    let workshop = Workshop::with_model();
    let written = workshop.ok(&[
        "report",
        "model.resight.tar",
        "--images",
        "pictures",
        "--float",
        "net.onnx",
        "-o",
        "report.html",
    ]);
    assert!(written.starts_with("report.html: "), "{written}");
    let page = fs::read_to_string(workshop.path("report.html")).unwrap();
    for word in
        ["<h2>Accuracy", "same best class", "McNemar", "<h2>What probabilities mean", "<h2>Error by layer"]
    {
        assert!(page.contains(word), "{word}");
    }
    let evaluated =
        workshop.json(&["evaluate", "net.onnx", "model.resight.tar", "--images", "pictures", "--json"]);
    for (key, unit) in [("sqnr_db", "dB"), ("centred_sqnr_db", "dB")] {
        let figure = format!("{:.2} {unit}", evaluated[1][key].as_f64().unwrap());
        assert!(page.contains(&figure), "{key}: {figure}");
    }
    for word in ["http:", "https:", "<script", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
    // Without pictures there is less to say.
    workshop.ok(&["report", "model.resight.tar", "-o", "plain.html"]);
    let plain = fs::read_to_string(workshop.path("plain.html")).unwrap();
    assert!(plain.contains("<h2>Weights and activations") && !plain.contains("<h2>Accuracy"), "{plain}");
    workshop.fails(&["report", "net.onnx", "-o", "report.html"], &["net.onnx", "resight analyze"]);
    workshop.fails(&["report", "model.resight.tar", "-o", "no/report.html"], &["no"]);
    workshop.fails(
        &[
            "report",
            "model.resight.tar",
            "--images",
            "pictures",
            "--float",
            "model.resight.tar",
            "-o",
            "x.html",
        ],
        &["--float model.resight.tar", "ONNX"],
    );
}

#[test]
fn thresholds_keep_to_the_wanted_rate() {
    let workshop = Workshop::with_model();
    let found =
        workshop.json(&["thresholds", "model.resight.tar", "pictures", "--false-alarms", "10", "--json"]);
    let classes = found["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 10);
    assert_eq!(classes[3]["name"], "thing 3");
    for class in classes {
        // 10 or 11 other pictures: one of them may be above.
        assert!(class["false_alarms"]["value"].as_f64().unwrap() <= 0.1, "{class}");
        assert!(class["low"].as_f64() <= class["threshold"].as_f64(), "{class}");
        assert!(class["high"].is_null(), "{class}");
    }
    let table = workshop.ok(&["thresholds", "model.resight.tar", "pictures", "--false-alarms", "10"]);
    assert!(table.contains("3 thing 3") && table.contains("fewer than 36 pictures"), "{table}");
    workshop.fails(
        &["thresholds", "model.resight.tar", "pictures", "--false-alarms", "0"],
        &["--false-alarms 0", "above 0"],
    );
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_threads_and_kernels() {
    let workshop = Workshop::new();
    let quantize = |output: &str, threads: &str, isa: Option<&str>| {
        let arguments =
            ["quantize", "net.onnx", "--calibration", "pictures", "--labels", "names.txt", "-o", output];
        let mut command = workshop.command(&arguments);
        command.env("RAYON_NUM_THREADS", threads);
        if let Some(isa) = isa {
            command.env("RESIGHT_ISA", isa);
        }
        text(command.output().unwrap(), &arguments);
        fs::read(workshop.path(output)).unwrap()
    };
    let first = quantize("a.resight.tar", "1", None);
    assert_eq!(first, quantize("a.resight.tar", "4", None));
    assert_eq!(first, quantize("a.resight.tar", "3", Some("generic")));
}

#[test]
fn forcing_kernels_gives_the_same_logits() {
    let workshop = Workshop::with_model();
    let arguments = ["classify", "model.resight.tar", "pictures/03.png", "--top", "10", "--json"];
    let expected = workshop.ok(&arguments);
    for isa in resight_runtime::Isa::ALL.map(resight_runtime::Isa::name) {
        let output = workshop.command(&arguments).env("RESIGHT_ISA", isa).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{isa}");
        } else {
            assert!(error.contains("this CPU cannot run"), "{isa}: {error}");
            println!("skipped: {isa} (not available on this CPU)");
        }
    }
    let output = workshop.command(&arguments).env("RESIGHT_ISA", "sse9").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("sse9"));
}

#[test]
fn wrong_usage_is_exit_code_2_and_help_shows_examples() {
    let workshop = Workshop(tempfile::tempdir().unwrap());
    for arguments in [
        &["quantise"][..],
        &["quantize"],
        &["bench", "x", "--threads", "0"],
        &["quantize", "x", "--method", "magic"],
        &["classify", "x", "y", "--top", "0"],
    ] {
        assert_eq!(workshop.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for command in [
        "fetch",
        "quantize",
        "analyze",
        "evaluate",
        "report",
        "thresholds",
        "classify",
        "inspect",
        "bench",
        "synth",
        "keygen",
        "sign",
        "verify",
    ] {
        let help = workshop.ok(&[command, "--help"]);
        assert!(help.contains("Example:") && help.contains(&format!("resight {command}")), "{help}");
    }
}

#[test]
fn bad_model_files_are_refused_in_one_line() {
    let workshop = Workshop::with_model();
    let model = fs::read(workshop.path("model.resight.tar")).unwrap();
    let mut altered = model.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    fs::write(workshop.path("altered.resight.tar"), altered).unwrap();
    fs::write(workshop.path("short.resight.tar"), &model[..model.len() / 3]).unwrap();
    fs::write(workshop.path("foreign.resight.tar"), b"PK\x03\x04 not a model").unwrap();
    fs::write(workshop.path("empty.resight.tar"), b"").unwrap();
    for name in ["altered", "short", "foreign", "empty", "missing"] {
        let file = format!("{name}.resight.tar");
        workshop.fails(&["inspect", &file], &[&file]);
        workshop.fails(&["classify", &file, "pictures/00.png"], &[&file]);
    }
    workshop.fails(&["inspect", "net.onnx"], &["net.onnx", "resight quantize"]);
    workshop.fails(&["inspect", "pictures"], &["pictures"]);
}

#[test]
fn bad_onnx_files_are_refused_in_one_line_and_leave_nothing_behind() {
    let workshop = Workshop::new();
    let onnx = fs::read(workshop.path("net.onnx")).unwrap();
    fs::write(workshop.path("short.onnx"), &onnx[..onnx.len() / 2]).unwrap();
    fs::write(workshop.path("foreign.onnx"), b"hello").unwrap();
    fs::write(workshop.path("empty.onnx"), b"").unwrap();
    fs::write(workshop.path("net.pth"), b"PK\x03\x04net/data.pkl").unwrap();
    fs::write(workshop.path("pointer.onnx"), b"version https://git-lfs.github.com/spec/v1\n").unwrap();
    fs::copy(workshop.path("pictures/00.png"), workshop.path("picture.onnx")).unwrap();
    let before = workshop.files();
    for (file, words) in [
        ("net.pth", ["zip archive", "torch.onnx.export"]),
        ("pointer.onnx", ["Git LFS", "resight fetch"]),
        ("picture.onnx", ["PNG image", "not an ONNX file"]),
    ] {
        let arguments =
            ["quantize", file, "--calibration", "pictures", "--labels", "names.txt", "-o", "x.resight.tar"];
        workshop.fails(&arguments, &[&[file][..], &words].concat());
    }
    for file in ["short.onnx", "foreign.onnx", "empty.onnx", "missing.onnx", "pictures"] {
        let arguments =
            ["quantize", file, "--calibration", "pictures", "--labels", "names.txt", "-o", "x.resight.tar"];
        workshop.fails(&arguments, &[file]);
    }
    assert_eq!(workshop.files(), before);
}

#[test]
fn bad_images_labels_and_folders_are_named() {
    let workshop = Workshop::with_model();
    fs::write(workshop.path("rubbish.png"), b"not a picture").unwrap();
    workshop.fails(&["classify", "model.resight.tar", "rubbish.png"], &["rubbish.png"]);
    workshop.fails(&["classify", "model.resight.tar", "nothing.png"], &["nothing.png"]);
    fs::create_dir(workshop.path("bare")).unwrap();
    let quantize = |calibration, labels| {
        ["quantize", "net.onnx", "--calibration", calibration, "--labels", labels, "-o", "x.resight.tar"]
    };
    workshop.fails(&quantize("bare", "names.txt"), &["bare"]);
    workshop.fails(&quantize("nowhere", "names.txt"), &["nowhere"]);
    workshop.fails(&quantize("pictures", "nowhere.txt"), &["nowhere.txt"]);
    fs::write(workshop.path("three.txt"), "a\nb\nc\n").unwrap();
    workshop.fails(&quantize("pictures", "three.txt"), &["three.txt", "10 classes", "3 names"]);
    workshop.fails(&["classify", "model.resight.tar", "pictures"], &["pictures", "folder"]);
    fs::create_dir(workshop.path("bare/cats")).unwrap();
    workshop.fails(&quantize("bare", "names.txt"), &["bare", "the folders in it"]);
    assert!(!workshop.path("x.resight.tar").exists());
    workshop.fails(&["evaluate", "model.resight.tar", "--images", "bare"], &["labels.txt"]);
    fs::write(workshop.path("bare/labels.txt"), "a.png 3\n").unwrap();
    workshop
        .fails(&["evaluate", "model.resight.tar", "--images", "bare"], &["labels.txt", "line 1", "a.png"]);
    fs::write(workshop.path("pictures/labels.txt"), "00.png 10\n").unwrap();
    workshop.fails(&["evaluate", "model.resight.tar", "--images", "pictures"], &["line 1", "10"]);
}

#[test]
fn an_output_that_cannot_be_written_leaves_the_old_file() {
    let workshop = Workshop::with_model();
    let before = fs::read(workshop.path("model.resight.tar")).unwrap();
    let arguments = ["quantize", "net.onnx", "--calibration", "pictures", "--labels", "names.txt", "-o"];
    let with = |output| [&arguments[..], &[output]].concat();
    workshop.fails(&with("no/such/folder/x.resight.tar"), &["there is no folder no/such/folder", "make it"]);
    let network = fs::read(workshop.path("net.onnx")).unwrap();
    workshop.fails(&with("net.onnx"), &["net.resight.tar"]);
    assert_eq!(fs::read(workshop.path("net.onnx")).unwrap(), network);
    workshop.fails(&with("pictures"), &["pictures"]);
    assert_eq!(fs::read(workshop.path("model.resight.tar")).unwrap(), before);
    assert!(Path::new(&workshop.path("pictures")).is_dir());
}

#[test]
fn models_are_signed_and_verified() {
    use std::os::unix::fs::PermissionsExt as _;
    let workshop = Workshop::with_model();
    let read = |name: &str| fs::read(workshop.path(name)).unwrap();
    for name in ["a", "b"] {
        assert!(workshop.ok(&["keygen", "--output", name]).contains("fingerprint"));
    }
    let mode = fs::metadata(workshop.path("a.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let (private, public) = (read("a.key"), read("a.pub"));
    assert!(private != read("b.key") && public != read("b.pub"));
    workshop.fails(&["keygen", "--output", "a"], &["a.key", "already"]);
    fs::remove_file(workshop.path("b.key")).unwrap();
    workshop.fails(&["keygen", "--output", "b"], &["b.pub", "already"]);
    workshop.fails(&["keygen", "--output", "no/such"], &["no/such.key"]);
    assert_eq!((read("a.key"), read("a.pub")), (private, public));

    let plain = read("model.resight.tar");
    workshop.fails(&["verify", "model.resight.tar", "--key", "a.pub"], &["model.resight.tar", "not signed"]);
    assert!(workshop.ok(&["inspect", "model.resight.tar"]).ends_with("not signed\n"));
    workshop.ok(&["sign", "model.resight.tar", "--key", "a.key"]);
    let signed = read("model.resight.tar");
    assert_ne!(plain, signed);
    let answer = workshop.ok(&["verify", "model.resight.tar", "--key", "a.pub"]);
    let fingerprint = answer.trim_end().rsplit(' ').next().unwrap();
    assert!(workshop.ok(&["inspect", "model.resight.tar"]).contains(fingerprint));
    assert_eq!(workshop.json(&["inspect", "model.resight.tar", "--json"])["signed_by"], fingerprint);
    workshop.fails(&["verify", "model.resight.tar", "--key", "b.pub"], &["signed it, not key"]);

    workshop.ok(&["keygen", "--output", "c"]);
    workshop.ok(&["sign", "model.resight.tar", "--key", "c.key"]);
    workshop.fails(&["verify", "model.resight.tar", "--key", "a.pub"], &["signed it, not key"]);
    workshop.ok(&["sign", "model.resight.tar", "--key", "a.key"]);
    assert_eq!(read("model.resight.tar"), signed, "the same file and key give the same bytes");

    let short = &signed[..signed.len() / 2];
    fs::write(workshop.path("short.resight.tar"), short).unwrap();
    workshop.fails(&["sign", "short.resight.tar", "--key", "a.key"], &["short.resight.tar", "truncated"]);
    assert_eq!(read("short.resight.tar"), short);
    workshop.fails(&["sign", "model.resight.tar", "--key", "a.pub"], &["a.pub", "public key"]);
    workshop.fails(&["verify", "model.resight.tar", "--key", "a.key"], &["a.key", "private key"]);

    let verify = |key: &str| ["verify", "program", "--key", key].map(str::to_owned);
    let program = |content: &[u8]| fs::write(workshop.path("program"), content).unwrap();
    program(b"\x7fELF and more");
    let fails = |key: &str, words: &[&str]| {
        let arguments = verify(key);
        workshop.fails(&arguments.each_ref().map(String::as_str), words);
    };
    fails("a.pub", &["program", "there is no", "program.sig", "resight sign"]);
    assert!(workshop.ok(&["sign", "program", "--key", "a.key"]).contains("program.sig"));
    assert_eq!(read("program"), b"\x7fELF and more");
    assert!(workshop.ok(&["verify", "program", "--key", "a.pub"]).ends_with(&format!("{fingerprint}\n")));
    let signature = read("program.sig");
    fails("c.pub", &["program", "signed it, not key"]);
    workshop.ok(&["sign", "program", "--key", "c.key"]);
    fails("a.pub", &["program", "signed it, not key"]);
    workshop.ok(&["sign", "program", "--key", "a.key"]);
    assert_eq!(read("program.sig"), signature, "the same file and key give the same bytes");
    program(b"\x7fELF and less");
    fails("a.pub", &["program", "did not sign this content"]);
    program(b"neither this nor that");
    workshop.fails(&["sign", "program", "--key", "a.key"], &["program is not a resight model"]);

    let list = |text: &str| fs::write(workshop.path("SHA256SUMS"), text).unwrap();
    let sum = "0123456789abcdef".repeat(4);
    list(&format!("{sum}  resightd\n"));
    workshop.fails(
        &["sign", "SHA256SUMS", "--key", "a.key"],
        &["SHA256SUMS", "release.number", "older releases"],
    );
    list(&format!("{sum}  release.number\n{sum}  resightd\n"));
    assert!(workshop.ok(&["sign", "SHA256SUMS", "--key", "a.key"]).contains("SHA256SUMS.sig"));
    workshop.ok(&["verify", "SHA256SUMS", "--key", "a.pub"]);
    workshop.fails(&["verify", "SHA256SUMS", "--key", "c.pub"], &["SHA256SUMS", "signed it, not key"]);
    list(&format!("{sum}  release.number\n{sum}  resight\n"));
    workshop.fails(&["verify", "SHA256SUMS", "--key", "a.pub"], &["SHA256SUMS", "did not sign this content"]);

    fs::set_permissions(workshop.path("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    workshop.fails(&["sign", "model.resight.tar", "--key", "a.key"], &["a.key", "chmod 600"]);
}

#[test]
fn shells_can_complete_every_command() {
    let workshop = Workshop(tempfile::tempdir().unwrap());
    for shell in ["bash", "zsh", "fish"] {
        let script = workshop.ok(&["completions", shell]);
        for command in ["fetch", "quantize", "sign", "completions"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
