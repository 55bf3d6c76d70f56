//! The networks of `cases/onnx` in `RESIGHT_SHARED`: what they compute, against what onnxruntime
//! gives, and what they lose in int8. Says so and passes without the folder.

#![allow(clippy::print_stdout, reason = "tests say what they skip")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use resight::import::import;
use resight::preprocess::{Convention, find};
use resight::quantise::{Method, Options, quantise};
use resight::reference::Reference;
use resight_imaging::{Channels, ImageView, Preprocessor, RgbImage};
use resight_model_file::Activation;
use serde::Deserialize;

/// What onnxruntime gives.
#[derive(Deserialize)]
struct Expected {
    shape: Vec<usize>,
    outputs: HashMap<String, Vec<f32>>,
}

/// How a case's input follows from the grey levels.
#[derive(Clone, Copy, PartialEq)]
enum Given {
    /// `(g / 255 - 0.449) / 0.226`.
    Standard,
    Unit,
    Levels,
}

/// What the file's output is of the logits.
#[derive(Clone, Copy)]
enum Output {
    Logits,
    Softmax,
    /// The second of two logits, of which the first is zero.
    Second,
    SecondSigmoid,
    /// Of classes that do not exclude each other.
    Sigmoid,
    /// The last of several.
    Named(&'static str),
}

const CASES: [(&str, Given, Output); 22] = [
    ("mlp_relu_drop", Given::Standard, Output::Logits),
    ("fc_bn_head", Given::Standard, Output::Logits),
    ("bn_fc", Given::Standard, Output::Logits),
    ("norm_in_graph", Given::Unit, Output::Logits),
    ("norm255_in_graph", Given::Levels, Output::Logits),
    ("uint8_in", Given::Levels, Output::Logits),
    ("bgr_gather", Given::Standard, Output::Logits),
    ("one_logit", Given::Standard, Output::Second),
    ("one_sigmoid", Given::Standard, Output::SecondSigmoid),
    ("sigmoid3", Given::Standard, Output::Sigmoid),
    ("ceilpool", Given::Standard, Output::Logits),
    ("relu6", Given::Standard, Output::Logits),
    ("act_LeakyRelu", Given::Standard, Output::Logits),
    ("se", Given::Standard, Output::Logits),
    ("two_out", Given::Standard, Output::Named("t38")),
    ("nhwc", Given::Standard, Output::Logits),
    ("keras", Given::Standard, Output::Softmax),
    ("opset23", Given::Standard, Output::Logits),
    ("opset25", Given::Standard, Output::Logits),
    ("sq2", Given::Standard, Output::Logits),
    ("gmp", Given::Standard, Output::Logits),
    ("conv1x1_head", Given::Standard, Output::Logits),
];

fn cases() -> Option<PathBuf> {
    let shared = std::env::var_os("RESIGHT_SHARED").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cases = shared.map(|shared| shared.join("cases")).filter(|cases| cases.is_dir());
    if cases.is_none() {
        println!("skipped: RESIGHT_SHARED holds no folder `cases`");
    }
    cases
}

/// The picture whose grey levels the case was computed on: 64 x 64 RGB, from the flat index over
/// the shape of the network's input.
fn picture(shape: &[usize]) -> RgbImage {
    let level = |index: usize| (((index as u64 * 2_654_435_761) % (1 << 32)) >> 24) as u8;
    let channels_last = shape[3] == 3;
    RgbImage::from_fn(64, 64, |x, y| {
        let (x, y) = (x as usize, y as usize);
        image::Rgb(std::array::from_fn(|c| {
            level(if channels_last { (y * 64 + x) * 3 + c } else { (c * 64 + y) * 64 + x })
        }))
    })
}

/// Noise and gradients, so that every channel is used.
fn calibration(folder: &Path, picture: &RgbImage) -> Vec<PathBuf> {
    let mut state = 7u32;
    let mut files = vec![folder.join("case.png")];
    picture.save(&files[0]).unwrap();
    for index in 0..12u32 {
        let image = RgbImage::from_fn(64, 64, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wave = x * (index % 4) + y * (index % 3) + 40 * index;
            image::Rgb(std::array::from_fn(|c| {
                ((wave * (c as u32 + 1) + ((state >> (8 + c)) & 63)) % 256) as u8
            }))
        });
        let file = folder.join(format!("{index:02}.png"));
        image.save(&file).unwrap();
        files.push(file);
    }
    files
}

#[test]
fn the_cases_compute_what_onnxruntime_gives_and_keep_it_in_int8() {
    let Some(cases) = cases() else { return };
    let expected = std::fs::read_to_string(cases.join("expected.json")).unwrap();
    let expected: HashMap<String, Expected> = serde_json::from_str(&expected).unwrap();
    for (name, given, output) in CASES {
        let path = cases.join("onnx").join(name).with_extension("onnx");
        let imported = import(&path).unwrap_or_else(|error| panic!("{error}"));
        let convention = match given {
            Given::Standard => {
                Convention { mean: [0.449; 3], standard_deviation: [0.226; 3], ..Convention::unit() }
            }
            // What the network itself says.
            Given::Unit | Given::Levels => find(&imported, &path).unwrap().convention,
        };
        match given {
            Given::Unit => assert_eq!(convention, Convention::unit(), "{name}"),
            Given::Levels => assert_eq!(convention, Convention::grey_levels(), "{name}"),
            Given::Standard => {}
        }
        let mut preprocessing = convention.preprocessing(&imported).unwrap();
        preprocessing.resize_shorter = 64;

        let case = &expected[&format!("{name}.onnx")];
        let picture = picture(&case.shape);
        let mut preprocessor = Preprocessor::new(&preprocessing).unwrap();
        let mut input = vec![0.0; preprocessor.input_len()];
        preprocessor.normalise(&ImageView::of(&picture).unwrap(), &mut input).unwrap();
        let reference = Reference::new(&imported, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut found = reference.run(&input).unwrap().logits().to_vec();
        match output {
            Output::Logits | Output::Named(_) => {}
            Output::Sigmoid => resight_runtime::sigmoid(&mut found),
            Output::Softmax => resight_runtime::softmax(&mut found),
            Output::Second => {
                assert_eq!(found.remove(0).to_bits() << 1, 0, "{name}");
            }
            Output::SecondSigmoid => {
                resight_runtime::softmax(&mut found);
                found.remove(0);
            }
        }
        let activation =
            if matches!(output, Output::Sigmoid) { Activation::Sigmoid } else { Activation::Softmax };
        assert_eq!(imported.activation, activation, "{name}");
        let right = match output {
            Output::Named(name) => &case.outputs[name],
            _ => case.outputs.values().next().unwrap(),
        };
        assert_eq!(found.len(), right.len(), "{name}");
        for (found, right) in found.iter().zip(right) {
            assert!((found - right).abs() < 2e-3 * right.abs().max(1.0), "{name}: {found}, not {right}");
        }

        let folder = tempfile::tempdir().unwrap();
        let images = calibration(folder.path(), &picture);
        let options = Options::new("mse".parse::<Method>().unwrap(), preprocessing);
        let quantised = quantise(&imported, &images, &options, &|_, _, _| {})
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let report = quantised.report;
        println!("{name}: {:.1} dB", report.logits_sqnr_db);
        assert!(report.logits_sqnr_db >= 25.0, "{name}: {:.1} dB", report.logits_sqnr_db);
        assert!((report.int8_mac_coverage_percent - 100.0).abs() < 1e-9, "{name}");
    }
}

/// The preprocessing that the zoo's ResNet-50 was trained with, and others.
#[test]
fn a_real_network_knows_most_with_what_it_was_trained_on() {
    use resight::preprocess::candidates::better;
    let Some(cases) = cases() else { return };
    let shared = cases.parent().unwrap();
    let network = shared.join("zoo/resnet50.onnx");
    if !network.exists() {
        println!("skipped: no {}", network.display());
        return;
    }
    let imported = import(&network).unwrap();
    let images = resight_imaging::image_files(&shared.join("images/calibration")).unwrap();
    for (name, expected) in [
        ("imagenet", None),
        ("unit", Some("--preprocess imagenet")),
        ("caffe", Some("--preprocess imagenet")),
    ] {
        let chosen = Convention::named(name).unwrap().preprocessing(&imported).unwrap();
        let better = better(&imported, &images, &chosen).unwrap();
        assert_eq!(better.map(|better| better.switches).as_deref(), expected, "{name}");
    }
    let rgb = Convention::imagenet();
    let bgr = Convention { channels: Some(Channels::Bgr), ..rgb };
    let chosen = bgr.preprocessing(&imported).unwrap();
    let better = better(&imported, &images, &chosen).unwrap().unwrap();
    assert!(["--preprocess imagenet", "--channels rgb"].contains(&better.switches.as_str()), "{better:?}");
}
