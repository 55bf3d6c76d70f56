//! The forms of an exported network.

use std::str::FromStr;

/// What numbers an exported network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Integers, between `QuantizeLinear` and `DequantizeLinear`.
    Qdq,
    /// Real numbers.
    F32,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "qdq" => Ok(Self::Qdq),
            "f32" => Ok(Self::F32),
            _ => Err(UnknownFormat(text.into())),
        }
    }
}

/// A format that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`; expected qdq or f32")]
pub struct UnknownFormat(String);
