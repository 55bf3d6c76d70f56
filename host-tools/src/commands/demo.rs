use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use resight::synth::{Architecture, synth, write};
use resight_network::RgbImage;

use super::{bench, evaluate, inspect, quantize};

/// Pictures that the demonstration makes.
const PICTURES: u32 = 16;
/// Classes of the synthetic network.
const CLASSES: usize = 1000;

/// Arguments of `resight demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight demo

Everything is made on the spot: a ResNet-18 with random weights and generated pictures. What it
shows is real (the conversion, the distance from f32, the speed of this machine); the classes
mean nothing.")]
pub(crate) struct Arguments {
    /// Folder for the files that it makes.
    #[arg(long, default_value = "resight-demo", value_name = "DIR")]
    folder: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let pictures = self.folder.join("pictures");
        fs::create_dir_all(&pictures)
            .with_context(|| format!("{}: cannot make the folder", pictures.display()))?;
        let at = |name: &str| self.folder.join(name);
        let (onnx, labels, model) = (at("resnet18.onnx"), at("labels.txt"), at("resnet18.resight.tar"));

        announce(&format!("resight synth resnet18 -o {}", onnx.display()));
        write(&synth(Architecture::Resnet18, 1), &onnx)?;
        write_pictures(&pictures)?;
        let names: String = (0..CLASSES).map(|class| format!("class {class}\n")).collect();
        fs::write(&labels, names).with_context(|| format!("{}: cannot write", labels.display()))?;

        announce(&format!(
            "resight quantize {} --calibration {} --labels {} -o {}",
            onnx.display(),
            pictures.display(),
            labels.display(),
            model.display()
        ));
        quantize::Arguments::new(onnx.clone(), pictures.clone(), labels, model.clone()).run()?;

        announce(&format!(
            "resight evaluate {} {} --images {}",
            onnx.display(),
            model.display(),
            pictures.display()
        ));
        evaluate::Arguments::new(vec![onnx, model.clone()], pictures).run()?;

        announce(&format!("resight inspect {}", model.display()));
        inspect::Arguments::new(model.clone()).run()?;

        announce(&format!("resight bench {}", model.display()));
        bench::Arguments::new(model).run()?;

        println!(
            "\nNext: your own network and photographs in the same four commands, then\n  \
             resightd --model {} --image {}\non the board. See README.md.",
            self.folder.join("resnet18.resight.tar").display(),
            self.folder.join("pictures/00.png").display()
        );
        Ok(())
    }
}

fn announce(command: &str) {
    println!("\n$ {command}");
}

/// Pictures of overlapping waves: no two alike, something at every scale.
fn write_pictures(folder: &Path) -> Result<()> {
    let mut labels = String::new();
    for index in 0..PICTURES {
        let name = format!("{index:02}.png");
        let picture = RgbImage::from_fn(320, 240, |x, y| {
            let wave = |a: u32, b: u32, scale: u32| (((x * a + y * b) / scale + index * 37) % 256) as u8;
            [wave(3 + index, 2, 2), wave(1, 5 + index, 3), wave(7, 4, 1 + index % 4)].into()
        });
        let path = folder.join(&name);
        picture.save(&path).with_context(|| format!("{}: cannot write", path.display()))?;
        labels.push_str(&format!("{name} 0\n"));
    }
    let path = folder.join("labels.txt");
    fs::write(&path, labels).with_context(|| format!("{}: cannot write", path.display()))
}
