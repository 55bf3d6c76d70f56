use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use resight::import::{Wanted, import_wanted};
use resight::quantise::Method;
use resight::quantise::analyse::{Analysis, LayerAnalysis, analyse};
use resight_base::console::print_line;
use resight_imaging::ImageFolder;

use super::network;
use super::quantize::Choices;
use super::{Bars, optional, print_json, print_table, took};

/// Arguments of `resight analyze`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight analyze resnet50.onnx --calibration photos/

Quantises the network as `resight quantize` would with the same switches, and writes no model. `alone`
is the signal to noise ratio of the logits if this layer alone is int8; the lowest is the layer to
blame. `output` is that of the layer's own output, with all layers before it in int8 too.")]
pub(crate) struct Arguments {
    /// The f32 network.
    model: PathBuf,
    /// Folder of PNG, JPEG or WebP images to calibrate on; folders in it count too.
    #[arg(long, value_name = "DIR")]
    calibration: PathBuf,
    /// Calibrate on this many images, the first by name, instead of all.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Height and width of the network's image, such as 224x224, where the file leaves them open.
    #[arg(long, value_name = "HxW", value_parser = network::size)]
    input: Option<[usize; 2]>,
    /// The output, or the result of a node within, that holds the logits, where the file has several outputs.
    #[arg(long, value_name = "NAME")]
    logits: Option<String>,
    #[command(flatten)]
    choices: Choices,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        ensure!(self.images != Some(0), "--images must be at least 1");
        let folder = ImageFolder::read(&self.calibration)?;
        let imported = import_wanted(
            &self.model,
            &Wanted { size: self.input, logits: self.logits.clone(), ..Wanted::default() },
        )?;
        let imported = network::as_wanted(imported, &self.model, self.input, None)?;
        let named = || self.model.display().to_string();
        let options = self.choices.options(&imported, &self.model).with_context(named)?;
        let bars = Bars::new();
        let images = super::quantize::readable(folder, &self.calibration, self.images, self.strict, &bars)?;
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let analysis = analyse(&imported, &images, &options, &progress).with_context(named)?;
        bars.finish();
        if self.json {
            return print_json(&analysis);
        }
        print(&analysis, options.method, start)
    }
}

fn print(analysis: &Analysis, method: Method, start: Instant) -> Result<()> {
    let row = |layer: &LayerAnalysis| {
        let used = f64::from(layer.observed.1 - layer.observed.0);
        let covered = layer.covered.1 - layer.covered.0;
        vec![
            layer.name.clone(),
            format!("{:.1}", layer.logits_alone_db),
            optional(layer.output_sqnr_db, 1),
            format!("{:.1}", layer.weights_sqnr_db),
            format!("{:.3}", layer.saturated_percent),
            if used > 0.0 { format!("{:.0}", 100.0 * covered / used) } else { "-".to_owned() },
            layer.dead_channels.map_or_else(|| "-".to_owned(), |dead| format!("{dead}/{}", layer.channels)),
        ]
    };
    let header =
        ["layer", "alone dB", "output dB", "weights dB", "cut off %", "range/seen %", "dead channels"];
    print_table(&header, &analysis.layers.iter().map(row).collect::<Vec<_>>())?;
    print_line(format_args!(""))?;
    let mut before: Option<f64> = None;
    let mut rows = vec![];
    for pass in &analysis.passes {
        let gain = before.map_or_else(String::new, |before| format!("{:+.2}", pass.centred_sqnr_db - before));
        before = Some(pass.centred_sqnr_db);
        rows.push(vec![
            pass.pass.to_owned(),
            format!("{:.2}", pass.logits_sqnr_db),
            format!("{:.2}", pass.centred_sqnr_db),
            gain,
        ]);
    }
    print_table(&["after", "logits dB", "centred dB", "gain"], &rows)?;
    print_line(format_args!(
        "{}: layers on {}, passes on {} of the {} pictures, {}",
        method.name(),
        analysis.compared_images,
        analysis.judged_images,
        analysis.images,
        took(start)
    ))?;
    Ok(())
}
