//! Constant tensors: initialisers and `Constant` nodes.

use std::path::{Component, Path, PathBuf};

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::array::Array;
use super::bytes::{self, BytesError};
use super::limits::{LimitFault, MAX_FILE_BYTES, elements};
use super::names::printable;
use super::outside::OutsideError;

/// A constant of one of the two kinds that matter here.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    /// Weights and parameters; f16, bf16 and f64 are converted.
    Float(Array<f32>),
    /// Shapes, axes, flags.
    Integer(Array<Option<i64>>),
}

/// Why a tensor cannot be read. The message goes on after its name.
#[derive(Debug, thiserror::Error)]
pub enum TensorFault {
    #[error("is stored in segments, which is not supported; export it in one piece")]
    Segments,
    #[error("is stored outside of the file; save it within, or as an initialiser")]
    Outside,
    #[error("has the invalid dimensions {0:?}")]
    Dimensions(Vec<i64>),
    #[error(transparent)]
    Limit(#[from] LimitFault),
    #[error(
        "has {found} {unit} where its dimensions {dims:?} need {expected}; the file is damaged, export it again"
    )]
    Size { found: usize, unit: &'static str, dims: Vec<usize>, expected: usize },
    #[error(
        "has the type {0}: the file is quantised already; `resight convert` takes such files, or export the f32 model"
    )]
    Quantised(&'static str),
    #[error("has the type {name} (number {number}); export the model in f32")]
    Type { name: &'static str, number: i32 },
    #[error("holds no integers")]
    NoIntegers,
    #[error("has external data with the invalid {key} `{value}`", value = printable(value))]
    Entry { key: String, value: String },
    #[error("has external data without a location")]
    NoLocation,
    #[error("has external data in `{0}`, outside of the model's folder; move it there", printable(location))]
    Folder { location: String },
    #[error("has {found} bytes of external data where its dimensions need {expected}")]
    Length { found: u64, expected: u64 },
    #[error("brings the external data above {MAX_FILE_BYTES} bytes, the most that is read")]
    TooMuch,
    #[error("has external data that cannot be read: {0}")]
    Unreadable(#[from] BytesError),
    #[error("has external data that cannot be read: {0}")]
    Values(#[from] OutsideError),
}

/// Reads a tensor whose data is in the protobuf.
pub(super) fn read(tensor: &TensorProto) -> Result<Constant, TensorFault> {
    if tensor.segment.is_some() {
        return Err(TensorFault::Segments);
    }
    if is_external(tensor) {
        return Err(TensorFault::Outside);
    }
    let dims = dimensions(tensor)?;
    let count = elements(&dims)?;
    let raw = &tensor.raw_data;
    let data_type = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let integer = |data: Vec<i64>| data.into_iter().map(Some).collect();
    Ok(match data_type {
        DataType::Float => {
            let data = values(&dims, count, raw, &tensor.float_data, f32::from_le_bytes)?;
            Constant::Float(Array { dims, data })
        }
        DataType::Double => {
            let data = values(&dims, count, raw, &tensor.double_data, f64::from_le_bytes)?;
            Constant::Float(Array { dims, data: data.into_iter().map(|v| v as f32).collect() })
        }
        DataType::Float16 | DataType::Bfloat16 => {
            let widened: Vec<u16> = tensor.int32_data.iter().map(|&v| v as u16).collect();
            let data = values(&dims, count, raw, &widened, u16::from_le_bytes)?;
            let convert = if data_type == DataType::Float16 { from_f16 } else { from_bf16 };
            Constant::Float(Array { dims, data: data.into_iter().map(convert).collect() })
        }
        DataType::Int64 => {
            let data = values(&dims, count, raw, &tensor.int64_data, i64::from_le_bytes)?;
            Constant::Integer(Array { dims, data: integer(data) })
        }
        DataType::Int32 => {
            let data = values(&dims, count, raw, &tensor.int32_data, i32::from_le_bytes)?;
            Constant::Integer(Array { dims, data: integer(data.into_iter().map(i64::from).collect()) })
        }
        DataType::Bool => {
            let widened: Vec<u8> = tensor.int32_data.iter().map(|&v| v as u8).collect();
            let data = values(&dims, count, raw, &widened, u8::from_le_bytes)?;
            Constant::Integer(Array { dims, data: integer(data.into_iter().map(i64::from).collect()) })
        }
        DataType::Int8 | DataType::Uint8 | DataType::Int4 | DataType::Uint4 => {
            return Err(TensorFault::Quantised(data_type.as_str_name()));
        }
        _ => {
            return Err(TensorFault::Type { name: data_type.as_str_name(), number: tensor.data_type });
        }
    })
}

/// Reads the integers of a tensor of 8 or 32 bits whose data is in the protobuf.
pub(super) fn read_integers(tensor: &TensorProto) -> Result<Array<i64>, TensorFault> {
    let narrow = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int8) => |byte: [u8; 1]| i32::from(byte[0].cast_signed()),
        Ok(DataType::Uint8) => |byte: [u8; 1]| i32::from(byte[0]),
        _ => {
            let Constant::Integer(array) = read(tensor)? else { return Err(TensorFault::NoIntegers) };
            let data = array.known().unwrap_or_default();
            return Ok(Array { dims: array.dims, data });
        }
    };
    if tensor.segment.is_some() {
        return Err(TensorFault::Segments);
    }
    let dims = dimensions(tensor)?;
    let data = values(&dims, elements(&dims)?, &tensor.raw_data, &tensor.int32_data, narrow)?;
    Ok(Array { dims, data: data.into_iter().map(i64::from).collect() })
}

/// The dimensions of a tensor, none of them negative.
fn dimensions(tensor: &TensorProto) -> Result<Vec<usize>, TensorFault> {
    tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| TensorFault::Dimensions(tensor.dims.clone())))
        .collect()
}

/// `count` values from the raw bytes, or else from the typed field.
fn values<T: Copy, const N: usize>(
    dims: &[usize],
    count: usize,
    raw: &[u8],
    typed: &[T],
    from_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>, TensorFault> {
    if raw.is_empty() && typed.len() == count {
        return Ok(typed.to_vec());
    }
    // A tensor has its values in one of both places.
    let (found, expected, unit) = if raw.is_empty() && !typed.is_empty() {
        (typed.len(), count, "values")
    } else {
        (raw.len(), count * N, "bytes")
    };
    if found != expected || unit == "values" {
        return Err(TensorFault::Size { found, unit, dims: dims.into(), expected });
    }
    let (chunks, _) = raw.as_chunks::<N>();
    Ok(chunks.iter().map(|chunk| from_bytes(*chunk)).collect())
}

/// IEEE 754 half precision: 1 sign, 5 exponent and 10 fraction bits.
fn from_f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

/// The upper half of an f32.
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Whether the tensor's data is in another file.
pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Where a tensor's data is in another file.
pub(super) struct External {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// The tensor's dimensions.
    pub(super) dims: Vec<usize>,
    /// Bytes of its data.
    bytes: u64,
}

impl External {
    /// Where the external data of `tensor` is, in `folder` or below.
    pub(super) fn of(tensor: &TensorProto, folder: &Path) -> Result<External, TensorFault> {
        let (mut location, mut offset, mut length) = (None, 0, None);
        for entry in &tensor.external_data {
            let number = || {
                let fault = || TensorFault::Entry { key: entry.key.clone(), value: entry.value.clone() };
                entry.value.parse::<u64>().map_err(|_| fault())
            };
            match entry.key.as_str() {
                "location" => location = Some(entry.value.as_str()),
                "offset" => offset = number()?,
                "length" => length = Some(number()?),
                _ => {}
            }
        }
        let location = location.filter(|l| !l.is_empty()).ok_or(TensorFault::NoLocation)?;
        let relative = Path::new(location);
        // A backslash separates folders where the file may have come from.
        let within = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !within || location.contains(['\\', '\0']) {
            return Err(TensorFault::Folder { location: location.into() });
        }
        let size = match DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined) {
            DataType::Double | DataType::Int64 => 8,
            DataType::Float16 | DataType::Bfloat16 => 2,
            DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
            _ => 4,
        };
        let dims = dimensions(tensor)?;
        let bytes = (elements(&dims)? * size) as u64;
        if let Some(length) = length.filter(|&l| l != bytes) {
            return Err(TensorFault::Length { found: length, expected: bytes });
        }
        Ok(External { path: folder.join(relative), offset, dims, bytes })
    }

    /// Adds the data to the `total` bytes read so far.
    pub(super) fn charge(&self, total: &mut u64) -> Result<(), TensorFault> {
        *total += self.bytes;
        if *total > MAX_FILE_BYTES {
            return Err(TensorFault::TooMuch);
        }
        Ok(())
    }

    /// Refuses a file that has not so much data.
    pub(super) fn check(&self) -> Result<(), TensorFault> {
        bytes::check(&self.path, self.offset, Some(self.bytes))?;
        Ok(())
    }

    /// Reads the data into the `raw_data` of `tensor`.
    pub(super) fn load(&self, tensor: &mut TensorProto) -> Result<(), TensorFault> {
        tensor.raw_data = bytes::read(&self.path, self.offset, Some(self.bytes))?;
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    }
}

/// Reads a tensor's external data into its `raw_data`. `total` counts the bytes read so far.
pub(super) fn load_external(
    tensor: &mut TensorProto,
    folder: &Path,
    total: &mut u64,
) -> Result<(), TensorFault> {
    let external = External::of(tensor, folder)?;
    external.charge(total)?;
    external.load(tensor)
}

/// A tensor with the same values in f32.
pub(super) fn to_proto(name: &str, array: &Array<f32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: array.dims.iter().map(|&d| d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: array.data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// Whether the number stands for a type of floats.
pub(super) fn is_float(data_type: i64) -> bool {
    let float = [DataType::Float, DataType::Float16, DataType::Bfloat16, DataType::Double];
    float.iter().any(|&f| i64::from(f as i32) == data_type)
}

/// Whether the tensor holds floats of another width than 32 bits.
pub(super) fn is_other_float(tensor: &TensorProto) -> bool {
    matches!(
        DataType::try_from(tensor.data_type),
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Double)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the conversion is exact")]
    fn half_precision_converts() {
        assert_eq!(from_f16(0x3c00), 1.0);
        assert_eq!(from_f16(0xc000), -2.0);
        assert_eq!(from_f16(0x0001), 2f32.powi(-24));
        assert_eq!(from_f16(0x7bff), 65504.0);
        assert_eq!(from_f16(0x7c00), f32::INFINITY);
        assert!(from_f16(0x7e00).is_nan());
        assert_eq!(from_f16(0x3555), 0.333_251_95);
        assert_eq!(from_bf16(0x3f80), 1.0);
    }
}
