//! Types of integers.

use tract_onnx::pb::tensor_proto::DataType;

/// The integers that a type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Int8,
    Uint8,
    Int32,
}

impl Width {
    /// The type of quantised numbers that this one is.
    pub(super) fn of(data_type: i32) -> Option<Width> {
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
