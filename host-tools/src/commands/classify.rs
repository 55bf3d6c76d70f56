use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight::classifier::AnyModel;
use resight_base::console::print_line;
use resight_imaging::{Photograph, read_photograph};
use resight_runtime::{Target, top_k};
use serde_json::json;

use super::print_json;

/// Arguments of `resight classify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight classify resnet50.resight.tar cat.png dog.jpg --top 3")]
pub(crate) struct Arguments {
    /// The model: a `.resight.tar` file, or an `.onnx` file to run in f32.
    model: PathBuf,
    /// Images to classify.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How many classes to show.
    #[arg(long, default_value = "5", value_name = "N")]
    top: NonZeroUsize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let mut model = AnyModel::load(&self.model, &Target::of_this_machine()?)?;
        let mut results = vec![];
        for path in &self.images {
            let Photograph { image, treatment } = read_photograph(path)?;
            let treatment = treatment.to_string();
            let logits = model.logits(&image)?;
            let probabilities = model.probabilities(&logits);
            let best = top_k(&logits, self.top.get());
            if self.json {
                let classes: Vec<_> = best
                    .iter()
                    .map(|&class| {
                        json!({
                            "class": class,
                            "name": model.name(class),
                            "probability": probabilities[class],
                            "logit": logits[class],
                        })
                    })
                    .collect();
                results.push(json!({ "image": path, "treatment": treatment, "classes": classes }));
                continue;
            }
            let treatment = if treatment.is_empty() { treatment } else { format!("  ({treatment})") };
            print_line(format_args!("{}{treatment}", path.display()))?;
            for class in best {
                print_line(format_args!(
                    "  {:6.2} %  {class:>4}  {}",
                    probabilities[class] * 100.0,
                    model.name(class)
                ))?;
            }
        }
        if self.json {
            print_json(&results)?;
        }
        Ok(())
    }
}
