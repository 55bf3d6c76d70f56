use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight::comparison::compare;
use resight::readable::ReadableImages;
use resight_base::console::print_line;
use resight_imaging::ImageFolder;
use resight_runtime::Target;

use super::{Bars, print_json, print_table};

/// Arguments of `resight compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight compare resnet50-int8.onnx resnet50.resight.tar photos/

The pictures need no labels. `SQNR dB` is the signal to noise ratio 10*log10(sum(a^2) / sum((a - b)^2)) of
B against A, 200 where both are the same; `centred` the same of the logits with each picture's mean
removed. A layer is shown where both networks have one of that name; a quantised ONNX file is run in
f32 with the file's own roundings.")]
pub(crate) struct Arguments {
    /// The network that the other one is compared with: an `.onnx` file or a `.resight.tar` file.
    first: PathBuf,
    /// The other one.
    second: PathBuf,
    /// Folder of PNG, JPEG or WebP pictures.
    pictures: PathBuf,
    /// Compare on this many pictures, the first by name, instead of all.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        anyhow::ensure!(self.images != Some(0), "--images must be at least 1");
        let mut images = ImageFolder::read(&self.pictures)?.files;
        images.truncate(self.images.unwrap_or(usize::MAX));
        let bars = Bars::new();
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let images = ReadableImages::check(&images, self.strict, &progress)?;
        images.sentences().iter().for_each(|sentence| log::warn!("{sentence}"));
        let target = Target::of_this_machine()?;
        let compared = compare(&self.first, &self.second, &images.files, &target, &progress)?;
        bars.finish();
        if self.json {
            return print_json(&compared);
        }
        let rows: Vec<Vec<String>> = compared
            .layers
            .iter()
            .map(|layer| vec![layer.name.clone(), format!("{:.1}", layer.sqnr_db)])
            .collect();
        if !rows.is_empty() {
            print_table(&["layer", "SQNR dB"], &rows)?;
        }
        print_line(format_args!(
            "{} against {}: the same best class for {:.2} % of {} pictures, logits at {:.1} dB ({:.1} dB centred)",
            self.second.display(),
            self.first.display(),
            compared.agreement,
            compared.pictures,
            compared.sqnr_db,
            compared.centred_sqnr_db
        ))?;
        Ok(())
    }
}
