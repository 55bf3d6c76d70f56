//! Boxes from distances to their edges: FCOS and `DetectNet_v2`.

use serde::{Deserialize, Serialize};

use super::centernet::LengthUnit;
use super::choice::{Limits, boxes, candidate_count, half, most_boxes, scores, soft, threshold};
use super::error::{DecoderError, offset, positive};
use super::names::OutputNames;

/// Each place of each map says how likely something of each class is there, how far it is to the left,
/// upper, right and lower edge of its box, and how close to the box's middle it is (Tian et al.,
/// "FCOS", 2019). What lies outside of the picture is cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fcos {
    /// The outputs with the distances, four channels, or four for each class, one class behind the other.
    #[serde(default = "boxes")]
    pub boxes: OutputNames,
    /// The outputs with the scores, a channel for each class; a sigmoid makes probabilities of them.
    #[serde(default = "scores")]
    pub scores: OutputNames,
    /// The outputs with the closeness to the middle, one channel; a sigmoid makes `0..=1` of it. Scores
    /// are multiplied with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub centreness: Option<OutputNames>,
    /// Whether the score is the root of the product, as in torchvision, or the product itself.
    #[serde(default)]
    pub root: bool,
    /// Whether the exponential is taken of the distances; without it those below zero are zero.
    #[serde(default)]
    pub exponential: bool,
    /// What distances are counted in.
    #[serde(default)]
    pub unit: LengthUnit,
    /// What distances are multiplied with, once they are in their unit.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub times: f32,
    /// Where in its cell the place is, in cells from the upper left corner, `-1..=1`.
    #[serde(default = "half")]
    pub offset: f32,
    /// The least score of a thing, `0..=1`.
    #[serde(default = "threshold")]
    pub threshold: f32,
    /// The less likely of two boxes of a class whose overlap, as a part of both together, is more
    /// than this, is left out; `0..=1`.
    #[serde(default = "overlap")]
    pub overlap: f32,
    /// See [`Anchors::soft`](super::anchors::Anchors::soft).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<f32>,
    /// The most boxes, the likeliest, that are chosen from, `1..=10000`.
    #[serde(default = "candidate_count")]
    pub candidates: usize,
    /// The most boxes of a picture, the likeliest, `1..=1000`.
    #[serde(default = "most_boxes")]
    pub most: usize,
}

fn overlap() -> f32 {
    0.6
}

fn one() -> f32 {
    1.0
}

/// Files from before there was this factor keep their bytes.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn is_one(times: &f32) -> bool {
    *times == 1.0
}

impl Default for Fcos {
    /// FCOS as torchvision exports it, with the outputs `cls_logits`, `bbox_regression` and
    /// `bbox_ctrness`.
    fn default() -> Self {
        Self {
            boxes: boxes(),
            scores: scores(),
            centreness: Some("bbox_ctrness".into()),
            root: true,
            exponential: false,
            unit: LengthUnit::Cells,
            times: one(),
            offset: 0.0,
            threshold: threshold(),
            overlap: overlap(),
            soft: None,
            candidates: candidate_count(),
            most: most_boxes(),
        }
    }
}

impl Fcos {
    /// `DetectNet_v2` as NVIDIA's TAO toolkit exports it: a grid with the coverage by each class and four
    /// distances for each of them, in 35 pixels, from half a pixel beside the corner of a cell of 16.
    pub fn detectnet() -> Self {
        Self {
            boxes: "output_bbox/BiasAdd:0".into(),
            scores: "output_cov/Sigmoid:0".into(),
            centreness: None,
            root: false,
            unit: LengthUnit::Pixels,
            times: 35.0,
            offset: 0.5 / 16.0,
            overlap: 0.5,
            ..Self::default()
        }
    }

    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        let &Self { threshold, overlap, candidates, most, .. } = self;
        Limits { threshold, overlap, candidates, most }.validate()?;
        positive("times", self.times)?;
        offset("offset", self.offset)?;
        soft(self.soft)
    }
}
