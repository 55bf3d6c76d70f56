//! What the steps of int8 tensors are worth.

/// What one step of an int8 tensor is worth: `real = scale * (q - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// Positive and finite.
    pub scale: f32,
    /// In `[-128, 127]`.
    pub zero_point: i32,
}

impl Quantisation {
    /// The real number that `q` stands for.
    #[inline(always)]
    pub fn dequantise(&self, q: i8) -> f32 {
        self.scale * (i32::from(q) - self.zero_point) as f32
    }
}

impl Eq for Quantisation {}

impl std::hash::Hash for Quantisation {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.scale.to_bits().hash(state);
        self.zero_point.hash(state);
    }
}

/// Whether these are zero points of int8 tensors.
pub(crate) fn are_int8(zero_points: &[i32]) -> bool {
    zero_points.iter().all(|zero_point| i8::try_from(*zero_point).is_ok())
}
