//! What decoders have in common that choose among boxes: their defaults, and what their numbers may be.

use super::error::{DecoderError, candidates, most, positive, share};
use super::names::OutputNames;

/// The outputs of torchvision's detectors with the boxes.
pub(super) fn boxes() -> OutputNames {
    "bbox_regression".into()
}

/// The outputs of torchvision's detectors with the scores.
pub(super) fn scores() -> OutputNames {
    "cls_logits".into()
}

/// Where in its cell a place is: in the middle.
pub(super) fn half() -> f32 {
    0.5
}

/// The least probability of a thing.
pub(super) fn threshold() -> f32 {
    0.3
}

/// The most boxes that are chosen from.
pub(super) fn candidate_count() -> usize {
    1000
}

/// The most boxes of a picture.
pub(super) fn most_boxes() -> usize {
    100
}

/// The numbers by which boxes are chosen, but for [`soft`].
pub(super) struct Limits {
    pub(super) threshold: f32,
    pub(super) overlap: f32,
    pub(super) candidates: usize,
    pub(super) most: usize,
}

impl Limits {
    /// Refuses the first one that is out of range.
    pub(super) fn validate(&self) -> Result<(), DecoderError> {
        share("threshold", self.threshold)?;
        share("overlap", self.overlap)?;
        most(self.most)?;
        candidates(self.candidates)
    }
}

/// Refuses a width that softens nothing.
pub(super) fn soft(width: Option<f32>) -> Result<(), DecoderError> {
    width.map_or(Ok(()), |width| positive("soft", width))
}
