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
    /// How images become the network's input.
    pub preprocessing: Preprocessing,
}

impl Options {
    /// What a method means where nothing else is said.
    pub fn new(method: Method, preprocessing: Preprocessing) -> Self {
        let rounding = if method == Method::Best { Rounding::Gptq } else { Rounding::Nearest };
        Self { method, rounding, equalise: false, preprocessing }
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nearest" => Ok(Self::Nearest),
            "gptq" => Ok(Self::Gptq),
            _ => Err(format!("unknown rounding `{text}`; expected nearest or gptq")),
        }
    }
}
