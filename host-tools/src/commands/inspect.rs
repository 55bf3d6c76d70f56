use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight::coverage::int8_mac_coverage_percent;
use resight_model_file::PublicKey;
use resight_runtime::{Isa, Model, isa_from_environment};
use serde_json::json;

use super::{megabytes, print_json, print_table};

/// Arguments of `resight inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight inspect resnet50.resight.tar --isa neon_mlal")]
pub(crate) struct Arguments {
    /// The model file.
    model: PathBuf,
    /// Show the kernels of this instruction set, also one that this CPU lacks, instead of the best
    /// one of this CPU.
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let isa = match &self.isa {
            Some(name) => Isa::named(name)?,
            None => isa_from_environment()?,
        };
        let model = Model::load(&self.model)?;
        // What another CPU would do is known but for its memory.
        let foreign = !isa.is_available();
        let program = model.compile(if foreign { Isa::Generic } else { isa }, 1)?;
        let steps = if foreign { model.steps_on(isa)? } else { program.steps() };
        let working = (!foreign).then(|| program.working_bytes());
        let macs: u64 = steps.iter().map(|step| step.macs).sum();
        let weights: usize = steps.iter().map(|step| step.weight_bytes).sum();
        let report = model.report();
        let layer = |name: &str| {
            let layers = report["layers"].as_array();
            layers.and_then(|layers| layers.iter().find(|layer| layer["name"] == name)).cloned()
        };
        let coverage = int8_mac_coverage_percent(model.graph())?;
        if self.json {
            let steps: Vec<_> = steps
                .iter()
                .map(|step| {
                    let mut value = serde_json::to_value(step).unwrap_or_default();
                    value["quantisation"] = layer(&step.name).unwrap_or_default();
                    value
                })
                .collect();
            return print_json(&json!({
                "name": model.name(),
                "isa": isa.name(),
                "input": program.input_shape(),
                "classes": program.classes(),
                "macs": macs,
                "weight_bytes": weights,
                "working_bytes": working,
                "int8_mac_coverage_percent": coverage,
                "preprocessing": model.preprocessing(),
                "provenance": model.provenance(),
                "signed_by": model.signer().map(PublicKey::fingerprint),
                "layers": steps,
            }));
        }
        let rows: Vec<Vec<String>> = steps
            .iter()
            .map(|step| {
                let layer = layer(&step.name);
                let number = |key: &str| layer.as_ref().and_then(|layer| layer[key].as_f64());
                let optional = |value: Option<f64>, digits: usize| {
                    value.map_or(String::new(), |v| format!("{v:.digits$}"))
                };
                vec![
                    step.name.clone(),
                    step.operator.clone(),
                    format!("{}x{}x{}", step.output[0], step.output[1], step.output[2]),
                    if step.macs > 0 { format!("{:.1}", step.macs as f64 / 1e6) } else { String::new() },
                    if step.weight_bytes > 0 { megabytes(step.weight_bytes as u64) } else { String::new() },
                    optional(number("scale"), 5),
                    optional(number("zero_point"), 0),
                    optional(number("output_sqnr_db"), 1),
                    step.kernel.clone(),
                ]
            })
            .collect();
        let header = ["layer", "operator", "output", "MMAC", "weights", "scale", "zero", "SQNR dB", "kernel"];
        print_table(&header, &rows)?;
        let [height, width, channels] = program.input_shape();
        println!();
        println!("{}: {height}x{width}x{channels} in, {} classes out", model.name(), program.classes());
        println!(
            "{:.3} GMAC, {coverage:.1} % of them in int8; {} of weights{}; instruction set {isa}{}",
            macs as f64 / 1e9,
            megabytes(weights as u64),
            working.map_or(String::new(), |bytes| format!(", {} of working memory", megabytes(bytes as u64))),
            if foreign { ", which this CPU lacks" } else { "" },
        );
        let provenance = model.provenance();
        let calibration = provenance.calibration.as_ref().map_or(String::new(), |calibration| {
            format!(", calibrated by {} on {} images", calibration.method, calibration.images)
        });
        println!("from {} (sha256 {}){calibration}", provenance.source, provenance.source_sha256);
        match model.signer() {
            // Whose key it is, only a file from elsewhere can say.
            Some(key) => println!("signed by key {}; `resight verify` compares it", key.fingerprint()),
            None => println!("not signed"),
        }
        Ok(())
    }
}
