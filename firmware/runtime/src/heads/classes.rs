//! From logits to classes.

use resight_model_file::Activation;
use tract_nnef::internal::DatumType;

use super::error::HeadError;
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// The head of a classifier: one output, `[1, classes]` of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    classes: usize,
    activation: Activation,
}

impl Classes {
    /// The head for these outputs.
    ///
    /// # Errors
    /// More outputs than one, or one of another type or shape.
    pub fn new(outputs: &[TensorFact], activation: Activation) -> Result<Self, HeadError> {
        let [output] = outputs else {
            return Err(HeadError::ClassifierOutputs(outputs.len()));
        };
        match (output.datum_type, &*output.shape) {
            (DatumType::F32, &[1, classes]) => Ok(Self { classes, activation }),
            _ => Err(HeadError::Logits(output.clone())),
        }
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes == 0
    }

    /// What makes probabilities of its logits.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Turns logits into probabilities, in place.
    pub fn probabilities(&self, logits: &mut [f32]) {
        match self.activation {
            Activation::Softmax => softmax(logits),
            Activation::Sigmoid => sigmoid(logits),
        }
    }

    /// The `count` most probable classes for `logits`, most probable first.
    pub fn predictions(&self, logits: &[f32], count: usize) -> Vec<Prediction> {
        let mut probabilities = logits.to_vec();
        self.probabilities(&mut probabilities);
        ranked(logits, &probabilities, count)
    }

    /// The logits of a run of a classifier, one for each class.
    ///
    /// # Errors
    /// Outputs of a network that is none.
    pub fn logits(outputs: Outputs<'_>) -> Result<&[f32], RuntimeError> {
        let output = outputs.get(0).ok_or_else(|| RuntimeError::Graph("the network has no output".into()))?;
        Ok(output.slice()?)
    }
}

/// One class of a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The class, counted from 0.
    pub class: usize,
    /// Its probability, `0..=1`.
    pub probability: f32,
}

/// Turns logits of classes that exclude each other into probabilities, in place.
///
/// `libm`'s exponential is used because it gives the same bits on every machine. Logits that
/// are not finite are tolerated: NaN and negative infinity get probability zero, positive
/// infinities share the whole.
pub fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        logits.fill(0.0);
        return;
    }
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        // The difference of two infinities is NaN.
        let exponential = if *logit >= largest { 1.0 } else { libm::expf(*logit - largest) };
        *logit = if exponential.is_nan() { 0.0 } else { exponential };
        sum += *logit;
    }
    for logit in logits.iter_mut() {
        *logit /= sum;
    }
}

/// Turns logits of classes that do not exclude each other into probabilities, in place: each into
/// `1 / (1 + exp(-logit))`, with the same bits on every machine. NaN gets probability zero.
pub fn sigmoid(logits: &mut [f32]) {
    for logit in logits {
        // Only of numbers below zero, so that no exponential is infinite.
        let exponential = libm::expf(-logit.abs());
        let larger = 1.0 / (1.0 + exponential);
        *logit = match *logit {
            x if x.is_nan() => 0.0,
            x if x < 0.0 => exponential * larger,
            _ => larger,
        };
    }
}

/// The classes of the `count` largest values, largest first; of equal values the lower class
/// comes first. NaN ranks below everything. Fewer when there are fewer values.
pub fn top_k(values: &[f32], count: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(count.min(values.len()) + 1);
    let rank = |class: usize| if values[class].is_nan() { f32::NEG_INFINITY } else { values[class] };
    for class in 0..values.len() {
        // `best` is short: insertion is cheaper than sorting everything.
        let position = best.iter().position(|&other| rank(other) < rank(class)).unwrap_or(best.len());
        if position < count {
            best.insert(position, class);
            best.truncate(count);
        }
    }
    best
}

/// The `count` most probable of classes that exclude each other, most probable first.
pub fn predictions(logits: &[f32], count: usize) -> Vec<Prediction> {
    let mut probabilities = logits.to_vec();
    softmax(&mut probabilities);
    ranked(logits, &probabilities, count)
}

fn ranked(logits: &[f32], probabilities: &[f32], count: usize) -> Vec<Prediction> {
    // Ranked by logit: distinct logits may round to equal probabilities.
    top_k(logits, count)
        .into_iter()
        .map(|class| Prediction { class, probability: probabilities[class] })
        .collect()
}
