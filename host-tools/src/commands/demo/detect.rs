//! `resight demo --detect`: several cards at once, where they are, what they do, and how many there were.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use resight::cards::{Conveyor, FRAME, Seen, cards};
use resight::quantise::Method;
use resight_base::console::print_line;
use resight_imaging::Fit;
use serde_json::{Value, json};

use super::common::{EVERY, announce, free_address, heading, jpeg, save, sources, write_frames};
use crate::commands::{bench, evaluate, quantize, seconds};

/// The network that `models/markers/train_detector.py` trains.
const NETWORK: &[u8] = include_bytes!("../../../../models/markers/detector.onnx");

/// Cards of which less is in the frame are not looked for.
const LEAST_SEEN: f64 = 0.7;

/// In `folder`, with the pictures of a camera where there is one, for so many seconds.
pub(super) fn run(folder: &Path, camera: Option<&str>, limit: Option<u64>) -> Result<()> {
    let at = |name: &str| folder.join(name);
    let (onnx, labels, model) = (at("detector.onnx"), at("labels.txt"), at("detector.resight.tar"));
    let (calibration, pictures) = (at("scenes"), at("scenes-to-test"));
    let annotations = pictures.join("annotations.json");
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot make the folder", folder.display()))?;

    heading("1. A network and a clip")?;
    print_line(format_args!(
        "A quarter of ResNet-50 with the maps of CenterNet on top, trained on generated pictures of several\n\
         marker cards, and a clip of conveyors that carry cards past a camera, made now."
    ))?;
    save(&onnx, NETWORK)?;
    let names: Vec<String> = cards().into_iter().map(|card| card.name).collect();
    save(&labels, format!("{}\n", names.join("\n")).as_bytes())?;
    let start = std::time::Instant::now();
    write_scenes(&calibration, 2, &names)?;
    write_scenes(&pictures, 1, &names)?;
    let clip = Conveyor::new(1);
    write_frames(&at("conveyors.mjpeg"), clip.len(), |index| clip.frame(index))?;
    print_line(format_args!(
        "{}: {} x {}, made in {}",
        at("conveyors.mjpeg").display(),
        FRAME.0,
        FRAME.1,
        seconds(start.elapsed())
    ))?;

    heading("2. Quantise it")?;
    announce(&format!(
        "resight quantize {} --task detect --decoder centernet --fit letterbox --calibration {} --labels {} --method mse -o {}",
        onnx.display(),
        calibration.display(),
        labels.display(),
        model.display()
    ))?;
    quantize::Arguments::new(onnx.clone(), calibration, labels, model.clone())
        .detect("centernet", Fit::Letterbox)
        .method(Method::Mse)
        .run()?;

    heading("3. What that cost, and how fast it is")?;
    announce(&format!(
        "resight evaluate {} {} --images {} --annotations {}",
        onnx.display(),
        model.display(),
        pictures.display(),
        annotations.display()
    ))?;
    evaluate::Arguments::new(vec![onnx, model.clone()], pictures).annotated(annotations).run()?;
    announce(&format!("resight bench {}", model.display()))?;
    bench::Arguments::new(model).run()?;

    heading("4. The service")?;
    let configuration = at("resightd-detect.toml");
    let address = free_address()?;
    save(&configuration, configuration_text(camera, address).as_bytes())?;
    announce(&format!("resightd run {}", configuration.display()))?;
    #[cfg(target_os = "linux")]
    super::live::watch(&configuration, &at("resightd.log"), address, limit, 1)?;
    #[cfg(not(target_os = "linux"))]
    print_line(format_args!("The service reads V4L2 cameras and drives GPIO lines: it runs on Linux."))?;

    heading("Next")?;
    print_line(format_args!(
        "Your camera:    resight demo --detect --camera /dev/video0   (print models/markers/cards.pdf)\n\
         Your zones:     draw them on the page, and put them into {0}\n\
         Your detector:  docs/guides/where.md",
        configuration.display()
    ))?;
    Ok(())
}

/// Some frames of conveyors, with what is where in them as COCO says it.
fn write_scenes(folder: &Path, seed: u32, names: &[String]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    let clip = Conveyor::new(seed);
    let chosen: Vec<usize> = (0..clip.len()).step_by(EVERY / 2).collect();
    chosen.par_iter().try_for_each(|index| save(&folder.join(file(*index)), &jpeg(&clip.frame(*index))?))?;
    let text = annotations(&chosen, names, |index| clip.seen(index)).to_string();
    save(&folder.join("annotations.json"), text.as_bytes())
}

fn file(index: usize) -> String {
    format!("{index:03}.jpg")
}

fn annotations(chosen: &[usize], names: &[String], seen: impl Fn(usize) -> Vec<Seen>) -> Value {
    let (width, height) = (f64::from(FRAME.0), f64::from(FRAME.1));
    let images: Vec<Value> = chosen
        .iter()
        .map(|index| json!({ "id": index, "file_name": file(*index), "width": FRAME.0, "height": FRAME.1 }))
        .collect();
    let mut boxes = vec![];
    for &index in chosen {
        for Seen { card, edges: [left, top, right, bottom], visible } in seen(index) {
            let bounds = [left * width, top * height, (right - left) * width, (bottom - top) * height];
            boxes.push(json!({
                "id": boxes.len() + 1,
                "image_id": index,
                "category_id": card + 1,
                "bbox": bounds,
                "area": bounds[2] * bounds[3],
                // COCO's way to say that finding it is right and not finding it too.
                "iscrowd": u8::from(visible < LEAST_SEEN),
            }));
        }
    }
    let categories: Vec<Value> =
        names.iter().enumerate().map(|(index, name)| json!({ "id": index + 1, "name": name })).collect();
    json!({ "images": images, "annotations": boxes, "categories": categories })
}

fn configuration_text(device: Option<&str>, address: SocketAddr) -> String {
    let source = match device {
        Some(_) => sources(device, 1),
        None => sources(None, 1).replace("clip.mjpeg", "conveyors.mjpeg"),
    };
    format!(
        r#"# Made by `resight demo --detect`. `resightd config --default` explains every key.
[model]
file = "detector.resight.tar"

{source}

[output]
http = "{address}"

# What is followed from frame to frame.
[tracking]
score = 0.5
hits = 3
lost_ms = 1000

# Virtual lines show their changes in the log and on the page. On a board: backend = "gpio".
[[line]]
name = "down_counter"
backend = "virtual"

[[line]]
name = "up_counter"
backend = "virtual"

[[line]]
name = "light"
backend = "virtual"

[[line]]
name = "red_lamp"
backend = "virtual"

# A pulse for each card that crosses the line downwards; each is counted.
[[rule]]
name = "down"
classes = ["*"]
threshold = 0.5
crossing = [[0.0, 0.5], [1.0, 0.5]]
direction = "down"
mode = "pulse"
pulse_ms = 300
lines = ["down_counter"]

[[rule]]
name = "up"
classes = ["*"]
threshold = 0.5
crossing = [[0.0, 0.5], [1.0, 0.5]]
direction = "up"
mode = "pulse"
pulse_ms = 300
lines = ["up_counter"]

# On while a card has been in the zone for one and a half seconds.
[[rule]]
name = "waiting"
classes = ["*"]
threshold = 0.4
zone = [[0.33, 0.45], [0.67, 0.45], [0.67, 1.0], [0.33, 1.0]]
dwell_s = 1.5
hits = 2
frames = 4
lines = ["light"]

# On while three cards are there, whichever they are.
[[rule]]
name = "three"
classes = ["*"]
threshold = 0.4
count = 3
hits = 3
frames = 4
lines = ["red_lamp"]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_partly_beyond_the_frame_may_be_found_or_not() {
        let seen = |_| {
            let half = [0.25, 0.0, 0.5, 0.25];
            vec![Seen { card: 3, edges: half, visible: 1.0 }, Seen { card: 0, edges: half, visible: 0.5 }]
        };
        let coco = annotations(&[6], &["a".to_owned()], seen);
        assert_eq!(
            coco["images"][0],
            json!({ "id": 6, "file_name": "006.jpg", "width": 640, "height": 480 })
        );
        assert_eq!(coco["annotations"][0]["bbox"], json!([160.0, 0.0, 160.0, 120.0]));
        assert_eq!(coco["annotations"][0]["category_id"], 4);
        let crowds: Vec<&Value> = (0..2).map(|index| &coco["annotations"][index]["iscrowd"]).collect();
        assert_eq!(crowds, [&json!(0), &json!(1)]);
    }
}
