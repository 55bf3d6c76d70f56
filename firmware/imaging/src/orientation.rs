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
    /// Writes the pixels of `source`, `[height, width, 3]` before it is turned, to `output`.
    pub(crate) fn turn(self, source: &[u8], [height, width]: [usize; 2], output: &mut [u8]) {
        let sideways = matches!(self.rotation, Rotation::Clockwise | Rotation::Counterclockwise);
        let columns = if sideways { height } else { width };
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
