//! What teaching found out: stored in the model file and shown by `resight inspect`.

use serde::{Deserialize, Serialize};

use crate::statistics::Share;

/// What teaching found out about itself, by cross-validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Photographs learnt from.
    pub photographs: usize,
    /// Groups of photographs that are kept together.
    pub groups: usize,
    /// Views of each photograph.
    pub views: usize,
    /// Folds.
    pub folds: usize,
    /// Accuracy on photographs that were not learnt from; the interval is for as many others.
    pub accuracy: Share,
    /// Mean of the classes' recall.
    pub balanced_accuracy: f64,
    /// Mean negative logarithm of the probability of the right class, after calibration.
    pub log_loss: f64,
    /// The strength of regularisation that was chosen.
    pub strength: f64,
    /// What logits were divided by, so that probabilities are as good as they say.
    pub temperature: f64,
    /// Of each class.
    pub classes: Vec<ClassFigures>,
    /// Photographs of each class (rows) that were taken for each class (columns).
    pub confusion: Vec<Vec<usize>>,
    /// Accuracy when learning from a part of the photographs: the part, and the accuracy.
    pub learning_curve: Vec<(f64, f64)>,
    /// What was found of pictures that are none of these; nothing if that was not wanted.
    pub unknown: Option<UnknownFigures>,
    /// Share of photographs whose best class changed by rounding weights to 8 bits.
    pub changed_by_rounding: f64,
}

/// What was found of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Its name.
    pub name: String,
    /// Its photographs.
    pub photographs: usize,
    /// Of its photographs, how many are recognised.
    pub recall: Share,
    /// Of what is taken for it, how much is; nothing if nothing is.
    pub precision: Option<f64>,
    /// The threshold at which other classes' photographs are taken for it at the wanted rate.
    pub threshold: f64,
    /// Of its photographs, how many are above that threshold.
    pub recall_at_threshold: f64,
    /// About how many photographs would halve its errors; nothing if it has hardly any.
    pub photographs_for_half_the_errors: Option<usize>,
}

/// What was found of pictures that are none of the classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnknownFigures {
    /// Taught pictures that are compared with.
    pub pictures: usize,
    /// How many of the nearest of them count.
    pub nearest: usize,
    /// The mean cosine to the nearest of them below which a picture is unknown.
    pub threshold: f64,
    /// How fast the probability changes around the threshold.
    pub slope: f64,
    /// Of familiar photographs, how many are rejected.
    pub rejected: f64,
    /// The familiarity of half of the photographs is below this.
    pub median: f64,
}
