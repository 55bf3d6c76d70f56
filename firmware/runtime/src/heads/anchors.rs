//! Boxes from anchors.

use resight_model_file::{Activation, AnchorClip, Anchors, OutputMap};

use super::bounds::{Bounds, Detection};
use super::error::HeadError;
use super::maps::{Element, Least, Map, Source, expect_levels, real};
use super::suppression::{Candidate, Candidates, Choice};
use crate::error::RuntimeError;
use crate::tensors::TensorFact;

/// The maps of [`Anchors`], found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AnchorMaps {
    levels: Vec<Level>,
    /// Channels of an anchor in the maps of scores, the background's too.
    scores: usize,
    background: Option<usize>,
    weights: [f32; 4],
    largest: f32,
    clip: AnchorClip,
    choice: Choice,
    /// By how much the score of what is as likely as the threshold is above the background's at least,
    /// before the softmax.
    margin: f32,
    /// `[height, width]` of the network's image.
    input: [f32; 2],
}

/// The maps of one level.
#[derive(Debug, Clone, PartialEq)]
struct Level {
    boxes: Map,
    scores: Map,
    /// Widths and heights of the anchors of a place.
    anchors: Vec<[f32; 2]>,
    /// Pixels between places, `[vertical, horizontal]`.
    stride: [f32; 2],
    offset: f32,
    /// What is as likely as the threshold, by the sigmoid.
    least: Least,
}

/// `ln(p / (1 - p))`, a little less, so that rounding leaves nothing out.
fn margin(probability: f32) -> f32 {
    libm::logf(probability / (1.0 - probability)) - 1e-3
}

impl AnchorMaps {
    pub(super) fn new(
        maps: &[OutputMap],
        decoder: &Anchors,
        outputs: &[TensorFact],
        input: [usize; 2],
    ) -> Result<Self, HeadError> {
        let boxes = Map::levels(maps, outputs, &decoder.boxes)?;
        let scores = Map::levels(maps, outputs, &decoder.scores)?;
        expect_levels(&decoder.boxes, boxes.len(), decoder.levels.len())?;
        expect_levels(&decoder.scores, scores.len(), decoder.levels.len())?;
        let wanted = if decoder.background.is_some() { Activation::Softmax } else { Activation::Sigmoid };
        let mut channels = None;
        let mut levels = vec![];
        for ((level, boxes), scores) in decoder.levels.iter().zip(boxes).zip(scores) {
            let anchors = level.shapes.sizes();
            let count = anchors.len();
            boxes.expect(4 * count, &format!("4 for each of {count} anchors"))?;
            scores.same_size(&boxes)?;
            scores.ends_in(wanted)?;
            let each = *channels.get_or_insert(scores.channels / count);
            if each == 0 || scores.channels != each * count {
                let expected = match each {
                    0 => format!("{count} or more: one for each class of each anchor"),
                    _ => format!("{}: {each} for each of {count} anchors", each * count),
                };
                return Err(HeadError::Channels { name: scores.name, found: scores.channels, expected });
            }
            let stride = level.stride.map_or(boxes.cell(input), |stride| [stride; 2]);
            let least = scores.least(decoder.threshold);
            let clipped = |size: [f32; 2]| match decoder.clip {
                AnchorClip::Sizes => [size[0].min(input[1] as f32), size[1].min(input[0] as f32)],
                AnchorClip::None | AnchorClip::Edges => size,
            };
            let anchors = anchors.into_iter().map(clipped).collect();
            levels.push(Level { boxes, scores, anchors, stride, offset: level.offset, least });
        }
        let scores = channels.unwrap_or(0);
        if let Some(background) = decoder.background
            && (background >= scores || scores < 2)
        {
            return Err(HeadError::Background { background, found: scores });
        }
        Ok(Self {
            levels,
            scores,
            background: decoder.background,
            weights: decoder.weights,
            largest: decoder.largest,
            clip: decoder.clip,
            choice: Choice::from(decoder),
            margin: margin(decoder.threshold),
            input: input.map(|side| side as f32),
        })
    }

    pub(super) fn classes(&self) -> usize {
        self.scores - usize::from(self.background.is_some())
    }

    pub(super) fn set_threshold(&mut self, threshold: f32) {
        self.choice.threshold = threshold;
        self.margin = margin(threshold);
        for level in &mut self.levels {
            level.least = level.scores.least(threshold);
        }
    }

    /// Finds the boxes; `candidates` is memory.
    pub(super) fn decode<'a, S: Source<'a>>(
        &self,
        outputs: S,
        candidates: &mut Candidates,
        found: &mut Vec<Detection>,
    ) -> Result<(), RuntimeError> {
        candidates.clear();
        for (index, level) in self.levels.iter().enumerate() {
            // Both are looked at, so that what is wrong with either is found before boxes are made.
            outputs.values(&level.boxes)?;
            let scores = outputs.values(&level.scores)?;
            match self.background {
                None => self.by_sigmoid(index, scores, candidates),
                Some(background) => self.by_softmax(index, background, scores, candidates),
            }
        }
        candidates.choose(self.choice, found, |candidate| self.detection(outputs, candidate));
        Ok(())
    }

    fn by_sigmoid(&self, level: usize, scores: &[impl Element], candidates: &mut Candidates) {
        let Level { scores: map, least, .. } = &self.levels[level];
        for (anchor, scores) in scores.chunks_exact(self.scores).enumerate() {
            // Few anchors are likely: everything else comes after this.
            if !scores.iter().any(|score| score.reaches(*least, map)) {
                continue;
            }
            for (class, score) in scores.iter().enumerate() {
                if score.reaches(*least, map) {
                    let candidate = Candidate { score: score.value(map), class, level, anchor };
                    candidates.push(candidate, self.choice.candidates);
                }
            }
        }
    }

    fn by_softmax(
        &self,
        level: usize,
        background: usize,
        scores: &[impl Element],
        candidates: &mut Candidates,
    ) {
        let map = &self.levels[level].scores;
        for (anchor, scores) in scores.chunks_exact(self.scores).enumerate() {
            let nothing = scores[background];
            // What is not likelier than nothing by so much is not likely enough, whatever the others are.
            let is_possible = |score: &_| Element::over(*score, nothing, map) >= self.margin;
            if !scores.iter().any(is_possible) {
                continue;
            }
            let largest = scores.iter().fold(nothing, |most, &score| if score > most { score } else { most });
            let power = |score: &_| libm::expf(Element::over(*score, largest, map));
            let sum: f32 = scores.iter().map(power).sum();
            for (channel, score) in scores.iter().enumerate() {
                if channel == background || !is_possible(score) {
                    continue;
                }
                let probability = power(score) / sum;
                if probability >= self.choice.threshold {
                    let class = channel - usize::from(channel > background);
                    let candidate = Candidate { score: probability, class, level, anchor };
                    candidates.push(candidate, self.choice.candidates);
                }
            }
        }
    }

    /// The box of an anchor.
    fn detection<'a>(&self, outputs: impl Source<'a>, candidate: &Candidate) -> Detection {
        let &Candidate { score, class, level, anchor } = candidate;
        let Level { boxes, anchors, stride, offset, .. } = &self.levels[level];
        let (place, shape) = (anchor / anchors.len(), anchors[anchor % anchors.len()]);
        let (row, column) = boxes.place(place);
        let middle = [(column as f32 + offset) * stride[1], (row as f32 + offset) * stride[0]];
        let [middle, shape] = match self.clip {
            AnchorClip::Edges => {
                let edges = around(middle, shape).within(self.input);
                let Bounds { left, top, right, bottom } = edges;
                [[left.midpoint(right), top.midpoint(bottom)], [right - left, bottom - top]]
            }
            AnchorClip::None | AnchorClip::Sizes => [middle, shape],
        };
        let values = outputs.values(boxes).unwrap_or_default();
        let difference = |axis: usize| real(values, 4 * anchor + axis, boxes) / self.weights[axis];
        let middle = [0, 1].map(|axis| middle[axis] + difference(axis) * shape[axis]);
        let shape = [0, 1].map(|axis| shape[axis] * libm::expf(difference(2 + axis).min(self.largest)));
        Detection { class, score, bounds: around(middle, shape).within(self.input) }
    }
}

/// The box of a middle, to the right and downwards, and of a width and a height.
fn around([x, y]: [f32; 2], [width, height]: [f32; 2]) -> Bounds {
    Bounds { left: x - width / 2.0, top: y - height / 2.0, right: x + width / 2.0, bottom: y + height / 2.0 }
}
