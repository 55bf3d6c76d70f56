use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use resight::import::import;
use resight::quantise::{Method, Options, default_preprocessing, quantise};
use resight::save::save;
use resight_imaging::image_files;
use resight_model_file::Labels;
use serde_json::json;

use super::{Bars, megabytes, print_json, took};

/// Arguments of `resight quantize`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight quantize resnet50.onnx --calibration photos/ --labels names.txt -o resnet50.resight.tar

A few hundred images that look like what the camera will see make a good calibration set. The
result depends on the network, the images and the options alone, byte for byte.")]
pub(crate) struct Arguments {
    /// The f32 network.
    model: PathBuf,
    /// Folder of PNG or JPEG images to calibrate on.
    #[arg(long, value_name = "DIR")]
    calibration: PathBuf,
    /// Class names, one a line, in the order of the classes.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How activation ranges are chosen: mse, minmax, percentile or entropy.
    #[arg(long, default_value = "mse")]
    method: Method,
    /// With `--method percentile`: the share of values kept at either end, percent.
    #[arg(long, default_value_t = 99.99, value_name = "PERCENT")]
    percentile: f64,
    /// Calibrate on this many images, the first by name, instead of all.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Length that the shorter side of an image is resized to before the centre is cut out, in
    /// pixels; 8/7 of the network's input by default, as for ImageNet.
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The defaults with these files.
    pub(crate) fn new(model: PathBuf, calibration: PathBuf, labels: PathBuf, output: PathBuf) -> Self {
        let (method, percentile) = (Method::Mse, 99.99);
        Self {
            model,
            calibration,
            labels,
            output,
            method,
            percentile,
            images: None,
            resize: None,
            json: false,
        }
    }

    /// With the shorter side of images resized to `pixels`.
    pub(crate) fn resize(self, pixels: u32) -> Self {
        Self { resize: Some(pixels), ..self }
    }

    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        ensure!(self.images != Some(0), "--images must be at least 1");
        ensure!(
            self.percentile > 50.0 && self.percentile <= 100.0,
            "--percentile must be above 50 and at most 100"
        );
        let method = match self.method {
            Method::Percentile(_) => Method::Percentile(self.percentile),
            other => other,
        };
        ensure!(
            !self.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")),
            "{}: a model file is no ONNX file; name it {}",
            self.output.display(),
            self.output.with_extension("resight.tar").display()
        );
        let labels = Labels::read(&self.labels)?;
        let mut images = image_files(&self.calibration)?;
        images.truncate(self.images.unwrap_or(usize::MAX));
        let imported = import(&self.model)?;
        // Before the calibration, which takes its time.
        let classes = imported.graph.nodes.last().map_or(0, |node| node.shape[0]);
        ensure!(
            labels.len() == classes,
            "{}: {} labels, but {} has {classes} classes; one line per class is expected, in their order",
            self.labels.display(),
            labels.len(),
            self.model.display()
        );
        let mut preprocessing =
            default_preprocessing(&imported.graph).with_context(|| format!("{}", self.model.display()))?;
        if let Some(pixels) = self.resize {
            let input = preprocessing.crop;
            ensure!(
                pixels >= input[0].max(input[1]) && pixels <= 4096,
                "--resize {pixels}: the network's input is {} x {}, so at least {} and at most 4096",
                input[1],
                input[0],
                input[0].max(input[1])
            );
            preprocessing.resize_shorter = pixels;
        }
        let options = Options { method, preprocessing };
        let bars = Bars::new();
        let quantised =
            quantise(&imported, &images, &options, &|phase, done, total| bars.update(phase, done, total))
                .with_context(|| format!("{}", self.model.display()))?;
        bars.finish();
        save(&self.output, &self.model, &labels, &options, &quantised)?;
        let bytes = fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
        let report = &quantised.report;
        if self.json {
            return print_json(&json!({
                "output": self.output,
                "bytes": bytes,
                "seconds": start.elapsed().as_secs_f64(),
                "report": report,
            }));
        }
        println!(
            "{}: {}, {} layers, {:.0} % of its multiplications in int8, {:.1} dB against f32 on {} of the {} images, {}",
            self.output.display(),
            megabytes(bytes),
            report.layers.len(),
            report.int8_mac_coverage_percent,
            report.logits_sqnr_db,
            images.len().min(8),
            images.len(),
            took(start)
        );
        Ok(())
    }
}
