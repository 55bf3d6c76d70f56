//! A box round a thing.

use std::fmt;

/// The edges of a box, in pixels from the upper left corner of an image.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// The least column.
    pub left: f32,
    /// The least row.
    pub top: f32,
    /// The column behind the last.
    pub right: f32,
    /// The row behind the last.
    pub bottom: f32,
}

impl Bounds {
    /// What it covers, in pixels; 0 where it covers nothing.
    pub fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// What both cover as a share of what either does, `0..=1`.
    pub fn overlap(&self, other: &Self) -> f32 {
        let common = self.common(other);
        let together = self.area() + other.area() - common.area();
        if together > 0.0 { common.area() / together } else { 0.0 }
    }

    /// What both cover; of no area where that is nothing.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// The least box round both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// What of it is within an image of `[height, width]`.
    #[must_use]
    pub fn within(&self, [height, width]: [f32; 2]) -> Self {
        Self {
            left: self.left.clamp(0.0, width),
            top: self.top.clamp(0.0, height),
            right: self.right.clamp(0.0, width),
            bottom: self.bottom.clamp(0.0, height),
        }
    }
}

impl fmt::Display for Bounds {
    /// Such as `from 12, 30 to 64, 80`: left, top, right, bottom, rounded to whole pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, top, right, bottom } = self;
        write!(f, "from {left:.0}, {top:.0} to {right:.0}, {bottom:.0}")
    }
}

/// A thing in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Its class, counted from 0.
    pub class: usize,
    /// Its probability, `0..=1`.
    pub score: f32,
    /// Where it is.
    pub bounds: Bounds,
}
