//! What makes probabilities of logits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
    type Err = UnknownActivation;

    fn from_str(text: &str) -> Result<Self, UnknownActivation> {
        [Self::Softmax, Self::Sigmoid]
            .into_iter()
            .find(|activation| activation.name() == text)
            .ok_or(UnknownActivation)
    }
}

/// A name that is neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("softmax or sigmoid is expected")]
pub struct UnknownActivation;
