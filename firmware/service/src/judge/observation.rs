//! What a network says of a frame: the one thing that rules read.

use std::time::Duration;

use super::evidence::Evidence;
use super::masks::SeenMask;
use super::points::SeenPoint;
use super::seen::SeenBox;

/// A frame as the rules see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The frame's number.
    pub(crate) frame: u64,
    /// When the frame came, since the start of the service.
    pub(crate) arrival: Duration,
    pub(crate) finding: Finding,
}

/// The memory of a finding, of what there is in it.
#[derive(Debug, Default)]
pub(crate) struct FindingMemory {
    pub(crate) scores: Option<Vec<f32>>,
    pub(crate) boxes: Option<Vec<SeenBox>>,
    pub(crate) masks: Option<Vec<SeenMask>>,
    pub(crate) points: Option<Vec<SeenPoint>>,
}

/// What was found in a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    /// The frame came, and nobody wanted to know what it shows.
    Unseen,
    /// The score of each class, `0..=1`; one of them is right.
    Classes(Vec<f32>),
    /// The score of each class, `0..=1`; none, one or several of them are there.
    Independent(Vec<f32>),
    /// The score of each class and the boxes that were found, the likeliest first.
    Boxes(Vec<f32>, Vec<SeenBox>),
    /// The score of each class, its share of what the network saw, and what each place belongs to: a mask
    /// of each part of the frame that is looked at by itself.
    Masks(Vec<f32>, Vec<SeenMask>),
    /// The score of each class, and where it is, once or in several things.
    Points(Vec<f32>, Vec<SeenPoint>),
}

impl Finding {
    /// What the scores say for any of `classes`; `None` if nothing was looked at. A class that the
    /// network does not know has a score of 0.
    pub(crate) fn evidence(&self, classes: &[usize]) -> Option<Evidence> {
        let scores = self.scores()?;
        let score = |class: usize| scores.get(class).copied().unwrap_or(0.0);
        let first = classes.first().copied().unwrap_or(0);
        let likelier = |best, &class| if score(class) > score(best) { class } else { best };
        let class = classes.iter().fold(first, likelier);
        let together = match self {
            // Rounding may bring the sum of all classes above one.
            Self::Classes(_) => classes.iter().map(|&class| score(class)).sum::<f32>().min(1.0),
            // What is likely of one is no likelier for others that are there as well.
            _ if classes.is_empty() => 0.0,
            _ => score(class),
        };
        Some(Evidence { score: together, class, place: None, track: None })
    }

    /// What masks say for any of `classes`, which are all of one of them, in a zone or everywhere; `None`
    /// if there are no masks.
    pub(super) fn share(&self, classes: &[usize], zone: &[[f32; 2]]) -> Option<Evidence> {
        let Self::Masks(scores, masks) = self else { return None };
        let each = (scores.len() / masks.len().max(1)).max(1);
        let number = classes.first().map_or(0, |class| class / each);
        masks.get(number).map(|mask| mask.evidence(classes, number * each, zone))
    }

    /// The score of each class; `None` if nothing was looked at.
    pub(crate) fn scores(&self) -> Option<&[f32]> {
        match self {
            Self::Unseen => None,
            Self::Classes(scores)
            | Self::Independent(scores)
            | Self::Boxes(scores, _)
            | Self::Masks(scores, _)
            | Self::Points(scores, _) => Some(scores),
        }
    }

    /// The boxes that were found, the likeliest first; none of a network that finds none.
    pub(crate) fn boxes(&self) -> &[SeenBox] {
        match self {
            Self::Boxes(_, boxes) => boxes,
            _ => &[],
        }
    }

    /// Where each class is, one after another; none of a network that does not say.
    pub(crate) fn points(&self) -> &[SeenPoint] {
        match self {
            Self::Points(_, points) => points,
            _ => &[],
        }
    }

    /// The boxes that were found, to be given their tracks.
    pub(super) fn boxes_mut(&mut self) -> Option<&mut [SeenBox]> {
        match self {
            Self::Boxes(_, boxes) => Some(boxes),
            _ => None,
        }
    }

    /// Its memory, to be used again.
    pub(crate) fn into_memory(self) -> FindingMemory {
        let mut memory = FindingMemory::default();
        let scores = match self {
            Self::Unseen => return memory,
            Self::Classes(scores) | Self::Independent(scores) => scores,
            Self::Boxes(scores, boxes) => {
                memory.boxes = Some(boxes);
                scores
            }
            Self::Masks(scores, masks) => {
                memory.masks = Some(masks);
                scores
            }
            Self::Points(scores, points) => {
                memory.points = Some(points);
                scores
            }
        };
        memory.scores = Some(scores);
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_the_sum_and_the_likeliest_class() {
        let finding = Finding::Classes(vec![0.125, 0.25, 0.5, 0.5]);
        let table: [(&[usize], f32, usize); 5] =
            [(&[1], 0.25, 1), (&[0, 1], 0.375, 1), (&[1, 2, 3], 1.0, 2), (&[9, 0], 0.125, 0), (&[], 0.0, 0)];
        for (classes, score, class) in table {
            assert_eq!(
                finding.evidence(classes),
                Some(Evidence { score, class, place: None, track: None }),
                "{classes:?}"
            );
        }
        assert_eq!(Finding::Unseen.evidence(&[0]), None);
    }

    #[test]
    fn of_classes_that_do_not_exclude_each_other_the_likeliest_counts() {
        let finding = Finding::Independent(vec![0.75, 0.25, 0.875]);
        let table: [(&[usize], f32, usize); 4] =
            [(&[1], 0.25, 1), (&[0, 1], 0.75, 0), (&[0, 1, 2], 0.875, 2), (&[], 0.0, 0)];
        for (classes, score, class) in table {
            assert_eq!(
                finding.evidence(classes),
                Some(Evidence { score, class, place: None, track: None }),
                "{classes:?}"
            );
        }
    }

    #[test]
    fn no_score_is_above_one() {
        // 0.1 + 0.2 + … in f32 is a little more than one.
        let finding = Finding::Classes(vec![0.1; 10]);
        assert!([0.1_f32; 10].iter().sum::<f32>() > 1.0);
        assert_eq!(
            finding.evidence(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).map(|evidence| evidence.score),
            Some(1.0)
        );
    }
}
