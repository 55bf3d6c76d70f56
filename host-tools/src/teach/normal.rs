//! What `resight teach --normal` does, from photographs of good parts to a model file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use resight_base::text::hex;
use resight_imaging::{ImageFolder, ImageView, Preprocessing, Preprocessor};
use resight_model_file::{Golden, Labels, Task};
use resight_runtime::tract::TypedModel;
use resight_runtime::{Isa, Model, ModelParts, Program, Target};
use resight_teach::{
    ANOMALY, GOOD, Inspected, InspectionFigures, InspectionLesson, InspectionSettings, LEAST_GOOD,
    PatchExtractor, Patches, inspect, inspection, inspection_golden,
};
use serde::{Deserialize, Serialize};

use super::cache::Digest;
use super::job::{Digested, LISTED, common_folder, counted, digest_of, named};
use super::photograph::{PhotographError, readable};
use super::photographs::{GroupBy, Photographs, TaughtPhotograph};
use crate::quantise::Progress;

/// Photographs of a kind that are learnt from at most: their features are in memory.
const MOST: usize = 1000;

/// An inspection that is to be taught.
#[derive(Debug, Clone)]
pub struct NormalJob {
    /// How it is learnt.
    pub settings: InspectionSettings,
    /// Which photographs belong together.
    pub group_by: GroupBy,
    /// Whether a photograph that cannot be used is an error.
    pub strict: bool,
    /// How a photograph becomes the network's input.
    pub preprocessing: Preprocessing,
}

/// What the model file says of an inspection: the entry `inspection` of its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InspectionReport {
    /// The network that it was made from.
    pub backbone: String,
    /// sha256 over the photographs' digests and kinds, in their order.
    pub photographs_sha256: String,
    /// Which photographs belong together: what was asked for.
    pub group_by: String,
    /// What folds follow from.
    pub seed: u64,
    /// How well it works.
    pub figures: InspectionFigures,
    /// Multiplications of one picture by what says whether it is typical, the backbone's not counted.
    pub macs: u64,
    /// Multiplications of one picture by the whole backbone, of which the last stage is left out here.
    pub backbone_macs: u64,
    /// Each photograph; empty where there are very many.
    pub photographs: Vec<InspectedPhotograph>,
}

/// A photograph in an [`InspectionReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InspectedPhotograph {
    /// Its path within the folder.
    pub file: String,
    /// Its sha256.
    pub sha256: String,
    /// Whether it shows a defect.
    pub defect: bool,
    /// How far it is from what is typical, in thresholds, when it was not learnt from.
    pub distance: f64,
    /// The fold of a good one.
    pub fold: Option<usize>,
}

/// An inspection that was taught.
pub struct Normal {
    /// What the model file says of it.
    pub report: InspectionReport,
    /// The photographs of good parts, and how far each is from what is typical, in thresholds.
    pub good: Vec<(PathBuf, f64)>,
    /// Those of defects, alike.
    pub defects: Vec<(PathBuf, f64)>,
    /// What there is to say.
    pub notes: Vec<String>,
    graph: TypedModel,
    golden: Vec<Golden>,
    labels: Labels,
    preprocessing: Preprocessing,
}

/// The photographs of good parts and of defects, as two classes.
///
/// # Errors
/// A folder without photographs, and one of them within the other.
pub fn photographs(good: &Path, defects: Option<&Path>) -> Result<Photographs> {
    if let Some(defects) = defects {
        let [one, other] =
            [good, defects].map(|folder| std::fs::canonicalize(folder).unwrap_or(folder.to_owned()));
        ensure!(
            !one.starts_with(&other) && !other.starts_with(&one),
            "{} and {}: one folder lies in the other, so photographs would be good and defective: give two folders \
             beside each other",
            good.display(),
            defects.display()
        );
    }
    let mut all =
        Photographs { names: vec![GOOD.to_owned(), ANOMALY.to_owned()], files: vec![], notes: vec![] };
    for (class, folder) in [Some(good), defects].into_iter().enumerate() {
        let Some(folder) = folder else { continue };
        let found = ImageFolder::read(folder)?;
        let passed = found.passed_over().into_iter();
        all.notes.extend(passed.map(|what| format!("{}: passed over {what}", folder.display())));
        all.files.extend(found.files.into_iter().map(|path| TaughtPhotograph { path, class }));
    }
    let found = all.files.iter().filter(|photograph| photograph.class == 0).count();
    ensure!(
        found >= LEAST_GOOD,
        "{}: {found} {} of good parts: give at least {LEAST_GOOD}, better 100, taken one by one",
        good.display(),
        if found == 1 { "photograph" } else { "photographs" }
    );
    Ok(all)
}

/// The features of some photographs, one after the other, and which photographs they are.
#[derive(Default)]
struct Seen {
    photographs: Vec<usize>,
    features: Vec<i8>,
}

impl NormalJob {
    /// Learns what is typical of the photographs of good parts.
    ///
    /// # Errors
    /// A network without middle stages, fewer than five photographs that can be used.
    pub fn teach(
        &self,
        model: &Model,
        digested: &Digested,
        target: &Target,
        progress: Progress<'_>,
    ) -> Result<Normal> {
        let patches = Patches::of(model, &self.preprocessing)?;
        let mut notes = digested.notes().to_vec();
        let mut kinds = [Seen::default(), Seen::default()];
        let mut refused = vec![];
        for (class, kind) in kinds.iter_mut().enumerate() {
            let own: Vec<usize> =
                (0..digested.files.len()).filter(|&index| digested.classes[index] == class).collect();
            let count = own.len().min(MOST);
            if count < own.len() {
                notes.push(format!(
                    "{MOST} of {} photographs, evenly chosen: that is as much as is learnt from at once",
                    own.len()
                ));
            }
            let chosen: Vec<usize> = (0..count).map(|index| own[index * own.len() / count]).collect();
            for (index, found) in compute(&patches, digested, &chosen, target, progress)? {
                match found {
                    Ok(features) => {
                        kind.photographs.push(index);
                        kind.features.extend(features);
                    }
                    Err(cause) if self.strict => return Err(cause.into()),
                    Err(cause) => refused.push(cause.to_string()),
                }
            }
        }
        if !refused.is_empty() {
            notes.push(format!(
                "{} passed over (--strict makes that an error): {}",
                counted(refused.len()),
                named(&refused)
            ));
        }
        let [good, defects] = kinds;
        let groups: Vec<usize> = numbered(good.photographs.iter().map(|&index| digested.groups()[index]));
        progress("learning", 0, 1);
        let lesson = InspectionLesson {
            good: &good.features,
            defects: &defects.features,
            shape: patches.shape(),
            stages: patches.stages(),
            groups: &groups,
        };
        let inspected = inspect(&lesson, &self.settings)?;
        progress("learning", 1, 1);
        let graph = inspection(&patches, &inspected)?;
        let first = good.photographs.first().map(|&index| digested.files[index].0.as_path());
        let input = self.input(first.context("there is no photograph of a good part")?)?;
        let golden = inspection_golden(&patches, &graph, input)?;
        let with = |kind: &Seen, distances: &[f64]| -> Vec<(PathBuf, f64)> {
            let paths = kind.photographs.iter().map(|&index| digested.files[index].0.clone());
            paths.zip(distances.iter().copied()).collect()
        };
        Ok(Normal {
            report: self.report(model, digested, [&good, &defects], &inspected, &graph, &patches)?,
            good: with(&good, &inspected.good),
            defects: with(&defects, &inspected.defects),
            notes,
            graph,
            golden,
            labels: Labels::parse("the classes", format!("{GOOD}\n{ANOMALY}\n").as_bytes())?,
            preprocessing: self.preprocessing.clone(),
        })
    }

    /// The network's input for a photograph.
    fn input(&self, path: &Path) -> Result<Vec<i8>> {
        let image = resight_imaging::decode(path)?;
        let mut preprocessor = Preprocessor::new(&self.preprocessing)?;
        let mut input = vec![0; preprocessor.input_len()];
        preprocessor.quantise(&ImageView::of(&image)?, &mut input)?;
        Ok(input)
    }

    fn report(
        &self,
        model: &Model,
        digested: &Digested,
        [good, defects]: [&Seen; 2],
        inspected: &Inspected,
        graph: &TypedModel,
        patches: &Patches,
    ) -> Result<InspectionReport> {
        let common = common_folder(&digested.files);
        let photograph = |index: usize, defect: bool, distance: f64, fold: Option<usize>| {
            let (path, digest) = &digested.files[index];
            InspectedPhotograph {
                file: path.strip_prefix(&common).unwrap_or(path).display().to_string(),
                sha256: hex(digest),
                defect,
                distance,
                fold,
            }
        };
        let mut photographs = vec![];
        for (at, &index) in good.photographs.iter().enumerate() {
            photographs.push(photograph(index, false, inspected.good[at], Some(inspected.folds[at])));
        }
        for (at, &index) in defects.photographs.iter().enumerate() {
            photographs.push(photograph(index, true, inspected.defects[at], None));
        }
        let lines: String =
            photographs.iter().map(|one| format!("{} {}\n", one.defect, one.sha256)).collect();
        let macs = |graph: &TypedModel| -> Result<u64> {
            Ok(Program::steps_on(graph, model.layers(), Isa::Generic)?.iter().map(|step| step.macs).sum())
        };
        Ok(InspectionReport {
            backbone: model.name().to_owned(),
            photographs_sha256: hex(&digest_of(lines.as_bytes())),
            group_by: self.group_by.name().to_owned(),
            seed: self.settings.seed,
            figures: inspected.figures.clone(),
            macs: macs(graph)? - patches.macs(),
            backbone_macs: macs(model.graph())?,
            photographs: if photographs.len() > LISTED { vec![] } else { photographs },
        })
    }
}

/// The same groups, counted from 0 in their order.
fn numbered(groups: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut numbers = std::collections::HashMap::new();
    groups
        .map(|group| {
            let next = numbers.len();
            *numbers.entry(group).or_insert(next)
        })
        .collect()
}

/// What a thread computes features with.
type Workshop = (PatchExtractor, Preprocessor);

/// The features of a photograph, or why there are none.
type Computed = (usize, Result<Vec<i8>, PhotographError>);

fn compute(
    patches: &Patches,
    digested: &Digested,
    chosen: &[usize],
    target: &Target,
    progress: Progress<'_>,
) -> Result<Vec<Computed>> {
    let done = AtomicUsize::new(0);
    let workshop = || -> Result<Workshop> {
        Ok((patches.compile(&target.with_threads(1))?, Preprocessor::new(patches.preprocessing())?))
    };
    // Fails here, and not in every worker.
    workshop()?;
    let one = |state: &mut Result<Workshop>, &index: &usize| -> Result<Computed> {
        let (extractor, preprocessor) = state.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let (path, _): &(PathBuf, Digest) = &digested.files[index];
        let found = match readable(path, patches.preprocessing().crop) {
            Ok(image) => {
                let mut input = vec![0; preprocessor.input_len()];
                preprocessor.quantise(&ImageView::of(&image)?, &mut input)?;
                Ok(extractor.features(&input)?)
            }
            Err(cause) => Err(cause),
        };
        progress("computing features", done.fetch_add(1, Ordering::Relaxed) + 1, chosen.len());
        Ok((index, found))
    };
    chosen.par_iter().map_init(workshop, one).collect()
}

impl Normal {
    /// Writes the model file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, output: &Path, backbone: &Model) -> Result<()> {
        let mut report = backbone.report().clone();
        if !report.is_object() {
            report = serde_json::json!({});
        }
        report["inspection"] = serde_json::to_value(&self.report)?;
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = ModelParts {
            name: name.trim_end_matches(".tar").trim_end_matches(".resight"),
            layers: backbone.layers(),
            graph: &self.graph,
            task: Task::Anomaly,
            labels: &self.labels,
            preprocessing: &self.preprocessing,
            provenance: backbone.provenance(),
            report: &report,
            golden: &self.golden,
        };
        Ok(parts.write(output)?)
    }
}
