//! Why a decoder cannot be used, and what its numbers may be.

/// The most boxes of a picture.
pub const MAX_BOXES: usize = 1000;

/// The most boxes of a picture before overlapping ones are left out.
pub const MAX_CANDIDATES: usize = 10_000;

/// The most levels of a pyramid.
pub(super) const MAX_LEVELS: usize = 16;

/// The most anchors of a place.
pub(super) const MAX_ANCHORS: usize = 64;

/// The most things of a picture whose points are told apart, and the most points of a kind.
pub const MAX_THINGS: usize = 50;

/// The most links between the points of a thing.
pub const MAX_LINKS: usize = 64;

/// The most kinds of points that are linked.
pub const MAX_LINKED_POINTS: usize = 64;

/// Why a decoder cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecoderError {
    /// A share is out of range.
    #[error("the decoder's `{name}` is {value}; 0 to 1 is needed")]
    Share {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: f32,
    },
    /// A length or a factor is worth nothing.
    #[error("the decoder's `{name}` is {value}; a number above 0 is needed")]
    Positive {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: f32,
    },
    /// A place is no number.
    #[error("the decoder's `{name}` is {value}; -1 to 1 is needed")]
    Offset {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: f32,
    },
    /// The number of boxes is out of range.
    #[error("the decoder's `most` is {0}; 1 to {MAX_BOXES} boxes are possible")]
    Most(usize),
    /// The number of boxes before the choice is out of range.
    #[error("the decoder's `candidates` is {0}; 1 to {MAX_CANDIDATES} boxes are possible")]
    Candidates(usize),
    /// The number of levels is out of range.
    #[error("the decoder has {0} levels; 1 to {MAX_LEVELS} are possible")]
    Levels(usize),
    /// The number of things is out of range.
    #[error("the decoder's `fields.most` is {0}; 1 to {MAX_THINGS} things are possible")]
    Things(usize),
    /// The fewest points of a thing are none, or more than it can have.
    #[error("the decoder's `fields.fewest` is {found}; 1 to {most} points are possible")]
    Fewest {
        /// How many are asked for.
        found: usize,
        /// How many there can be.
        most: usize,
    },
    /// The number of links is out of range.
    #[error("the decoder has {0} links; 1 to {MAX_LINKS} are possible")]
    Links(usize),
    /// A link joins no two points.
    #[error(
        "the decoder has a link from point {0} to point {1}; two different ones below {MAX_LINKED_POINTS} are needed"
    )]
    Link(usize, usize),
    /// The number of anchors of a place is out of range.
    #[error("level {level} of the decoder has {found} anchors; 1 to {MAX_ANCHORS} are possible")]
    Anchors {
        /// The level, from 0.
        level: usize,
        /// How many it has.
        found: usize,
    },
}

/// Refuses what is no share.
pub(super) fn share(name: &'static str, value: f32) -> Result<(), DecoderError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(DecoderError::Share { name, value }) }
}

/// Refuses what is not above zero, and what is no number.
pub(super) fn positive(name: &'static str, value: f32) -> Result<(), DecoderError> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(DecoderError::Positive { name, value }) }
}

/// Refuses a place in a cell that is far outside of it.
pub(super) fn offset(name: &'static str, value: f32) -> Result<(), DecoderError> {
    if (-1.0..=1.0).contains(&value) { Ok(()) } else { Err(DecoderError::Offset { name, value }) }
}

/// Refuses a number of boxes that no picture can have.
pub(super) fn most(most: usize) -> Result<(), DecoderError> {
    if (1..=MAX_BOXES).contains(&most) { Ok(()) } else { Err(DecoderError::Most(most)) }
}

/// Refuses a number of boxes that is too large to choose from.
pub(super) fn candidates(candidates: usize) -> Result<(), DecoderError> {
    if (1..=MAX_CANDIDATES).contains(&candidates) {
        Ok(())
    } else {
        Err(DecoderError::Candidates(candidates))
    }
}
