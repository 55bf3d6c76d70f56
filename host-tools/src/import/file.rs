//! Bytes to a protobuf, with bounded memory.

use std::path::Path;

use prost::Message as _;
use resight_model_file::FileFormat;
use tract_onnx::pb::ModelProto;

use super::bytes;
use super::error::ImportError;
use super::fault::ModelFault;
use super::fault::protobuf::{MAX_DEPTH, MAX_FIELDS, ProtobufFault};
use super::outside;
use super::tflite;

/// Reads and decodes an ONNX file. Values of large constants stay in it, unless `takes_all` says that they are
/// needed.
pub(super) fn read(path: &Path, takes_all: impl Fn(&ModelProto) -> bool) -> Result<ModelProto, ImportError> {
    let bytes = bytes::read(path, 0, None)?;
    if bytes.is_empty() {
        return Err(ImportError::file(path, ModelFault::Empty));
    }
    if tflite::is_tflite(&bytes) {
        return tflite::to_onnx(&bytes, path);
    }
    let damaged = |cause: ProtobufFault| {
        let other = FileFormat::of(&bytes).map(|format| ModelFault::Format { format });
        ImportError::file(path, other.unwrap_or(ModelFault::Damaged(cause)))
    };
    Scan { fields: 0 }.message(&bytes, Kind::Model, 0).map_err(damaged)?;
    let decoded = |bytes: &[u8]| ModelProto::decode(bytes).map_err(|error| damaged(error.into()));
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains('\\'));
    if let Some(slim) = name.and_then(|name| outside::without_values(&bytes, name)) {
        let proto = decoded(&slim)?;
        if !takes_all(&proto) {
            return Ok(proto);
        }
    }
    decoded(&bytes)
}

/// The protobuf messages of ONNX that hold other messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Training,
    Function,
    Annotation,
    /// Strings and messages of scalars and strings.
    Leaf,
}

impl Kind {
    /// What a length-delimited field of this message is, where decoding it takes more memory
    /// than it has bytes. Field numbers are those of `onnx.proto`.
    fn field(self, number: u64) -> Option<Kind> {
        Some(match (self, number) {
            (Kind::Model, 7) | (Kind::Attribute, 6 | 11) | (Kind::Training, 1 | 2) => Kind::Graph,
            (Kind::Model, 20) => Kind::Training,
            (Kind::Model, 25) => Kind::Function,
            (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::SparseTensor, 1 | 2) => Kind::Tensor,
            (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => Kind::SparseTensor,
            (Kind::Graph, 11..=13) => Kind::ValueInfo,
            (Kind::Graph, 14) => Kind::Annotation,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::Attribute, 14 | 15) | (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Model, 8 | 14)
            | (Kind::Node, 1 | 2)
            | (Kind::Attribute, 9)
            | (Kind::Tensor, 3 | 6 | 13)
            | (Kind::Shape, 1)
            | (Kind::Training, 3 | 4)
            | (Kind::Function, 4..=6 | 9)
            | (Kind::Annotation, 2) => Kind::Leaf,
            _ => return None,
        })
    }
}

/// Walks the wire format without allocating.
struct Scan {
    fields: usize,
}

impl Scan {
    fn message(&mut self, mut bytes: &[u8], kind: Kind, depth: usize) -> Result<(), ProtobufFault> {
        if depth > MAX_DEPTH {
            return Err(ProtobufFault::Depth);
        }
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let (number, wire_type) = (tag >> 3, tag & 7);
            if number == 0 || number >= 1 << 29 {
                return Err(ProtobufFault::FieldNumber);
            }
            match wire_type {
                0 => {
                    varint(&mut bytes)?;
                }
                1 => {
                    take(&mut bytes, 8)?;
                }
                5 => {
                    take(&mut bytes, 4)?;
                }
                2 => {
                    let length = varint(&mut bytes)?;
                    let content = take(&mut bytes, length)?;
                    let Some(field) = kind.field(number) else { continue };
                    self.fields += 1;
                    if self.fields > MAX_FIELDS {
                        return Err(ProtobufFault::Fields);
                    }
                    if !matches!(field, Kind::Leaf) {
                        self.message(content, field, depth + 1)?;
                    }
                }
                _ => return Err(ProtobufFault::WireType),
            }
        }
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufFault> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProtobufFault::LongNumber)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], ProtobufFault> {
    let Some((head, tail)) = usize::try_from(length).ok().and_then(|l| bytes.split_at_checked(l)) else {
        return Err(ProtobufFault::Truncated);
    };
    *bytes = tail;
    Ok(head)
}
