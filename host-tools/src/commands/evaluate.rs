use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use resight::decisions::Decisions;
use resight::evaluate::evaluate;
use resight_base::console::print_line;
use resight_model_file::Labels;
use resight_runtime::Target;

use super::{Bars, print_json, print_table};

/// Classes that are shown one by one.
const SHOWN: usize = 100;

/// Arguments of `resight evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight evaluate resnet50.onnx resnet50.resight.tar --images photos/ --json

DIR has labels.txt with lines `file class`, one CSV file with columns of both, or a folder for each
class. A class is a number, or a name or WordNet id of the model. With an f32 model first, the others are compared with
it: `agreement` is the share of images with the same best class, `sqnr_db` the signal to noise
ratio 10*log10(sum(ref^2) / sum((ref - x)^2)) over all logits, `centred_sqnr_db` the same with the
mean of each image's logits removed: a constant on all logits is signal that changes no decision.

Of a network whose classes do not exclude each other (sigmoid) the lines are `file class;class`, or
`file` alone; CSV files may have a column of 0 and 1 for each class. mAP is the mean over the classes
of the average precision, F1 is 2 * right / (said + shown), over all decisions (micro) or the mean of
the classes (macro).")]
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
    /// Say of each class what this threshold of its probability decides: average precision,
    /// precision, recall and F1 [default: 0.5 for classes that do not exclude each other].
    #[arg(long, value_name = "PROBABILITY")]
    threshold: Option<f64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The defaults with these files.
    pub(crate) fn new(models: Vec<PathBuf>, images: PathBuf) -> Self {
        Self { models, images, strict: false, threshold: None, json: false }
    }

    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            self.threshold.is_none_or(|threshold| threshold > 0.0 && threshold <= 1.0),
            "--threshold must be above 0 and at most 1"
        );
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let evaluated =
            evaluate(&self.models, &self.images, self.strict, self.threshold, &target, &progress)?;
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
        print_table(
            &["model", "images", "top-1 %", "top-5 %", "agreement %", "SQNR dB", "centred dB"],
            &rows,
        )?;
        for (result, labels) in results.iter().zip(&evaluated.labels) {
            if let Some(decisions) = &result.decisions {
                print_decisions(&result.model, decisions, labels.as_ref())?;
            }
        }
        Ok(())
    }
}

/// What a threshold decides of each class.
fn print_decisions(model: &str, decisions: &Decisions, labels: Option<&Labels>) -> Result<()> {
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    print_line(format_args!(
        "\n{model} at {}: mAP {} %, F1 {} % (micro), {} % (macro)",
        decisions.threshold,
        optional(decisions.mean_average_precision),
        optional(decisions.micro_f1),
        optional(decisions.macro_f1)
    ))?;
    // Of many classes those that something can be said of.
    let told = decisions.classes.iter().filter(|class| class.pictures + class.said > 0);
    let rows: Vec<Vec<String>> = told
        .take(SHOWN)
        .map(|class| {
            let name = labels.and_then(|labels| labels.name(class.class)).unwrap_or_default();
            vec![
                format!("{} {name}", class.class).trim_end().to_owned(),
                class.pictures.to_string(),
                optional(class.average_precision),
                optional(class.precision),
                optional(class.recall),
                optional(class.f1),
            ]
        })
        .collect();
    print_table(&["class", "images", "AP %", "precision %", "recall %", "F1 %"], &rows)
}
