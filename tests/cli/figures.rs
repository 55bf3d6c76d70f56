//! The accuracy that the project promises, on real networks and photographs.
//!
//! Needs the folder of test data in `RESIGHT_SHARED`; says so and passes without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use resight_fixtures::shared;
use serde_json::Value;

fn resight(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_resight")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Quantises a network of the zoo; gives the model's path.
fn quantize(shared: &Path, folder: &Path, network: &str, labels: &Path, images: &str) -> String {
    let onnx = shared.join("zoo").join(network);
    let output = folder.join(network).with_extension("resight.tar");
    let calibration = shared.join("images/calibration");
    resight(&[
        "quantize",
        onnx.to_str().unwrap(),
        "--calibration",
        calibration.to_str().unwrap(),
        "--labels",
        labels.to_str().unwrap(),
        "--images",
        images,
        "-o",
        output.to_str().unwrap(),
    ]);
    output.to_str().unwrap().to_owned()
}

fn evaluate(onnx: &Path, model: &str, images: &Path) -> Value {
    let (onnx, images) = (onnx.to_str().unwrap(), images.to_str().unwrap());
    serde_json::from_str(&resight(&["evaluate", onnx, model, "--images", images, "--json"])).unwrap()
}

fn coverage(model: &str) -> Value {
    let inspected: Value = serde_json::from_str(&resight(&["inspect", model, "--json"])).unwrap();
    inspected["int8_mac_coverage_percent"].clone()
}

#[test]
fn resnet50_keeps_its_accuracy() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let labels = shared.join("zoo/imagenet_synset_words.txt");
    // Fewer than the 200 that the published figures come from: it is the same, in a third of the time.
    let model = quantize(&shared, folder.path(), "resnet50.onnx", &labels, "80");
    let bytes = fs::metadata(&model).unwrap().len();
    assert!(bytes <= 26_600_000, "{bytes}");
    assert_eq!(coverage(&model), 100.0);
    let result = evaluate(&shared.join("zoo/resnet50.onnx"), &model, &shared.join("images/evaluation"));
    println!("{result:#}");
    let number = |index: usize, key: &str| result[index][key].as_f64().unwrap();
    assert_eq!(number(0, "top1"), 86.75, "preprocessing or import has changed");
    assert!(number(0, "top1") - number(1, "top1") <= 0.5);
    assert!(number(1, "agreement") >= 98.0);
    assert!(number(1, "sqnr_db") >= 35.5);
}

#[test]
fn resnet18_keeps_its_accuracy() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let labels = shared.join("zoo/imagenet_synset_words.txt");
    let model = quantize(&shared, folder.path(), "resnet18.onnx", &labels, "50");
    assert_eq!(coverage(&model), 100.0);
    let result = evaluate(&shared.join("zoo/resnet18.onnx"), &model, &shared.join("images/evaluation"));
    println!("{result:#}");
    let number = |index: usize, key: &str| result[index][key].as_f64().unwrap();
    assert!(number(0, "top1") - number(1, "top1") <= 1.0);
    assert!(number(1, "agreement") >= 97.5);
    assert!(number(1, "sqnr_db") >= 36.5);
}

/// Other input sizes, batch normalisation kept, shortcuts by slicing and padding.
#[test]
fn cifar_networks_quantise() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels.txt");
    fs::write(&labels, "plane\ncar\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n").unwrap();
    // The photographs have other classes; what counts here is the distance from f32.
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    let mut lines = String::new();
    for entry in fs::read_dir(shared.join("images/calibration")).unwrap().take(60) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "png") {
            let name = path.file_name().unwrap();
            fs::copy(&path, images.join(name)).unwrap();
            lines.push_str(&format!("{} 0\n", name.to_str().unwrap()));
        }
    }
    fs::write(images.join("labels.txt"), lines).unwrap();
    for (network, least) in [("resnet20_cifar10_bn.onnx", 25.0), ("resnet56_cifar10.onnx", 20.0)] {
        let model = quantize(&shared, folder.path(), network, &labels, "100");
        assert_eq!(coverage(&model), 100.0);
        let result = evaluate(&shared.join("zoo").join(network), &model, &images);
        println!("{network}: {result:#}");
        assert!(result[1]["sqnr_db"].as_f64().unwrap() >= least, "{network}: {result}");
    }
}

#[test]
fn a_detector_keeps_its_precision() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| shared.join(name).to_str().unwrap().to_owned();
    let (onnx, pictures) = (path("zoo/centernet_resnet18_bccd.onnx"), path("where/detection/test"));
    let labels = folder.path().join("names.txt");
    fs::write(&labels, "RBC\nWBC\nPlatelets\n").unwrap();
    let model = folder.path().join("boxes.resight.tar").to_str().unwrap().to_owned();
    resight(&[
        "quantize",
        &onnx,
        "--task",
        "detect",
        "--decoder",
        "centernet",
        "--fit",
        "letterbox",
        // It was trained on what `cv2.resize` gives.
        "--interpolation",
        "bilinear-without-antialias",
        // The quickest.
        "--method",
        "minmax",
        "--calibration",
        &path("where/detection/calibration"),
        "--labels",
        labels.to_str().unwrap(),
        "-o",
        &model,
    ]);
    assert_eq!(coverage(&model), 100.0);
    let annotations = path("where/detection/annotations_test.json");
    let result =
        resight(&["evaluate", &onnx, &model, "--images", &pictures, "--annotations", &annotations, "--json"]);
    let result: Value = serde_json::from_str(&result).unwrap();
    println!("{result:#}");
    let number = |index: usize, key: &str| result[index][key].as_f64().unwrap();
    // By onnxruntime, on pictures of its training, and another implementation of COCO's rules: 90.22 and 59.36.
    assert!((number(0, "map_50") - 90.22).abs() < 0.2 && (number(0, "map_50_95") - 59.36).abs() < 0.2);
    assert!(number(1, "map_50") >= 89.9);
    assert!(number(1, "map_50_95") >= 58.9);
}
