//! What the outputs of a network mean: the member `task.json`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the outputs of a network mean.
///
/// A model file without the member `task.json` holds a classifier whose classes exclude each other;
/// no other is written for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// One output, `[1, classes]` of f32: a logit for each class, which has a label.
    Classes {
        /// What makes probabilities of the logits.
        #[serde(default)]
        activation: Activation,
    },
    /// Any outputs, for whoever knows what they mean. There need not be labels.
    Tensors,
}

impl Default for Task {
    fn default() -> Self {
        Self::Classes { activation: Activation::default() }
    }
}

/// What makes probabilities of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// One class is right for an image: the probabilities of all add up to 1.
    #[default]
    Softmax,
    /// Each class is there or not, whatever the others are (several labels for an image, trained
    /// with binary cross entropy): each probability is by itself.
    Sigmoid,
}

impl Activation {
    /// Its name in `task.json` and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Softmax, Self::Sigmoid]
            .into_iter()
            .find(|activation| activation.name() == text)
            .ok_or_else(|| "softmax or sigmoid is expected".to_owned())
    }
}
