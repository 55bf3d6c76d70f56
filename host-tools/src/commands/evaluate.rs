use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight::evaluate::evaluate;
use resight_runtime::Target;

use super::{Bars, print_json, print_table};

/// Arguments of `resight evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight evaluate resnet50.onnx resnet50.resight.tar --images photos/ --json

DIR has labels.txt with lines `file class`, one CSV file with columns of both, or a folder for each
class. A class is a number, or a name or WordNet id of the model. With an f32 model first, the others are compared with
it: `agreement` is the share of images with the same best class, `sqnr_db` the signal to noise
ratio 10*log10(sum(ref^2) / sum((ref - x)^2)) over all logits, `centred_sqnr_db` the same with the
mean of each image's logits removed: a constant on all logits is signal that changes no decision.")]
pub(crate) struct Arguments {
    /// Models: `.onnx` files run in f32, `.resight.tar` files in int8.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Folder with images and what says which class each has.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The defaults with these files.
    pub(crate) fn new(models: Vec<PathBuf>, images: PathBuf) -> Self {
        Self { models, images, strict: false, json: false }
    }

    pub(crate) fn run(self) -> Result<()> {
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let evaluated = evaluate(&self.models, &self.images, self.strict, &target, &progress)?;
        bars.finish();
        evaluated.notes.iter().for_each(|note| log::info!("{}: {note}", self.images.display()));
        let results = evaluated.models;
        if self.json {
            return print_json(&results);
        }
        let optional =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|r| {
                vec![
                    r.model.clone(),
                    r.images.to_string(),
                    format!("{:.2}", r.top1),
                    format!("{:.2}", r.top5),
                    optional(r.agreement, 2),
                    optional(r.sqnr_db, 2),
                    optional(r.centred_sqnr_db, 2),
                ]
            })
            .collect();
        print_table(&["model", "images", "top-1 %", "top-5 %", "agreement %", "SQNR dB", "centred dB"], &rows)
    }
}
