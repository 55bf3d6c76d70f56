//! `resight teach` as a person uses it, on a tiny network and generated pictures.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use resight_fixtures::{Random, TINY_MODEL};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the tiny network and photographs of stripes and discs.
struct Workshop(TempDir);

/// A picture that follows from its class and number.
fn picture(class: usize, number: u64) -> image::RgbImage {
    let mut random = Random::new(1000 * class as u64 + number + 1);
    let mut below = |limit: usize| random.below(limit) as u64;
    let [dark, bright] = [below(60), 160 + below(90)];
    let (shift, size) = (below(8) as u32, 10 + below(6) as u32);
    image::RgbImage::from_fn(48, 40, |x, y| {
        let inside = match class {
            0 => (x + shift) / 6 % 2 == 0,
            1 => x.abs_diff(24 + shift % 4).pow(2) + y.abs_diff(20).pow(2) < size * size,
            _ => (y + shift) / 5 % 2 == 0,
        };
        let level = if inside { bright } else { dark };
        image::Rgb(
            [level as u8, (level / 2 + 40) as u8, 90].map(|value| value.saturating_add((x * y % 7) as u8)),
        )
    })
}

impl Workshop {
    fn new(photographs: u64) -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        fs::write(workshop.path("tiny.resight.tar"), TINY_MODEL).unwrap();
        for (class, name) in ["stripes", "discs"].into_iter().enumerate() {
            fs::create_dir_all(workshop.path("photographs").join(name)).unwrap();
            for number in 0..photographs {
                let path = workshop.path("photographs").join(name).join(format!("{number:02}.png"));
                picture(class, number).save(path).unwrap();
            }
        }
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

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn teach(&self, output: &str, more: &[&str]) -> Value {
        let mut arguments = vec!["teach", "tiny.resight.tar", "photographs", "-o", output, "--json"];
        arguments.extend(more);
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    fn refused(&self, more: &[&str]) -> String {
        let mut arguments = vec!["teach", "tiny.resight.tar", "photographs", "-o", "mine.resight.tar"];
        arguments.extend(more);
        let Output { status, stderr, .. } = self.command(&arguments).output().unwrap();
        let error = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{error}");
        assert!(!self.path("mine.resight.tar").exists());
        error
    }
}

#[test]
fn photographs_become_a_model_that_knows_them_and_what_it_was_taught_from() {
    let workshop = Workshop::new(12);
    let taught = workshop.teach("mine.resight.tar", &["--report", "mine.html"]);
    let figures = &taught["taught"]["figures"];
    assert!(figures["accuracy"]["value"].as_f64().unwrap() > 0.9, "{figures}");
    assert_eq!((&figures["photographs"], &taught["computed"]), (&24.into(), &24.into()));
    let shown = workshop.ok(&["classify", "mine.resight.tar", "photographs/discs/03.png"]);
    assert!(shown.contains("discs"), "{shown}");
    let inspected: Value =
        serde_json::from_str(&workshop.ok(&["inspect", "mine.resight.tar", "--json"])).unwrap();
    assert_eq!(inspected["classes"], 3);
    assert_eq!(inspected["taught"], taught["taught"]);
    let text = workshop.ok(&["inspect", "mine.resight.tar"]);
    assert!(text.contains("taught from 24 photographs of 2 classes"), "{text}");
    let page = fs::read_to_string(workshop.path("mine.html")).unwrap();
    assert!(page.contains("stripes") && page.contains("None of these"), "{page}");
    // The service takes it as any other, with `unknown` as a class.
    assert!(workshop.ok(&["classify", "mine.resight.tar", "photographs/discs/03.png"]).contains("unknown"));
}

#[test]
fn the_same_photographs_give_the_same_bytes_whatever_the_threads_and_the_cache() {
    let workshop = Workshop::new(8);
    let bytes = |name: &str, threads: &str| {
        let arguments = ["teach", "tiny.resight.tar", "photographs", "-o", name, "--views", "3"];
        let output = workshop.command(&arguments).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(workshop.path(name)).unwrap()
    };
    fs::create_dir(workshop.path("other")).unwrap();
    let first = bytes("mine.resight.tar", "1");
    assert!(first == bytes("other/mine.resight.tar", "3"), "another number of threads");
    assert!(first == bytes("mine.resight.tar", "2"), "with features from the cache");
    fs::rename(workshop.path("photographs/discs/07.png"), workshop.path("photographs/discs/70.png")).unwrap();
    let renamed = workshop.teach("mine.resight.tar", &["--views", "3"]);
    assert_eq!(renamed["computed"], 0, "a name is no part of a photograph");
    picture(1, 50).save(workshop.path("photographs/discs/new.png")).unwrap();
    assert_eq!(workshop.teach("mine.resight.tar", &["--views", "3"])["computed"], 1);
}

#[test]
fn three_photographs_of_a_class_are_enough_and_the_figure_says_how_uncertain_it_is() {
    let workshop = Workshop::new(3);
    let taught = workshop.teach("mine.resight.tar", &[]);
    let accuracy = &taught["taught"]["figures"]["accuracy"];
    let width = accuracy["high"].as_f64().unwrap() - accuracy["low"].as_f64().unwrap();
    assert!(width > 0.4, "{accuracy}");
}

#[test]
fn photographs_that_are_all_the_same_are_learnt_with_a_warning() {
    let workshop = Workshop::new(5);
    for number in 1..5 {
        let mut copy = picture(0, 0);
        copy.put_pixel(number, 0, image::Rgb([9; 3]));
        copy.save(workshop.path(&format!("photographs/stripes/0{number}.png"))).unwrap();
    }
    let notes = workshop.teach("mine.resight.tar", &[])["notes"].to_string();
    assert!(notes.contains("the 5 photographs of `stripes` are nearly the same"), "{notes}");
}

#[test]
fn an_f32_network_is_quantised_on_the_photographs_first() {
    let workshop = Workshop::new(6);
    workshop.ok(&["synth", "tiny-basic", "-o", "net.onnx"]);
    let teach = ["teach", "net.onnx", "photographs", "-o", "mine.resight.tar", "--views", "2", "--json"];
    let taught: Value = serde_json::from_str(&workshop.ok(&teach)).unwrap();
    assert_eq!(taught["computed"], 12);
    picture(0, 90).save(workshop.path("photographs/stripes/new.png")).unwrap();
    // The network of before is good enough for one more.
    let taught: Value = serde_json::from_str(&workshop.ok(&teach)).unwrap();
    assert_eq!(taught["computed"], 1);
    let inspected: Value =
        serde_json::from_str(&workshop.ok(&["inspect", "mine.resight.tar", "--json"])).unwrap();
    assert_eq!(inspected["provenance"]["calibration"]["images"], 12);
}

#[test]
fn what_cannot_be_taught_is_refused_with_file_and_remedy() {
    let workshop = Workshop::new(4);
    let photographs = |name: &str| workshop.path("photographs").join(name);
    // One photograph in two classes.
    fs::copy(photographs("discs/01.png"), photographs("stripes/copy.png")).unwrap();
    let error = workshop.refused(&[]);
    assert!(error.contains("discs/01.png") && error.contains("stripes/copy.png"), "{error}");
    assert!(error.contains("are the same photograph, in the classes `discs` and `stripes`"), "{error}");
    fs::remove_file(photographs("stripes/copy.png")).unwrap();
    // Unreadable and tiny ones are passed over, or with --strict an error.
    fs::write(photographs("stripes/broken.jpg"), b"no picture").unwrap();
    image::RgbImage::new(5, 5).save(photographs("discs/tiny.png")).unwrap();
    let error = workshop.refused(&["--strict"]);
    assert!(error.contains("broken.jpg") || error.contains("tiny.png"), "{error}");
    let notes = workshop.teach("other.resight.tar", &[])["notes"].to_string();
    assert!(notes.contains("broken.jpg") && notes.contains("tiny.png: 5 x 5 pixels"), "{notes}");
    // The network.
    let missing = workshop.command(&["teach", "none.onnx", "photographs", "-o", "x.resight.tar"]);
    let output = { missing }.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("none.onnx") && error.contains("fetch --list"), "{error}");
    // Two photographs.
    for number in 2..4 {
        fs::remove_file(photographs(&format!("discs/0{number}.png"))).unwrap();
    }
    let error = workshop.refused(&[]);
    assert!(error.contains("the class `discs` has 2 photographs") && error.contains("give 3 at the least"));
    fs::remove_dir_all(photographs("discs")).unwrap();
    let error = workshop.refused(&[]);
    assert!(error.contains("there is one class, `stripes`"), "{error}");
}

/// A part on a background of its own: a bright ring, in some noise; a defect has a dark notch in it.
fn part(number: u64, defect: bool) -> image::RgbImage {
    let mut random = Random::new(5000 + number);
    let mut below = |limit: usize| random.below(limit) as u64;
    let (light, angle) = (150 + below(60), below(4));
    let noise: Vec<u8> = (0..48 * 48).map(|_| below(12) as u8).collect();
    image::RgbImage::from_fn(48, 48, |x, y| {
        let square = x.abs_diff(24).pow(2) + y.abs_diff(24).pow(2);
        let [left, top] = [[6, 20], [30, 20], [18, 6], [18, 32]][angle as usize];
        let notch = defect && (left..left + 12).contains(&x) && (top..top + 10).contains(&y);
        let level = if (100..400).contains(&square) && !notch { light } else { 40 };
        image::Rgb([level as u8 + noise[(y * 48 + x) as usize]; 3])
    })
}

/// A folder with the tiny network and photographs of parts.
fn parts(good: u64, defects: u64) -> Workshop {
    let workshop = Workshop::new(1);
    for (name, count) in [("good", good), ("bad", defects)] {
        fs::create_dir_all(workshop.path("parts").join(name)).unwrap();
        for number in 0..count {
            let path = workshop.path("parts").join(name).join(format!("{number:02}.png"));
            part(number + if name == "bad" { 500 } else { 0 }, name == "bad").save(path).unwrap();
        }
    }
    workshop
}

const NORMAL: [&str; 5] = ["teach", "tiny.resight.tar", "--normal", "parts/good", "--json"];

#[test]
fn good_parts_become_a_model_that_finds_defects_and_says_where() {
    let workshop = parts(40, 12);
    let with_defects = ["--defects", "parts/bad", "-o", "mine.resight.tar", "--report", "mine.html"];
    let taught: Value = serde_json::from_str(&workshop.ok(&[&NORMAL[..], &with_defects].concat())).unwrap();
    let figures = &taught["inspection"]["figures"];
    assert_eq!(
        (&figures["photographs"], &figures["comparison"]),
        (&40.into(), &"places".into()),
        "{figures}"
    );
    assert!(figures["defects"]["auroc"].as_f64().unwrap() > 0.9, "{figures}");
    let inspected: Value =
        serde_json::from_str(&workshop.ok(&["inspect", "mine.resight.tar", "--json"])).unwrap();
    assert_eq!(inspected["inspection"], taught["inspection"]);
    let text = workshop.ok(&["inspect", "mine.resight.tar"]);
    assert!(text.contains("taught from 40 photographs of good parts"), "{text}");
    let page = fs::read_to_string(workshop.path("mine.html")).unwrap();
    assert!(page.contains("40 photographs of good parts") && page.contains("nearest first"), "{page}");
    // Others than those that it was taught with.
    for number in 0..10 {
        part(900 + number, false).save(workshop.path(&format!("parts/good/{number:02}.png"))).unwrap();
        part(800 + number, true).save(workshop.path(&format!("parts/bad/{number:02}.png"))).unwrap();
    }
    let evaluate = ["evaluate", "mine.resight.tar", "--images", "parts", "--json"];
    let result: Value = serde_json::from_str(&workshop.ok(&evaluate)).unwrap();
    assert_eq!((&result[0]["class"], &result[0]["folders"][0]["name"]), (&"anomaly".into(), &"bad".into()));
    assert!(result[0]["others"]["auroc"].as_f64().unwrap() > 85.0, "{result}");
    let classify = ["classify", "mine.resight.tar", "parts/bad/03.png", "--json"];
    let result: Value = serde_json::from_str(&workshop.ok(&classify)).unwrap();
    let map = result[0]["anomaly"]["map"].as_array().unwrap();
    assert_eq!(
        (map.len(), map[0].as_array().unwrap().len()),
        (figures["places"][0].as_u64().unwrap() as usize, figures["places"][1].as_u64().unwrap() as usize)
    );
    let text = workshop.ok(&["classify", "mine.resight.tar", "parts/bad/03.png"]);
    assert!(text.contains("anomaly") && text.contains("least typical at"), "{text}");
}

#[test]
fn good_parts_give_the_same_bytes_whatever_the_threads() {
    let workshop = parts(12, 0);
    let bytes = |name: &str, threads: &str, compare: &str| {
        let arguments = [&NORMAL[..], &["--compare", compare, "-o", name]].concat();
        let output = workshop.command(&arguments).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(workshop.path(name)).unwrap()
    };
    fs::create_dir(workshop.path("other")).unwrap();
    for compare in ["places", "patches"] {
        let first = bytes("mine.resight.tar", "1", compare);
        assert!(
            first == bytes("other/mine.resight.tar", "3", compare),
            "another number of threads: {compare}"
        );
    }
}

#[test]
fn parts_that_cannot_be_inspected_are_refused_with_folder_and_remedy() {
    let refused_in = |workshop: &Workshop, arguments: &[&str]| {
        let arguments = [&NORMAL[..], &["-o", "mine.resight.tar"], arguments].concat();
        let output = workshop.command(&arguments).output().unwrap();
        assert!(!output.status.success() && !workshop.path("mine.resight.tar").exists());
        assert!(!workshop.path("mine.resight.tar.cache").exists(), "refused after work had begun");
        String::from_utf8(output.stderr).unwrap()
    };
    let error = refused_in(&parts(4, 2), &[]);
    assert!(error.contains("parts/good: 4 photographs of good parts: give at least 5"), "{error}");
    let workshop = parts(6, 2);
    let refused = |arguments: &[&str]| refused_in(&workshop, arguments);
    let error = refused(&["--defects", "parts"]);
    assert!(error.contains("one folder lies in the other"), "{error}");
    let error = refused(&["--mean", "0.5"]);
    assert!(error.contains("leave out --preprocess and its kind, except --fit"), "{error}");
    fs::copy(workshop.path("parts/good/01.png"), workshop.path("parts/bad/copy.png")).unwrap();
    let error = refused(&["--defects", "parts/bad"]);
    assert!(error.contains("are the same photograph, in the classes `good` and `anomaly`"), "{error}");
    let error = refused(&["--compare", "dreams"]);
    assert!(error.contains("places or patches is expected"), "{error}");
}

#[test]
fn what_was_not_taught_is_told_from_what_was() {
    let workshop = Workshop::new(12);
    workshop.teach("mine.resight.tar", &[]);
    fs::create_dir(workshop.path("others")).unwrap();
    for number in 0..8 {
        part(number, false).save(workshop.path(&format!("others/{number}.png"))).unwrap();
    }
    let evaluate =
        ["evaluate", "mine.resight.tar", "--images", "photographs", "--unfamiliar", "others", "--json"];
    let result: Value = serde_json::from_str(&workshop.ok(&evaluate)).unwrap();
    assert_eq!((&result[0]["class"], &result[0]["others"]["pictures"]), (&"unknown".into(), &8.into()));
    assert!(result[0]["others"]["auroc"].as_f64().unwrap() > 90.0, "{result}");
    let mut without = workshop.command(&[
        "evaluate",
        "tiny.resight.tar",
        "--images",
        "photographs",
        "--unfamiliar",
        "others",
    ]);
    let error = String::from_utf8(without.output().unwrap().stderr).unwrap();
    assert!(error.contains("it has no class `unknown`: teach it without --no-unknown"), "{error}");
}

#[test]
fn a_recipe_is_a_backbone() {
    let workshop = Workshop::new(6);
    workshop.ok(&["synth", "tiny-basic", "-o", "net.onnx"]);
    let bytes = fs::metadata(workshop.path("net.onnx")).unwrap().len();
    let digest = resight_model_file::sha256_of_file(&workshop.path("net.onnx")).unwrap();
    let labels: String = (0..10).map(|class| format!("n{class:08} thing {class}\n")).collect();
    fs::write(workshop.path("labels.txt"), &labels).unwrap();
    // Nothing listens at its address: the network that it names is there already.
    let recipe = format!(
        "name = \"tiny\"\ndescription = \"A tiny network\"\npage = \"https://127.0.0.1:1/\"\n\
         licence = \"none\"\n[network]\nfile = \"net.onnx\"\nbytes = {bytes}\nsha256 = \"{digest}\"\n\
         urls = [\"https://127.0.0.1:1/net.onnx\"]\n[labels]\nfile = \"labels.txt\"\n[preprocessing]\n\
         resize_shorter = 32\ncrop = [32, 32]\nmean = [0.485, 0.456, 0.406]\n\
         standard_deviation = [0.229, 0.224, 0.225]\n"
    );
    fs::write(workshop.path("tiny.toml"), recipe).unwrap();
    let teach = ["teach", "tiny.toml", "photographs", "-o", "mine.resight.tar", "--views", "2", "--json"];
    let taught: Value = serde_json::from_str(&workshop.ok(&teach)).unwrap();
    assert_eq!(taught["computed"], 12);
    let inspected: Value =
        serde_json::from_str(&workshop.ok(&["inspect", "mine.resight.tar", "--json"])).unwrap();
    assert_eq!(inspected["provenance"]["source_sha256"], digest);
}
