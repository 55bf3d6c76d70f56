//! Model files keep their bytes: a network that is quantised today is the file of yesterday.

use std::fs;
use std::path::{Path, PathBuf};

use resight::cards::Clip;
use resight::import::import;
use resight::quantise::{Method, Options, default_preprocessing, quantise};
use resight::save::save;
use resight::synth::{Architecture, Design, Shortcut, build, write};
use resight_model_file::{Labels, sha256_of_file};
use resight_runtime::{Model, ModelParts};

/// The networks with the sha256 of their model files. Who changes the bytes on purpose, be it
/// only by another version of resight, takes the new digests from the failing test.
const DIGESTS: [(&str, &str); 11] = [
    ("tiny-basic", "b1de3d839944cf51ba39844fef02d0f17c37209b9b05072de7c6f1f665e94b37"),
    ("tiny-bottleneck", "d6e9869455e410a2d473a11b7fce8d4ac5b139f56425b99872b22a578ff9ab19"),
    ("preactivation", "bd15a0de397f6fae5dad515058cf7a3258def0d59fd1bebf600bff7dd18de722"),
    ("grouped", "720bbe10529396879ffcd20d11fcf38e346813f1adc04bcd01d0cab5cafa67f3"),
    ("batch-normalised", "2b4a89cc16085244c2ca64cc2dc98b32bcd96d81bffb1d23ea158afdfccc45f0"),
    ("padded", "52c203741a80e437003899a367493dc349e830b0ee095e4e02a8b42aa5b36962"),
    ("wide", "2214fff61b76f615c7360ff349e0ba3c3da73c8eff95d7fd31f80052f6821456"),
    ("resnet18", "a3cc14fcb304ab24b7209eb38898212cdabdf0c7e2526aa0488c1b579773c51a"),
    ("resnet50", "df7fa832548cf94030a9a9e9e7bec3a09e2a71a2a4b09e11a1fc90d273d502f5"),
    ("markers", "62ae85f7582dd9c6c6b464ce556b336ac69fa1d8f9e7b56e26a9ba6671287312"),
    ("rewritten", "a2ff4e0d8f88ad3cafd328857464389a146c62dec20825243291c2d5a9f8a933"),
];

/// A folder with some pictures of marker cards.
fn pictures(folder: &Path) -> Vec<PathBuf> {
    let clip = Clip::new(5);
    let picture = |index: usize| {
        let path = folder.join(format!("{index:03}.png"));
        clip.frame(index).save(&path).unwrap();
        path
    };
    (0..clip.len()).step_by(clip.len() / 6).map(picture).collect()
}

/// Quantises an ONNX file and returns the model file's sha256.
fn digest(onnx: &Path, images: &[PathBuf], method: Method, classes: usize) -> String {
    let imported = import(onnx).unwrap();
    let preprocessing = default_preprocessing(&imported.graph).unwrap();
    let options = Options::new(method, preprocessing);
    let quantised = quantise(&imported, images, &options, &|_, _, _| ()).unwrap();
    let names: String = (0..classes).map(|class| format!("class {class}\n")).collect();
    let labels = Labels::parse("labels.txt", names.as_bytes()).unwrap();
    let output = onnx.with_extension("resight.tar");
    save(&output, onnx, &labels, &options, &quantised).unwrap();
    sha256_of_file(&output).unwrap()
}

/// The sha256 of a model file after reading it and writing it again.
fn rewritten(file: &Path) -> String {
    let model = Model::load(file).unwrap();
    let parts = ModelParts {
        name: model.name(),
        layers: model.layers(),
        graph: model.graph(),
        task: model.task(),
        labels: model.labels(),
        preprocessing: model.preprocessing(),
        provenance: model.provenance(),
        report: model.report(),
        golden: model.golden(),
    };
    parts.write(file).unwrap();
    sha256_of_file(file).unwrap()
}

#[test]
fn model_files_are_the_same() {
    // tract's f32 sums, which calibrate, depend on the vectors of the machine.
    #[cfg(target_arch = "x86_64")]
    let recorded = std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let recorded = false;
    if !recorded {
        resight_fixtures::skipped("the digests are those of x86-64 with AVX-512");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path());
    let tiny = || Architecture::TinyBottleneck.design();
    let small = |architecture: Architecture| Design { image: [3, 64, 64], ..architecture.design() };
    let synthetic = [
        ("tiny-basic", Architecture::TinyBasic.design(), Method::Mse),
        ("tiny-bottleneck", tiny(), Method::Mse),
        ("preactivation", Design { preactivation: true, ..tiny() }, Method::MinMax),
        ("grouped", Design { widths: vec![8, 16], groups: 4, ..tiny() }, Method::Mse),
        (
            "batch-normalised",
            Design { batch_normalisation: true, stride_first: true, ..tiny() },
            Method::Percentile(99.9),
        ),
        (
            "padded",
            Design { shortcut: Shortcut::Padded, widths: vec![6, 11], bottleneck: false, ..tiny() },
            Method::Entropy,
        ),
        ("wide", Design { widen: 2, ..tiny() }, Method::Percentile(99.99)),
        ("resnet18", small(Architecture::Resnet18), Method::Mse),
        ("resnet50", small(Architecture::Resnet50), Method::Mse),
    ];
    let mut found = vec![];
    for (seed, (name, design, method)) in synthetic.into_iter().enumerate() {
        let onnx = folder.path().join(name).with_extension("onnx");
        write(&build(&design, seed as u64), &onnx).unwrap();
        found.push((name, digest(&onnx, &images, method, design.classes)));
    }
    let onnx = folder.path().join("markers.onnx");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/markers/markers.onnx"), &onnx).unwrap();
    found.push(("markers", digest(&onnx, &images, Method::Mse, 13)));
    found.push(("rewritten", rewritten(&onnx.with_extension("resight.tar"))));
    let found: Vec<_> = found.iter().map(|(name, digest)| (*name, digest.as_str())).collect();
    assert_eq!(found, DIGESTS);
}
