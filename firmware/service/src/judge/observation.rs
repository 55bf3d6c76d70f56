//! What a network says of a frame: the one thing that rules read.

use std::time::Duration;

/// A frame as the rules see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The frame's number.
    pub(crate) frame: u64,
    /// When the frame came, since the start of the service.
    pub(crate) arrival: Duration,
    pub(crate) finding: Finding,
}

/// What was found in a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    /// The frame came, and nobody wanted to know what it shows.
    Unseen,
    /// The score of each class, `0..=1`.
    Classes(Vec<f32>),
}

/// How much a finding speaks for some classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evidence {
    /// Of all these classes together, `0..=1`.
    pub(crate) score: f32,
    /// The likeliest of them; of equals the first.
    pub(crate) class: usize,
}

impl Finding {
    /// What speaks for any of `classes`; `None` if nothing was looked at. A class that the network
    /// does not know has a score of 0.
    pub(crate) fn evidence(&self, classes: &[usize]) -> Option<Evidence> {
        let Self::Classes(scores) = self else { return None };
        let score = |class: usize| scores.get(class).copied().unwrap_or(0.0);
        let first = classes.first().copied().unwrap_or(0);
        let likelier = |best, &class| if score(class) > score(best) { class } else { best };
        Some(Evidence {
            // Rounding may bring the sum of all classes above one.
            score: classes.iter().map(|&class| score(class)).sum::<f32>().min(1.0),
            class: classes.iter().fold(first, likelier),
        })
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
            assert_eq!(finding.evidence(classes), Some(Evidence { score, class }), "{classes:?}");
        }
        assert_eq!(Finding::Unseen.evidence(&[0]), None);
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
