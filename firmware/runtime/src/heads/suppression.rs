//! The choice among boxes that overlap.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use resight_model_file::{Anchors, Fcos};

use super::bounds::Detection;

/// How boxes are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// The least score.
    pub(super) threshold: f32,
    /// Of two boxes of a class that overlap more, one is left out.
    pub(super) overlap: f32,
    /// How much the less likely ones lose instead, see [`Anchors::soft`].
    pub(super) soft: Option<f32>,
    /// The most that are chosen from.
    pub(super) candidates: usize,
    /// The most that are chosen.
    pub(super) most: usize,
}

impl From<&Anchors> for Choice {
    fn from(decoder: &Anchors) -> Self {
        let &Anchors { threshold, overlap, soft, candidates, most, .. } = decoder;
        Self { threshold, overlap, soft, candidates, most }
    }
}

impl From<&Fcos> for Choice {
    fn from(decoder: &Fcos) -> Self {
        let &Fcos { threshold, overlap, soft, candidates, most, .. } = decoder;
        Self { threshold, overlap, soft, candidates, most }
    }
}

/// A box that may be chosen, before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) score: f32,
    pub(super) class: usize,
    pub(super) level: usize,
    /// Its anchor among all of the level, by rows, columns and the anchors of a place.
    pub(super) anchor: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// The likeliest is the least; of equals by class, then by level and anchor.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |candidate: &Self| (candidate.class, candidate.level, candidate.anchor);
        other.score.total_cmp(&self.score).then_with(|| place(self).cmp(&place(other)))
    }
}

/// The likeliest of what may be chosen, and the memory to choose in.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The least likely on top.
    heap: BinaryHeap<Candidate>,
    ranked: Vec<Candidate>,
    boxes: Vec<Detection>,
}

impl Candidates {
    /// Memory for so many.
    pub(super) fn new(most: usize) -> Self {
        // One more while the least likely is not left out yet.
        Self {
            heap: BinaryHeap::with_capacity(most + 1),
            ranked: Vec::with_capacity(most),
            boxes: Vec::with_capacity(most),
        }
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }

    /// Takes one in, of which at most `most` stay.
    pub(super) fn push(&mut self, candidate: Candidate, most: usize) {
        if self.heap.len() < most {
            self.heap.push(candidate);
        } else if self.heap.peek().is_some_and(|last| candidate < *last) {
            self.heap.pop();
            self.heap.push(candidate);
        }
    }

    /// Chooses among them: the likeliest first into `found`. `bounds` makes their boxes.
    pub(super) fn choose(
        &mut self,
        choice: Choice,
        found: &mut Vec<Detection>,
        detection: impl Fn(&Candidate) -> Detection,
    ) {
        let Self { heap, ranked, boxes } = self;
        ranked.clear();
        while let Some(candidate) = heap.pop() {
            ranked.push(candidate);
        }
        boxes.clear();
        boxes.extend(ranked.iter().rev().map(detection));
        match choice.soft {
            None => hard(boxes, choice, found),
            Some(width) => soft(boxes, width, choice, found),
        }
    }
}

/// Leaves out what a likelier box of its class overlaps too much; `boxes` are ranked.
fn hard(boxes: &[Detection], choice: Choice, found: &mut Vec<Detection>) {
    for detection in boxes {
        if found.len() == choice.most {
            return;
        }
        let hides = |better: &Detection| {
            better.class == detection.class && better.bounds.overlap(&detection.bounds) > choice.overlap
        };
        if !found.iter().any(hides) {
            found.push(*detection);
        }
    }
}

/// Makes boxes less likely the more a likelier one of their class overlaps them.
fn soft(boxes: &mut Vec<Detection>, width: f32, choice: Choice, found: &mut Vec<Detection>) {
    while found.len() < choice.most {
        // Of equals the first: they are ranked.
        let best = boxes.iter().enumerate().rev().max_by(|a, b| a.1.score.total_cmp(&b.1.score));
        let Some((index, &best)) = best else { return };
        boxes.remove(index);
        found.push(best);
        boxes.retain_mut(|other| {
            if other.class == best.class {
                let overlap = best.bounds.overlap(&other.bounds);
                other.score *= libm::expf(-overlap * overlap / width);
            }
            other.score >= choice.threshold
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::bounds::Bounds;

    const CHOICE: Choice = Choice { threshold: 0.2, overlap: 0.5, soft: None, candidates: 4, most: 3 };

    fn candidate(score: f32, class: usize, anchor: usize) -> Candidate {
        Candidate { score, class, level: 0, anchor }
    }

    /// The anchor is the left edge of a box of ten columns.
    fn chosen(candidates: &[Candidate], choice: Choice) -> Vec<(usize, u32, f32)> {
        let mut memory = Candidates::new(choice.candidates);
        for &candidate in candidates {
            memory.push(candidate, choice.candidates);
        }
        let mut found = vec![];
        memory.choose(choice, &mut found, |candidate| {
            let left = candidate.anchor as f32;
            let bounds = Bounds { left, top: 0.0, right: left + 10.0, bottom: 10.0 };
            Detection { class: candidate.class, score: candidate.score, bounds }
        });
        found.iter().map(|found| (found.class, found.bounds.left as u32, found.score)).collect()
    }

    #[test]
    fn the_likeliest_of_a_class_hides_what_it_overlaps() {
        let candidates =
            [candidate(0.3, 0, 100), candidate(0.9, 0, 2), candidate(0.8, 1, 2), candidate(0.7, 0, 4)];
        // 8 of 12 columns are common to the first two of class 0.
        assert_eq!(chosen(&candidates, CHOICE), [(0, 2, 0.9), (1, 2, 0.8), (0, 100, 0.3)]);
        assert_eq!(chosen(&candidates, Choice { most: 1, ..CHOICE }), [(0, 2, 0.9)]);
        // Only two come into the choice.
        assert_eq!(chosen(&candidates, Choice { candidates: 2, ..CHOICE }), [(0, 2, 0.9), (1, 2, 0.8)]);
        let all = Choice { overlap: 1.0, most: 9, ..CHOICE };
        assert_eq!(chosen(&candidates, all).len(), 4);
    }

    #[test]
    fn equals_keep_their_order() {
        let candidates = [candidate(0.5, 1, 50), candidate(0.5, 0, 70), candidate(0.5, 0, 30)];
        let expected = [(0, 30, 0.5), (0, 70, 0.5), (1, 50, 0.5)];
        assert_eq!(chosen(&candidates, CHOICE), expected);
        assert_eq!(chosen(&candidates, Choice { soft: Some(0.5), ..CHOICE }), expected);
    }

    #[test]
    fn softly_hidden_boxes_lose_score() {
        let candidates =
            [candidate(0.9, 0, 0), candidate(0.8, 0, 5), candidate(0.5, 0, 20), candidate(0.25, 0, 0)];
        let found = chosen(&candidates, Choice { soft: Some(0.5), ..CHOICE });
        // A third is common to the first two; the last is all hidden, and is not likely enough then.
        let second = 0.8 * (-(1.0f32 / 3.0).powi(2) / 0.5).exp();
        assert_eq!(found.iter().map(|found| found.1).collect::<Vec<_>>(), [0, 5, 20]);
        assert!((found[1].2 - second).abs() < 1e-6, "{found:?}");
    }
}
