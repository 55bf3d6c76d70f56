//! From heat maps to points.

use resight_model_file::{Activation, OutputMap, PointDecoder, Refinement};

use super::error::HeadError;
use super::maps::{Bytes, Element, Map, Reals, Source, check};
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// A point of a thing, such as a joint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its score: the largest value of its map.
    pub score: f32,
    /// Its place from the upper left corner of an image, `[downwards, to the right]`, in pixels.
    pub place: [f32; 2],
}

/// The head of a network whose map has a channel for each point.
#[derive(Debug, Clone, PartialEq)]
pub struct PointHead {
    maps: Vec<OutputMap>,
    decoder: PointDecoder,
    map: Map,
    /// Pixels of the network's image in a cell, `[vertical, horizontal]`.
    cell: [f32; 2],
}

impl PointHead {
    /// The head for these outputs of a network that takes images of `[height, width]`.
    ///
    /// # Errors
    /// Outputs that are not what the decoder needs.
    pub fn new(
        maps: Vec<OutputMap>,
        decoder: PointDecoder,
        outputs: &[TensorFact],
        input: [usize; 2],
    ) -> Result<Self, HeadError> {
        decoder.validate()?;
        check(&maps, outputs)?;
        let map = Map::find(&maps, outputs, &decoder.heat_maps)?;
        map.ends_in(Activation::Sigmoid)?;
        let cell = map.cell(input);
        Ok(Self { maps, decoder, map, cell })
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.map.channels
    }

    /// What the outputs are.
    pub fn maps(&self) -> &[OutputMap] {
        &self.maps
    }

    /// How points are made of them.
    pub fn decoder(&self) -> &PointDecoder {
        &self.decoder
    }

    /// Finds the points in the outputs of a run, in the order of the channels, in pixels of the network's
    /// image. Allocates nothing into points that were found before.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode(&self, outputs: Outputs<'_>, points: &mut Vec<Point>) -> Result<(), RuntimeError> {
        self.decode_from(Bytes(outputs), points)
    }

    /// Finds the points in real numbers, such as those of the f32 network: for each output, before its
    /// activation, `[height][width][channels]`.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode_reals(&self, outputs: &[&[f32]], points: &mut Vec<Point>) -> Result<(), RuntimeError> {
        self.decode_from(Reals(outputs), points)
    }

    fn decode_from<'a, S: Source<'a>>(
        &self,
        outputs: S,
        points: &mut Vec<Point>,
    ) -> Result<(), RuntimeError> {
        let values = outputs.values(&self.map)?;
        let channels = self.map.channels;
        points.clear();
        for channel in 0..channels {
            let heats = values.iter().skip(channel).step_by(channels);
            let (mut best, mut most) = (0, values.get(channel).copied());
            for (at, &heat) in heats.enumerate() {
                if most.is_some_and(|most| heat > most) {
                    (best, most) = (at, Some(heat));
                }
            }
            let Some(most) = most else { continue };
            let [height, width] = self.map.size;
            let (row, column) = (best / width, best % width);
            let at = |row: usize, column: usize| values[(row * width + column) * channels + channel];
            let down = (row > 0 && row + 1 < height).then(|| [at(row - 1, column), at(row + 1, column)]);
            let right =
                (column > 0 && column + 1 < width).then(|| [at(row, column - 1), at(row, column + 1)]);
            let place = [(row, down), (column, right)];
            let place = place.map(|(cell, beside)| {
                cell as f32 + self.decoder.offset + beside.map_or(0.0, |beside| self.beside(beside, most))
            });
            let place = [place[0] * self.cell[0], place[1] * self.cell[1]];
            points.push(Point { score: most.value(&self.map), place });
        }
        Ok(())
    }

    /// How far from its cell a maximum is, in cells; nothing is known of one at the border.
    fn beside<T: Element>(&self, [before, behind]: [T; 2], most: T) -> f32 {
        match self.decoder.refinement {
            Refinement::Quarter if behind > before => 0.25,
            Refinement::Quarter if behind < before => -0.25,
            Refinement::None | Refinement::Quarter => 0.0,
            Refinement::Parabola => {
                let (slope, bend) = (
                    behind.over(before, &self.map),
                    most.over(before, &self.map) + most.over(behind, &self.map),
                );
                // As high as both neighbours: a plain, whose middle it is.
                if bend > 0.0 { slope / bend / 2.0 } else { 0.0 }
            }
        }
    }
}
