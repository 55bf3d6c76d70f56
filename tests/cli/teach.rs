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
