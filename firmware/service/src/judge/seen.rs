//! A box as it was found.

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
