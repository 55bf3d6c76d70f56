//! Boxes from the peaks of a heat map.

use serde::{Deserialize, Serialize};

use super::choice::{most_boxes, threshold};
use super::error::{DecoderError, most, share};

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
    #[serde(default = "most_boxes")]
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

fn overlap() -> f32 {
    0.6
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
            most: most_boxes(),
        }
    }
}

impl CenterNet {
    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        share("threshold", self.threshold)?;
        share("overlap", self.overlap)?;
        most(self.most)
    }
}
