use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use resight::vectors::{Named, References};
use resight_base::console::print_line;
use resight_runtime::{Model, Target};
use serde_json::json;

use super::network::check_output;
use super::{Bars, optional, print_json, print_table};

/// Arguments of `resight references`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight references faces.resight.tar people/ -o people.resight.tar

people/ has a folder of photographs for each name. The model file that is written has a class for each:
its probability is the cosine of the angle between a picture's vector and the mean of the photographs'
(0 where it is negative), which rules compare with their threshold. `own` is the lowest cosine of one of
a name's photographs with the mean of its others, `others` the highest of another name's photograph: a
threshold lies between the two.")]
pub(crate) struct Arguments {
    /// The model file of a network that ends in a vector: `resight quantize --task embed`.
    model: PathBuf,
    /// Folder with a folder of photographs for each name.
    photographs: PathBuf,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        check_output(&self.output)?;
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let model = Arc::new(Model::load(&self.model)?);
        let references = References::of(&model, &self.photographs, self.strict, &target, &progress)?;
        bars.finish();
        references.save(&self.output, &model)?;
        if self.json {
            return print_json(&json!({ "output": self.output, "references": references.names }));
        }
        let row = |named: &Named| {
            vec![
                named.name.clone(),
                named.photographs.to_string(),
                optional(named.own, 4),
                optional(named.others, 4),
            ]
        };
        let rows: Vec<Vec<String>> = references.names.iter().map(row).collect();
        print_table(&["name", "photographs", "own", "others"], &rows)?;
        print_line(format_args!("{}: {} names", self.output.display(), rows.len()))?;
        Ok(())
    }
}
