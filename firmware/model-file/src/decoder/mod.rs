//! How boxes are made of a network's maps: a part of `task.json`, and the file that
//! `resight quantize --decoder` takes.

mod anchors;
mod centernet;
mod choice;
mod error;
mod fcos;
mod names;
mod points;

use serde::{Deserialize, Serialize};

pub use self::anchors::{AnchorClip, AnchorLevel, AnchorShapes, Anchors};
pub use self::centernet::{CenterNet, LengthUnit};
pub use self::error::{DecoderError, MAX_BOXES, MAX_CANDIDATES, MAX_LINKED_POINTS, MAX_LINKS, MAX_THINGS};
pub use self::fcos::Fcos;
pub use self::names::{OutputNames, level_name};
pub use self::points::{FieldOrder, Fields, PointDecoder, Refinement};
use crate::activation::Activation;

/// How boxes are made of maps. Sizes of cells follow from those of the maps and of the network's
/// image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BoxDecoder {
    /// See [`CenterNet`].
    #[serde(rename = "centernet")]
    CenterNet(CenterNet),
    /// See [`Anchors`].
    Anchors(Anchors),
    /// See [`Fcos`].
    Fcos(Fcos),
}

impl BoxDecoder {
    /// The least probability of a box.
    pub fn threshold(&self) -> f32 {
        match self {
            Self::CenterNet(decoder) => decoder.threshold,
            Self::Anchors(decoder) => decoder.threshold,
            Self::Fcos(decoder) => decoder.threshold,
        }
    }

    /// The same with another threshold.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f32) -> Self {
        match &mut self {
            Self::CenterNet(decoder) => decoder.threshold = threshold,
            Self::Anchors(decoder) => decoder.threshold = threshold,
            Self::Fcos(decoder) => decoder.threshold = threshold,
        }
        self
    }

    /// The most boxes of a picture.
    pub fn most(&self) -> usize {
        match self {
            Self::CenterNet(decoder) => decoder.most,
            Self::Anchors(decoder) => decoder.most,
            Self::Fcos(decoder) => decoder.most,
        }
    }

    /// The most boxes of a picture before overlapping ones are left out.
    pub fn candidates(&self) -> usize {
        match self {
            Self::CenterNet(decoder) => decoder.most,
            Self::Anchors(decoder) => decoder.candidates,
            Self::Fcos(decoder) => decoder.candidates,
        }
    }

    /// The outputs that it needs, by their names.
    pub fn needs(&self) -> Vec<String> {
        match self {
            Self::CenterNet(CenterNet { heat_map, size, offset, .. }) => {
                [Some(heat_map), Some(size), offset.as_ref()].into_iter().flatten().cloned().collect()
            }
            Self::Anchors(Anchors { boxes, scores, .. }) => [&boxes.0[..], &scores.0[..]].concat(),
            Self::Fcos(Fcos { boxes, scores, centreness, .. }) => {
                let centreness = centreness.as_ref().map_or(&[][..], |names| &names.0[..]);
                [&boxes.0[..], &scores.0[..], centreness].concat()
            }
        }
    }

    /// What makes probabilities of the output `name` of a model file, where the network's file ends in
    /// what comes before them.
    pub fn activation(&self, name: &str) -> Option<Activation> {
        match self {
            Self::CenterNet(_) => None,
            Self::Anchors(Anchors { scores, background, .. }) => scores
                .has(name)
                .then_some(if background.is_some() { Activation::Softmax } else { Activation::Sigmoid }),
            Self::Fcos(Fcos { scores, centreness, .. }) => {
                let is_score = scores.has(name) || centreness.as_ref().is_some_and(|names| names.has(name));
                is_score.then_some(Activation::Sigmoid)
            }
        }
    }

    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        match self {
            Self::CenterNet(decoder) => decoder.validate(),
            Self::Anchors(decoder) => decoder.validate(),
            Self::Fcos(decoder) => decoder.validate(),
        }
    }
}
