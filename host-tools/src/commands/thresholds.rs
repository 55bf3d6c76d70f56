use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::Args;
use resight::predict::predict;
use resight::thresholds::{ClassThreshold, pictures_needed, thresholds};
use resight_base::console::print_line;
use resight_runtime::Target;
use resight_teach::Share;
use serde_json::json;

use super::{Bars, print_json, print_table};

/// Arguments of `resight thresholds`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight thresholds door.resight.tar pictures/ --false-alarms 1

PICTURES is a folder as `resight evaluate` takes it. The pictures should be like those that the camera
will see, most of them without the class: a rate of 1 % takes some hundred to tell anything. `between`
holds the threshold that has this rate on all such pictures 95 times of 100. It goes into a rule as
`threshold`.")]
pub(crate) struct Arguments {
    /// The model: a `.resight.tar` file, or an `.onnx` file in f32.
    model: PathBuf,
    /// Folder with pictures and what says which class each has.
    pictures: PathBuf,
    /// Wanted share of other pictures that are taken for a class, percent.
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    false_alarms: f64,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            self.false_alarms > 0.0 && self.false_alarms < 50.0,
            "--false-alarms {}: a share above 0 and below 50 percent is expected",
            self.false_alarms
        );
        let rate = self.false_alarms / 100.0;
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let models = [self.model.clone()];
        let mut predicted = predict(&models, &self.pictures, self.strict, &target, &progress)?;
        bars.finish();
        predicted.notes.iter().for_each(|note| log::info!("{}: {note}", self.pictures.display()));
        let Some(predictions) = predicted.models.pop() else {
            bail!("{}: nothing to choose thresholds by", self.pictures.display());
        };
        let probabilities: Vec<Vec<f32>> =
            predictions.logits.iter().map(|row| predictions.model.probabilities(row)).collect();
        let found = thresholds(&probabilities, &predictions.images, rate);
        let name = |class: usize| {
            let labels = predictions.labels.as_ref();
            labels.and_then(|labels| labels.name(class)).unwrap_or_default().to_owned()
        };
        if self.json {
            let class = |threshold: &ClassThreshold| -> Result<serde_json::Value> {
                let mut value = serde_json::to_value(threshold)?;
                value["name"] = name(threshold.class).into();
                Ok(value)
            };
            let classes = found.iter().map(class).collect::<Result<Vec<_>>>()?;
            return print_json(&json!({ "false_alarms": rate, "classes": classes }));
        }
        print(&found, &name)?;
        let needed = pictures_needed(rate);
        if found.iter().any(|class| class.high.is_none()) {
            print_line(format_args!(
                "no upper end where fewer than {needed} pictures are of something else: give more of those"
            ))?;
        }
        Ok(())
    }
}

fn print(found: &[ClassThreshold], name: &dyn Fn(usize) -> String) -> Result<()> {
    let share = |share: Share| {
        format!("{:.1} ({:.1}-{:.1})", share.value * 100.0, share.low * 100.0, share.high * 100.0)
    };
    let row = |class: &ClassThreshold| {
        vec![
            format!("{} {}", class.class, name(class.class)).trim_end().to_owned(),
            class.pictures.to_string(),
            class.others.to_string(),
            format!("{:.4}", class.threshold),
            format!(
                "{:.4}-{}",
                class.low,
                class.high.map_or_else(|| "?".to_owned(), |high| format!("{high:.4}"))
            ),
            share(class.false_alarms),
            class.recall.map_or_else(|| "-".to_owned(), share),
        ]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    let header = ["class", "pictures", "others", "threshold", "between", "false alarms %", "recall there %"];
    print_table(&header, &rows)
}
