//! `resight teach --normal`: what is typical of good parts.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use resight::classifier::is_onnx;
use resight::teach::job::Digested;
use resight::teach::normal::photographs;
use resight::teach::{Normal, NormalJob, page};
use resight_base::console::print_line;
use resight_imaging::{Fit, Preprocessing};
use resight_runtime::{Model, Target};
use resight_teach::{Comparison, InspectionSettings, Patches};
use serde_json::json;

use super::comparison::ComparisonArgument;
use super::{Arguments, Bars, LISTED, print_json, took};

impl Arguments {
    pub(super) fn teach_normal(&self, good: &Path, start: Instant) -> Result<()> {
        let photographs = photographs(good, self.defects.as_deref())?;
        let cache = self.cache();
        let source = self.source(&cache)?;
        let bars = Bars::new();
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let (model, digested) = if is_onnx(&source) {
            // A defect may lie at the border, which a crop would cut off.
            let pictures = self.pictures.fitted(Fit::Squash);
            self.quantised(&source, &pictures, &photographs, &cache, &progress)?
        } else {
            let model = Model::load(&source)?;
            // Refused before a photograph is read.
            Patches::of(&model, &self.whole(model.preprocessing())?)?;
            (model, Digested::new(&photographs, self.group_by, &progress)?)
        };
        let preprocessing =
            if is_onnx(&source) { model.preprocessing().clone() } else { self.whole(model.preprocessing())? };
        let job = NormalJob {
            settings: InspectionSettings {
                folds: self.folds,
                seed: self.seed,
                false_alarms: self.false_alarms.map(|percent| percent / 100.0),
                comparison: self.compare.map(ComparisonArgument::comparison),
            },
            group_by: self.group_by,
            strict: self.strict,
            preprocessing,
        };
        let normal = job.teach(&model, &digested, &Target::of_this_machine()?, &progress)?;
        bars.finish();
        normal.notes.iter().for_each(|note| log::warn!("{note}"));
        normal.save(&self.output, &model)?;
        if let Some(report) = &self.report {
            page::write_inspection(&normal, report)?;
        }
        if self.json {
            return print_json(&json!({
                "output": self.output,
                "seconds": start.elapsed().as_secs_f64(),
                "notes": normal.notes,
                "inspection": normal.report,
            }));
        }
        self.print_normal(&normal, start)
    }

    /// An int8 model's preprocessing, which shows the whole picture if nothing else is said: only how a
    /// picture is brought to the input's size may change, not what the network is given of it.
    fn whole(&self, preprocessing: &Preprocessing) -> Result<Preprocessing> {
        let fit = self.pictures.fit_alone();
        ensure!(
            fit.is_some(),
            "{}: an int8 model file says itself how pictures become its input: leave out --preprocess and its kind, \
             except --fit, or give the f32 ONNX network",
            self.backbone
        );
        let fit = fit.flatten().unwrap_or(Fit::Squash);
        Ok(Preprocessing { fit, ..preprocessing.clone() })
    }

    fn print_normal(&self, normal: &Normal, start: Instant) -> Result<()> {
        let figures = &normal.report.figures;
        let share = figures.place_share * 100.0;
        match figures.comparison {
            Comparison::Places => print_line(format_args!(
                "each of {} x {} places is compared with the same place of the good parts ({share:.0} % of what they \
                 vary by is due to the place)",
                figures.places[1], figures.places[0]
            ))?,
            Comparison::Patches => print_line(format_args!(
                "each of {} x {} places is compared with {} patches from anywhere in the good parts ({share:.0} % of \
                 what they vary by is due to the place)",
                figures.places[1],
                figures.places[0],
                figures.memory.unwrap_or(0)
            ))?,
        }
        print_line(format_args!(
            "of good parts that were not learnt from {} are taken for defects (cross-validation, {} folds)",
            page::with_interval(figures.false_alarms),
            figures.folds
        ))?;
        if let Some(defects) = figures.defects {
            print_line(format_args!(
                "of {} defects, none of which was learnt from: AUROC {:.1} %; with a threshold from the other half {} \
                 are found, and {} of the good parts are taken for defects",
                defects.photographs,
                defects.auroc * 100.0,
                page::with_interval(defects.found),
                page::with_interval(defects.false_alarms)
            ))?;
        } else if figures.photographs < 100 {
            print_line(format_args!(
                "with {} good parts and no defects the threshold is a guess: try it, and give --false-alarms",
                figures.photographs
            ))?;
        }
        print_line(format_args!("farthest good parts, in thresholds: {}", listed(&normal.good, true)))?;
        if !normal.defects.is_empty() {
            print_line(format_args!("nearest defects: {}", listed(&normal.defects, false)))?;
        }
        print_line(format_args!(
            "{}: {} good parts, {} numbers of each place ({:.0} % of the variance), {:.1} million multiplications \
             beside the backbone's {:.0} million ({:.1} %), {}\n\
             next: resight classify {0} PHOTOGRAPH; resight deploy USER@HOST --model {0}",
            self.output.display(),
            figures.photographs,
            figures.components,
            figures.explained * 100.0,
            normal.report.macs as f64 / 1e6,
            normal.report.backbone_macs as f64 / 1e6,
            100.0 * normal.report.macs as f64 / normal.report.backbone_macs.max(1) as f64,
            took(start)
        ))?;
        Ok(())
    }
}

/// The first of some photographs, the farthest or the nearest first.
fn listed(photographs: &[(PathBuf, f64)], farthest: bool) -> String {
    let mut order: Vec<&(PathBuf, f64)> = photographs.iter().collect();
    order.sort_by(|a, b| if farthest { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
    let one = |(path, distance): &&(PathBuf, f64)| format!("{} ({distance:.2})", path.display());
    order.iter().take(LISTED).map(one).collect::<Vec<_>>().join(", ")
}
