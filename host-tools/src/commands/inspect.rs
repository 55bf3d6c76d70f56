use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight::coverage::int8_mac_coverage_percent;
use resight::teach::page::with_interval;
use resight::teach::{InspectionReport, TaughtReport};
use resight_base::console::print_line;
use resight_model_file::{Activation, PublicKey};
use resight_runtime::{Classes, Isa, Model, StepInfo, Target, TensorFact};
use serde_json::{Value, json};

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
        let target = match &self.isa {
            Some(name) => Target::of_this_machine()?.with_isa(Isa::named(name)?),
            None => Target::of_this_machine()?,
        };
        let model = Model::load(&self.model)?;
        let inspected = Inspected::new(&model, target)?;
        if self.json {
            return inspected.print_json();
        }
        inspected.print_layers()?;
        print_line(format_args!(""))?;
        inspected.print_summary()
    }
}

/// A model as it is planned for an instruction set.
struct Inspected<'a> {
    model: &'a Model,
    isa: Isa,
    steps: Vec<StepInfo>,
    input: [usize; 3],
    /// None of a network whose outputs are not classes.
    classes: Option<Classes>,
    /// Types and shapes.
    outputs: Vec<String>,
    /// What another CPU would do is known but for its memory.
    working_bytes: Option<usize>,
    coverage_percent: f64,
}

impl<'a> Inspected<'a> {
    fn new(model: &'a Model, target: Target) -> Result<Self> {
        let isa = target.isa;
        let here = isa.is_available();
        let program = model.compile(&if here { target } else { Target::reference() })?;
        Ok(Self {
            model,
            isa,
            steps: if here { program.steps() } else { model.steps_on(isa)? },
            input: program.input_shape(),
            classes: model.head().classes(),
            outputs: program.outputs().map(TensorFact::to_string).collect(),
            working_bytes: here.then(|| program.working_bytes()),
            coverage_percent: int8_mac_coverage_percent(model.graph())?,
        })
    }

    fn macs(&self) -> u64 {
        self.steps.iter().map(|step| step.macs).sum()
    }

    fn weight_bytes(&self) -> usize {
        self.steps.iter().map(|step| step.weight_bytes).sum()
    }

    /// What the quantiser reported of a layer; null if nothing.
    fn reported(&self, name: &str) -> &Value {
        let layers = self.model.report()["layers"].as_array();
        layers.and_then(|layers| layers.iter().find(|layer| layer["name"] == name)).unwrap_or(&Value::Null)
    }

    fn print_json(&self) -> Result<()> {
        let step = |step: &StepInfo| -> Result<Value> {
            let mut value = serde_json::to_value(step)?;
            value["quantisation"] = self.reported(&step.name).clone();
            Ok(value)
        };
        let steps = self.steps.iter().map(step).collect::<Result<Vec<Value>>>()?;
        print_json(&json!({
            "name": self.model.name(),
            "isa": self.isa.name(),
            "input": self.input,
            "classes": self.classes.map(|classes| classes.len()),
            "activation": self.classes.map(|classes| classes.activation().name()),
            "outputs": self.outputs,
            "macs": self.macs(),
            "weight_bytes": self.weight_bytes(),
            "working_bytes": self.working_bytes,
            "int8_mac_coverage_percent": self.coverage_percent,
            "preprocessing": self.model.preprocessing(),
            "provenance": self.model.provenance(),
            "taught": self.model.report()["taught"],
            "inspection": self.model.report()["inspection"],
            "signed_by": self.model.signer().map(PublicKey::fingerprint),
            "layers": steps,
        }))
    }

    fn print_layers(&self) -> Result<()> {
        let row = |step: &StepInfo| {
            let reported = self.reported(&step.name);
            let number = |key: &str, digits: usize| {
                reported[key].as_f64().map_or(String::new(), |value| format!("{value:.digits$}"))
            };
            vec![
                step.name.clone(),
                step.operator.clone(),
                format!("{}x{}x{}", step.output[0], step.output[1], step.output[2]),
                if step.macs > 0 { format!("{:.1}", step.macs as f64 / 1e6) } else { String::new() },
                if step.weight_bytes > 0 { megabytes(step.weight_bytes as u64) } else { String::new() },
                number("scale", 5),
                number("zero_point", 0),
                number("output_sqnr_db", 1),
                step.kernel.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = self.steps.iter().map(row).collect();
        let header = ["layer", "operator", "output", "MMAC", "weights", "scale", "zero", "SQNR dB", "kernel"];
        print_table(&header, &rows)
    }

    /// What the classes were taught from, if `resight teach` did.
    fn print_taught(&self) -> Result<()> {
        let Ok(taught) = serde_json::from_value::<TaughtReport>(self.model.report()["taught"].clone()) else {
            return Ok(());
        };
        let figures = &taught.figures;
        print_line(format_args!(
            "taught from {} photographs of {} classes in {} views each (sha256 {}), seed {}, grouped by {}",
            figures.photographs,
            figures.classes.len(),
            figures.views,
            taught.photographs_sha256,
            taught.seed,
            taught.group_by
        ))?;
        print_line(format_args!(
            "{} recognised by cross-validation, {} folds of {} groups; `--json` has the rest",
            with_interval(figures.accuracy),
            figures.folds,
            figures.groups
        ))?;
        Ok(())
    }

    /// What good parts an inspection was taught from, if `resight teach --normal` did.
    fn print_inspection(&self) -> Result<()> {
        let report = self.model.report()["inspection"].clone();
        let Ok(inspection) = serde_json::from_value::<InspectionReport>(report) else { return Ok(()) };
        let figures = &inspection.figures;
        print_line(format_args!(
            "taught from {} photographs of good parts (sha256 with those of defects {}), seed {}, grouped by {}; \
             {} million multiplications beside the backbone's {} million",
            figures.photographs,
            inspection.photographs_sha256,
            inspection.seed,
            inspection.group_by,
            inspection.macs / 1_000_000,
            inspection.backbone_macs / 1_000_000
        ))?;
        let on_defects = figures.defects.map_or(String::new(), |defects| {
            format!("; AUROC {:.1} % on {} defects", defects.auroc * 100.0, defects.photographs)
        });
        print_line(format_args!(
            "{} false alarms by cross-validation{on_defects}; `--json` has the rest",
            with_interval(figures.false_alarms)
        ))?;
        Ok(())
    }

    fn print_summary(&self) -> Result<()> {
        let Self { model, isa, input: [height, width, channels], classes, outputs, .. } = self;
        let gives = match classes {
            Some(classes) if classes.activation() == Activation::Sigmoid => {
                format!("{} classes that do not exclude each other (sigmoid)", classes.len())
            }
            Some(classes) => format!("{} classes", classes.len()),
            None => outputs.join(", "),
        };
        print_line(format_args!("{}: {height}x{width}x{channels} in, {gives} out", model.name()))?;
        print_line(format_args!(
            "{:.3} GMAC, {:.1} % of them in int8; {} of weights{}; instruction set {isa}{}",
            self.macs() as f64 / 1e9,
            self.coverage_percent,
            megabytes(self.weight_bytes() as u64),
            self.working_bytes
                .map_or(String::new(), |bytes| format!(", {} of working memory", megabytes(bytes as u64))),
            if isa.is_available() { "" } else { ", which this CPU lacks" },
        ))?;
        let provenance = model.provenance();
        let calibration = provenance.calibration.as_ref().map_or(String::new(), |calibration| {
            format!(", calibrated by {} on {} images", calibration.method, calibration.images)
        });
        print_line(format_args!(
            "from {} (sha256 {}){calibration}",
            provenance.source, provenance.source_sha256
        ))?;
        self.print_taught()?;
        self.print_inspection()?;
        match model.signer() {
            // Whose key it is, only a file from elsewhere can say.
            Some(key) => {
                print_line(format_args!(
                    "signed by key {}; `resight verify` compares it",
                    key.fingerprint()
                ))?;
            }
            None => print_line(format_args!("not signed"))?,
        }
        Ok(())
    }
}
