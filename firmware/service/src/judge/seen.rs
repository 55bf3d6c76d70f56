//! A box as it was found.

use resight_runtime::{Bounds, Detection};

/// A box that the network has found, as shares of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SeenBox {
    pub(crate) class: usize,
    /// `0..=1`.
    pub(crate) score: f32,
    /// `[left, top, right, bottom]`, each `0..=1`.
    pub(crate) edges: [f32; 4],
    /// The number of the thing that it shows, the same from frame to frame; `None` while that is not
    /// known.
    pub(crate) track: Option<u32>,
}

impl SeenBox {
    /// A box, in shares of the picture, that nothing is known of beyond where it is.
    pub(crate) fn of(found: &Detection) -> Self {
        let Bounds { left, top, right, bottom } = found.bounds;
        Self { class: found.class, score: found.score, edges: [left, top, right, bottom], track: None }
    }

    /// The box without its number.
    pub(crate) fn detection(self) -> Detection {
        let [left, top, right, bottom] = self.edges;
        Detection { class: self.class, score: self.score, bounds: Bounds { left, top, right, bottom } }
    }

    /// The share of the picture that it covers.
    pub(super) fn area(&self) -> f32 {
        let [left, top, right, bottom] = self.edges;
        (right - left).max(0.0) * (bottom - top).max(0.0)
    }

    pub(super) fn middle(&self) -> [f32; 2] {
        let [left, top, right, bottom] = self.edges;
        [f32::midpoint(left, right), f32::midpoint(top, bottom)]
    }

    pub(super) fn shorter_side(&self) -> f32 {
        let [left, top, right, bottom] = self.edges;
        (right - left).min(bottom - top).max(0.0)
    }
}
