//! Constant tensors of quantised files.

use tract_onnx::pb::tensor_proto::DataType;

use crate::import::array::Array;

/// The integers that a type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Width {
    Int8,
    Uint8,
    Int32,
}

impl Width {
    /// The type of quantised numbers that this one is.
    pub(in crate::import) fn of(data_type: i32) -> Option<Width> {
        match DataType::try_from(data_type) {
            Ok(DataType::Int8) => Some(Width::Int8),
            Ok(DataType::Uint8) => Some(Width::Uint8),
            Ok(DataType::Int32) => Some(Width::Int32),
            _ => None,
        }
    }

    /// The least and the largest number.
    pub(super) fn range(self) -> (i64, i64) {
        match self {
            Width::Int8 => (-128, 127),
            Width::Uint8 => (0, 255),
            Width::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        }
    }

    /// What is subtracted of a number to make an int8 of it.
    pub(super) fn offset(self) -> i32 {
        if self == Width::Uint8 { 128 } else { 0 }
    }
}

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
}

impl Weights {
    /// Rows and columns exchanged; `None` for what is no matrix.
    pub(super) fn transposed(&self) -> Option<Weights> {
        let magnitudes = self.magnitudes.clone().transpose(Some(&[1, 0])).ok()?;
        let axis = self.axis.map(|axis| 1 - axis.min(1));
        (magnitudes.dims.len() == 2).then_some(Weights { magnitudes, axis })
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
