//! Boxes from anchors: SSD, RetinaNet and their kind.

use serde::{Deserialize, Serialize};

use super::choice::{Limits, boxes, candidate_count, half, most_boxes, scores, soft, threshold};
use super::error::{DecoderError, MAX_ANCHORS, MAX_LEVELS, offset, positive};
use super::names::OutputNames;

/// Each place of each map has some boxes of fixed sizes round it, the anchors, and says how likely each
/// is to be of each class, and how the thing's box differs from it (Ren et al., "Faster R-CNN", 2015;
/// Liu et al., "SSD", 2016; Lin et al., "Focal Loss", 2017).
///
/// With the anchor's middle `(x, y)`, width `w` and height `h`, and the four numbers `d` of the boxes'
/// map, each divided by its weight, the box has the middle `(x + d0 * w, y + d1 * h)`, the width
/// `w * exp(d2)` and the height `h * exp(d3)`, and what lies outside of the picture is cut off.
///
/// Channels are ordered by anchors: the four numbers, or the scores of all classes, of the first
/// anchor, then those of the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// The outputs with the boxes, four channels for each anchor.
    #[serde(default = "boxes")]
    pub boxes: OutputNames,
    /// The outputs with the scores, a channel for each class of each anchor.
    #[serde(default = "scores")]
    pub scores: OutputNames,
    /// The class that stands for nothing. With it the classes of an anchor exclude each other
    /// (softmax), without it each is there or not (sigmoid). It has no label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<usize>,
    /// What the four numbers are divided by: those of torchvision's `BoxCoder`, the reciprocals of the
    /// variances of SSD.
    #[serde(default = "weights")]
    pub weights: [f32; 4],
    /// The most that the logarithm of a width or height over the anchor's can be.
    #[serde(default = "largest")]
    pub largest: f32,
    /// What becomes of anchors that reach over the picture's border.
    #[serde(default, skip_serializing_if = "AnchorClip::is_none")]
    pub clip: AnchorClip,
    /// The levels, in the order of the maps.
    pub levels: Vec<AnchorLevel>,
    /// The least probability of a thing, `0..=1`.
    #[serde(default = "threshold")]
    pub threshold: f32,
    /// The less likely of two boxes of a class whose overlap, as a part of both together, is more
    /// than this, is left out; `0..=1`.
    #[serde(default = "overlap")]
    pub overlap: f32,
    /// Instead of leaving boxes out, makes them the less likely the more a likelier one overlaps them:
    /// by `exp(-overlap^2 / soft)` (Bodla et al., "Soft-NMS", 2017).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<f32>,
    /// The most boxes, the likeliest, that are chosen from, `1..=10000`.
    #[serde(default = "candidate_count")]
    pub candidates: usize,
    /// The most boxes of a picture, the likeliest, `1..=1000`.
    #[serde(default = "most_boxes")]
    pub most: usize,
}

/// The anchors of one map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorLevel {
    /// Pixels of the network's image between the middles of anchors; the size of the image over that
    /// of the map where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<f32>,
    /// Where in its cell the middle is, in strides from the upper left corner, `-1..=1`.
    #[serde(default = "half")]
    pub offset: f32,
    /// The sizes of the anchors of a place, in the order of the channels.
    pub shapes: AnchorShapes,
}

/// How the sizes of anchors are made, in pixels of the network's image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AnchorShapes {
    /// Each by itself.
    Listed {
        /// Width and height of each.
        sizes: Vec<[f32; 2]>,
    },
    /// Each size in each form, as RetinaNet: for each ratio, for each size, the width
    /// `size / sqrt(ratio)` and the height `size * sqrt(ratio)`.
    Grid {
        /// The roots of areas.
        sizes: Vec<f32>,
        /// Heights over widths.
        ratios: Vec<f32>,
        /// Whether their edges are rounded to whole pixels, halves to even ones, as torchvision does.
        #[serde(default)]
        rounded: bool,
    },
    /// The priors of SSD: a square of the side `least`, one of the side `sqrt(least * greatest)`, and
    /// for each ratio one of the width `least * sqrt(ratio)` and the height `least / sqrt(ratio)`, and
    /// one with both exchanged.
    Priors {
        /// The side of the smaller square.
        least: f32,
        /// The side of the larger one times this is the square of the second; without it there is no
        /// second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        greatest: Option<f32>,
        /// Widths over heights.
        #[serde(default)]
        ratios: Vec<f32>,
    },
}

/// What becomes of anchors that reach over the picture's border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorClip {
    /// Nothing.
    #[default]
    None,
    /// Their widths and heights are at most the picture's, as torchvision's SSD does.
    Sizes,
    /// What lies outside is cut off, as Caffe's `clip` does.
    Edges,
}

impl AnchorClip {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

fn weights() -> [f32; 4] {
    [1.0; 4]
}

/// Of torchvision's `BoxCoder`: `ln(1000 / 16)`.
fn largest() -> f32 {
    4.135_166_6
}

fn overlap() -> f32 {
    0.5
}

impl AnchorShapes {
    /// Width and height of each anchor, in pixels of the network's image.
    pub fn sizes(&self) -> Vec<[f32; 2]> {
        match self {
            Self::Listed { sizes } => sizes.clone(),
            Self::Grid { sizes, ratios, rounded } => {
                let sized = |ratio: f32, size: f32| {
                    let root = ratio.sqrt();
                    let size = [size / root, size * root];
                    if *rounded { size.map(|side| (side / 2.0).round_ties_even() * 2.0) } else { size }
                };
                ratios.iter().flat_map(|&ratio| sizes.iter().map(move |&size| sized(ratio, size))).collect()
            }
            Self::Priors { least, greatest, ratios } => {
                let second = greatest.map(|greatest| (least * greatest).sqrt());
                let squares = [Some(*least), second].into_iter().flatten().map(|side| [side; 2]);
                let others = ratios.iter().flat_map(|ratio| {
                    let root = ratio.sqrt();
                    [[least * root, least / root], [least / root, least * root]]
                });
                squares.chain(others).collect()
            }
        }
    }

    /// How many there are, without making them.
    fn count(&self) -> usize {
        match self {
            Self::Listed { sizes } => sizes.len(),
            Self::Grid { sizes, ratios, .. } => sizes.len().saturating_mul(ratios.len()),
            Self::Priors { greatest, ratios, .. } => {
                ratios.len().saturating_mul(2).saturating_add(1 + usize::from(greatest.is_some()))
            }
        }
    }
}

impl Anchors {
    /// RetinaNet as torchvision exports it, with the outputs `bbox_regression` and `cls_logits`: five
    /// levels, three sizes and three ratios.
    pub fn retinanet() -> Self {
        let level = |side: f32| {
            // torchvision drops what is less than a pixel of the sizes between.
            let between = |thirds: f32| (side * (thirds / 3.0).exp2()).floor();
            let sizes = vec![side, between(1.0), between(2.0)];
            let shapes = AnchorShapes::Grid { sizes, ratios: vec![0.5, 1.0, 2.0], rounded: true };
            AnchorLevel { stride: None, offset: 0.0, shapes }
        };
        Self::of(None, weights(), [32.0, 64.0, 128.0, 256.0, 512.0].map(level).to_vec())
    }

    /// SSD of 300 x 300 pixels as torchvision exports it, with the outputs `bbox_regression` and
    /// `cls_logits`: six levels, the background is class 0.
    pub fn ssd300() -> Self {
        let sides = [21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0];
        Self { clip: AnchorClip::Sizes, ..Self::of(Some(0), SSD_WEIGHTS, priors(sides)) }
    }

    /// The face detector of OpenCV's samples, an SSD of 300 x 300 pixels on a ResNet-10, with the
    /// outputs `mbox_loc` and `scores`, and strides as OpenCV's description of it has them. The last two
    /// maps have 5 x 5 places, but their strides are 100 and 300: anchors of theirs lie far outside.
    pub fn opencv_faces() -> Self {
        let sides = [30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0];
        Self {
            boxes: "mbox_loc".into(),
            scores: "scores".into(),
            threshold: 0.5,
            overlap: 0.45,
            ..Self::of(Some(0), SSD_WEIGHTS, priors(sides))
        }
    }

    /// As [`opencv_faces`](Self::opencv_faces), with the strides of the last two maps that follow from
    /// their sizes, 60 pixels. So the large faces of photographs are where the other maps see them too.
    pub fn opencv_faces_even() -> Self {
        let mut faces = Self::opencv_faces();
        faces.levels.iter_mut().skip(4).for_each(|level| level.stride = None);
        faces
    }

    fn of(background: Option<usize>, weights: [f32; 4], levels: Vec<AnchorLevel>) -> Self {
        Self {
            boxes: boxes(),
            scores: scores(),
            background,
            weights,
            largest: largest(),
            clip: AnchorClip::None,
            levels,
            threshold: threshold(),
            overlap: overlap(),
            soft: None,
            candidates: candidate_count(),
            most: most_boxes(),
        }
    }

    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        let &Self { threshold, overlap, candidates, most, .. } = self;
        Limits { threshold, overlap, candidates, most }.validate()?;
        soft(self.soft)?;
        positive("largest", self.largest)?;
        self.weights.iter().try_for_each(|&weight| positive("weights", weight))?;
        if !(1..=MAX_LEVELS).contains(&self.levels.len()) {
            return Err(DecoderError::Levels(self.levels.len()));
        }
        for (level, anchors) in self.levels.iter().enumerate() {
            let found = anchors.shapes.count();
            if !(1..=MAX_ANCHORS).contains(&found) {
                return Err(DecoderError::Anchors { level, found });
            }
            offset("offset", anchors.offset)?;
            anchors.stride.map_or(Ok(()), |stride| positive("stride", stride))?;
            let sizes = anchors.shapes.sizes();
            sizes.iter().flatten().try_for_each(|&side| positive("shapes", side))?;
        }
        Ok(())
    }
}

/// The reciprocals of the variances of SSD.
const SSD_WEIGHTS: [f32; 4] = [10.0, 10.0, 5.0, 5.0];

/// The levels of SSD of 300 x 300 pixels, each from a side to the next.
fn priors(sides: [f32; 7]) -> Vec<AnchorLevel> {
    let level = |(sides, (stride, ratios)): (&[f32], (f32, &[f32]))| AnchorLevel {
        stride: Some(stride),
        offset: half(),
        shapes: AnchorShapes::Priors { least: sides[0], greatest: Some(sides[1]), ratios: ratios.to_vec() },
    };
    let (few, many): (&[f32], &[f32]) = (&[2.0], &[2.0, 3.0]);
    let strides = [(8.0, few), (16.0, many), (32.0, many), (64.0, many), (100.0, few), (300.0, few)];
    sides.windows(2).zip(strides).map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_torchvision() {
        // `AnchorGenerator(((32, 40, 50),), ((0.5, 1.0, 2.0),))` of torchvision 0.24: right and lower
        // edges of `cell_anchors[0]`, the left and upper ones are their negatives.
        let expected = [
            [23.0, 11.0],
            [28.0, 14.0],
            [35.0, 18.0],
            [16.0, 16.0],
            [20.0, 20.0],
            [25.0, 25.0],
            [11.0, 23.0],
            [14.0, 28.0],
            [18.0, 35.0],
        ];
        let retinanet = Anchors::retinanet();
        assert_eq!(retinanet.levels[0].shapes.sizes(), expected.map(|edges| edges.map(|edge| 2.0 * edge)));
        retinanet.validate().unwrap();
    }

    #[test]
    fn priors_are_those_of_ssd() {
        let ssd = Anchors::ssd300();
        let counts: Vec<usize> = ssd.levels.iter().map(|level| level.shapes.sizes().len()).collect();
        assert_eq!(counts, [4, 6, 6, 6, 4, 4]);
        let sizes = ssd.levels[0].shapes.sizes();
        let root = 2f32.sqrt();
        let expected =
            [[21.0; 2], [945f32.sqrt(); 2], [21.0 * root, 21.0 / root], [21.0 / root, 21.0 * root]];
        assert_eq!(sizes, expected);
        ssd.validate().unwrap();
        Anchors::opencv_faces().validate().unwrap();
        Anchors::opencv_faces_even().validate().unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let refusal = |change: &dyn Fn(&mut Anchors)| {
            let mut anchors = Anchors::ssd300();
            change(&mut anchors);
            anchors.validate().unwrap_err().to_string()
        };
        let table = [
            (refusal(&|a| a.overlap = 2.0), "the decoder's `overlap` is 2; 0 to 1 is needed"),
            (refusal(&|a| a.soft = Some(0.0)), "the decoder's `soft` is 0; a number above 0 is needed"),
            (
                refusal(&|a| a.weights[2] = f32::NAN),
                "the decoder's `weights` is NaN; a number above 0 is needed",
            ),
            (
                refusal(&|a| a.candidates = 0),
                "the decoder's `candidates` is 0; 1 to 10000 boxes are possible",
            ),
            (refusal(&|a| a.levels.clear()), "the decoder has 0 levels; 1 to 16 are possible"),
            (refusal(&|a| a.levels[1].offset = 7.0), "the decoder's `offset` is 7; -1 to 1 is needed"),
            (
                refusal(&|a| a.levels[1].stride = Some(-1.0)),
                "the decoder's `stride` is -1; a number above 0 is needed",
            ),
            (
                refusal(&|a| a.levels[2].shapes = AnchorShapes::Listed { sizes: vec![] }),
                "level 2 of the decoder has 0 anchors; 1 to 64 are possible",
            ),
            (
                refusal(&|a| a.levels[2].shapes = AnchorShapes::Listed { sizes: vec![[1.0, -4.0]] }),
                "the decoder's `shapes` is -4; a number above 0 is needed",
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
    }
}
