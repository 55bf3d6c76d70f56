//! Average precision of boxes as COCO defines it: 101 recall points, all areas, at most 100 boxes of
//! a class in a picture, ten thresholds of overlap (Lin et al., "Microsoft COCO", 2014, and its
//! evaluation code's documentation).

use resight_runtime::{Bounds, Detection};

use super::annotations::{Truth, TruthKind};

/// Thresholds of overlap: 0.5, 0.55, to 0.95.
pub const OVERLAPS: usize = 10;

/// Most boxes of a class in a picture that count.
const MOST: usize = 100;

/// Points of recall: 0, 0.01, to 1.
const RECALLS: usize = 101;

/// A picture: what is there, and what was found.
pub type Picture<'a> = (&'a [Truth], &'a [Detection]);

/// What became of a box that was found, at each threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hit {
    Right,
    Wrong,
    /// It is in a crowd, or on what does not count.
    Ignored,
}

fn threshold(index: usize) -> f64 {
    0.5 + 0.05 * index as f64
}

/// What was found in a picture beside what is there.
pub(crate) struct Compared {
    /// Of what was found, the likeliest first.
    pub(crate) scores: Vec<f32>,
    /// What is there; what counts comes first.
    pub(crate) truths: Vec<TruthKind>,
    /// How much each that was found is what is there, `0..=1`: `[found][there]`.
    pub(crate) overlaps: Vec<Vec<f64>>,
}

/// The average precision of a class at each threshold of overlap, `0..=1`; `None` for a class that no
/// picture has.
pub fn average_precision(pictures: &[Picture<'_>], class: usize) -> Option<[f64; OVERLAPS]> {
    let compared = |(truths, detections): &Picture<'_>| {
        let mut truths: Vec<Truth> = truths.iter().copied().filter(|truth| truth.class == class).collect();
        truths.sort_by_key(|truth| truth.kind != TruthKind::One);
        let mut boxes: Vec<Detection> =
            detections.iter().copied().filter(|detection| detection.class == class).collect();
        boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
        boxes.truncate(MOST);
        let overlaps = |found: &Detection| truths.iter().map(|truth| overlap(&found.bounds, truth)).collect();
        Compared {
            overlaps: boxes.iter().map(overlaps).collect(),
            scores: boxes.iter().map(|found| found.score).collect(),
            truths: truths.iter().map(|truth| truth.kind).collect(),
        }
    };
    precision(&pictures.iter().map(compared).collect::<Vec<Compared>>())
}

/// The average precision at each threshold of overlap, `0..=1`; `None` where nothing is there.
pub(crate) fn precision(pictures: &[Compared]) -> Option<[f64; OVERLAPS]> {
    let mut found: Vec<(f32, [Hit; OVERLAPS])> = vec![];
    let mut there = 0;
    for Compared { scores, truths, overlaps } in pictures {
        there += truths.iter().filter(|kind| **kind == TruthKind::One).count();
        let mut hits = vec![[Hit::Wrong; OVERLAPS]; scores.len()];
        for at in 0..OVERLAPS {
            for (hits, hit) in hits.iter_mut().zip(matched(truths, overlaps, threshold(at))) {
                hits[at] = hit;
            }
        }
        found.extend(scores.iter().copied().zip(hits));
    }
    if there == 0 {
        return None;
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    Some(std::array::from_fn(|at| {
        let hits = found.iter().map(|(_, hits)| hits[at]).filter(|hit| *hit != Hit::Ignored);
        area(&hits.collect::<Vec<Hit>>(), there)
    }))
}

/// What both cover as a share of what either does; of a crowd, as a share of what was found.
fn overlap(found: &Bounds, truth: &Truth) -> f64 {
    let side = |low: f32, high: f32| (f64::from(high) - f64::from(low)).max(0.0);
    let area = |b: &Bounds| side(b.left, b.right) * side(b.top, b.bottom);
    let other = &truth.bounds;
    let common = side(found.left.max(other.left), found.right.min(other.right))
        * side(found.top.max(other.top), found.bottom.min(other.bottom));
    let whole = if truth.kind == TruthKind::Crowd { area(found) } else { area(found) + area(other) - common };
    if whole > 0.0 { common / whole } else { 0.0 }
}

/// Gives each box, the likeliest first, the truth that it overlaps most and that no other has.
fn matched(truths: &[TruthKind], overlaps: &[Vec<f64>], threshold: f64) -> Vec<Hit> {
    let mut taken = vec![false; truths.len()];
    overlaps
        .iter()
        .map(|overlaps| {
            let mut best: Option<usize> = None;
            for (index, kind) in truths.iter().enumerate() {
                let is_better = best.is_none_or(|best| overlaps[index] > overlaps[best]);
                let counts = *kind == TruthKind::One;
                // What does not count comes last, and is only for what has no truth of its own.
                let has_own = !counts && best.is_some_and(|best| truths[best] == TruthKind::One);
                if overlaps[index] >= threshold && is_better && !has_own && (!taken[index] || !counts) {
                    best = Some(index);
                }
            }
            match best {
                None => Hit::Wrong,
                Some(index) if truths[index] != TruthKind::One => Hit::Ignored,
                Some(index) => {
                    taken[index] = true;
                    Hit::Right
                }
            }
        })
        .collect()
}

/// The mean over the points of recall of the best precision at that recall or a larger one.
fn area(hits: &[Hit], there: usize) -> f64 {
    let mut right = 0;
    let mut curve: Vec<(f64, f64)> = hits
        .iter()
        .enumerate()
        .map(|(index, hit)| {
            right += usize::from(*hit == Hit::Right);
            (right as f64 / there as f64, right as f64 / (index + 1) as f64)
        })
        .collect();
    let mut best = 0.0f64;
    for (_, precision) in curve.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let at = |point: usize| {
        let recall = point as f64 / (RECALLS - 1) as f64;
        let first = curve.partition_point(|(reached, _)| *reached < recall);
        curve.get(first).map_or(0.0, |(_, precision)| *precision)
    };
    (0..RECALLS).map(at).sum::<f64>() / RECALLS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(left: f32, right: f32) -> Bounds {
        Bounds { left, top: 0.0, right, bottom: 10.0 }
    }

    fn truth(left: f32, right: f32) -> Truth {
        Truth { class: 0, bounds: bounds(left, right), kind: TruthKind::One }
    }

    fn found(score: f32, left: f32, right: f32) -> Detection {
        Detection { class: 0, score, bounds: bounds(left, right) }
    }

    fn precision(truths: &[Truth], found: &[Detection]) -> [f64; OVERLAPS] {
        average_precision(&[(truths, found)], 0).unwrap()
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn what_is_right_depends_on_the_overlap() {
        // 8 of 10 columns: 0.8, so right up to 0.8.
        let at = precision(&[truth(0.0, 10.0)], &[found(0.9, 0.0, 8.0)]);
        assert_eq!(at.map(|precision| precision > 0.5), std::array::from_fn(|index| index <= 6));
        near(at[0], 1.0);
    }

    #[test]
    fn a_truth_is_found_once_and_what_is_missed_counts() {
        // Right, twice the same, right, nothing; one of three is missed.
        let truths = [truth(0.0, 10.0), truth(20.0, 30.0), truth(40.0, 50.0)];
        let boxes =
            [found(0.9, 0.0, 10.0), found(0.8, 0.0, 10.0), found(0.7, 20.0, 30.0), found(0.6, 90.0, 99.0)];
        // Recall a third with precision 1: points 0 to 33; two thirds with 2/3: points 34 to 66.
        near(precision(&truths, &boxes)[0], (34.0 + 33.0 * 2.0 / 3.0) / 101.0);
        // Another class is nobody's.
        assert_eq!(average_precision(&[(&truths, &boxes)], 1), None);
        near(precision(&truths, &[])[0], 0.0);
    }

    #[test]
    fn boxes_in_a_crowd_are_neither_right_nor_wrong() {
        let crowd = Truth { kind: TruthKind::Crowd, ..truth(20.0, 90.0) };
        let truths = [crowd, truth(0.0, 10.0)];
        let boxes = [found(0.9, 20.0, 30.0), found(0.8, 30.0, 40.0), found(0.7, 0.0, 10.0)];
        near(precision(&truths, &boxes)[0], 1.0);
        // Without the crowd two are wrong.
        near(precision(&truths[1..], &boxes)[0], 1.0 / 3.0);
    }

    #[test]
    fn what_is_difficult_does_not_count() {
        let difficult = Truth { kind: TruthKind::Difficult, ..truth(20.0, 30.0) };
        let truths = [difficult, truth(0.0, 10.0)];
        // Twice where it is difficult; one reaches out of it, which a crowd would forgive only within.
        let boxes = [found(0.9, 20.0, 30.0), found(0.8, 20.0, 29.0), found(0.7, 0.0, 10.0)];
        near(precision(&truths, &boxes)[0], 1.0);
        near(precision(&truths, &[found(0.9, 24.0, 25.0), found(0.7, 0.0, 10.0)])[0], 0.5);
    }

    #[test]
    fn only_the_likeliest_of_a_picture_count() {
        let mut boxes: Vec<Detection> = (0..100).map(|_| found(0.9, 90.0, 99.0)).collect();
        boxes.push(found(0.1, 0.0, 10.0));
        near(precision(&[truth(0.0, 10.0)], &boxes)[0], 0.0);
        near(precision(&[truth(0.0, 10.0)], &boxes[1..])[0], 0.01);
    }
}
