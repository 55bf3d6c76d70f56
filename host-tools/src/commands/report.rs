use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use resight::classifier::is_onnx;
use resight::report::{ModelReport, Pictures, page};
use resight_base::console::print_line;
use resight_base::files::check_writable;
use resight_runtime::{Model, Target};

use super::{Bars, megabytes, took};

/// Arguments of `resight report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight report resnet50.resight.tar --images labelled/ --float resnet50.onnx -o report.html

The page is one file without scripts that asks nobody for anything; it can be printed and sent.")]
pub(crate) struct Arguments {
    /// The int8 model file.
    model: PathBuf,
    /// The page to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Folder of labelled pictures, as `resight evaluate` takes them: accuracy, what probabilities
    /// mean, histograms of activations. They should not be those of the calibration.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The f32 network that the model was made from: what int8 loses, and which decisions change.
    #[arg(long, value_name = "ONNX", requires = "images")]
    float: Option<PathBuf>,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        ensure!(
            !is_onnx(&self.model),
            "{}: a report is of an int8 model file; quantise it first, or see `resight analyze`",
            self.model.display()
        );
        if let Some(float) = self.float.as_ref().filter(|float| !is_onnx(float)) {
            anyhow::bail!("--float {}: the f32 network is an ONNX file", float.display());
        }
        check_writable(&self.output)?;
        let model = Model::load(&self.model)?;
        let bars = Bars::new();
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let pictures = self.images.as_deref().map(|folder| Pictures {
            folder,
            float: self.float.as_deref(),
            strict: self.strict,
        });
        let report = ModelReport::new(&model, pictures, &Target::of_this_machine()?, &progress)?;
        bars.finish();
        let bytes = page::write(&report, &self.output)?;
        print_line(format_args!("{}: {}, {}", self.output.display(), megabytes(bytes as u64), took(start)))?;
        Ok(())
    }
}
