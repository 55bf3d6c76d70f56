//! How well classes are told, each by itself: average precision, and what a threshold decides.

use serde::Serialize;

/// What is found of all classes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decisions {
    /// A class is said to be there from this probability on.
    pub threshold: f64,
    /// Mean of the average precisions of the classes that some picture shows, percent.
    pub mean_average_precision: Option<f64>,
    /// Harmonic mean of precision and recall over all pictures and classes, percent.
    pub micro_f1: Option<f64>,
    /// Mean of the classes' `f1`, percent.
    pub macro_f1: Option<f64>,
    /// Each class, in their order.
    pub classes: Vec<ClassDecisions>,
}

/// What is found of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassDecisions {
    /// The class.
    pub class: usize,
    /// Pictures that show it.
    pub pictures: usize,
    /// Pictures that it is said of.
    pub said: usize,
    /// Pictures that it is said of and that show it.
    pub right: usize,
    /// Sum over the pictures that show it, the likeliest first, of the precision down to there,
    /// divided by their number, percent; `None` if none shows it.
    pub average_precision: Option<f64>,
    /// Share of `said` that is right, percent; `None` if it is never said.
    pub precision: Option<f64>,
    /// Share of `pictures` that it is said of, percent; `None` if none shows it.
    pub recall: Option<f64>,
    /// Harmonic mean of both, percent; `None` if no picture shows it and it is never said.
    pub f1: Option<f64>,
}

impl Decisions {
    /// Of `probabilities`, for each picture one of each class, and the classes that each picture
    /// shows, in their order.
    pub fn of(probabilities: &[Vec<f32>], shown: &[&[usize]], threshold: f64) -> Self {
        let count = probabilities.first().map_or(0, Vec::len);
        let one = |class: usize| {
            let scores: Vec<(f32, bool)> = probabilities
                .iter()
                .zip(shown)
                .map(|(row, shown)| (row[class], shown.binary_search(&class).is_ok()))
                .collect();
            ClassDecisions::of(class, scores, threshold)
        };
        let classes: Vec<ClassDecisions> = (0..count).map(one).collect();
        let sum = |of: fn(&ClassDecisions) -> usize| classes.iter().map(of).sum::<usize>();
        let (right, said, pictures) =
            (sum(|class| class.right), sum(|class| class.said), sum(|class| class.pictures));
        Self {
            threshold,
            mean_average_precision: mean(classes.iter().filter_map(|class| class.average_precision)),
            micro_f1: f1(right, said, pictures),
            macro_f1: mean(classes.iter().filter_map(|class| class.f1)),
            classes,
        }
    }
}

impl ClassDecisions {
    fn of(class: usize, mut scores: Vec<(f32, bool)>, threshold: f64) -> Self {
        // Of equal scores none is before the other: a group counts as a whole.
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        let pictures = scores.iter().filter(|(_, shown)| *shown).count();
        let (mut before, mut right, mut sum) = (0, 0, 0.0);
        for group in scores.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
            let shown = group.iter().filter(|(_, shown)| *shown).count();
            before += group.len();
            right += shown;
            sum += shown as f64 * right as f64 / before as f64;
        }
        let said: Vec<bool> =
            scores.iter().filter(|(score, _)| *score >= threshold as f32).map(|(_, shown)| *shown).collect();
        let right = said.iter().filter(|shown| **shown).count();
        Self {
            class,
            pictures,
            said: said.len(),
            right,
            average_precision: (pictures > 0).then(|| 100.0 * sum / pictures as f64),
            precision: percent(right, said.len()),
            recall: percent(right, pictures),
            f1: f1(right, said.len(), pictures),
        }
    }
}

fn percent(count: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| 100.0 * count as f64 / of as f64)
}

/// `2 right / (said + pictures)`, which is the harmonic mean of precision and recall.
fn f1(right: usize, said: usize, pictures: usize) -> Option<f64> {
    percent(2 * right, said + pictures)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(found: Option<f64>, right: f64) {
        assert!(found.is_some_and(|found| (found - right).abs() < 1e-9), "{found:?}, not {right}");
    }

    /// The example of scikit-learn's `average_precision_score`: 0.8333….
    #[test]
    fn average_precision_is_that_of_scikit_learn() {
        let scores = [0.1, 0.4, 0.35, 0.8].map(|score| vec![score]);
        let shown: [&[usize]; 4] = [&[], &[], &[0], &[0]];
        let found = Decisions::of(&scores, &shown, 0.5);
        about(found.mean_average_precision, 100.0 * (0.5 + 0.5 * 2.0 / 3.0));
        // Equal scores, whatever the order of the pictures: average_precision_score([1, 0, 1, 0], [.5] * 4).
        let equal = [0.5; 4].map(|score| vec![score]);
        about(Decisions::of(&equal, &[&[0], &[], &[0], &[]], 0.5).mean_average_precision, 50.0);
        about(Decisions::of(&equal, &[&[], &[0], &[], &[0]], 0.5).mean_average_precision, 50.0);
    }

    #[test]
    fn a_threshold_decides_each_class_by_itself() {
        let rows = [vec![0.9, 0.6, 0.1], vec![0.5, 0.2, 0.2], vec![0.4, 0.7, 0.3]];
        let shown: [&[usize]; 3] = [&[0, 1], &[1], &[0]];
        let found = Decisions::of(&rows, &shown, 0.5);
        let [first, second, third] = &found.classes[..] else { panic!("three classes") };
        assert_eq!((first.pictures, first.said, first.right), (2, 2, 1));
        about(first.precision, 50.0);
        about(first.recall, 50.0);
        assert_eq!((second.pictures, second.said, second.right), (2, 2, 1));
        assert_eq!((third.pictures, third.said, third.f1, third.average_precision), (0, 0, None, None));
        // 2 * 2 / (4 + 4)
        about(found.micro_f1, 50.0);
        about(found.macro_f1, 50.0);
        // The threshold itself counts.
        assert_eq!(Decisions::of(&rows, &shown, 0.6).classes[1].said, 2);
        assert_eq!(Decisions::of(&[], &[], 0.5).mean_average_precision, None);
    }
}
