//! Points from heat maps: keypoints.

use serde::{Deserialize, Serialize};

use super::error::{DecoderError, offset, share};

/// Each channel of a map says where one point is: in its largest cell, of equals the first by rows and
/// columns (Xiao et al., "Simple Baselines for Human Pose Estimation", 2018). The network sees one
/// thing at a time, such as one person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointDecoder {
    /// The output with a channel for each point.
    #[serde(default = "heat_maps")]
    pub heat_maps: String,
    /// How the place between cells is found.
    #[serde(default)]
    pub refinement: Refinement,
    /// Where in its cell a point is, in cells from the upper left corner, `-1..=1`.
    #[serde(default)]
    pub offset: f32,
    /// The least score of a point that is there, `0..=1`.
    #[serde(default = "threshold")]
    pub threshold: f32,
}

/// How the place of a maximum between cells is found, along each axis by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refinement {
    /// It is that of the cell.
    None,
    /// A quarter of a cell towards the larger neighbour.
    #[default]
    Quarter,
    /// The vertex of the parabola through the cell and its neighbours.
    Parabola,
}

fn heat_maps() -> String {
    "heatmaps".into()
}

fn threshold() -> f32 {
    0.2
}

impl Default for PointDecoder {
    /// The map `heatmaps`, a quarter of a cell, as Simple Baselines.
    fn default() -> Self {
        Self { heat_maps: heat_maps(), refinement: Refinement::Quarter, offset: 0.0, threshold: threshold() }
    }
}

impl PointDecoder {
    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        share("threshold", self.threshold)?;
        offset("offset", self.offset)
    }
}
