//! What a stream of bytes is cut into.

use std::ops::Range;

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A frame: of these bytes, the whole being so long.
    Frame(Range<usize>, usize),
    /// Bytes of this length that belong to no frame and are no fault: a header, padding.
    Between(usize),
    /// Rubbish of this length.
    Rubbish(usize),
    /// Too little to tell.
    More,
}
