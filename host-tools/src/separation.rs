//! How well a model tells pictures that it was taught from others: the class `unknown`, and anomalies.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use resight_imaging::{ImageFolder, decode};
use resight_runtime::{Head, Inspection, Model, Target};
use resight_teach::{GOOD, UNKNOWN, auroc, lower_quantile};
use serde::Serialize;

use crate::classifier::AnyModel;
use crate::quantise::Progress;
use crate::readable::ReadableImages;

/// How well a model tells two kinds of pictures apart, by the probability of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Separation {
    /// The model's file.
    pub model: String,
    /// The class that only the others should be.
    pub class: String,
    /// Pictures that should not be of it.
    pub pictures: usize,
    /// Percent of them that are taken for it: whose probability is one half or more.
    pub false_alarms: f64,
    /// All others.
    pub others: Others,
    /// Those of each folder.
    pub folders: Vec<Others>,
}

/// Pictures that should be of the class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Others {
    /// What they are called.
    pub name: String,
    /// How many.
    pub pictures: usize,
    /// Percent of the pairs of one of them and one that should not be of the class in which this one is
    /// the more probable.
    pub auroc: f64,
    /// Percent of them whose probability is one half or more.
    pub found: f64,
    /// Percent of them that are more probable than all but one of a hundred of those that should not be of
    /// the class.
    pub found_at_one_percent: f64,
}

/// Pictures of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// What they are called.
    pub name: String,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// Whether a file is a model that tells what is typical from what is not.
///
/// # Errors
/// A model file that cannot be read.
pub fn is_inspection(path: &Path) -> Result<bool> {
    Ok(matches!(Model::load(path)?.head(), Head::Anomaly(_)))
}

/// The pictures of good parts, and those of each kind of defect: `good` and the other folders in a folder.
///
/// # Errors
/// A folder without these.
pub fn good_and_others(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Folder>)> {
    let good = folder.join(GOOD);
    let shown = folder.display();
    ensure!(
        good.is_dir(),
        "{shown}: there is no folder `{GOOD}` in it: a model that finds anomalies is evaluated on a folder with \
         `{GOOD}` and one folder or more of defects"
    );
    let entries = fs::read_dir(folder).with_context(|| format!("{shown}: cannot read"))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut others = vec![];
    for path in paths.into_iter().filter(|path| path.is_dir() && *path != good) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            others.push(Folder { files: ImageFolder::read(&path)?.files, name });
        }
    }
    ensure!(!others.is_empty(), "{shown}: there is no folder of defects beside `{GOOD}`");
    Ok((ImageFolder::read(&good)?.files, others))
}

/// The class that only other pictures should be.
fn class_of(model: &AnyModel, path: &Path) -> Result<(usize, String)> {
    let AnyModel::Int8(file, _) = model else {
        bail!(
            "{}: an f32 network knows no unfamiliar pictures: give a model file of `resight teach`",
            path.display()
        );
    };
    let class = match file.head() {
        Head::Anomaly(_) => Inspection::ANOMALY,
        _ => (0..model.classes()).rev().find(|&class| model.name(class) == UNKNOWN).with_context(|| {
            format!("{}: it has no class `{UNKNOWN}`: teach it without --no-unknown", path.display())
        })?,
    };
    Ok((class, model.name(class)))
}

/// The logarithm of the odds of a class.
fn log_odds(logits: &[f32], class: usize) -> f64 {
    let others =
        || logits.iter().enumerate().filter(|(other, _)| *other != class).map(|(_, &x)| f64::from(x));
    let largest = others().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = others().map(|logit| (logit - largest).exp()).sum();
    f64::from(logits[class]) - largest - sum.ln()
}

fn percent_above(odds: &[f64], limit: f64) -> f64 {
    100.0 * odds.iter().filter(|odds| **odds >= limit).count() as f64 / odds.len().max(1) as f64
}

/// Runs a model over pictures that should not be of its class `unknown` or `anomaly`, and over others.
///
/// # Errors
/// A model that has neither class, and a picture that cannot be read: any one if the job is `strict`, or
/// else when there is no other.
pub fn separate(
    path: &Path,
    pictures: &[PathBuf],
    others: &[Folder],
    strict: bool,
    target: &Target,
    progress: Progress<'_>,
) -> Result<(Separation, Vec<String>)> {
    let model = AnyModel::load(path, target)?;
    let (class, name) = class_of(&model, path)?;
    let mut notes = vec![];
    let total = pictures.len() + others.iter().map(|folder| folder.files.len()).sum::<usize>();
    let done = AtomicUsize::new(0);
    let mut odds = |files: &[PathBuf]| -> Result<Vec<f64>> {
        let readable = ReadableImages::check(files, strict, progress)?;
        notes.extend(readable.sentences());
        let one = |model: &mut Result<AnyModel>, file: &PathBuf| -> Result<f64> {
            let model = model.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let logits = model.logits(&decode(file)?)?;
            progress("classifying", done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(log_odds(&logits, class))
        };
        readable.files.par_iter().map_init(|| model.fork(), one).collect()
    };
    let ordinary = odds(pictures)?;
    // Above it is at most one of a hundred.
    let descending: Vec<f64> = ordinary.iter().map(|odds| -odds).collect();
    let limit = (-lower_quantile(&descending, 0.01)).next_up();
    let of = |name: &str, odds: &[f64]| Others {
        name: name.to_owned(),
        pictures: odds.len(),
        auroc: 100.0 * auroc(odds, &ordinary),
        found: percent_above(odds, 0.0),
        found_at_one_percent: percent_above(odds, limit),
    };
    let (mut folders, mut all) = (vec![], vec![]);
    for folder in others {
        let odds = odds(&folder.files)?;
        folders.push(of(&folder.name, &odds));
        all.extend(odds);
    }
    let separation = Separation {
        model: path.display().to_string(),
        class: name,
        pictures: ordinary.len(),
        false_alarms: percent_above(&ordinary, 0.0),
        others: of("all", &all),
        folders,
    };
    Ok((separation, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_those_of_the_softmax() {
        let logits = [1.0_f32, 3.0, 0.5];
        let mut probabilities = logits.to_vec();
        resight_runtime::softmax(&mut probabilities);
        let p = f64::from(probabilities[1]);
        assert!((log_odds(&logits, 1) - (p / (1.0 - p)).ln()).abs() < 1e-5);
        assert_eq!(percent_above(&[-1.0, 0.0, 2.0, -0.1], 0.0), 50.0);
    }
}
