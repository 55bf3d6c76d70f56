//! Turning images that a camera gives lying on their side.

/// How an image is turned before the network sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation {
    /// How far.
    pub rotation: Rotation,
    /// Whether left and right are exchanged, after the rotation.
    pub mirror: bool,
}

/// A rotation, clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// None.
    #[default]
    Upright,
    /// By 90 degrees.
    Clockwise,
    /// By 180 degrees.
    Half,
    /// By 270 degrees.
    Counterclockwise,
}

impl Orientation {
    /// Whether rows become columns.
    pub fn is_sideways(self) -> bool {
        matches!(self.rotation, Rotation::Clockwise | Rotation::Counterclockwise)
    }

    /// Where a place `[row, column]` of the turned image, in pixels from its upper left corner, is in
    /// the image of `[height, width]` before it is turned.
    pub(crate) fn place_before(self, [y, mut x]: [f32; 2], [height, width]: [f32; 2]) -> [f32; 2] {
        if self.mirror {
            x = if self.is_sideways() { height } else { width } - x;
        }
        match self.rotation {
            Rotation::Upright => [y, x],
            Rotation::Clockwise => [height - x, y],
            Rotation::Half => [height - y, width - x],
            Rotation::Counterclockwise => [x, width - y],
        }
    }

    /// The reverse of [`place_before`](Self::place_before).
    pub(crate) fn place_after(self, [row, column]: [f32; 2], [height, width]: [f32; 2]) -> [f32; 2] {
        let [y, x] = match self.rotation {
            Rotation::Upright => [row, column],
            Rotation::Clockwise => [column, height - row],
            Rotation::Half => [height - row, width - column],
            Rotation::Counterclockwise => [width - column, row],
        };
        let across = if self.is_sideways() { height } else { width };
        [y, if self.mirror { across - x } else { x }]
    }

    /// Writes the pixels of `source`, `[height, width, 3]` before it is turned, to `output`.
    pub(crate) fn turn(self, source: &[u8], [height, width]: [usize; 2], output: &mut [u8]) {
        let columns = if self.is_sideways() { height } else { width };
        for (index, pixel) in output.chunks_exact_mut(3).enumerate() {
            let (y, mut x) = (index / columns, index % columns);
            if self.mirror {
                x = columns - 1 - x;
            }
            let (row, column) = match self.rotation {
                Rotation::Upright => (y, x),
                Rotation::Clockwise => (height - 1 - x, y),
                Rotation::Half => (height - 1 - y, width - 1 - x),
                Rotation::Counterclockwise => (x, width - 1 - y),
            };
            pixel.copy_from_slice(&source[(row * width + column) * 3..][..3]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_turned_as_pixels_are() {
        // 2 rows of 3 pixels, each with its number.
        let source: Vec<u8> = (0..6).flat_map(|pixel| [pixel; 3]).collect();
        for rotation in [Rotation::Upright, Rotation::Clockwise, Rotation::Half, Rotation::Counterclockwise] {
            for mirror in [false, true] {
                let orientation = Orientation { rotation, mirror };
                let mut turned = vec![0; source.len()];
                orientation.turn(&source, [2, 3], &mut turned);
                let columns = if orientation.is_sideways() { 2 } else { 3 };
                for (index, pixel) in turned.chunks_exact(3).enumerate() {
                    let middle = [(index / columns) as f32 + 0.5, (index % columns) as f32 + 0.5];
                    let [row, column] = orientation.place_before(middle, [2.0, 3.0]);
                    assert_eq!(row.floor() as u8 * 3 + column.floor() as u8, pixel[0], "{orientation:?}");
                    assert_eq!(orientation.place_after([row, column], [2.0, 3.0]), middle, "{orientation:?}");
                }
            }
        }
    }
}
