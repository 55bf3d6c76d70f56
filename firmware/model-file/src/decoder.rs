//! How boxes are made of a network's maps: a part of `task.json`, and the file that
//! `resight quantize --decoder` takes.

use serde::{Deserialize, Serialize};

/// The most boxes of a picture.
pub const MAX_BOXES: usize = 1000;

/// How boxes are made of maps. Sizes of cells follow from those of the maps and of the network's
/// image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BoxDecoder {
    /// See [`CenterNet`].
    #[serde(rename = "centernet")]
    CenterNet(CenterNet),
}

/// Things are the peaks of a map (Zhou et al., "Objects as Points", 2019): a cell that is as likely
/// as each of its eight neighbours in the map of its class, and at least as likely as the threshold.
/// The middle of its box is `cell + offset`, its width and height are those at the cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterNet {
    /// The output with a probability, or what a sigmoid makes one of, for each class.
    #[serde(default = "heat_map")]
    pub heat_map: String,
    /// The output with the width and the height.
    #[serde(default = "size")]
    pub size: String,
    /// The output with the place in the cell, to the right and downwards, in cells; without it, things
    /// are in the upper left corners of cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    /// What width and height are counted in.
    #[serde(default)]
    pub unit: LengthUnit,
    /// The least probability of a thing, `0..=1`.
    #[serde(default = "threshold")]
    pub threshold: f32,
    /// The less likely of two boxes of a class whose overlap, as a part of both together, is more
    /// than this, is left out; `0..=1`.
    #[serde(default = "overlap")]
    pub overlap: f32,
    /// The most boxes of a picture, the likeliest, `1..=1000`.
    #[serde(default = "most")]
    pub most: usize,
}

/// What lengths are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Cells of the map.
    #[default]
    Cells,
    /// Pixels of the network's image.
    Pixels,
}

fn heat_map() -> String {
    "heatmap".into()
}

fn size() -> String {
    "size".into()
}

fn threshold() -> f32 {
    0.3
}

fn overlap() -> f32 {
    0.6
}

fn most() -> usize {
    100
}

impl Default for CenterNet {
    /// The maps `heatmap`, `size` and `offset`, in cells.
    fn default() -> Self {
        Self {
            heat_map: heat_map(),
            size: size(),
            offset: Some("offset".into()),
            unit: LengthUnit::Cells,
            threshold: threshold(),
            overlap: overlap(),
            most: most(),
        }
    }
}

impl BoxDecoder {
    /// The least probability of a box.
    pub fn threshold(&self) -> f32 {
        match self {
            Self::CenterNet(decoder) => decoder.threshold,
        }
    }

    /// The same with another threshold.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f32) -> Self {
        match &mut self {
            Self::CenterNet(decoder) => decoder.threshold = threshold,
        }
        self
    }

    /// The most boxes of a picture.
    pub fn most(&self) -> usize {
        match self {
            Self::CenterNet(decoder) => decoder.most,
        }
    }

    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        let Self::CenterNet(CenterNet { threshold, overlap, most, .. }) = self;
        for (name, value) in [("threshold", *threshold), ("overlap", *overlap)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(DecoderError::Share { name, value });
            }
        }
        if !(1..=MAX_BOXES).contains(most) {
            return Err(DecoderError::Most(*most));
        }
        Ok(())
    }
}

/// Why a decoder cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecoderError {
    /// A share is out of range.
    #[error("the decoder's `{name}` is {value}; 0 to 1 is needed")]
    Share {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: f32,
    },
    /// The number of boxes is out of range.
    #[error("the decoder's `most` is {0}; 1 to {MAX_BOXES} boxes are possible")]
    Most(usize),
}
