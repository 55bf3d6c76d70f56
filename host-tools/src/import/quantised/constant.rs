//! Constant tensors of quantised files.

use crate::import::array::Array;
use crate::import::width::Width;

/// Integers of a file with their type.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    pub(super) array: Array<i64>,
    pub(super) width: Width,
}

/// Weights that were dequantised: their integers less the zero point.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    /// Magnitudes of the integers, less the zero point.
    pub(super) magnitudes: Array<u32>,
    /// The axis along which scales lie, where there are several.
    pub(super) axis: Option<usize>,
    /// What a step is worth: one scale, or one for each index of the axis.
    pub(super) scales: Vec<f32>,
}

impl Weights {
    /// Rows and columns exchanged; `None` for what is no matrix.
    pub(super) fn transposed(&self) -> Option<Weights> {
        let magnitudes = self.magnitudes.clone().transpose(Some(&[1, 0])).ok()?;
        let axis = self.axis.map(|axis| 1 - axis.min(1));
        (magnitudes.dims.len() == 2).then(|| Weights { magnitudes, axis, scales: self.scales.clone() })
    }

    /// The largest magnitude at each index of an axis.
    pub(super) fn largest(&self, axis: usize) -> Vec<u32> {
        let dims = &self.magnitudes.dims;
        let inner: usize = dims.iter().skip(axis + 1).product();
        let count = dims.get(axis).copied().unwrap_or(1);
        let mut largest = vec![0; count];
        for (index, &magnitude) in self.magnitudes.data.iter().enumerate() {
            let row = &mut largest[index / inner.max(1) % count.max(1)];
            *row = magnitude.max(*row);
        }
        largest
    }
}
