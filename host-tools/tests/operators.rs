//! Networks with every operator that is more than a residual network's, from ONNX to integers: all
//! multiplications on int8, the logits close to f32, the same through a model file.

mod common;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use prost::Message as _;
use resight::cards::Clip;
use resight::export::{Format, export};
use resight::import::{import_proto, import_proto_maps, import_proto_vector};
use resight::masks;
use resight::quantise::{Method, Options, Quantised, Rounding, default_preprocessing, quantise};
use resight::reference::Reference;
use resight::save::{save, save_as};
use resight::synth::{Architecture, synth};
use resight::tasks::{Decoder, TaskKind};
use resight_fixtures::Random;
use resight_imaging::{ImageFolder, ImageView, Orientation, decode};
use resight_kernels::Sequential;
use resight_model_file::{Activation, Labels};
use resight_runtime::layers::{GeneralisedMean, Table};
use resight_runtime::tract::TypedNode;
use resight_runtime::{Classes, Found, Layers, Locator, Model, Program, Target, ThreadSettings};
use resight_teach::Backbone;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::{Framework as _, InferenceModelExt as _, IntoRunnable as _, Tensor, tvec};
use tract_onnx::tract_core::internal::DatumExt as _;

/// Nodes and weights of a network while it is written down; its input is `input`, 3 x 32 x 32.
struct Network {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    random: Random,
}

fn integers(name: &str, ints: &[i64]) -> AttributeProto {
    let kind = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), r#type: kind, ints: ints.to_vec(), ..Default::default() }
}

fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..Default::default() }
}

impl Network {
    fn new(seed: u64) -> Self {
        Self { nodes: vec![], weights: vec![], random: Random::new(seed) }
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{}{}", operator.to_lowercase(), self.nodes.len());
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: name.clone(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.clone()],
            attribute,
            ..Default::default()
        });
        name
    }

    fn reals(&mut self, dims: &[i64], size: f32, middle: f32) -> String {
        let name = format!("w{}", self.weights.len());
        let values = self.random.reals(dims.iter().product::<i64>() as usize);
        self.weights.push(TensorProto {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            float_data: values.into_iter().map(|value| middle + value * size).collect(),
            ..Default::default()
        });
        name
    }

    fn numbers(&mut self, values: &[i64]) -> String {
        let name = format!("w{}", self.weights.len());
        self.weights.push(TensorProto {
            name: name.clone(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values.to_vec(),
            ..Default::default()
        });
        name
    }

    fn scalar(&mut self, value: f32) -> String {
        self.reals(&[], 0.0, value)
    }

    /// A convolution whose outputs are about as large as its inputs.
    fn convolution(
        &mut self,
        input: &str,
        from: i64,
        to: i64,
        kernel: i64,
        stride: i64,
        groups: i64,
    ) -> String {
        let depth = (from / groups * kernel * kernel) as f32;
        let weights = self.reals(&[to, from / groups, kernel, kernel], (3.0 / depth).sqrt() * 1.3, 0.0);
        let bias = self.reals(&[to], 0.3, 0.1);
        self.node(
            "Conv",
            &[input, &weights, &bias],
            vec![
                integers("pads", &[kernel / 2; 4]),
                integers("strides", &[stride; 2]),
                integers("kernel_shape", &[kernel; 2]),
                integer("group", groups),
            ],
        )
    }

    fn pool(
        &mut self,
        operator: &str,
        input: &str,
        kernel: i64,
        stride: i64,
        more: Vec<AttributeProto>,
    ) -> String {
        let mut attributes = vec![integers("kernel_shape", &[kernel; 2]), integers("strides", &[stride; 2])];
        attributes.extend(more);
        self.node(operator, &[input], attributes)
    }

    /// Squeeze and excitation.
    fn gate(&mut self, input: &str, channels: i64, sigmoid: &str) -> String {
        let mean = self.node("GlobalAveragePool", &[input], vec![]);
        let small = self.convolution(&mean, channels, channels / 4, 1, 1, 1);
        let small = self.node("Relu", &[&small], vec![]);
        let large = self.convolution(&small, channels / 4, channels, 1, 1, 1);
        let gate = self.node(sigmoid, &[&large], vec![]);
        self.node("Mul", &[input, &gate], vec![])
    }

    fn join(&mut self, parts: &[&str]) -> String {
        self.node("Concat", parts, vec![integer("axis", 1)])
    }

    /// A transposed convolution that doubles the image, with a ReLU.
    fn doubled(&mut self, input: &str, from: i64, to: i64) -> String {
        let weights = self.reals(&[from, to, 4, 4], (3.0 / (4 * from) as f32).sqrt() * 1.3, 0.0);
        let bias = self.reals(&[to], 0.3, 0.1);
        let attributes =
            vec![integers("pads", &[1; 4]), integers("strides", &[2; 2]), integers("kernel_shape", &[4; 2])];
        let up = self.node("ConvTranspose", &[input, &weights, &bias], attributes);
        self.node("Relu", &[&up], vec![])
    }

    /// Ends in these maps.
    fn maps(self, outputs: &[(&str, &str)]) -> ModelProto {
        let mut proto = synth(Architecture::TinyBasic, 1);
        proto.opset_import[0].version = 14;
        let graph = proto.graph.as_mut().unwrap();
        graph.node = self.nodes;
        graph.initializer = self.weights;
        let output = graph.output[0].clone();
        for (from, to) in outputs {
            let node = graph.node.iter_mut().find(|node| node.output[0] == *from).unwrap();
            node.output[0] = (*to).into();
        }
        let named = |(_, name): &(&str, &str)| tract_onnx::pb::ValueInfoProto {
            name: (*name).into(),
            ..output.clone()
        };
        graph.output = outputs.iter().map(named).collect();
        proto
    }

    /// Ends in ten classes.
    fn finish(mut self, last: &str, channels: i64, flatten: bool) -> ModelProto {
        let mean = if flatten { last.to_owned() } else { self.node("GlobalAveragePool", &[last], vec![]) };
        let flat = self.node("Flatten", &[&mean], vec![]);
        let weights = self.reals(&[10, channels], (3.0 / channels as f32).sqrt(), 0.0);
        let logits = self.node("Gemm", &[&flat, &weights], vec![integer("transB", 1)]);
        let mut proto = synth(Architecture::TinyBasic, 1);
        proto.opset_import[0].version = 14;
        let graph = proto.graph.as_mut().unwrap();
        graph.node = self.nodes;
        graph.initializer = self.weights;
        graph.output[0].name = logits;
        proto
    }
}

/// Some pictures to calibrate on.
fn pictures(folder: &Path) -> Vec<PathBuf> {
    let clip = Clip::new(5);
    let picture = |index: usize| -> PathBuf {
        let path = folder.join(format!("{index:03}.png"));
        clip.frame(index).save(&path).unwrap();
        path
    };
    (0..clip.len()).step_by(clip.len() / 6).map(picture).collect()
}

fn quantised(name: &str, proto: ModelProto, least: f64) -> Quantised {
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path());
    let imported =
        import_proto(proto, format!("{name}.onnx").as_ref()).unwrap_or_else(|error| panic!("{error}"));
    let preprocessing = default_preprocessing(&imported.graph).unwrap();
    let options = Options::new(Method::Mse, preprocessing);
    let quantised = quantise(&imported, &images, &options, &|_, _, _| ())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let report = &quantised.report;
    assert_eq!(report.int8_mac_coverage_percent, 100.0, "{name}");
    assert!(report.logits_sqnr_db > least, "{name}: {:.1} dB", report.logits_sqnr_db);
    // The same through a file, by the reference kernels.
    let layers = Layers::default();
    let tar = layers.framework().write_to_tar_with_config(&quantised.model, vec![], false, true).unwrap();
    let loaded = layers.framework().model_for_read(&mut &tar[..]).unwrap();
    let mut program = Program::compile(&loaded, &layers, &Target::reference()).unwrap();
    for golden in &quantised.golden {
        let outputs = program.run(&Sequential, &golden.input).unwrap();
        assert_eq!(Classes::logits(outputs).unwrap(), golden.logits().unwrap(), "{name}");
    }
    quantised
}

/// Quantises a network that gives maps and writes its model file, which is loaded and tested again.
fn located(name: &str, proto: ModelProto, decoder: &Decoder, rounding: Rounding, least: f64) -> Model {
    let folder = tempfile::tempdir().unwrap();
    located_in(folder.path(), name, proto, decoder, rounding, least)
}

/// The same, and leaves its pictures, the ONNX file and `model.resight.tar` in `folder`.
fn located_in(
    folder: &Path,
    name: &str,
    proto: ModelProto,
    decoder: &Decoder,
    rounding: Rounding,
    least: f64,
) -> Model {
    let images = pictures(folder);
    let source = folder.join(format!("{name}.onnx"));
    std::fs::write(&source, proto.encode_to_vec()).unwrap();
    let mut imported =
        import_proto_maps(proto, &source, &decoder.needs()).unwrap_or_else(|error| panic!("{error}"));
    decoder.complete(&mut imported.graph);
    let head = decoder.head(&imported.graph, &source).unwrap_or_else(|error| panic!("{error}"));
    let preprocessing = default_preprocessing(&imported.graph).unwrap();
    let options = Options { rounding, ..Options::new(Method::Mse, preprocessing) };
    let quantised = quantise(&imported, &images, &options, &|_, _, _| ())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(quantised.report.int8_mac_coverage_percent, 100.0, "{name}");
    assert_eq!(quantised.report.outputs.len(), imported.graph.outputs.len());
    for output in &quantised.report.outputs {
        assert!(output.sqnr_db > least, "{name}: {} {:.1} dB", output.name, output.sqnr_db);
    }
    let classes = head.class_count().unwrap();
    let labels: String = (0..classes).map(|class| format!("class {class}\n")).collect();
    let labels = Labels::parse("labels", labels.as_bytes()).unwrap();
    let file = folder.join("model.resight.tar");
    let task = (decoder.task(quantised.outputs.clone()), classes);
    save_as(&file, &source, &labels, task, &options, &quantised).unwrap();
    let model = Model::load(&file).unwrap();
    let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
    let mut locator = Locator::new(&model, &Target::reference(), settings).unwrap();
    locator.self_test(&model).unwrap();
    // By the kernels of this CPU the same.
    let mut here =
        Locator::new(&model, &Target::of_this_machine().unwrap(), ThreadSettings::default()).unwrap();
    here.self_test(&model).unwrap();
    for image in &images {
        let image = decode(image).unwrap();
        let view = ImageView::of(&image).unwrap();
        assert_eq!(locator.locate(&view).unwrap(), here.locate(&view).unwrap());
    }
    model
}

#[test]
fn detectors_find_boxes_in_integers() {
    for rounding in [Rounding::Nearest, Rounding::Gptq] {
        let mut n = Network::new(11);
        let stem = n.convolution("input", 3, 16, 3, 2, 1);
        let stem = n.node("Relu", &[&stem], vec![]);
        let deep = n.convolution(&stem, 16, 24, 3, 2, 1);
        let deep = n.node("Relu", &[&deep], vec![]);
        let up = n.doubled(&deep, 24, 16);
        // As feature pyramids do: what is deep is added to what is wide.
        let up = n.node("Add", &[&up, &stem], vec![]);
        let [heat, size, offset] = [2, 2, 2].map(|channels| {
            let hidden = n.convolution(&up, 16, 16, 3, 1, 1);
            let hidden = n.node("Relu", &[&hidden], vec![]);
            n.convolution(&hidden, 16, channels, 1, 1, 1)
        });
        let heat = n.node("Sigmoid", &[&heat], vec![]);
        let proto = n.maps(&[(&heat, "heatmap"), (&size, "size"), (&offset, "offset")]);
        let decoder = Decoder::read(TaskKind::Detect, Some("centernet")).unwrap().unwrap();
        let model = located("detector", proto, &decoder, rounding, 22.0);
        let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
        let mut locator = Locator::new(&model, &Target::reference(), settings).unwrap();
        let image = Clip::new(5).frame(3);
        let view = ImageView::of(&image).unwrap();
        locator.set_threshold(0.01);
        let Found::Boxes(boxes) = locator.locate(&view).unwrap() else { panic!("boxes") };
        assert!(boxes.len() > 3 && boxes.is_sorted_by(|a, b| a.score >= b.score), "{boxes:?}");
        let [height, width] = view.size().map(|side| side as f32);
        for found in boxes {
            let b = found.bounds;
            assert!(b.left >= 0.0 && b.top >= 0.0 && b.right <= width && b.bottom <= height, "{found:?}");
        }
        locator.set_threshold(1.0);
        assert_eq!(locator.locate(&view).unwrap(), Found::Boxes(&[]));
    }
}

/// A small network for segmentation of five classes, its map, and one that is for training alone.
fn pyramid() -> (Network, [String; 2]) {
    let mut n = Network::new(12);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let deep = n.convolution(&stem, 16, 24, 3, 2, 1);
    let deep = n.node("Relu", &[&deep], vec![]);
    // Atrous pyramid: one branch looks far, one at everything, and U-Net's way back up.
    let weights = n.reals(&[24, 24, 3, 3], 0.15, 0.0);
    let attributes = vec![integers("pads", &[2; 4]), integers("dilations", &[2; 2])];
    let far = n.node("Conv", &[&deep, &weights], attributes);
    let far = n.node("Relu", &[&far], vec![]);
    let all = n.node("GlobalAveragePool", &[&deep], vec![]);
    let all = n.convolution(&all, 24, 8, 1, 1, 1);
    let all = n.node("Relu", &[&all], vec![]);
    let linear = || {
        let attribute = |name: &str, value: &str| AttributeProto {
            name: name.into(),
            r#type: AttributeType::String as i32,
            s: value.as_bytes().to_vec(),
            ..Default::default()
        };
        vec![attribute("mode", "linear"), attribute("coordinate_transformation_mode", "half_pixel")]
    };
    let small = n.numbers(&[1, 8, 8, 8]);
    let all = n.node("Resize", &[&all, "", "", &small], linear());
    let joined = n.join(&[&far, &all]);
    let up = n.doubled(&joined, 32, 16);
    let joined = n.join(&[&up, &stem]);
    let scores = n.convolution(&joined, 32, 5, 3, 1, 1);
    let whole = n.numbers(&[1, 5, 32, 32]);
    let out = n.node("Resize", &[&scores, "", "", &whole], linear());
    let aside = n.convolution(&deep, 24, 5, 1, 1, 1);
    (n, [out, aside])
}

/// The mask that a model finds in a picture.
fn mask(model: &Model) -> Vec<u8> {
    let mut locator = Locator::new(model, &Target::reference(), ThreadSettings::default()).unwrap();
    let image = Clip::new(5).frame(3);
    let Found::Mask { classes, .. } = locator.locate(&ImageView::of(&image).unwrap()).unwrap() else {
        panic!("a mask")
    };
    classes.to_vec()
}

#[test]
fn a_choice_of_classes_at_the_end_is_left_to_the_decoder() {
    let decoder = Decoder::read(TaskKind::Segment, None).unwrap().unwrap();
    let located = |proto| located("choice", proto, &decoder, Rounding::Nearest, 10.0);
    let (n, [out, _]) = pyramid();
    let expected = mask(&located(n.maps(&[(&out, "out")])));
    for ends in [&["ArgMax", "Cast"][..], &["LogSoftmax"]] {
        let (mut n, [mut last, _]) = pyramid();
        for operator in ends {
            let attribute = integer(if *operator == "Cast" { "to" } else { "axis" }, 1);
            last = n.node(operator, &[&last], vec![attribute]);
        }
        let model = located(n.maps(&[(&last, "out")]));
        assert_eq!(model.task().outputs()[0].activation, Some(Activation::Softmax), "{ends:?}");
        assert_eq!(mask(&model), expected, "{ends:?}");
    }
}

/// As U-Nets are written that take any size: what was enlarged is padded to the size of what it is put beside, or
/// added to.
#[test]
fn borders_of_zeros_are_made_where_no_convolution_takes_them() {
    for operator in ["Concat", "Add"] {
        let mut n = Network::new(51);
        let stem = n.convolution("input", 3, 16, 3, 1, 1);
        let stem = n.node("Relu", &[&stem], vec![]);
        let deep = n.convolution(&stem, 16, 24, 3, 2, 1);
        let deep = n.node("Relu", &[&deep], vec![]);
        let small = n.pool("MaxPool", &deep, 2, 2, vec![integers("pads", &[0, 0, 0, 0])]);
        // 8 x 8 of 32 x 32, enlarged to 16 x 16, less a row and a column as of odd sizes.
        let up = n.doubled(&small, 24, 24);
        let [starts, ends, axes] = [n.numbers(&[0, 0]), n.numbers(&[15, 15]), n.numbers(&[2, 3])];
        let cut = n.node("Slice", &[&up, &starts, &ends, &axes], vec![]);
        let pads = n.numbers(&[0, 0, 0, 1, 0, 0, 1, 0]);
        let padded = n.node("Pad", &[&cut, &pads], vec![]);
        let joined = match operator {
            "Concat" => n.join(&[&padded, &deep]),
            _ => n.node("Add", &[&padded, &deep], vec![]),
        };
        let channels = if operator == "Concat" { 48 } else { 24 };
        let out = n.convolution(&joined, channels, 3, 3, 1, 1);
        let decoder = Decoder::read(TaskKind::Segment, None).unwrap().unwrap();
        let model = located(operator, n.maps(&[(&out, "out")]), &decoder, Rounding::Nearest, 22.0);
        let classes = mask(&model);
        assert!(classes.iter().any(|class| *class != classes[0]), "a plain mask proves nothing");
    }
}

/// A value with a scale of its own is brought to that of a concatenation by a table: by one for all concatenations of
/// one scale, by another for another scale.
#[test]
fn what_several_concatenations_take_has_a_table_for_each_scale() {
    let mut n = Network::new(53);
    let stem = n.convolution("input", 3, 16, 3, 1, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let [small, more, large] = [1, 1, 1].map(|kernel| n.convolution(&stem, 16, 16, kernel, 1, 1));
    let factor = n.scalar(20.0);
    let large = n.node("Mul", &[&large, &factor], vec![]);
    let [first, again, other] =
        [n.join(&[&stem, &small]), n.join(&[&stem, &small, &more]), n.join(&[&stem, &large])];
    let ends = [(first, 32), (again, 48), (other, 32)]
        .map(|(joined, from)| n.convolution(&joined, from, 3, 1, 1, 1));
    let sum = n.node("Add", &[&ends[0], &ends[1]], vec![]);
    let out = n.node("Add", &[&sum, &ends[2]], vec![]);
    let decoder = Decoder::read(TaskKind::Segment, None).unwrap().unwrap();
    let model = located("scales", n.maps(&[(&out, "out")]), &decoder, Rounding::Nearest, 22.0);
    let tables = model.graph().nodes().iter().filter(|node| node.op_is::<Table>());
    assert_eq!(tables.count(), 2);
}

#[test]
fn segmentation_gives_a_class_for_each_pixel() {
    let (n, [out, aside]) = pyramid();
    let proto = n.maps(&[(&out, "out"), (&aside, "aux")]);
    let decoder = Decoder::read(TaskKind::Segment, None).unwrap().unwrap();
    let model = located("segmentation", proto, &decoder, Rounding::Nearest, 22.0);
    // What is for training alone is left out.
    assert_eq!(model.task().outputs().len(), 1);
    let mut locator = Locator::new(&model, &Target::reference(), ThreadSettings::default()).unwrap();
    let image = Clip::new(5).frame(3);
    let Found::Mask { classes, size } = locator.locate(&ImageView::of(&image).unwrap()).unwrap() else {
        panic!("a mask")
    };
    assert_eq!((size, classes.len()), ([32, 32], 32 * 32));
    assert!(classes.iter().any(|class| *class != classes[0]), "a plain mask proves nothing");
}

/// The masks of the int8 network as labels: it finds all of them, the f32 network nearly all.
#[test]
fn masks_of_int8_and_f32_are_scored_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (n, [out, aside]) = pyramid();
    let proto = n.maps(&[(&out, "out"), (&aside, "aux")]);
    let decoder = Decoder::read(TaskKind::Segment, None).unwrap().unwrap();
    let model = located_in(folder.path(), "segmentation", proto, &decoder, Rounding::Nearest, 22.0);
    let labels = folder.path().join("labels");
    std::fs::create_dir(&labels).unwrap();
    let mut locator = Locator::new(&model, &Target::reference(), ThreadSettings::default()).unwrap();
    for picture in ImageFolder::read(folder.path()).unwrap().files {
        let image = decode(&picture).unwrap();
        let view = ImageView::of(&image).unwrap();
        let placement = model.preprocessing().placement(view.size(), Orientation::default());
        let Found::Mask { classes, size: [rows, columns] } = locator.locate(&view).unwrap() else {
            panic!("a mask")
        };
        let label = |x: u32, y: u32| {
            let [row, column] = placement.in_network([y as f32 + 0.5, x as f32 + 0.5]).map(f32::floor);
            let is_shown = (0.0..rows as f32).contains(&row) && (0.0..columns as f32).contains(&column);
            image::Luma([if is_shown { classes[row as usize * columns + column as usize] } else { 255 }])
        };
        let grey = image::GrayImage::from_fn(image.width(), image.height(), label);
        grey.save(labels.join(picture.file_name().unwrap())).unwrap();
    }
    let [f32_file, int8_file] =
        ["segmentation.onnx", "model.resight.tar"].map(|name| folder.path().join(name));
    let evaluate = |models: &[PathBuf]| {
        masks::evaluate(models, folder.path(), &labels, &Target::reference(), &|_, _, _| ())
    };
    let scores = evaluate(&[f32_file.clone(), int8_file]).unwrap();
    assert_eq!((scores[1].mean_iou, scores[1].pixel_accuracy), (100.0, 100.0));
    assert!((80.0..100.0).contains(&scores[0].mean_iou), "{:?}", scores[0]);
    assert!(scores[0].classes.len() > 1, "a plain mask proves nothing");
    let error = evaluate(&[f32_file]).unwrap_err().to_string();
    assert_eq!(error, "an int8 model among the models says how masks are made; name one");
}

#[test]
fn inverted_bottlenecks_with_every_function() {
    for (name, functions, least) in [
        ("mobile-2", ["Clip", "Clip", "Clip"], 28.0),
        ("mobile-3", ["HardSwish", "HardSwish", "Relu"], 25.0),
        ("efficient", ["SiLU", "SiLU", "SiLU"], 25.0),
        ("dark", ["LeakyRelu", "LeakyRelu", "Mish"], 25.0),
        ("others", ["Elu", "Selu", "Tanh"], 25.0),
        ("channels", ["PRelu", "PRelu", "Softplus"], 25.0),
    ] {
        let mut n = Network::new(7);
        let apply = |n: &mut Network, function: &str, input: &str, channels: i64| match function {
            "Clip" => {
                let (low, high) = (n.scalar(0.0), n.scalar(2.0));
                n.node("Clip", &[input, &low, &high], vec![])
            }
            "SiLU" => {
                let sigmoid = n.node("Sigmoid", &[input], vec![]);
                n.node("Mul", &[input, &sigmoid], vec![])
            }
            "Mish" => {
                let inner = n.node("Softplus", &[input], vec![]);
                let inner = n.node("Tanh", &[&inner], vec![]);
                n.node("Mul", &[input, &inner], vec![])
            }
            "PRelu" => {
                let slope = n.reals(&[channels, 1, 1], 0.2, 0.25);
                n.node("PRelu", &[input, &slope], vec![])
            }
            _ => n.node(function, &[input], vec![]),
        };
        let stem = n.convolution("input", 3, 16, 3, 2, 1);
        let stem = apply(&mut n, functions[0], &stem, 16);
        let wide = n.convolution(&stem, 16, 32, 1, 1, 1);
        let wide = apply(&mut n, functions[1], &wide, 32);
        let deep = n.convolution(&wide, 32, 32, 5, 1, 32);
        let deep = apply(&mut n, functions[2], &deep, 32);
        let gated = n.gate(&deep, 32, if name == "mobile-3" { "HardSigmoid" } else { "Sigmoid" });
        let narrow = n.convolution(&gated, 32, 16, 1, 1, 1);
        let sum = n.node("Add", &[&stem, &narrow], vec![]);
        quantised(name, n.finish(&sum, 16, false), least);
    }
}

#[test]
fn branches_are_joined_and_divided() {
    // GoogLeNet's block, DenseNet's, and channels that are divided and joined again.
    let mut n = Network::new(8);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let one = n.convolution(&stem, 16, 8, 1, 1, 1);
    let one = n.node("Relu", &[&one], vec![]);
    let three = n.convolution(&stem, 16, 12, 3, 1, 1);
    let three = n.node("Relu", &[&three], vec![]);
    let pooled = n.pool("AveragePool", &stem, 3, 1, vec![integers("pads", &[1; 4])]);
    let pooled = n.convolution(&pooled, 16, 4, 1, 1, 1);
    let pooled = n.node("Relu", &[&pooled], vec![]);
    let block = n.join(&[&one, &three, &pooled]);
    let added = n.convolution(&block, 24, 8, 3, 1, 1);
    let dense = n.join(&[&block, &added]);
    let more = n.convolution(&dense, 32, 8, 3, 1, 1);
    let dense = n.join(&[&block, &added, &more]);
    let sizes = n.numbers(&[20, 20]);
    let left = n.node("Split", &[&dense, &sizes], vec![integer("axis", 1)]);
    let right = format!("{left}_right");
    n.nodes.last_mut().unwrap().output.push(right.clone());
    let left = n.convolution(&left, 20, 20, 3, 1, 20);
    let joined = n.join(&[&right, &left]);
    let [groups, whole] = [n.numbers(&[-1, 2, 20, 16, 16]), n.numbers(&[-1, 40, 16, 16])];
    let shuffled = n.node("Reshape", &[&joined, &groups], vec![]);
    let shuffled = n.node("Transpose", &[&shuffled], vec![integers("perm", &[0, 2, 1, 3, 4])]);
    let shuffled = n.node("Reshape", &[&shuffled, &whole], vec![]);
    let small = n.pool("MaxPool", &shuffled, 3, 2, vec![integer("ceil_mode", 1)]);
    let last = n.convolution(&small, 40, 24, 1, 1, 1);
    let last = n.node("Relu", &[&last], vec![]);
    quantised("joined", n.finish(&last, 24, false), 25.0);
}

#[test]
fn neighbouring_channels_inhibit_each_other() {
    let float = |name: &str, f: f32| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Float as i32,
        f,
        ..Default::default()
    };
    let network = |size: i64| {
        let mut n = Network::new(19);
        let stem = n.convolution("input", 3, 16, 3, 2, 1);
        let stem = n.node("Relu", &[&stem], vec![]);
        let attributes =
            [("alpha", 0.7), ("beta", 0.6), ("bias", 1.5)].map(|(name, value)| float(name, value));
        let inhibited = n.node("LRN", &[&stem], [vec![integer("size", size)], attributes.to_vec()].concat());
        let last = n.convolution(&inhibited, 16, 24, 3, 2, 1);
        let last = n.node("Relu", &[&last], vec![]);
        (n.finish(&last, 24, false), stem, inhibited)
    };
    for size in [5i64, 4] {
        let (proto, stem, inhibited) = network(size);
        quantised("inhibited", proto.clone(), 28.0);
        // ONNX's definition, on what the f32 network computes.
        let imported = import_proto(proto, "inhibited.onnx".as_ref()).unwrap();
        let reference = Reference::new(&imported, &[stem, inhibited]).unwrap();
        let values = reference.run(&common::image(3 * 32 * 32, 3)).unwrap();
        let (before, behind) = (values.tensor(0), values.tensor(1));
        assert!(before.iter().any(|value| *value > 1.0));
        for at in 0..before.len() {
            let (channel, position) = (at as i64 / 256, at % 256);
            let neighbours = (channel - (size - 1) / 2).max(0)..=(channel + size / 2).min(15);
            let sum: f32 = neighbours.map(|other| before[other as usize * 256 + position].powi(2)).sum();
            let expected = before[at] / (1.5 + 0.7 / size as f32 * sum).powf(0.6);
            assert!((behind[at] - expected).abs() < 1e-4, "{size}: {at}: {} {expected}", behind[at]);
        }
    }
}

#[test]
fn gates_of_every_kind() {
    // Selective kernels, gates of positions, neighbours among channels, and a flattened end.
    let mut n = Network::new(9);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let near = n.convolution(&stem, 16, 16, 3, 1, 4);
    let near = n.node("Relu", &[&near], vec![]);
    let far = n.convolution(&stem, 16, 16, 5, 1, 4);
    let far = n.node("Relu", &[&far], vec![]);
    let one = n.numbers(&[1]);
    let [a, b] = [&near, &far].map(|branch| n.node("Unsqueeze", &[branch, &one], vec![]));
    let stacked = n.join(&[&a, &b]);
    let sum = n.node("ReduceSum", &[&stacked, &one], vec![integer("keepdims", 0)]);
    let mean = n.node("ReduceMean", &[&sum], vec![integers("axes", &[2, 3])]);
    let shares = n.convolution(&mean, 16, 32, 1, 1, 1);
    let groups = n.numbers(&[-1, 2, 16, 1, 1]);
    let shares = n.node("Reshape", &[&shares, &groups], vec![]);
    let shares = n.node("Softmax", &[&shares], vec![integer("axis", 1)]);
    let weighed = n.node("Mul", &[&stacked, &shares], vec![]);
    let selected = n.node("ReduceSum", &[&weighed, &one], vec![integer("keepdims", 0)]);
    let map = n.convolution(&selected, 16, 1, 3, 1, 1);
    let map = n.node("Sigmoid", &[&map], vec![]);
    let seen = n.node("Mul", &[&map, &selected], vec![]);
    let seen = n.node("Add", &[&seen, &stem], vec![]);
    let seen = n.node("Relu", &[&seen], vec![]);
    let mean = n.node("ReduceMean", &[&seen], vec![integers("axes", &[2, 3]), integer("keepdims", 0)]);
    let [row, image] = [n.numbers(&[-1, 1, 16]), n.numbers(&[-1, 16, 1, 1])];
    let mean = n.node("Reshape", &[&mean, &row], vec![]);
    let weights = n.reals(&[1, 1, 3], 1.0, 0.2);
    let neighbours = n.node("Conv", &[&mean, &weights], vec![integers("pads", &[1, 1])]);
    let gate = n.node("Sigmoid", &[&neighbours], vec![]);
    let gate = n.node("Reshape", &[&gate, &image], vec![]);
    let gated = n.node("Mul", &[&seen, &gate], vec![]);
    let small = n.pool("AveragePool", &gated, 4, 4, vec![]);
    quantised("gated", n.finish(&small, 16 * 16, true), 25.0);
}

impl Network {
    /// A block of `ResNeSt`: `parts` images of a convolution, in so many groups, each channel of them with its
    /// share.
    fn split_attention(&mut self, input: &str, channels: i64, groups: i64, parts: i64) -> String {
        let all = channels * parts;
        let parted = self.convolution(input, channels, all, 3, 1, groups * parts);
        let parted = self.node("Relu", &[&parted], vec![]);
        let (one, stack) = (self.numbers(&[1]), self.numbers(&[-1, parts, channels, 16, 16]));
        let stacked = self.node("Reshape", &[&parted, &stack], vec![]);
        let sum = self.node("ReduceSum", &[&stacked, &one], vec![integer("keepdims", 0)]);
        let mean = self.node("ReduceMean", &[&sum], vec![integers("axes", &[2, 3])]);
        let small = self.convolution(&mean, channels, channels, 1, 1, groups);
        let small = self.node("Relu", &[&small], vec![]);
        let shares = self.convolution(&small, channels, all, 1, 1, groups);
        let [divided, flat] =
            [self.numbers(&[-1, groups, parts, channels / groups]), self.numbers(&[-1, all])];
        let shares = self.node("Reshape", &[&shares, &divided], vec![]);
        let shares = self.node("Transpose", &[&shares], vec![integers("perm", &[0, 2, 1, 3])]);
        let shares = self.node("Softmax", &[&shares], vec![integer("axis", 1)]);
        let shares = self.node("Reshape", &[&shares, &flat], vec![]);
        let [image, stack] = [self.numbers(&[-1, all, 1, 1]), self.numbers(&[-1, parts, channels, 1, 1])];
        let shares = self.node("Reshape", &[&shares, &image], vec![]);
        let shares = self.node("Reshape", &[&shares, &stack], vec![]);
        let weighed = self.node("Mul", &[&stacked, &shares], vec![]);
        self.node("ReduceSum", &[&weighed, &one], vec![integer("keepdims", 0)])
    }
}

#[test]
fn parts_in_groups_have_their_shares() {
    for (groups, parts) in [(1, 2), (2, 2), (1, 4), (2, 4), (1, 8)] {
        let mut n = Network::new(17);
        let stem = n.convolution("input", 3, 16, 3, 2, 1);
        let stem = n.node("Relu", &[&stem], vec![]);
        let sum = n.split_attention(&stem, 16, groups, parts);
        let sum = n.node("Add", &[&sum, &stem], vec![]);
        let sum = n.node("Relu", &[&sum], vec![]);
        quantised(&format!("{groups} groups of {parts} parts"), n.finish(&sum, 16, false), 25.0);
    }
}

/// How a detector's levels are written into one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Written {
    /// As Caffe: channels last, flat, one behind the other, and divided in the end.
    Flat,
    /// As torchvision: `view(N, A, K, H, W)`, `permute(0, 3, 4, 1, 2)`, `reshape(N, -1, K)`.
    ByAnchors,
    /// As NVIDIA's SSD: `view(N, K, -1)`.
    ByNumbers,
}

impl Network {
    /// The maps, of `count` numbers for each of two anchors of each place, in one tensor.
    fn written(&mut self, maps: [(&str, i64); 2], count: i64, how: Written) -> String {
        let levels = maps.map(|(map, side)| match how {
            Written::Flat => {
                let last = self.node("Transpose", &[map], vec![integers("perm", &[0, 2, 3, 1])]);
                self.node("Flatten", &[&last], vec![])
            }
            Written::ByAnchors => {
                let shape = self.numbers(&[1, 2, count, side, side]);
                let map = self.node("Reshape", &[map, &shape], vec![]);
                let map = self.node("Transpose", &[&map], vec![integers("perm", &[0, 3, 4, 1, 2])]);
                let shape = self.numbers(&[1, -1, count]);
                self.node("Reshape", &[&map, &shape], vec![])
            }
            Written::ByNumbers => {
                let shape = self.numbers(&[1, count, -1]);
                self.node("Reshape", &[map, &shape], vec![])
            }
        });
        let axis = if how == Written::ByNumbers { 2 } else { 1 };
        let joined = self.node("Concat", &[&levels[0], &levels[1]], vec![integer("axis", axis)]);
        if how != Written::Flat {
            return joined;
        }
        let shape = self.numbers(&[1, -1, count]);
        self.node("Reshape", &[&joined, &shape], vec![])
    }

    /// What torch's `normalize` is exported as.
    fn normalize(&mut self, input: &str) -> String {
        let norm = self.node("ReduceL2", &[input], vec![integers("axes", &[1]), integer("keepdims", 1)]);
        let least = self.scalar(1e-12);
        let norm = self.node("Clip", &[&norm, &least], vec![]);
        let shape = self.node("Shape", &[input], vec![]);
        let norm = self.node("Expand", &[&norm, &shape], vec![]);
        self.node("Div", &[input, &norm], vec![])
    }
}

/// A small SSD of two levels and two classes; the first level is normalised.
fn levels(how: Written, probabilities: Option<&str>, is_torch: bool) -> ModelProto {
    let mut n = Network::new(21);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let unit = if is_torch {
        n.normalize(&stem)
    } else {
        n.node("LpNormalization", &[&stem], vec![integer("axis", 1)])
    };
    let scale = n.reals(&[1, 16, 1, 1], 4.0, 12.0);
    let wide = n.node("Mul", &[&unit, &scale], vec![]);
    let deep = n.convolution(&stem, 16, 24, 3, 2, 1);
    let deep = n.node("Relu", &[&deep], vec![]);
    let [boxes, scores] = [4, 3].map(|count| {
        let maps = [
            (n.convolution(&wide, 16, 2 * count, 3, 1, 1), 16),
            (n.convolution(&deep, 24, 2 * count, 3, 1, 1), 8),
        ];
        n.written([(&maps[0].0, maps[0].1), (&maps[1].0, maps[1].1)], count, how)
    });
    let axis = if how == Written::ByNumbers { 1 } else { 2 };
    let scores = match probabilities {
        None => scores,
        Some("Sigmoid") => n.node("Sigmoid", &[&scores], vec![]),
        Some(softmax) => n.node(softmax, &[&scores], vec![integer("axis", axis)]),
    };
    n.maps(&[(&boxes, "loc"), (&scores, "conf")])
}

/// A decoder for [`levels`], from a file.
fn anchors(background: &str) -> Decoder {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("anchors.toml");
    let text = format!(
        "kind = \"anchors\"\nboxes = \"loc\"\nscores = \"conf\"\n{background}\nthreshold = 0.2\n\
         weights = [10, 10, 5, 5]\n[[levels]]\nshapes = {{ kind = \"listed\", sizes = [[4, 4], [8, 4]] }}\n\
         [[levels]]\nstride = 4\nshapes = {{ kind = \"grid\", sizes = [12], ratios = [0.5, 2] }}\n"
    );
    std::fs::write(&file, text).unwrap();
    Decoder::read(TaskKind::Detect, file.to_str()).unwrap().unwrap()
}

#[test]
fn levels_of_anchors_find_boxes_in_integers() {
    let mut found = vec![];
    for (how, probabilities, background, is_torch) in [
        (Written::Flat, Some("Softmax"), "background = 0", true),
        (Written::ByAnchors, None, "background = 0", true),
        (Written::ByNumbers, Some("Softmax"), "background = 2", false),
        (Written::ByAnchors, Some("Sigmoid"), "", false),
    ] {
        let decoder = anchors(background);
        let proto = levels(how, probabilities, is_torch);
        let model = located("levels", proto, &decoder, Rounding::Nearest, 20.0);
        let names: Vec<String> = model.task().outputs().iter().map(|output| output.name.clone()).collect();
        assert_eq!(names, ["loc[0]", "loc[1]", "conf[0]", "conf[1]"]);
        let wanted = if background.is_empty() { "sigmoid" } else { "softmax" };
        let activation = |at: usize| model.task().outputs()[at].activation.map(Activation::name);
        assert_eq!([activation(0), activation(2), activation(3)], [None, Some(wanted), Some(wanted)]);
        let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
        let mut locator = Locator::new(&model, &Target::reference(), settings).unwrap();
        let image = Clip::new(5).frame(3);
        let Found::Boxes(boxes) = locator.locate(&ImageView::of(&image).unwrap()).unwrap() else {
            panic!("boxes")
        };
        assert!(boxes.len() > 3, "{boxes:?}");
        found.push(boxes.to_vec());
    }
    // However it is written, it is the same network.
    assert_eq!(found[0], found[1]);
}

#[test]
fn channels_by_numbers_are_put_in_the_order_of_anchors() {
    let import = |how| {
        let decoder = anchors("background = 0");
        import_proto_maps(levels(how, Some("Softmax"), false), Path::new("levels.onnx"), &decoder.needs())
            .unwrap()
    };
    let (by_anchors, by_numbers) = (import(Written::ByAnchors), import(Written::ByNumbers));
    common::assert_equals_tract(&by_anchors);
    common::assert_equals_tract(&by_numbers);
    let channels = |imported: &resight::import::Imported| {
        let is_order =
            |node: &resight::graph::Node| matches!(node.operator, resight::graph::Operator::Channels(_));
        imported.graph.nodes.iter().filter(|node| is_order(node)).count()
    };
    assert_eq!([channels(&by_anchors), channels(&by_numbers)], [0, 4]);
}

#[test]
fn outputs_that_are_no_levels_are_refused() {
    let refusal = |proto: ModelProto, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        import_proto_maps(proto, Path::new("levels.onnx"), &names).unwrap_err().to_string()
    };
    let wrong_axis = {
        let mut proto = levels(Written::ByAnchors, Some("Softmax"), false);
        let nodes = &mut proto.graph.as_mut().unwrap().node;
        nodes.last_mut().unwrap().attribute[0].i = 1;
        proto
    };
    let mixed = |last: &dyn Fn(&mut Network, &str) -> String| {
        let mut n = Network::new(3);
        let map = n.convolution("input", 3, 8, 3, 1, 1);
        let out = last(&mut n, &map);
        n.maps(&[(&out, "out")])
    };
    let table = [
        (
            refusal(wrong_axis, &["conf"]),
            "levels.onnx: node `softmax24` (Softmax): its axis is 1 of [1, 640, 3], which is not that of the classes of a box",
        ),
        (
            refusal(
                mixed(&|n, map| {
                    let shape = n.numbers(&[1, -1, 2]);
                    n.node("Reshape", &[map, &shape], vec![])
                }),
                &["out"],
            ),
            "levels.onnx: node `reshape1` (Reshape): it reshapes [1, 8, 32, 32] to [1, -1, 2]: attention over positions is not supported; use a convolutional network",
        ),
        (
            refusal(
                mixed(&|n, map| {
                    let shape = n.numbers(&[1, -1, 8]);
                    let last = n.node("Transpose", &[map], vec![integers("perm", &[0, 2, 3, 1])]);
                    let rows = n.node("Reshape", &[&last, &shape], vec![]);
                    n.node("Relu", &[&rows], vec![])
                }),
                &["out"],
            ),
            "levels.onnx: node `relu3` (Relu): it takes maps one behind the other, which only outputs of a detector can be; export the network up to its raw maps",
        ),
        (
            refusal(
                mixed(&|n, map| {
                    let norm =
                        n.node("ReduceL2", &[map], vec![integers("axes", &[1]), integer("keepdims", 1)]);
                    let other = n.convolution(map, 8, 8, 1, 1, 1);
                    n.node("Div", &[&other, &norm], vec![])
                }),
                &["out"],
            ),
            "levels.onnx: node `div3` (Div): it divides by the norm of another result, which is not supported",
        ),
        (
            refusal(mixed(&|n, map| n.node("LpNormalization", &[map], vec![integer("axis", 2)])), &["out"]),
            "levels.onnx: node `lpnormalization1` (LpNormalization): it takes the norm over the axes [2] of [batch, channels, height, width]; only that over the channels is supported",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}

/// A small network whose end `make` writes, from 24 channels of 8 x 8 places to the vector.
fn ending(make: impl FnOnce(&mut Network, &str) -> String) -> ModelProto {
    let mut n = Network::new(41);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let deep = n.convolution(&stem, 16, 24, 3, 2, 1);
    let deep = n.node("Relu", &[&deep], vec![]);
    let vector = make(&mut n, &deep);
    n.maps(&[(&vector, "embedding")])
}

/// `GeM`, as of networks that find places again; the power is learnt.
fn generalised_mean(n: &mut Network, map: &str, power: f32) -> String {
    let [least, power] = [1e-6, power].map(|value| n.scalar(value));
    let limited = n.node("Clip", &[map, &least], vec![]);
    let powers = n.node("Pow", &[&limited, &power], vec![]);
    let mean = n.node("GlobalAveragePool", &[&powers], vec![]);
    let root = n.node("Reciprocal", &[&power], vec![]);
    n.node("Pow", &[&mean, &root], vec![])
}

/// A classifier with one, its export run by tract as ONNX defines it, and as a backbone.
#[test]
fn a_generalised_mean_is_exported_and_taught_from() {
    let mut n = Network::new(43);
    let map = n.convolution("input", 3, 16, 3, 2, 1);
    let map = n.node("Relu", &[&map], vec![]);
    let mean = generalised_mean(&mut n, &map, 2.9);
    let proto = n.finish(&mean, 16, true);
    let folder = tempfile::tempdir().unwrap();
    let (source, file) = (folder.path().join("powers.onnx"), folder.path().join("powers.resight.tar"));
    std::fs::write(&source, proto.encode_to_vec()).unwrap();
    let quantised = quantised("powers", proto, 30.0);
    let imported = import_proto(ModelProto::decode(&*std::fs::read(&source).unwrap()).unwrap(), &source);
    let options = Options::new(Method::Mse, default_preprocessing(&imported.unwrap().graph).unwrap());
    let labels = Labels::parse("labels", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n").unwrap();
    save(&file, &source, &labels, &options, &quantised).unwrap();
    let model = Model::load(&file).unwrap();
    assert!(model.graph().nodes.iter().any(TypedNode::op_is::<GeneralisedMean>));

    let exported = export(&model, Format::Qdq).unwrap();
    let mut plan = tract_onnx::onnx().model_for_proto_model(&exported).unwrap();
    plan.set_input_fact(0, f32::fact([1, 3, 32, 32]).into()).unwrap();
    let plan = plan.into_optimized().unwrap().into_runnable().unwrap();
    for golden in &quantised.golden {
        let image = Tensor::from_shape(&[1, 3, 32, 32], &normalised(&golden.input, &model)).unwrap();
        let outputs = plan.run(tvec!(image.into())).unwrap();
        let logits = outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        let expected = golden.logits().unwrap();
        let error: f32 = logits.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
        let power: f32 = expected.iter().map(|value| value.powi(2)).sum();
        assert!(error < power * 1e-5, "{logits:?} {expected:?}");
    }
    Backbone::of(&model).unwrap();
}

/// The image of the network, `[channel][row][column]`, from its bytes.
fn normalised(levels: &[i8], model: &Model) -> Vec<f32> {
    let preprocessing = model.preprocessing();
    let value = |channel: usize, level: i8| {
        let grey = f32::from(level.cast_unsigned() ^ 0x80) / 255.0;
        (grey - preprocessing.mean[channel]) / preprocessing.standard_deviation[channel]
    };
    let plane = |channel: usize| levels.iter().skip(channel).step_by(3).map(move |&level| (channel, level));
    (0..3).flat_map(plane).map(|(channel, level)| value(channel, level)).collect()
}

/// How networks that end in a vector do so: with the name, whether they normalise it, and its length.
fn vectors() -> Vec<(&'static str, ModelProto, bool, usize)> {
    let mean = |n: &mut Network, map: &str| {
        let mean = n.node("GlobalAveragePool", &[map], vec![]);
        n.node("Flatten", &[&mean], vec![])
    };
    let linear = |n: &mut Network, flat: &str, numbers: i64| {
        let weights = n.reals(&[numbers, 24], 0.4, 0.0);
        n.node("Gemm", &[flat, &weights], vec![integer("transB", 1)])
    };
    let projected = ending(|n, map| {
        let flat = mean(n, map);
        let vector = linear(n, &flat, 12);
        n.normalize(&vector)
    });
    let features = ending(mean);
    let unit = ending(|n, map| {
        let flat = mean(n, map);
        n.node("LpNormalization", &[&flat], vec![integer("axis", 1)])
    });
    // BNNeck, as of networks that find persons again.
    let neck = ending(|n, map| {
        let flat = mean(n, map);
        let [gamma, beta, mean, variance] = [1.0, 0.1, 0.2, 1.5].map(|middle| n.reals(&[24], 0.1, middle));
        n.node("BatchNormalization", &[&flat, &gamma, &beta, &mean, &variance], vec![])
    });
    let both = ending(|n, map| {
        let [mean, most] = ["GlobalAveragePool", "GlobalMaxPool"].map(|pool| n.node(pool, &[map], vec![]));
        let both = n.join(&[&mean, &most]);
        n.node("Flatten", &[&both], vec![])
    });
    // CLIP's: over the norm, with no guard against zero.
    let divided = ending(|n, map| {
        let flat = mean(n, map);
        let vector = linear(n, &flat, 8);
        let norm = n.node("ReduceL2", &[&vector], vec![integers("axes", &[1]), integer("keepdims", 1)]);
        n.node("Div", &[&vector, &norm], vec![])
    });
    // Positive numbers, as of hashes.
    let positive = ending(|n, map| {
        let flat = mean(n, map);
        let vector = linear(n, &flat, 16);
        n.node("Relu", &[&vector], vec![])
    });
    // As of networks of faces: all places of the last map, and a normalisation behind.
    let places = ending(|n, map| {
        let small = n.pool("MaxPool", map, 2, 2, vec![]);
        let flat = n.node("Flatten", &[&small], vec![]);
        let weights = n.reals(&[10, 24 * 16], 0.1, 0.0);
        let vector = n.node("Gemm", &[&flat, &weights], vec![integer("transB", 1)]);
        let [gamma, beta, mean, variance] = [1.0, 0.1, 0.2, 1.5].map(|middle| n.reals(&[10], 0.1, middle));
        n.node("BatchNormalization", &[&vector, &gamma, &beta, &mean, &variance], vec![])
    });
    let one = ending(|n, map| {
        let flat = mean(n, map);
        linear(n, &flat, 1)
    });
    let powers = ending(|n, map| {
        let roots = generalised_mean(n, map, 3.0);
        n.node("Flatten", &[&roots], vec![])
    });
    vec![
        ("projected", projected, true, 12),
        ("features", features, false, 24),
        ("unit", unit, true, 24),
        ("neck", neck, false, 24),
        ("both", both, false, 48),
        ("divided", divided, true, 8),
        ("positive", positive, false, 16),
        ("places", places, false, 10),
        ("one", one, false, 1),
        ("powers", powers, false, 24),
    ]
}

#[test]
fn vectors_point_the_same_way_in_integers() {
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path());
    for (name, proto, normalised, numbers) in vectors() {
        let imported = import_proto_vector(proto, format!("{name}.onnx").as_ref())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((imported.normalised, imported.is_binary), (Some(normalised), false), "{name}");
        let preprocessing = default_preprocessing(&imported.graph).unwrap();
        let options = Options::new(Method::Mse, preprocessing);
        let quantised = quantise(&imported, &images, &options, &|_, _, _| ())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(quantised.report.int8_mac_coverage_percent, 100.0, "{name}");
        let vectors: Vec<usize> =
            quantised.golden.iter().map(|golden| golden.logits().unwrap().len()).collect();
        assert_eq!(vectors, [numbers, numbers], "{name}");
        let cosine = quantised.report.cosine.unwrap();
        assert!(cosine.least > 0.995 && cosine.mean >= cosine.least, "{name}: {cosine:?}");
    }
}

#[test]
fn outputs_that_are_no_vectors_are_refused() {
    let refusal =
        |proto: ModelProto| import_proto_vector(proto, Path::new("v.onnx")).unwrap_err().to_string();
    let map = ending(|n, map| n.convolution(map, 24, 8, 1, 1, 1));
    assert_eq!(
        refusal(map),
        "v.onnx: node `conv4` (Conv): the output is a map of 8 x 8 places, not a vector; export the network with the \
         pooling that makes a vector of its last map"
    );
    let classes = ending(|n, map| {
        let mean = n.node("GlobalAveragePool", &[map], vec![]);
        let flat = n.node("Flatten", &[&mean], vec![]);
        let weights = n.reals(&[5, 24], 0.4, 0.0);
        let logits = n.node("Gemm", &[&flat, &weights], vec![integer("transB", 1)]);
        n.node("Softmax", &[&logits], vec![integer("axis", 1)])
    });
    assert_eq!(
        refusal(classes),
        "v.onnx: the output `embedding` ends in softmax: it is no vector but probabilities; leave out `--task embed`"
    );
}

#[test]
fn points_are_found_in_integers() {
    let mut n = Network::new(31);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    let deep = n.convolution(&stem, 16, 24, 3, 2, 1);
    let deep = n.node("Relu", &[&deep], vec![]);
    let up = n.doubled(&deep, 24, 16);
    let heat = n.convolution(&up, 16, 4, 1, 1, 1);
    let proto = n.maps(&[(&heat, "heatmaps")]);
    let decoder = Decoder::read(TaskKind::Keypoints, None).unwrap().unwrap();
    let model = located("points", proto, &decoder, Rounding::Nearest, 22.0);
    let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
    let mut locator = Locator::new(&model, &Target::reference(), settings).unwrap();
    let image = Clip::new(5).frame(3);
    let view = ImageView::of(&image).unwrap();
    let Found::Points(points) = locator.locate(&view).unwrap() else { panic!("points") };
    assert_eq!(points.len(), 4);
    let [height, width] = view.size().map(|side| side as f32);
    for point in points {
        let [down, right] = point.place;
        assert!((0.0..=height).contains(&down) && (0.0..=width).contains(&right), "{point:?}");
    }
    assert!(points.iter().any(|point| point.place != points[0].place), "{points:?}");
}

#[test]
fn points_of_several_things_are_found_in_integers() {
    let mut n = Network::new(37);
    let stem = n.convolution("input", 3, 16, 3, 2, 1);
    let stem = n.node("Relu", &[&stem], vec![]);
    // With attention, as trt_pose's: a sigmoid for the points, a tangent for what joins them.
    let mut gated = |function: &str, channels| {
        let features = n.convolution(&stem, 16, 16, 3, 1, 1);
        let features = n.node("Relu", &[&features], vec![]);
        let gate = n.convolution(&features, 16, 16, 3, 1, 1);
        let gate = n.node(function, &[&gate], vec![]);
        let gated = n.node("Mul", &[&features, &gate], vec![]);
        n.convolution(&gated, 16, channels, 1, 1, 1)
    };
    let [heats, fields] = [gated("Sigmoid", 3), gated("Tanh", 4)];
    let proto = n.maps(&[(&heats, "cmap"), (&fields, "paf")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decoder.toml");
    let text = "kind = \"keypoints\"\nheat_maps = \"cmap\"\nthreshold = 0.05\n[fields]\nmap = \"paf\"\n\
                links = [[0, 1], [1, 2]]\norder = \"down_first\"\nthreshold = 0\nfewest = 2\nmost = 5\n";
    std::fs::write(&file, text).unwrap();
    let decoder = Decoder::read(TaskKind::Keypoints, file.to_str()).unwrap().unwrap();
    let model = located("things", proto, &decoder, Rounding::Nearest, 18.0);
    let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
    let mut locator = Locator::new(&model, &Target::reference(), settings).unwrap();
    let image = Clip::new(5).frame(3);
    let Found::Points(points) = locator.locate(&ImageView::of(&image).unwrap()).unwrap() else {
        panic!("points")
    };
    let things = points.iter().map(|point| point.thing + 1).max().unwrap_or(0);
    assert!((2..=5).contains(&things), "{points:?}");
    for thing in 0..things {
        let classes: Vec<usize> =
            points.iter().filter(|point| point.thing == thing).map(|point| point.class).collect();
        assert!((2..=3).contains(&classes.len()) && classes.is_sorted_by(|a, b| a < b), "{points:?}");
    }
}
