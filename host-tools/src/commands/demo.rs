//! `resight demo`: everything that the project does, on marker cards.

mod common;
mod detect;
#[cfg(target_os = "linux")]
mod live;
pub(crate) mod service;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use rayon::prelude::*;
use resight::cards::{Clip, FRAME, Shown, cards};
use resight::quantise::Method;
use resight_base::console::print_line;

use self::common::{
    EVERY, RATE, announce, clip_name, free_address, heading, jpeg, save, sources, write_frames,
};
use super::{bench, evaluate, quantize, seconds};

/// The network that `models/markers` trains.
const NETWORK: &[u8] = include_bytes!("../../../models/markers/markers.onnx");

/// Height and width of its input in pixels: it sees the whole height of a frame.
const SIDE: u32 = 96;

/// Arguments of `resight demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  resight demo
  resight demo --camera /dev/video0
  resight demo --cameras 2
  resight demo --detect

Nothing is downloaded. The bundled network knows twelve marker cards (models/markers/cards.pdf, to
print) and nothing else. It is quantised on the spot and compared with f32; then the service runs
on a clip that is made here, or on your camera: rules, virtual lines, and the page. With --detect
a network finds several cards at once: boxes, zones, lines to cross, and how many there were.")]
pub(crate) struct Arguments {
    /// Folder for the files that it makes.
    #[arg(long, default_value = "resight-demo", value_name = "DIR")]
    folder: PathBuf,
    /// A camera instead of the clip, such as /dev/video0; `resightd cameras` lists them.
    #[arg(long, value_name = "DEVICE")]
    camera: Option<String>,
    /// So many cameras that share the network, each with a clip of its own.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4), conflicts_with = "camera")]
    cameras: u32,
    /// Several cards at once: where they are, zones, lines to cross, and counting.
    #[arg(long, conflicts_with = "cameras")]
    detect: bool,
    /// End the service after so long; on a terminal it runs until Ctrl-C.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if self.detect {
            return detect::run(&self.folder, self.camera.as_deref(), self.seconds);
        }
        let at = |name: &str| self.folder.join(name);
        let (onnx, labels, model) = (at("markers.onnx"), at("labels.txt"), at("markers.resight.tar"));
        let (calibration, pictures) = (at("calibration"), at("pictures"));
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("{}: cannot make the folder", self.folder.display()))?;

        heading("1. A network and a clip")?;
        print_line(format_args!(
            "A ResNet-50 of a quarter of the width, trained on generated pictures of twelve marker\n\
             cards, and a clip of the cards before a camera, made now."
        ))?;
        save(&onnx, NETWORK)?;
        let names: Vec<String> = cards().into_iter().map(|card| card.name).collect();
        save(&labels, format!("{}\nnothing\n", names.join("\n")).as_bytes())?;
        let mut start = Instant::now();
        write_pictures(&calibration, 2, names.len())?;
        write_pictures(&pictures, 1, names.len())?;
        for camera in 0..self.cameras {
            let clip = at(&clip_name(camera));
            write_clip(&clip, camera, self.cameras)?;
            print_line(format_args!(
                "{}: {} x {}, {RATE} frames/s, made in {}",
                clip.display(),
                FRAME.0,
                FRAME.1,
                seconds(start.elapsed())
            ))?;
            start = Instant::now();
        }

        heading("2. Quantise it")?;
        announce(&format!(
            "resight quantize {} --calibration {} --labels {} --resize {SIDE} --method mse -o {}",
            onnx.display(),
            calibration.display(),
            labels.display(),
            model.display()
        ))?;
        // The quickest: what `best` gains is not seen on this network.
        quantize::Arguments::new(onnx.clone(), calibration, labels, model.clone())
            .resize(SIDE)
            .method(Method::Mse)
            .run()?;

        heading("3. What that cost, and how fast it is")?;
        announce(&format!(
            "resight evaluate {} {} --images {}",
            onnx.display(),
            model.display(),
            pictures.display()
        ))?;
        evaluate::Arguments::new(vec![onnx, model.clone()], pictures).run()?;
        announce(&format!("resight bench {}", model.display()))?;
        bench::Arguments::new(model).run()?;

        heading("4. The service")?;
        let configuration = at("resightd.toml");
        let address = free_address()?;
        let text = configuration_text(self.camera.as_deref(), self.cameras, address);
        save(&configuration, text.as_bytes())?;
        announce(&format!("resightd run {}", configuration.display()))?;
        #[cfg(target_os = "linux")]
        live::watch(&configuration, &at("resightd.log"), address, self.seconds, self.cameras)?;
        #[cfg(not(target_os = "linux"))]
        print_line(format_args!("The service reads V4L2 cameras and drives GPIO lines: it runs on Linux."))?;

        heading("Next")?;
        print_line(format_args!(
            "Your camera:  resight demo --camera /dev/video0   (print models/markers/cards.pdf)\n\
             Two cameras:  resight demo --cameras 2\n\
             Where it is:  resight demo --detect; docs/guides/where.md\n\
             Your things:  resight teach resnet50-v1-12 photographs/ -o mine.resight.tar; docs/guides/teach.md\n\
             Your rules:   edit {0}, then resightd check {0}; docs/guides/rules.md\n\
             Your board:   resight deploy USER@HOST --model {1} --config {0}; docs/guides\n\
             Your ResNet:  resight quantize yours.onnx ...; docs/guides/quantise-your-resnet.md",
            configuration.display(),
            self.folder.join("markers.resight.tar").display()
        ))?;
        Ok(())
    }
}

fn configuration_text(device: Option<&str>, cameras: u32, address: SocketAddr) -> String {
    let source = sources(device, cameras);
    format!(
        r#"# Made by `resight demo`. `resightd config --default` explains every key.
[model]
file = "markers.resight.tar"

{source}

[output]
http = "{address}"

[groups]
arrows = ["left", "right", "up", "down"]

# Virtual lines show their changes in the log and on the page. On a board: backend = "gpio".
[[line]]
name = "red_lamp"
backend = "virtual"

[[line]]
name = "green_lamp"
backend = "virtual"

[[line]]
name = "gate"
backend = "virtual"

[[line]]
name = "light"
backend = "virtual"

# On as long as the card is there.
[[rule]]
name = "stop"
classes = ["stop"]
threshold = 0.8
hits = 3
frames = 4
lines = ["red_lamp"]

[[rule]]
name = "go"
classes = ["go"]
threshold = 0.8
hits = 3
frames = 4
lines = ["green_lamp"]

# A pulse each time that one of several cards comes.
[[rule]]
name = "gate"
classes = ["star", "heart", "cross"]
threshold = 0.8
hits = 3
frames = 4
mode = "pulse"
pulse_ms = 700
lines = ["gate"]

# Every arrow switches the light over.
[[rule]]
name = "arrow"
classes = ["@arrows"]
threshold = 0.8
hits = 3
frames = 4
mode = "toggle"
lines = ["light"]
"#
    )
}

/// All frames one after another, as an MJPEG file: for each camera of several with another background and
/// other movements, and begun elsewhere, so that they do not show the same card.
fn write_clip(path: &Path, camera: u32, cameras: u32) -> Result<()> {
    // The seed after the first one is that of the pictures that calibrate.
    let clip = Clip::new(if camera == 0 { 1 } else { camera + 2 });
    let begin = clip.len() * camera as usize / cameras as usize;
    write_frames(path, clip.len(), |index| clip.frame((begin + index) % clip.len()))
}

/// Some frames of a clip of which it is certain what they show, with `labels.txt`.
fn write_pictures(folder: &Path, seed: u32, nothing: usize) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    let clip = Clip::new(seed);
    let chosen = (0..clip.len()).filter_map(|index| match clip.shown(index) {
        Shown::Card(card) => Some((index, card)),
        Shown::Nothing => Some((index, nothing)),
        Shown::Passing => None,
    });
    let chosen: Vec<_> = chosen.step_by(EVERY / 2).collect();
    let lines = chosen
        .into_par_iter()
        .map(|(index, class)| {
            let name = format!("{index:03}.jpg");
            save(&folder.join(&name), &jpeg(&clip.frame(index))?)?;
            Ok(format!("{name} {class}\n"))
        })
        .collect::<Result<Vec<String>>>()?;
    save(&folder.join("labels.txt"), lines.concat().as_bytes())
}
