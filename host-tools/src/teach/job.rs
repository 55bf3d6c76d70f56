//! What `resight teach` does, from photographs to a model file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use resight_base::text::hex;
use resight_imaging::{ImageView, Preprocessor};
use resight_model_file::{Labels, Task, sha256_of_file};
use resight_runtime::{Model, ModelParts, Target};
use resight_teach::{
    Backbone, Extractor, Features, Figures, HeldOut, Learnt, Lesson, Rounded, Settings, Views, golden,
    groups, learn, network, thumbnail,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::cache::{Cache, Digest, Known};
use super::photograph::{PhotographError, readable};
use super::photographs::{GroupBy, Photographs};
use crate::quantise::Progress;

/// Rows of features that are learnt from at most: with more photographs there are fewer views of each.
const ROWS: usize = 40_000;
/// Photographs whose digests the model file lists.
pub(super) const LISTED: usize = 2000;
/// Changes when features of the same photograph become others.
const VERSION: u64 = 1;
/// The cosine of features from which photographs that look alike in grey are nearly the same.
const SIMILAR: f64 = 0.97;
/// Files that a message names.
const NAMED: usize = 5;

/// What is to be taught, and how.
#[derive(Debug, Clone)]
pub struct Job {
    /// How photographs are varied.
    pub views: Views,
    /// How it is learnt.
    pub settings: Settings,
    /// Which photographs belong together.
    pub group_by: GroupBy,
    /// Whether a photograph that cannot be used is an error.
    pub strict: bool,
}

/// What the model file says of its teaching: the entry `taught` of its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaughtReport {
    /// The network that it was made from.
    pub backbone: String,
    /// sha256 over the photographs' digests and classes, in the order of classes and digests.
    pub photographs_sha256: String,
    /// Which photographs belong together: what was asked for.
    pub group_by: String,
    /// What views follow from.
    pub seed: u64,
    /// Whether some views are mirrored.
    pub mirror: bool,
    /// How well it works.
    pub figures: Figures,
    /// Each photograph; empty where there are very many.
    pub photographs: Vec<ReportedPhotograph>,
}

/// A photograph in a [`TaughtReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedPhotograph {
    /// Its path within the folder.
    pub file: String,
    /// Its sha256.
    pub sha256: String,
    /// Its class.
    pub class: usize,
    /// What it was taken for when it was not learnt from.
    pub taken_for: usize,
    /// How probable its own class was then.
    pub probability: f64,
    /// Its group.
    pub group: usize,
    /// Its fold.
    pub fold: usize,
}

/// What was taught.
pub struct Taught {
    /// What the model file says of it.
    pub report: TaughtReport,
    /// The photographs, in the order of the report's, with their paths.
    pub files: Vec<PathBuf>,
    /// The class of each photograph.
    pub classes: Vec<usize>,
    /// Of each photograph, when it was not learnt from.
    pub held_out: Vec<HeldOut>,
    /// What there is to say.
    pub notes: Vec<String>,
    /// Photographs whose features were computed; the others' were in the cache.
    pub computed: usize,
    labels: Labels,
    graph: resight_runtime::tract::TypedModel,
    golden: Vec<resight_model_file::Golden>,
}

/// Photographs with their digests, each once.
pub struct Digested {
    /// The file and its digest, in the order of the photographs.
    pub files: Vec<(PathBuf, Digest)>,
    /// The class of each.
    pub classes: Vec<usize>,
    /// The group of each, by what the user says.
    groups: Vec<usize>,
    names: Vec<String>,
    notes: Vec<String>,
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

impl Digested {
    /// The group of each photograph, by what the user says.
    pub(super) fn groups(&self) -> &[usize] {
        &self.groups
    }

    /// What was passed over.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads every file once.
    ///
    /// # Errors
    /// A file that cannot be read, and one photograph in two classes.
    pub fn new(photographs: &Photographs, group_by: GroupBy, progress: Progress<'_>) -> Result<Self> {
        let done = AtomicUsize::new(0);
        let total = photographs.files.len();
        let digests: Vec<Digest> = photographs
            .files
            .par_iter()
            .map(|file| {
                let bytes =
                    fs::read(&file.path).with_context(|| format!("{}: cannot read", file.path.display()))?;
                progress("reading photographs", done.fetch_add(1, Ordering::Relaxed) + 1, total);
                Ok(digest_of(&bytes))
            })
            .collect::<Result<_>>()?;
        let given = photographs.groups(group_by);
        let mut found = Self {
            files: vec![],
            classes: vec![],
            groups: vec![],
            names: photographs.names.clone(),
            notes: photographs.notes.clone(),
        };
        let mut seen: HashMap<Digest, usize> = HashMap::new();
        let mut twice = vec![];
        for ((file, digest), group) in photographs.files.iter().zip(digests).zip(given) {
            if let Some(&first) = seen.get(&digest) {
                let [a, b] = [&found.files[first].0, &file.path].map(|path| path.display().to_string());
                let class = found.classes[first];
                if class != file.class {
                    bail!(
                        "{a} and {b} are the same photograph, in the classes `{}` and `{}`: remove it from one of \
                         them",
                        found.names[class],
                        found.names[file.class]
                    );
                }
                twice.push(b);
                continue;
            }
            seen.insert(digest, found.files.len());
            found.files.push((file.path.clone(), digest));
            found.classes.push(file.class);
            found.groups.push(group);
        }
        if !twice.is_empty() {
            found.notes.push(format!(
                "{} there twice, counted once: {}",
                counted(twice.len()),
                named(&twice)
            ));
        }
        Ok(found)
    }
}

pub(super) fn counted(count: usize) -> String {
    if count == 1 { "1 photograph is".to_owned() } else { format!("{count} photographs are") }
}

pub(super) fn named(items: &[String]) -> String {
    let more = items.len().saturating_sub(NAMED);
    let list = items.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

impl Job {
    /// How photographs are varied when there are so many.
    fn views_of(&self, photographs: usize) -> Views {
        let most = (ROWS / photographs.max(1)).max(1);
        Views { count: self.views.count.clamp(1, most), ..self.views }
    }

    /// Teaches `model` the classes of the photographs. `cache` is a folder that is there.
    ///
    /// # Errors
    /// A network without a global average; photographs that cannot be used, if the job is strict, or if
    /// too few are left.
    pub fn teach(
        &self,
        model: &Model,
        digested: Digested,
        cache: &Path,
        target: &Target,
        progress: Progress<'_>,
    ) -> Result<Taught> {
        let backbone = Backbone::of(model)?;
        let views = self.views_of(digested.files.len());
        let mut notes = digested.notes.clone();
        if views.count < self.views.count {
            notes.push(format!(
                "{} views of each of {} photographs, not {}: that is as much as is learnt from at once",
                views.count,
                digested.files.len(),
                self.views.count
            ));
        }
        let key = cache_key(model, views)?;
        let mut remembered = Cache::open(cache, key, views.count * backbone.channels());
        let computed = compute(&backbone, &digested, views, &remembered, target, progress)?;
        let mut count = 0;
        let mut refused: HashMap<usize, PhotographError> = HashMap::new();
        for (index, result) in computed {
            match result {
                Ok(known) => {
                    remembered.insert(digested.files[index].1, known);
                    count += 1;
                }
                Err(error) if self.strict => return Err(error.into()),
                Err(error) => {
                    refused.insert(index, error);
                }
            }
        }
        if count > 0 {
            remembered.save()?;
        }
        let digested = without(digested, &refused, &mut notes)?;
        let mut usable = Usable::new(&digested, &remembered, &backbone, views);
        usable.part(&digested, &mut notes);
        let lesson = Lesson {
            features: &usable.features,
            views: views.count,
            classes: &digested.classes,
            names: &digested.names,
            groups: &usable.groups,
            zero: backbone.zero(),
            limit: backbone.limit(),
        };
        let mut learnt = learn(&lesson, &self.settings, &|done, total| progress("learning", done, total))?;
        let bases: Vec<usize> = (0..digested.files.len()).map(|index| index * views.count).collect();
        let rounded = Rounded::new(&learnt, &usable.features, &bases, backbone.limit())?;
        learnt.figures.changed_by_rounding = changed(&learnt, &rounded, &usable.features, &bases);
        let graph = network(&backbone, &learnt, &rounded)?;
        let input = input_of(&backbone, &digested.files[0].0)?;
        let golden = golden(&backbone, &graph, input)?;
        let labels = labels_of(&digested.names, learnt.memory.is_some())?;
        Ok(Taught {
            report: self.report(model, &digested, &usable.groups, &learnt),
            files: digested.files.into_iter().map(|(path, _)| path).collect(),
            classes: digested.classes,
            held_out: learnt.held_out,
            notes,
            computed: count,
            labels,
            graph,
            golden,
        })
    }

    fn report(&self, model: &Model, digested: &Digested, groups: &[usize], learnt: &Learnt) -> TaughtReport {
        let mut lines: Vec<String> = digested
            .files
            .iter()
            .zip(&digested.classes)
            .map(|((_, digest), &class)| format!("{class} {}\n", hex(digest)))
            .collect();
        lines.sort();
        let common = common_folder(&digested.files);
        let photograph = |index: usize| {
            let (path, digest) = &digested.files[index];
            let held_out = &learnt.held_out[index];
            ReportedPhotograph {
                file: path.strip_prefix(&common).unwrap_or(path).display().to_string(),
                sha256: hex(digest),
                class: digested.classes[index],
                taken_for: held_out.best(),
                probability: held_out.probabilities[digested.classes[index]],
                group: groups[index],
                fold: learnt.folds[index],
            }
        };
        let count = digested.files.len();
        TaughtReport {
            backbone: model.name().to_owned(),
            photographs_sha256: hex(&digest_of(lines.concat().as_bytes())),
            group_by: self.group_by.name().to_owned(),
            seed: self.views.seed,
            mirror: self.views.mirror,
            figures: learnt.figures.clone(),
            photographs: (0..if count <= LISTED { count } else { 0 }).map(photograph).collect(),
        }
    }
}

fn labels_of(names: &[String], unknown: bool) -> Result<Labels> {
    let photographs = Photographs { names: names.to_vec(), files: vec![], notes: vec![] };
    photographs.labels(unknown)
}

/// The folder that all files are in.
pub(super) fn common_folder(files: &[(PathBuf, Digest)]) -> PathBuf {
    let mut common = files.first().and_then(|(path, _)| path.parent()).unwrap_or(Path::new("")).to_owned();
    for (path, _) in files {
        while !path.starts_with(&common) && common.pop() {}
    }
    common
}

/// What features depend on besides the photograph.
fn cache_key(model: &Model, views: Views) -> Result<Digest> {
    let mut digest = Sha256::new();
    digest.update(VERSION.to_le_bytes());
    digest.update(sha256_of_file(Path::new(model.file()))?);
    digest.update((views.count as u64).to_le_bytes());
    digest.update(views.seed.to_le_bytes());
    digest.update([u8::from(views.mirror)]);
    Ok(digest.finalize().into())
}

/// What a thread computes features with.
type Workshop = (Extractor, Preprocessor);

/// Computes the features of the photographs that the cache does not have.
fn compute(
    backbone: &Backbone,
    digested: &Digested,
    views: Views,
    cache: &Cache,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Vec<(usize, Result<Known, PhotographError>)>> {
    let missing: Vec<usize> =
        (0..digested.files.len()).filter(|&index| cache.get(&digested.files[index].1).is_none()).collect();
    let done = AtomicUsize::new(0);
    let workshop = || -> Result<Workshop> {
        Ok((backbone.compile(&target.with_threads(1))?, Preprocessor::new(backbone.preprocessing())?))
    };
    // Fails here, and not in every worker.
    workshop()?;
    let one =
        |state: &mut Result<Workshop>, &index: &usize| -> Result<(usize, Result<Known, PhotographError>)> {
            let (extractor, preprocessor) = state.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let (path, digest) = &digested.files[index];
            let photograph = readable(path, backbone.preprocessing().crop);
            let result = match photograph {
                Ok(image) => {
                    let key = u64::from_le_bytes(digest[..8].try_into().unwrap_or_default());
                    let mut known = Known {
                        features: Vec::with_capacity(views.count * backbone.channels()),
                        thumbnail: thumbnail(&image),
                        size: [image.width(), image.height()],
                    };
                    let mut input = vec![0; preprocessor.input_len()];
                    let shorter = backbone.preprocessing().resize_shorter;
                    views.each(&image, key, shorter, |_, view| -> Result<()> {
                        preprocessor.quantise(&ImageView::of(view)?, &mut input)?;
                        known.features.extend(extractor.features(&input)?);
                        Ok(())
                    })?;
                    Ok(known)
                }
                Err(refused) => Err(refused),
            };
            progress("computing features", done.fetch_add(1, Ordering::Relaxed) + 1, missing.len());
            Ok((index, result))
        };
    missing.par_iter().map_init(workshop, one).collect()
}

/// The network's input for a photograph.
fn input_of(backbone: &Backbone, path: &Path) -> Result<Vec<i8>> {
    let image = resight_imaging::decode(path)?;
    let mut preprocessor = Preprocessor::new(backbone.preprocessing())?;
    let mut input = vec![0; preprocessor.input_len()];
    preprocessor.quantise(&ImageView::of(&image)?, &mut input)?;
    Ok(input)
}

/// What is left without the photographs that cannot be used.
fn without(
    digested: Digested,
    refused: &HashMap<usize, PhotographError>,
    notes: &mut Vec<String>,
) -> Result<Digested> {
    let mut order: Vec<&usize> = refused.keys().collect();
    order.sort();
    let causes: Vec<String> = order.iter().map(|index| refused[*index].to_string()).collect();
    if !causes.is_empty() {
        notes.push(format!(
            "{} passed over (--strict makes that an error): {}",
            counted(causes.len()),
            named(&causes)
        ));
    }
    let mut left = Digested {
        files: vec![],
        classes: vec![],
        groups: vec![],
        names: digested.names,
        notes: digested.notes,
    };
    let all = digested.files.into_iter().zip(digested.classes).zip(digested.groups);
    for (_, ((file, class), group)) in all.enumerate().filter(|(index, _)| !refused.contains_key(index)) {
        left.files.push(file);
        left.classes.push(class);
        left.groups.push(group);
    }
    for (class, name) in left.names.iter().enumerate() {
        let count = left.classes.iter().filter(|other| **other == class).count();
        ensure!(count > 0, "the class `{name}` has no photograph that can be used: {}", named(&causes));
        ensure!(
            count >= 3,
            "the class `{name}` has {count} photograph{} that can be used: give 3 at the least, better 40, taken on \
             several occasions",
            if count == 1 { "" } else { "s" }
        );
    }
    Ok(left)
}

/// Features and groups of the photographs.
struct Usable {
    features: Features,
    groups: Vec<usize>,
}

impl Usable {
    fn new(digested: &Digested, cache: &Cache, backbone: &Backbone, views: Views) -> Self {
        let mut features = Features::new(backbone.channels());
        let mut thumbnails = Vec::with_capacity(digested.files.len());
        for (_, digest) in &digested.files {
            // Everything was computed or remembered.
            if let Some(known) = cache.get(digest) {
                known.features.chunks_exact(backbone.channels()).for_each(|row| features.push(row));
                thumbnails.push(known.thumbnail);
            }
        }
        let zero = i64::from(backbone.zero());
        let similar = |one: usize, other: usize| {
            cosine(features.row(one * views.count), features.row(other * views.count), zero) > SIMILAR
        };
        let groups = groups(&thumbnails, &digested.classes, &digested.groups, similar);
        Self { features, groups }
    }
}

impl Usable {
    /// Parts the photographs of a class that are all nearly the same: it is learnt, but what its figures
    /// say is too good.
    fn part(&mut self, digested: &Digested, notes: &mut Vec<String>) {
        for (class, name) in digested.names.iter().enumerate() {
            let own: Vec<usize> =
                (0..self.groups.len()).filter(|&index| digested.classes[index] == class).collect();
            if own.iter().any(|&index| self.groups[index] != self.groups[own[0]]) {
                continue;
            }
            notes.push(format!(
                "the {} photographs of `{name}` are nearly the same or belong together: what its figures say is \
                 too good; add photographs taken on other occasions",
                own.len()
            ));
            let unused = self.groups.iter().max().map_or(0, |group| group + 1)..;
            for (&index, group) in own.iter().skip(1).zip(unused) {
                self.groups[index] = group;
            }
        }
    }
}

fn cosine(a: &[i16], b: &[i16], zero: i64) -> f64 {
    let (mut ab, mut aa, mut bb) = (0_i64, 0_i64, 0_i64);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (i64::from(a) - zero, i64::from(b) - zero);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ab as f64 / ((aa as f64) * (bb as f64)).sqrt().max(1.0)
}

/// The share of photographs whose best class is another by the rounded weights.
fn changed(learnt: &Learnt, rounded: &Rounded, features: &Features, rows: &[usize]) -> f64 {
    let columns = features.columns();
    let best = |values: &[f64]| {
        (0..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
    };
    let changed = rows.iter().filter(|&&row| {
        let row = features.row(row);
        let exact: Vec<f64> = learnt
            .weights
            .chunks_exact(columns)
            .zip(&learnt.bias)
            .map(|(weights, bias)| {
                bias + weights.iter().zip(row).map(|(weight, &value)| weight * f64::from(value)).sum::<f64>()
            })
            .collect();
        let logits: Vec<f64> = rounded.logits(row).into_iter().map(f64::from).collect();
        best(&exact) != best(&logits)
    });
    changed.count() as f64 / rows.len().max(1) as f64
}

impl Taught {
    /// Writes the model file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, output: &Path, backbone: &Model) -> Result<()> {
        let mut report = backbone.report().clone();
        if !report.is_object() {
            report = serde_json::json!({});
        }
        report["taught"] = serde_json::to_value(&self.report)?;
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = ModelParts {
            name: name.trim_end_matches(".tar").trim_end_matches(".resight"),
            layers: backbone.layers(),
            graph: &self.graph,
            task: Task::default(),
            labels: &self.labels,
            preprocessing: backbone.preprocessing(),
            provenance: backbone.provenance(),
            report: &report,
            golden: &self.golden,
        };
        Ok(parts.write(output)?)
    }

    /// Photographs that were taken for another class with so much certainty that they may be in the
    /// wrong folder, the most certain first.
    pub fn suspicious(&self) -> Vec<usize> {
        let doubt = |index: &usize| self.held_out[*index].probabilities[self.classes[*index]];
        let mut found: Vec<usize> = (0..self.held_out.len())
            .filter(|index| {
                let held_out = &self.held_out[*index];
                doubt(index) < 0.03 && held_out.probabilities[held_out.best()] > 0.9
            })
            .collect();
        found.sort_by(|a, b| doubt(a).total_cmp(&doubt(b)));
        found
    }

    /// Photographs that were taken for another class when they were not learnt from, the worst first.
    pub fn wrong(&self) -> Vec<usize> {
        let doubt = |index: &usize| self.held_out[*index].probabilities[self.classes[*index]];
        let mut found: Vec<usize> = (0..self.held_out.len())
            .filter(|index| self.held_out[*index].best() != self.classes[*index])
            .collect();
        found.sort_by(|a, b| doubt(a).total_cmp(&doubt(b)));
        found
    }
}
