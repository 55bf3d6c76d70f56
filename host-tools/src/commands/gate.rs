use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use resight::evaluate::{Evaluation, evaluate};
use resight::quantise::{LayerReport, Report};
use resight_runtime::Target;

use super::Bars;

/// What a network must reach to become a model file.
#[derive(Debug, Default, Args)]
pub(crate) struct Gate {
    /// Folder of labelled pictures, as `resight evaluate` takes them, that `--max-drop`,
    /// `--min-agreement` and `--min-sqnr` are measured on. They should not be among those of the
    /// calibration.
    #[arg(long, value_name = "DIR", requires = "bounds")]
    evaluation: Option<PathBuf>,
    /// Write no model, and name the layers to blame, when int8 loses more than this of f32's top-1, in
    /// percentage points.
    #[arg(long, value_name = "POINTS", group = "bounds", requires = "evaluation")]
    max_drop: Option<f64>,
    /// The same when int8 has f32's best class for less of the pictures, percent.
    #[arg(long, value_name = "PERCENT", group = "bounds", requires = "evaluation")]
    min_agreement: Option<f64>,
    /// The same when the logits' signal to noise ratio against f32, each picture's mean removed,
    /// is less, decibel.
    #[arg(long, value_name = "DB", group = "bounds", requires = "evaluation")]
    min_sqnr: Option<f64>,
}

/// Layers that are blamed.
const BLAMED: usize = 5;

impl Gate {
    /// Whether nothing must be reached.
    pub(crate) fn is_default(&self) -> bool {
        self.evaluation.is_none()
    }

    /// Saves the int8 network of `source` as `output`, after it has passed where bounds are given:
    /// who waits for the file gets none that fails. Gives what was measured.
    pub(crate) fn run(
        &self,
        source: &Path,
        output: &Path,
        strict: bool,
        report: &Report,
        save: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<Option<Evaluation>> {
        let Some(pictures) = &self.evaluation else {
            save(output)?;
            return Ok(None);
        };
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = tempfile::tempdir_in(folder.unwrap_or(Path::new(".")))?;
        let file = folder.path().join("model.resight.tar");
        save(&file)?;
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let models = [source.to_owned(), file.clone()];
        let mut evaluated = evaluate(&models, pictures, strict, None, &target, &progress)?.models;
        bars.finish();
        let (Some(mut int8), Some(float)) = (evaluated.pop(), evaluated.pop()) else {
            bail!("{}: nothing to evaluate on", pictures.display());
        };
        self.check(&float, &int8, report)?;
        fs::rename(&file, output).with_context(|| output.display().to_string())?;
        int8.model = output.display().to_string();
        Ok(Some(int8))
    }

    /// Whether the int8 network may become a model file.
    fn check(&self, float: &Evaluation, int8: &Evaluation, report: &Report) -> Result<()> {
        let drop = float.top1 - int8.top1;
        let mut missed = vec![];
        if self.max_drop.is_some_and(|most| drop > most) {
            missed.push(format!("it loses {drop:.2} points of f32's top-1"));
        }
        let below = |bound: Option<f64>, found: Option<f64>| {
            found.filter(|&found| bound.is_some_and(|least| found < least))
        };
        if let Some(agreement) = below(self.min_agreement, int8.agreement) {
            missed.push(format!("it has f32's best class for {agreement:.2} % of the pictures"));
        }
        if let Some(sqnr) = below(self.min_sqnr, int8.centred_sqnr_db) {
            missed.push(format!("its logits are at {sqnr:.2} dB of f32's"));
        }
        if missed.is_empty() {
            return Ok(());
        }
        let sqnr = |layer: &LayerReport| layer.output_sqnr_db.unwrap_or(f64::INFINITY);
        let mut layers: Vec<&LayerReport> = report.layers.iter().collect();
        layers.sort_by(|a, b| sqnr(a).total_cmp(&sqnr(b)));
        let blame = |layer: &&LayerReport| format!("{} ({:.1} dB)", layer.name, sqnr(layer));
        let worst: Vec<String> = layers.iter().take(BLAMED).map(blame).collect();
        bail!(
            "the int8 network does not pass, and no model was written: {}, on {} pictures; its outputs differ \
             most from f32 in {}",
            missed.join(", "),
            int8.images,
            worst.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use resight::quantise::Rounding;

    use super::*;

    fn evaluation(top1: f64, agreement: Option<f64>, centred_sqnr_db: Option<f64>) -> Evaluation {
        let model = String::new();
        let (sqnr_db, decisions) = (Some(99.0), None);
        Evaluation { model, images: 400, top1, top5: 99.0, agreement, sqnr_db, centred_sqnr_db, decisions }
    }

    fn report() -> Report {
        let layer = |(name, sqnr): &(&str, f64)| LayerReport {
            name: (*name).to_owned(),
            scale: 1.0,
            zero_point: 0,
            observed: (0.0, 1.0),
            weights_sqnr_db: 40.0,
            output_sqnr_db: Some(*sqnr),
        };
        let layers = [("a", 33.0), ("b", 21.5), ("c", 40.0), ("d", 30.0), ("e", 29.0), ("f", 50.0)];
        Report {
            cosine: None,
            method: "mse",
            rounding: Rounding::Nearest,
            split_channels: None,
            temperature: None,
            images: 200,
            int8_mac_coverage_percent: 100.0,
            logits_sqnr_db: 30.0,
            outputs: vec![],
            layers: layers.iter().map(layer).collect(),
        }
    }

    fn check(max_drop: Option<f64>, min_agreement: Option<f64>, min_sqnr: Option<f64>) -> Result<()> {
        let (float, int8) = (evaluation(86.75, None, None), evaluation(86.25, Some(97.25), Some(31.0)));
        let gate = Gate { evaluation: None, max_drop, min_agreement, min_sqnr };
        gate.check(&float, &int8, &report())
    }

    #[test]
    fn what_reaches_its_bounds_passes() {
        check(Some(0.5), Some(97.25), Some(31.0)).unwrap();
        check(None, None, None).unwrap();
    }

    #[test]
    fn each_bound_that_is_missed_is_named_with_the_layers_to_blame() {
        let error = check(Some(0.25), Some(98.0), Some(31.5)).unwrap_err().to_string();
        let expected = "the int8 network does not pass, and no model was written: it loses 0.50 points of f32's \
                        top-1, it has f32's best class for 97.25 % of the pictures, its logits are at 31.00 dB of \
                        f32's, on 400 pictures; its outputs differ most from f32 in b (21.5 dB), e (29.0 dB), \
                        d (30.0 dB), a (33.0 dB), c (40.0 dB)";
        assert_eq!(error, expected);
        assert!(check(None, None, Some(31.1)).unwrap_err().to_string().contains("31.00 dB"));
    }
}
