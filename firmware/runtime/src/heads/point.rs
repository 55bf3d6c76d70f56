//! A point, and where it is between the cells of its map.

use resight_model_file::{PointDecoder, Refinement};

use super::maps::{Element, Map};

/// A point of a thing, such as a joint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Which point it is.
    pub class: usize,
    /// Which of the things in the image has it; 0 where the network sees one at a time.
    pub thing: usize,
    /// Its score: the largest value of its map.
    pub score: f32,
    /// Its place from the upper left corner of an image, `[downwards, to the right]`, in pixels.
    pub place: [f32; 2],
}

/// How the place between cells is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Between {
    refinement: Refinement,
    offset: f32,
}

impl Between {
    /// As a decoder has it.
    pub(super) fn of(decoder: &PointDecoder) -> Self {
        Self { refinement: decoder.refinement, offset: decoder.offset }
    }

    /// The place of a maximum, in cells, `[downwards, to the right]`.
    pub(super) fn place<T: Element>(
        self,
        values: &[T],
        map: &Map,
        channel: usize,
        [row, column]: [usize; 2],
    ) -> [f32; 2] {
        let [height, width] = map.size;
        let at = |row: usize, column: usize| values[(row * width + column) * map.channels + channel];
        let most = at(row, column);
        let down = (row > 0 && row + 1 < height).then(|| [at(row - 1, column), at(row + 1, column)]);
        let right = (column > 0 && column + 1 < width).then(|| [at(row, column - 1), at(row, column + 1)]);
        [(row, down), (column, right)].map(|(cell, beside)| {
            cell as f32 + self.offset + beside.map_or(0.0, |beside| self.beside(beside, most, map))
        })
    }

    /// How far from its cell a maximum is, in cells; nothing is known of one at the border.
    fn beside<T: Element>(self, [before, behind]: [T; 2], most: T, map: &Map) -> f32 {
        match self.refinement {
            Refinement::Quarter if behind > before => 0.25,
            Refinement::Quarter if behind < before => -0.25,
            Refinement::None | Refinement::Quarter => 0.0,
            Refinement::Parabola => {
                let (slope, bend) =
                    (behind.over(before, map), most.over(before, map) + most.over(behind, map));
                // As high as both neighbours: a plain, whose middle it is.
                if bend > 0.0 { slope / bend / 2.0 } else { 0.0 }
            }
        }
    }
}
