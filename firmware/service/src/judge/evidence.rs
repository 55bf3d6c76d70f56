//! How much a frame speaks for a rule.

/// How much a finding speaks for some classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evidence {
    /// That one of these classes is there, `0..=1`.
    pub(crate) score: f32,
    /// The likeliest of them; of equals the first.
    pub(crate) class: usize,
    /// Where the likeliest one is, `[left, top, right, bottom]` as shares of the picture, where the
    /// network says.
    pub(crate) place: Option<[f32; 4]>,
    /// Which thing that is, where things are followed.
    pub(crate) track: Option<u32>,
}
