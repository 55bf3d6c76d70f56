//! Boxes from distances to their edges.

use resight_model_file::{Activation, Fcos, OutputMap};

use super::bounds::{Bounds, Detection};
use super::error::HeadError;
use super::maps::{Element, Least, Map, Source, expect_levels, real, unit};
use super::suppression::{Candidate, Candidates, Choice};
use crate::error::RuntimeError;
use crate::tensors::TensorFact;

/// The maps of [`Fcos`], found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FcosMaps {
    levels: Vec<Level>,
    root: bool,
    exponential: bool,
    offset: f32,
    choice: Choice,
    /// `[height, width]` of the network's image.
    input: [f32; 2],
}

/// The maps of one level.
#[derive(Debug, Clone, PartialEq)]
struct Level {
    boxes: Map,
    scores: Map,
    centreness: Option<Map>,
    /// Pixels in a cell, `[vertical, horizontal]`.
    cell: [f32; 2],
    /// Pixels in what distances are counted in.
    unit: [f32; 2],
    /// Whether each class has distances of its own.
    by_class: bool,
    /// What can be as likely as the threshold, whatever the centreness is.
    least: Least,
}

impl FcosMaps {
    pub(super) fn new(
        maps: &[OutputMap],
        decoder: &Fcos,
        outputs: &[TensorFact],
        input: [usize; 2],
    ) -> Result<Self, HeadError> {
        let boxes = Map::levels(maps, outputs, &decoder.boxes)?;
        let scores = Map::levels(maps, outputs, &decoder.scores)?;
        let mut centreness = match &decoder.centreness {
            None => vec![],
            Some(names) => Map::levels(maps, outputs, names)?,
        };
        expect_levels(&decoder.scores, scores.len(), boxes.len())?;
        if let Some(names) = &decoder.centreness {
            expect_levels(names, centreness.len(), boxes.len())?;
        }
        let classes = scores.first().map_or(0, |first| first.channels);
        let mut levels = vec![];
        for (boxes, scores) in boxes.into_iter().zip(scores) {
            let by_class = classes > 1 && boxes.channels == 4 * classes;
            if !by_class {
                boxes.expect(
                    4,
                    "the distances to the left, upper, right and lower edge; or 4 for each class",
                )?;
            }
            scores.expect(classes, "one for each class, as in the first level")?;
            scores.same_size(&boxes)?;
            scores.ends_in(Activation::Sigmoid)?;
            let centreness = if centreness.is_empty() { None } else { Some(centreness.remove(0)) };
            if let Some(centreness) = &centreness {
                centreness.expect(1, "the closeness to the middle")?;
                centreness.same_size(&boxes)?;
                centreness.ends_in(Activation::Sigmoid)?;
            }
            let cell = boxes.cell(input);
            let unit = unit(decoder.unit, cell).map(|pixels| pixels * decoder.times);
            let least = scores.least(least(decoder.threshold, decoder.root));
            levels.push(Level { boxes, scores, centreness, cell, unit, by_class, least });
        }
        Ok(Self {
            levels,
            root: decoder.root,
            exponential: decoder.exponential,
            offset: decoder.offset,
            choice: Choice::from(decoder),
            input: input.map(|side| side as f32),
        })
    }

    pub(super) fn classes(&self) -> usize {
        self.levels.first().map_or(0, |level| level.scores.channels)
    }

    pub(super) fn set_threshold(&mut self, threshold: f32) {
        self.choice.threshold = threshold;
        for level in &mut self.levels {
            level.least = level.scores.least(least(threshold, self.root));
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
            // All are looked at, so that what is wrong with any is found before boxes are made.
            outputs.values(&level.boxes)?;
            let centreness = match &level.centreness {
                None => None,
                Some(map) => Some((outputs.values(map)?, map)),
            };
            let map = &level.scores;
            for (place, scores) in outputs.values(map)?.chunks_exact(map.channels).enumerate() {
                // Few places are likely: everything else comes after this.
                if !scores.iter().any(|score| score.reaches(level.least, map)) {
                    continue;
                }
                let factor = centreness.map_or(1.0, |(values, map)| values[place].value(map));
                for (class, score) in scores.iter().enumerate() {
                    let product = score.value(map) * factor;
                    let score = if self.root { product.sqrt() } else { product };
                    if score >= self.choice.threshold {
                        let candidate = Candidate { score, class, level: index, anchor: place };
                        candidates.push(candidate, self.choice.candidates);
                    }
                }
            }
        }
        candidates.choose(self.choice, found, |candidate| self.detection(outputs, candidate));
        Ok(())
    }

    /// The box of a place.
    fn detection<'a>(&self, outputs: impl Source<'a>, candidate: &Candidate) -> Detection {
        let &Candidate { score, class, level, anchor: place } = candidate;
        let Level { boxes, cell, unit, by_class, .. } = &self.levels[level];
        let (row, column) = boxes.place(place);
        let middle = [(row as f32 + self.offset) * cell[0], (column as f32 + self.offset) * cell[1]];
        let values = outputs.values(boxes).unwrap_or_default();
        let first = boxes.channels * place + if *by_class { 4 * class } else { 0 };
        let distance = |edge: usize, axis: usize| {
            let value = real(values, first + edge, boxes);
            let distance = if self.exponential { libm::expf(value) } else { value.max(0.0) };
            distance * unit[axis]
        };
        let bounds = Bounds {
            left: middle[1] - distance(0, 1),
            top: middle[0] - distance(1, 0),
            right: middle[1] + distance(2, 1),
            bottom: middle[0] + distance(3, 0),
        };
        Detection { class, score, bounds: bounds.within(self.input) }
    }
}

/// The least probability of a class with which a score can reach the threshold.
fn least(threshold: f32, root: bool) -> f32 {
    if root { threshold * threshold } else { threshold }
}
