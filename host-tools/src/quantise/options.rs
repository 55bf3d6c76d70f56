//! What can be chosen.

use std::str::FromStr;

use resight_imaging::Preprocessing;
use serde::Serialize;

use super::range::Method;

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// How ranges are chosen.
    pub method: Method,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// Whether channels are scaled so that those of a tensor use its range alike.
    pub equalise: bool,
    /// How many more multiplications the splitting of the first layer's channels may cost, in parts of
    /// all, `0..`.
    pub split: f64,
    /// Whether logits are divided by a temperature, so that probabilities are what they are in f32.
    pub temperature: bool,
    /// How images become the network's input.
    pub preprocessing: Preprocessing,
}

/// What splitting may cost where nothing is said, in parts of all multiplications.
const SPLIT: f64 = 0.04;

impl Options {
    /// What a method means where nothing else is said.
    pub fn new(method: Method, preprocessing: Preprocessing) -> Self {
        let best = method == Method::Best;
        let rounding = if best { Rounding::Gptq } else { Rounding::Nearest };
        Self {
            method,
            rounding,
            equalise: false,
            split: if best { SPLIT } else { 0.0 },
            temperature: best,
            preprocessing,
        }
    }
}

/// Called with a phase, how many of its items are done, and how many there are.
pub type Progress<'a> = &'a (dyn Fn(&str, usize, usize) + Sync);

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest step.
    Nearest,
    /// By the second moments of each layer's inputs, so that its output changes least.
    Gptq,
}

impl FromStr for Rounding {
    type Err = UnknownRounding;

    fn from_str(text: &str) -> Result<Self, UnknownRounding> {
        match text {
            "nearest" => Ok(Self::Nearest),
            "gptq" => Ok(Self::Gptq),
            _ => Err(UnknownRounding(text.into())),
        }
    }
}

/// A way of rounding that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown rounding `{0}`; expected nearest or gptq")]
pub struct UnknownRounding(String);
