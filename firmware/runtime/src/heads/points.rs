//! From heat maps to points.

use resight_model_file::{Activation, OutputMap, PointDecoder};

use super::error::HeadError;
use super::maps::{Bytes, Element, Map, Reals, Source, check};
use super::point::{Between, Point};
use super::things::{Assembly, Linked};
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// The points of an image, and the memory to find them in: made once, it grows no more.
#[derive(Debug, Default)]
pub struct Points {
    found: Vec<Point>,
    assembly: Assembly,
}

impl Points {
    /// The points, in pixels of the network's image: of a network that sees one thing at a time all that it
    /// knows, in their order; else those that belong to things, the surest thing first.
    pub fn points(&self) -> &[Point] {
        &self.found
    }

    /// The same, to be moved.
    pub fn points_mut(&mut self) -> &mut [Point] {
        &mut self.found
    }
}

/// The head of a network whose map has a channel for each point.
#[derive(Debug, Clone, PartialEq)]
pub struct PointHead {
    maps: Vec<OutputMap>,
    decoder: PointDecoder,
    map: Map,
    /// What tells things apart, where there may be several.
    linked: Option<Linked>,
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
        let (cell, least) = (map.cell(input), map.least(decoder.threshold));
        let linked = decoder.fields.as_ref();
        let linked = linked.map(|fields| Linked::new(&maps, fields, outputs, &map, least)).transpose()?;
        Ok(Self { maps, decoder, map, linked, cell })
    }

    /// Number of points that a thing has.
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

    /// The most points of an image.
    pub fn most(&self) -> usize {
        self.linked.as_ref().map_or(self.points(), |linked| linked.most(self.points()))
    }

    /// Memory for the points of images.
    pub fn memory(&self) -> Points {
        Points {
            found: Vec::with_capacity(self.most()),
            assembly: self.linked.as_ref().map(|linked| linked.memory(self.points())).unwrap_or_default(),
        }
    }

    /// Finds the points in the outputs of a run. Allocates nothing with [`memory`](Self::memory).
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode(&self, outputs: Outputs<'_>, points: &mut Points) -> Result<(), RuntimeError> {
        self.decode_from(Bytes(outputs), points)
    }

    /// Finds the points in real numbers, such as those of the f32 network: for each output, before its
    /// activation, `[height][width][channels]`.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode_reals(&self, outputs: &[&[f32]], points: &mut Points) -> Result<(), RuntimeError> {
        self.decode_from(Reals(outputs), points)
    }

    fn decode_from<'a, S: Source<'a>>(&self, outputs: S, points: &mut Points) -> Result<(), RuntimeError> {
        let Points { found, assembly } = points;
        found.clear();
        let between = Between::of(&self.decoder);
        match &self.linked {
            Some(linked) => linked.decode(outputs, &self.map, between, assembly, found)?,
            None => self.decode_one(outputs.values(&self.map)?, between, found),
        }
        for Point { place, .. } in found {
            *place = [place[0] * self.cell[0], place[1] * self.cell[1]];
        }
        Ok(())
    }

    /// The largest cell of each channel, in cells.
    fn decode_one<T: Element>(&self, values: &[T], between: Between, found: &mut Vec<Point>) {
        let channels = self.map.channels;
        for class in 0..channels {
            let heats = values.iter().skip(class).step_by(channels);
            let (mut best, mut most) = (0, values.get(class).copied());
            for (at, &heat) in heats.enumerate() {
                if most.is_some_and(|most| heat > most) {
                    (best, most) = (at, Some(heat));
                }
            }
            let Some(most) = most else { continue };
            let (row, column) = self.map.place(best);
            let place = between.place(values, &self.map, class, [row, column]);
            found.push(Point { class, thing: 0, score: most.value(&self.map), place });
        }
    }
}
