use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use resight::classifier::is_onnx;
use resight::export::{Format, export, write};
use resight_base::console::print_line;
use resight_base::files::check_writable;
use resight_runtime::Model;

use super::megabytes;

/// Arguments of `resight export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight export resnet50.resight.tar --format qdq -o resnet50-int8.onnx

The ONNX file takes pictures that are normalised as for the network that the model was made from
(`resight inspect --json` has mean and deviation), [N, channels, height, width] in f32, and gives the logits.
Operator set 13. `qdq` computes in int8 between QuantizeLinear and DequantizeLinear, `f32` with the same
weights in real numbers, for debugging.")]
pub(crate) struct Arguments {
    /// The model file.
    model: PathBuf,
    /// The ONNX file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What it computes with: qdq or f32.
    #[arg(long, value_name = "FORMAT", default_value = "qdq")]
    format: Format,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            !is_onnx(&self.model),
            "{}: it is an ONNX file already; a model file of resight is expected",
            self.model.display()
        );
        check_writable(&self.output)?;
        let model = Model::load(&self.model)?;
        let proto = export(&model, self.format)?;
        write(&proto, &self.output)?;
        let nodes = proto.graph.as_ref().map_or(0, |graph| graph.node.len());
        let bytes = std::fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
        print_line(format_args!("{}: {}, {nodes} nodes", self.output.display(), megabytes(bytes)))?;
        Ok(())
    }
}
