//! The part of a frame that a network sees.

/// A part of an image, in shares of its width and height, each `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Width, above zero; `left + width` is at most 1.
    pub width: f32,
    /// Height, above zero; `top + height` is at most 1.
    pub height: f32,
}

impl Region {
    /// The whole image.
    pub const WHOLE: Self = Self { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// A region within the image.
    ///
    /// `None` if it is empty or reaches beyond an edge.
    pub fn new(left: f32, top: f32, width: f32, height: f32) -> Option<Self> {
        // Shares such as 0.9 and 0.1 need not add up to one exactly.
        let fits = |start: f32, length: f32| start >= 0.0 && length > 0.0 && start + length <= 1.000_01;
        (fits(left, width) && fits(top, height)).then_some(Self { left, top, width, height })
    }

    /// First pixel and length of a share of `side` pixels; a pixel at least.
    pub(crate) fn pixels(start: f32, length: f32, side: u32) -> (u32, u32) {
        let place = |share: f32| (f64::from(share) * f64::from(side)).round() as u32;
        let first = place(start).min(side - 1);
        (first, place(start + length).clamp(first + 1, side) - first)
    }
}
