use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use resight::convert::convert;
use resight::import::{Wanted, import_quantised};
use resight::save::save_converted;
use resight_base::console::print_line;
use resight_model_file::Activation;
use serde_json::json;

use super::network::{self, check_output};
use super::pictures::PictureArguments;
use super::{megabytes, print_json, took};

/// Arguments of `resight convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight convert resnet50-int8.onnx --labels names.txt -o resnet50.resight.tar
  resight evaluate resnet50-int8.onnx resnet50.resight.tar --images photos/

Nothing is calibrated: scales, zero points and integer weights are those of the file. It may be in
the form of QuantizeLinear and DequantizeLinear (QDQ) or of integer operators (QLinearConv and the
like), of 8 bits, with scales per tensor or, for weights, per output channel.")]
pub(crate) struct Arguments {
    /// The quantised network.
    model: PathBuf,
    /// Class names, as `resight quantize` takes them.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Height and width of the network's image, such as 224x224, where the file leaves them open.
    #[arg(long, value_name = "HxW", value_parser = network::size)]
    input: Option<[usize; 2]>,
    /// The output, or the result of a node within, that holds the logits, where the file has several outputs.
    #[arg(long, value_name = "NAME")]
    logits: Option<String>,
    /// AIMET's file of encodings (`NAME.encodings`), which says what the float network MODEL is rounded to.
    #[arg(long, value_name = "FILE")]
    encodings: Option<PathBuf>,
    #[command(flatten)]
    pictures: PictureArguments,
    /// What makes probabilities of the logits: softmax or sigmoid, as with `resight quantize`.
    #[arg(long, value_name = "ACTIVATION")]
    activation: Option<Activation>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn wanted(&self) -> Wanted {
        Wanted { size: self.input, logits: self.logits.clone(), encodings: self.encodings.clone() }
    }

    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        check_output(&self.output)?;
        let (imported, quantisation) = import_quantised(&self.model, &self.wanted())?;
        let imported = network::as_wanted(imported, &self.model, self.input, self.activation)?;
        let labels = network::labels(&self.labels, &self.model, &imported, None)?;
        let named = || self.model.display().to_string();
        let preprocessing = self.pictures.preprocessing(&imported, &self.model).with_context(named)?;
        let converted = convert(&imported, &quantisation, &preprocessing).with_context(named)?;
        let report = &converted.report;
        for layer in report.layers.iter().filter(|layer| layer.changed_weights > 0) {
            log::warn!(
                "{}: {} weights of layer `{}` lie more than 254 steps from their zero point and became the \
                 nearest that fit; weights that are quantised symmetrically to int8 are kept as they are",
                self.model.display(),
                layer.changed_weights,
                layer.name
            );
        }
        let twice: usize = report.layers.iter().map(|layer| layer.channels_twice).sum();
        if twice > 0 {
            log::info!(
                "{}: {twice} channels are multiplied twice, since weights of theirs lie more than 127 steps from \
                 their zero point; with weights that are quantised symmetrically the network is faster",
                self.model.display()
            );
        }
        save_converted(&self.output, &self.model, &labels, &preprocessing, &converted)?;
        let bytes = fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
        if self.json {
            return print_json(&json!({
                "output": self.output,
                "bytes": bytes,
                "seconds": start.elapsed().as_secs_f64(),
                "report": report,
            }));
        }
        let converted_layers = report.layers.len();
        print_line(format_args!(
            "{}: {}, {} layers, {:.0} % of its multiplications in int8, scales and weights of {}, {}",
            self.output.display(),
            megabytes(bytes),
            converted_layers,
            report.int8_mac_coverage_percent,
            self.model.display(),
            took(start)
        ))?;
        Ok(())
    }
}
