use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use resight::allocator::return_large_blocks;
use resight::import::{Imported, Wanted, import_vector, import_wanted};
use resight::quantise::{Method, Options, OutputReport, Quantised, Rounding, check, quantise};
use resight::readable::ReadableImages;
use resight::save::{save, save_as};
use resight::tasks::{Decoder, TaskKind};
use resight_base::console::print_line;
use resight_imaging::{Fit, ImageFolder};
use resight_model_file::{Activation, Labels, Task};
use serde_json::json;

use super::gate::Gate;
use super::network::{self, check_output};
use super::pictures::{PictureArguments, warn_of_better};
use super::{Bars, megabytes, print_json, took};

/// The share of values that `--method percentile` keeps where nothing is said, percent. With 99.99 the
/// logits of ResNet-18 are 6 dB further from f32: what is cut off is rare, but large.
const PERCENTILE: f64 = 99.999;

/// How a network is quantised: the switches that `resight analyze` has too.
#[derive(Debug, Args)]
pub(crate) struct Choices {
    /// How activation ranges are chosen: mse, minmax, percentile or entropy; best is mse with all
    /// that brings the network closer to f32, and takes two to three times as long.
    #[arg(long, default_value = "best")]
    method: Method,
    /// How weights are rounded: nearest, or gptq, by the second moments of each layer's inputs,
    /// so that its output changes least [default: gptq with `--method best`, otherwise nearest].
    #[arg(long, value_name = "ROUNDING")]
    rounding: Option<Rounding>,
    /// Split channels of the first layer's output in two, so that they have more than 8 bits, for at
    /// most so many percent more multiplications [default: 4 with `--method best`, otherwise 0].
    #[arg(long, value_name = "PERCENT")]
    split: Option<f64>,
    /// What logits are divided by: none, or calibrated, with which probabilities mean what they do in
    /// f32, so that thresholds stay right [default: calibrated with `--method best`, otherwise none].
    #[arg(long, value_name = "WHICH")]
    temperature: Option<Temperature>,
    /// Scale channels so that those of a tensor use its int8 range alike; what reads them takes the
    /// scale out again, at no cost for the board.
    #[arg(long)]
    equalize: bool,
    /// With `--method percentile`: the share of values kept at either end, percent.
    #[arg(long, default_value_t = PERCENTILE, value_name = "PERCENT")]
    percentile: f64,
    #[command(flatten)]
    pictures: PictureArguments,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            method: Method::Best,
            rounding: None,
            temperature: None,
            split: None,
            equalize: false,
            percentile: PERCENTILE,
            pictures: PictureArguments::default(),
        }
    }
}

impl Choices {
    /// How ranges are chosen.
    fn method(&self) -> Result<Method> {
        ensure!(
            self.percentile > 50.0 && self.percentile <= 100.0,
            "--percentile must be above 50 and at most 100"
        );
        Ok(match self.method {
            Method::Percentile(_) => Method::Percentile(self.percentile),
            other => other,
        })
    }

    /// What is chosen for a network; says what was found out of its pictures. Refuses, before any
    /// picture is read, what cannot become an int8 network.
    pub(crate) fn options(&self, imported: &Imported, model: &Path) -> Result<Options> {
        let method = self.method()?;
        let mut options = Options::new(method, self.pictures.preprocessing(imported, model)?);
        options.rounding = self.rounding.unwrap_or(options.rounding);
        options.temperature =
            self.temperature.map_or(options.temperature, |which| which == Temperature::Calibrated);
        options.equalise = self.equalize;
        if let Some(percent) = self.split {
            ensure!((0.0..=100.0).contains(&percent), "--split {percent}: 0 to 100 percent are possible");
            options.split = percent / 100.0;
        }
        check(&imported.graph, &options.preprocessing)?;
        Ok(options)
    }
}

/// What logits are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Temperature {
    /// By nothing.
    None,
    /// By what brings the probabilities closest to f32's.
    Calibrated,
}

/// The pictures of a folder that can be read, or the first of them; says what was done to them.
pub(crate) fn readable(
    folder: ImageFolder,
    path: &Path,
    count: Option<usize>,
    strict: bool,
    bars: &Bars,
) -> Result<Vec<PathBuf>> {
    for passed_over in folder.passed_over() {
        log::info!("{}: passed over {passed_over}", path.display());
    }
    let mut images = folder.files;
    images.truncate(count.unwrap_or(usize::MAX));
    let progress = |phase: &str, done, total| bars.update(phase, done, total);
    let images = ReadableImages::check(&images, strict, &progress)?;
    bars.finish();
    images.sentences().iter().for_each(|sentence| log::warn!("{sentence}"));
    Ok(images.files)
}

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
    /// Folder of PNG, JPEG or WebP images to calibrate on; folders in it count too.
    #[arg(long, value_name = "DIR")]
    calibration: PathBuf,
    /// Class names, one a line (or JSON, YAML or CSV), in the order of the classes; for a network of one output those of
    /// output 0 and output 1, or of the second alone. Not of a network that ends in a vector, which has none.
    #[arg(long, value_name = "FILE", required_unless_present = "task",
        required_if_eq_any = [("task", "classify"), ("task", "segment"), ("task", "detect"), ("task", "keypoints")])]
    labels: Option<PathBuf>,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    choices: Choices,
    /// Calibrate on this many images, the first by name, instead of all.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Height and width of the network's image, such as 224x224, where the file leaves them open.
    #[arg(long, value_name = "HxW", value_parser = network::size)]
    input: Option<[usize; 2]>,
    /// The output, or the result of a node within, that holds the logits, where the file has several outputs.
    #[arg(long, value_name = "NAME")]
    logits: Option<String>,
    /// What makes probabilities of the logits: softmax, where one class is right for an image, or
    /// sigmoid, where several may be (multi-label, trained with binary cross entropy) [default:
    /// what the network ends in, or softmax].
    #[arg(long, value_name = "ACTIVATION")]
    activation: Option<Activation>,
    /// What the network is for: classify, segment (a class for each pixel), detect (boxes), keypoints
    /// (points of one thing or of several) or embed (a vector that is alike for pictures that are alike).
    #[arg(long, default_value_t, value_name = "TASK")]
    task: TaskKind,
    /// How boxes, a mask or points are made of the network's maps: centernet, retinanet, ssd300, fcos,
    /// detectnet, opencv-faces, opencv-faces-even, trt-pose, or a TOML file that says so; see
    /// docs/guides/where.md.
    #[arg(long, value_name = "NAME|FILE")]
    decoder: Option<String>,
    #[command(flatten)]
    gate: Gate,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The defaults with these files.
    pub(crate) fn new(model: PathBuf, calibration: PathBuf, labels: PathBuf, output: PathBuf) -> Self {
        Self {
            model,
            calibration,
            labels: Some(labels),
            output,
            choices: Choices::default(),
            images: None,
            input: None,
            logits: None,
            activation: None,
            task: TaskKind::Classify,
            decoder: None,
            gate: Gate::default(),
            strict: false,
            json: false,
        }
    }

    /// With the shorter side of images resized to `pixels`.
    pub(crate) fn resize(self, pixels: u32) -> Self {
        let choices = Choices { pictures: self.choices.pictures.resized(pixels), ..self.choices };
        Self { choices, ..self }
    }

    /// With ranges chosen by `method`.
    pub(crate) fn method(self, method: Method) -> Self {
        Self { choices: Choices { method, ..self.choices }, ..self }
    }

    /// For boxes by this decoder, of pictures that fit so where nothing else is said.
    pub(crate) fn detect(self, decoder: &str, fit: Fit) -> Self {
        let choices = Choices { pictures: self.choices.pictures.fitted(fit), ..self.choices };
        Self { task: TaskKind::Detect, decoder: Some(decoder.to_owned()), choices, ..self }
    }

    /// Refuses what the options alone can be refused for.
    fn check(&self) -> Result<()> {
        ensure!(self.images != Some(0), "--images must be at least 1");
        self.choices.method()?;
        check_output(&self.output)
    }

    /// Reads the network, after what its task does not take was refused.
    fn import(&self, decoder: Option<&Decoder>) -> Result<Imported> {
        ensure!(
            decoder.is_none() || self.gate.is_default(),
            "--evaluation and its bounds are for classifiers; run `resight evaluate` on the result"
        );
        ensure!(
            decoder.is_none() || self.activation.is_none(),
            "--activation is for classifiers; what makes probabilities of maps the file says itself"
        );
        ensure!(
            self.logits.is_none() || (decoder.is_none() && self.gate.is_default()),
            "--logits is for classifiers without --evaluation; export the network with this output alone"
        );
        let is_vector = self.task == TaskKind::Embed;
        ensure!(
            !is_vector || (self.labels.is_none() && self.gate.is_default() && self.activation.is_none()),
            "--labels, --activation and --evaluation are for classes, which a vector has not; leave them out, and run \
             `resight evaluate` on the result"
        );
        let wanted = Wanted { size: self.input, logits: self.logits.clone(), ..Wanted::default() };
        let imported = match decoder {
            None if is_vector => import_vector(&self.model, &wanted)?,
            None => import_wanted(&self.model, &wanted)?,
            Some(decoder) => decoder.import(&self.model, self.input)?,
        };
        network::as_wanted(imported, &self.model, self.input, self.activation)
    }

    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        self.check()?;
        let folder = ImageFolder::read(&self.calibration)?;
        let decoder = Decoder::read(self.task, self.decoder.as_deref())?;
        let is_vector = self.task == TaskKind::Embed;
        let imported = self.import(decoder.as_ref())?;
        if imported.graph.has_stored_weights() {
            return_large_blocks();
        }
        // Before the calibration, which takes its time.
        let head = decoder.as_ref().map(|decoder| decoder.head(&imported.graph, &self.model)).transpose()?;
        let labels = match &self.labels {
            Some(labels) => network::labels(labels, &self.model, &imported, head.as_ref())?,
            None => Labels::none(),
        };
        let named = || self.model.display().to_string();
        let mut options = self.choices.options(&imported, &self.model).with_context(named)?;
        // There are no probabilities that could be as sure as f32's.
        options.temperature &= !is_vector;
        let bars = Bars::new();
        let images = readable(folder, &self.calibration, self.images, self.strict, &bars)?;
        if decoder.is_none() && !is_vector {
            warn_of_better(&imported, &images, &options.preprocessing).with_context(named)?;
        }
        let quantised =
            quantise(&imported, &images, &options, &|phase, done, total| bars.update(phase, done, total))
                .with_context(named)?;
        bars.finish();
        for fault in &quantised.faults {
            log::warn!("{}: {fault}", self.calibration.display());
        }
        let save = |file: &Path| match &decoder {
            None if is_vector => {
                let normalised = imported.normalised.unwrap_or_default();
                let task = (Task::Embedding { normalised }, 0);
                save_as(file, &self.model, &labels, task, &options, &quantised)
            }
            None => save(file, &self.model, &labels, &options, &quantised),
            Some(decoder) => {
                let task = (decoder.task(quantised.outputs.clone()), labels.len());
                save_as(file, &self.model, &labels, task, &options, &quantised)
            }
        };
        let passed = self.gate.run(&self.model, &self.output, self.strict, &quantised.report, &save)?;
        let bytes = fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
        let report = &quantised.report;
        if self.json {
            return print_json(&json!({
                "output": self.output,
                "bytes": bytes,
                "seconds": start.elapsed().as_secs_f64(),
                "centred_sqnr_db": quantised.centred_sqnr_db,
                "calibration_faults": quantised.faults,
                "evaluation": passed,
                "report": report,
            }));
        }
        let against = against(&quantised);
        print_line(format_args!(
            "{}: {}, {} layers, {:.0} % of its multiplications in int8, {against} on {} of the {} images, {}",
            self.output.display(),
            megabytes(bytes),
            report.layers.len(),
            report.int8_mac_coverage_percent,
            images.len().min(8),
            images.len(),
            took(start)
        ))?;
        Ok(())
    }
}

/// How far int8 is from f32, in words.
fn against(quantised: &Quantised) -> String {
    let report = &quantised.report;
    if !report.outputs.is_empty() {
        let output = |output: &OutputReport| format!("{} {:.1} dB", output.name, output.sqnr_db);
        format!("against f32 {}", report.outputs.iter().map(output).collect::<Vec<_>>().join(", "))
    } else if let Some(cosine) = report.cosine {
        format!("cosine to f32 {:.4} on average, {:.4} at least,", cosine.mean, cosine.least)
    } else {
        let centred = quantised.centred_sqnr_db;
        format!("{:.1} dB against f32 ({centred:.1} dB centred)", report.logits_sqnr_db)
    }
}
