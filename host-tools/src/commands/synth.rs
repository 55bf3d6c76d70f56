use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight::synth::{Architecture, synth, write};
use resight_base::console::print_line;

/// Arguments of `resight synth`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight synth resnet50 -o resnet50-random.onnx

The graph is torchvision's v1.5 network with its stride on the 3x3 convolution; every weight is
random and none is zero, so timings are honest. The classes it gives mean nothing.")]
pub(crate) struct Arguments {
    /// The architecture, for example resnet18, resnet50 or resnet101.
    architecture: Architecture,
    /// The ONNX file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        write(&synth(self.architecture, self.seed), &self.output)?;
        print_line(format_args!("{}", self.output.display()))?;
        Ok(())
    }
}
