//! How well vectors tell what pictures show, by pictures that are known.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use resight_runtime::{Model, Target};
use serde::Serialize;

use super::{Grouped, VectorModel, product};
use crate::classifier::is_onnx;
use crate::quantise::Progress;

/// The nearest pictures that a class may be among.
const NEAREST: usize = 5;
/// Steps that cosines from -1 to 1 are counted in.
const STEPS: usize = 20_000;
/// The share of pairs of two classes that may be taken for pairs of one.
const FALSE_ALARMS: f64 = 0.01;

/// How well a network's vectors tell what pictures show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VectorEvaluation {
    /// The model's file.
    pub model: String,
    /// Pictures evaluated.
    pub images: usize,
    /// What they show: folders.
    pub classes: usize,
    /// Percent of the pictures whose nearest other picture, by the cosine, is of their class; a picture
    /// that is the only one of its class is only among the others.
    pub recall_at_1: f64,
    /// The same with one of the five nearest.
    pub recall_at_5: f64,
    /// Percent of the cases in which a pair of pictures of one class is more alike than a pair of two.
    pub auroc: f64,
    /// The least cosine, in steps of 1e-4, that at most one of a hundred pairs of two classes reaches.
    pub threshold: f64,
    /// Percent of the pairs of one class that reach it.
    pub found: f64,
    /// Mean cosine of a picture's vector with that of the first, f32, network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
    /// The lowest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_cosine: Option<f64>,
    /// Percent of the pictures with the same nearest picture as in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// Runs every model over the pictures of a folder that has a folder for each class. f32 networks get the
/// preprocessing of the first int8 model.
///
/// # Errors
/// Models that give no vectors, a folder without classes, no class of two pictures, pictures that cannot
/// be read.
pub fn evaluate(
    models: &[PathBuf],
    folder: &Path,
    strict: bool,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Vec<VectorEvaluation>> {
    let int8 = models.iter().find(|path| !is_onnx(path)).context("no int8 model is given")?;
    let int8 = Arc::new(Model::load(int8)?);
    // Before the pictures, which take their time.
    let load = |path: &PathBuf| {
        if is_onnx(path) {
            VectorModel::float(path, &int8)
        } else {
            VectorModel::int8(Arc::new(Model::load(path)?), target)
        }
    };
    let loaded = models.iter().map(load).collect::<Result<Vec<_>>>()?;
    let grouped = Grouped::read(folder, strict, progress)?;
    let has_pair = (0..grouped.names.len())
        .any(|group| grouped.groups.iter().filter(|&&other| other == group).count() > 1);
    ensure!(
        has_pair && grouped.names.len() > 1,
        "{}: two folders at least, one of them with two pictures, are needed to say how well vectors tell them apart",
        folder.display()
    );
    let mut results = vec![];
    let mut reference: Option<Vec<Vec<f32>>> = None;
    for (model, path) in loaded.iter().zip(models) {
        let vectors = model.directions(&grouped.pictures, path, progress)?;
        let is_first = results.is_empty();
        let against = reference.as_deref().filter(|other| other[0].len() == vectors[0].len());
        results.push(score(path.display().to_string(), &grouped, &vectors, against));
        if is_first && is_onnx(path) {
            reference = Some(vectors);
        }
    }
    Ok(results)
}

/// The nearest other pictures of a picture, nearest first; of equals the first.
fn nearest(vectors: &[Vec<f32>], picture: usize) -> Vec<usize> {
    let mut best: Vec<(f64, usize)> = Vec::with_capacity(NEAREST + 1);
    for (other, vector) in vectors.iter().enumerate().filter(|(other, _)| *other != picture) {
        let alike = product(&vectors[picture], vector);
        let at = best.iter().position(|(kept, _)| *kept < alike).unwrap_or(best.len());
        if at < NEAREST {
            best.insert(at, (alike, other));
            best.truncate(NEAREST);
        }
    }
    best.into_iter().map(|(_, other)| other).collect()
}

/// How many pairs are how alike: of one class, and of two.
fn pairs(vectors: &[Vec<f32>], groups: &[usize]) -> [Vec<u64>; 2] {
    let none = || [vec![0_u64; STEPS + 1], vec![0_u64; STEPS + 1]];
    let count = |mut counts: [Vec<u64>; 2], one: usize| {
        for other in 0..one {
            let share = f64::midpoint(product(&vectors[one], &vectors[other]).clamp(-1.0, 1.0), 1.0);
            counts[usize::from(groups[one] != groups[other])][(share * STEPS as f64).round() as usize] += 1;
        }
        counts
    };
    let merge = |mut all: [Vec<u64>; 2], more: [Vec<u64>; 2]| {
        for (sum, one) in all.iter_mut().zip(&more) {
            sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
        all
    };
    (0..vectors.len()).into_par_iter().fold(none, count).reduce(none, merge)
}

/// AUROC, the threshold for [`FALSE_ALARMS`], and which share of the pairs of one class reaches it.
fn separation([same, different]: &[Vec<u64>; 2]) -> (f64, f64, f64) {
    let total = |counts: &[u64]| counts.iter().sum::<u64>().max(1) as f64;
    let (mut below, mut won) = (0.0, 0.0);
    for (&own, &other) in same.iter().zip(different) {
        won += own as f64 * (below + other as f64 / 2.0);
        below += other as f64;
    }
    let most = (FALSE_ALARMS * total(different)).floor() as u64;
    // From above, as long as not too many are reached.
    let (mut step, mut reached) = (STEPS + 1, 0);
    while step > 0 && reached + different[step - 1] <= most {
        step -= 1;
        reached += different[step];
    }
    let found = same[step.min(STEPS + 1)..].iter().sum::<u64>() as f64;
    let threshold = 2.0 * step as f64 / STEPS as f64 - 1.0;
    (won / total(same) / total(different), threshold, found / total(same))
}

fn score(
    model: String,
    grouped: &Grouped,
    vectors: &[Vec<f32>],
    reference: Option<&[Vec<f32>]>,
) -> VectorEvaluation {
    let groups = &grouped.groups;
    let of_all = |vectors: &[Vec<f32>]| -> Vec<Vec<usize>> {
        (0..vectors.len()).into_par_iter().map(|picture| nearest(vectors, picture)).collect()
    };
    let found = of_all(vectors);
    let asked: Vec<usize> = (0..groups.len())
        .filter(|&picture| groups.iter().filter(|&&group| group == groups[picture]).count() > 1)
        .collect();
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    let recall = |count: usize| {
        let is_found = |&&picture: &&usize| {
            found[picture].iter().take(count).any(|&other| groups[other] == groups[picture])
        };
        percent(asked.iter().filter(is_found).count(), asked.len())
    };
    let (auroc, threshold, share) = separation(&pairs(vectors, groups));
    let cosines: Option<Vec<f64>> =
        reference.map(|reference| reference.iter().zip(vectors).map(|(a, b)| product(a, b)).collect());
    let agreement = reference.map(|reference| {
        let theirs = of_all(reference);
        let same = theirs.iter().zip(&found).filter(|(a, b)| a.first() == b.first()).count();
        percent(same, found.len())
    });
    VectorEvaluation {
        model,
        images: vectors.len(),
        classes: grouped.names.len(),
        recall_at_1: recall(1),
        recall_at_5: recall(NEAREST),
        auroc: 100.0 * auroc,
        threshold,
        found: 100.0 * share,
        cosine: cosines.as_ref().map(|all| all.iter().sum::<f64>() / all.len().max(1) as f64),
        least_cosine: cosines.as_ref().map(|all| all.iter().copied().fold(1.0, f64::min)),
        agreement,
    }
}

#[cfg(test)]
mod tests {
    use resight_runtime::normalise;

    use super::*;

    fn grouped(groups: &[usize]) -> Grouped {
        let names = (0..=groups.iter().copied().max().unwrap_or(0)).map(|name| name.to_string()).collect();
        Grouped { names, pictures: vec![PathBuf::new(); groups.len()], groups: groups.to_vec() }
    }

    /// Directions in a plane, by their angles in degrees.
    fn directions(angles: &[f64]) -> Vec<Vec<f32>> {
        let direction = |angle: &f64| {
            let (sine, cosine) = angle.to_radians().sin_cos();
            let mut vector = vec![cosine as f32, sine as f32];
            normalise(&mut vector);
            vector
        };
        angles.iter().map(direction).collect()
    }

    #[test]
    fn the_nearest_other_picture_decides() {
        // The third is nearer to the other class; the last one is alone in its own.
        let vectors = directions(&[0.0, 10.0, 40.0, 48.0, 53.0, 180.0]);
        let found = score("m".into(), &grouped(&[0, 0, 0, 1, 1, 2]), &vectors, None);
        assert_eq!((found.images, found.classes), (6, 3));
        assert_eq!(found.recall_at_1, 80.0);
        assert_eq!(found.recall_at_5, 100.0);
        assert_eq!((found.cosine, found.agreement), (None, None));
    }

    #[test]
    fn pairs_of_one_class_are_compared_with_pairs_of_two() {
        // Of one class: 10 and 10 degrees; of two: 80, 90, 90, 100.
        let vectors = directions(&[0.0, 10.0, 90.0, 100.0]);
        let found = score("m".into(), &grouped(&[0, 0, 1, 1]), &vectors, None);
        assert_eq!((found.auroc, found.found), (100.0, 100.0));
        // Above the cosine of 80 degrees, 0.17365.
        assert!((found.threshold - 0.1737).abs() < 1e-9, "{found:?}");
        let mixed = score("m".into(), &grouped(&[0, 1, 0, 1]), &vectors, None);
        // Of one class 90 and 90 degrees; of two 10, 100, 80 and 10.
        assert_eq!((mixed.auroc, mixed.found), (25.0, 0.0));
    }

    #[test]
    fn another_network_is_compared_picture_by_picture() {
        let reference = directions(&[0.0, 10.0, 90.0, 100.0]);
        let vectors = directions(&[0.0, 10.0, 90.0, 40.0]);
        let found = score("m".into(), &grouped(&[0, 0, 1, 1]), &vectors, Some(&reference));
        assert!((found.cosine.unwrap() - (3.0 + 0.5) / 4.0).abs() < 1e-6, "{found:?}");
        assert!((found.least_cosine.unwrap() - 0.5).abs() < 1e-6, "{found:?}");
        // The last one is nearest to the second now.
        assert_eq!(found.agreement, Some(75.0));
    }
}
