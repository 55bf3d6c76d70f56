//! How much a frame speaks for a rule.

/// Where something is, as shares of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    /// `[left, top, right, bottom]`.
    Box([f32; 4]),
    /// `[x, y]`.
    Point([f32; 2]),
}

impl Place {
    /// What a picture of it shows, `[left, top, right, bottom]`: of a point a tenth of the whole.
    pub(crate) fn surroundings(self) -> [f32; 4] {
        const HALF: f32 = 0.05;
        match self {
            Self::Box(edges) => edges,
            Self::Point([x, y]) => [x - HALF, y - HALF, x + HALF, y + HALF].map(|edge| edge.clamp(0.0, 1.0)),
        }
    }
}

/// How much a finding speaks for some classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evidence {
    /// That one of these classes is there, `0..=1`.
    pub(crate) score: f32,
    /// The likeliest of them; of equals the first.
    pub(crate) class: usize,
    /// Where the likeliest one is, where the network says.
    pub(crate) place: Option<Place>,
    /// Which thing that is, where things are followed.
    pub(crate) track: Option<u32>,
}
