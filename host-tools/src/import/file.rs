//! Bytes to a protobuf, with bounded memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use prost::Message as _;
use resight_model_file::FileFormat;
use tract_onnx::pb::ModelProto;

use super::error::ImportError;
use super::limits::MAX_FILE_BYTES;
use super::outside;
use super::tflite;

/// Most protobuf messages and strings in a file. ResNet-152 has some ten thousand. Each may
/// take up to about a kilobyte of memory for two bytes of file, which is why they are counted
/// before they are decoded.
const MAX_FIELDS: usize = 1 << 18;
/// Deepest nesting of graphs in attributes that is looked at.
const MAX_DEPTH: usize = 32;

/// Reads and decodes an ONNX file. Values of large constants stay in it, unless `takes_all` says that they are
/// needed.
pub(super) fn read(path: &Path, takes_all: impl Fn(&ModelProto) -> bool) -> Result<ModelProto, ImportError> {
    let refuse = |cause: String| ImportError::File { path: path.into(), cause };
    let bytes = read_bytes(path, 0, None)?;
    if bytes.is_empty() {
        return Err(refuse("the file is empty; export the model again".into()));
    }
    if tflite::is_tflite(&bytes) {
        return tflite::to_onnx(&bytes, path);
    }
    let damaged = |cause: String| match FileFormat::of(&bytes) {
        Some(format) => refuse(format!("not an ONNX file: it is {format}; {}", remedy(format))),
        None => {
            refuse(format!("not an ONNX file, or a damaged one: {cause}; export or copy the model again"))
        }
    };
    Scan { fields: 0 }.message(&bytes, Kind::Model, 0).map_err(damaged)?;
    let decoded = |bytes: &[u8]| ModelProto::decode(bytes).map_err(|error| damaged(error.to_string()));
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains('\\'));
    if let Some(slim) = name.and_then(|name| outside::without_values(&bytes, name)) {
        let proto = decoded(&slim)?;
        if !takes_all(&proto) {
            return Ok(proto);
        }
    }
    decoded(&bytes)
}

/// How a file of another format becomes an ONNX file.
fn remedy(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Tar => "a model file of resight is quantised already; anything else must be unpacked",
        FileFormat::Zip => "a network saved by PyTorch must be exported by torch.onnx.export",
        FileFormat::Gzip | FileFormat::Zstd => "unpack it",
        FileFormat::Hdf5 => "a network saved by Keras must be exported by tf2onnx",
        FileFormat::GitLfsPointer => "`git lfs pull` or `resight fetch` brings the network itself",
        FileFormat::Html => "the download led to a page about the file, or to a login",
        FileFormat::Png | FileFormat::Jpeg => "the network is expected here",
    }
}

/// How many bytes are to be read where it is `length` from `offset`, or all that follow; refuses a file that
/// has them not.
pub(super) fn check(path: &Path, offset: u64, length: Option<u64>) -> Result<u64, ImportError> {
    let failed = |cause| ImportError::Read { path: path.into(), cause };
    let refuse = |cause: String| ImportError::File { path: path.into(), cause };
    // Before opening: opening a FIFO would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(refuse("not a regular file".into()));
    }
    let available = metadata.len().checked_sub(offset);
    let length = available.and_then(|a| length.unwrap_or(a).le(&a).then(|| length.unwrap_or(a)));
    let Some(length) = length else {
        return Err(refuse(format!("has {} bytes, fewer than the model refers to", metadata.len())));
    };
    if length > MAX_FILE_BYTES {
        return Err(refuse(format!("{length} bytes are more than the {MAX_FILE_BYTES} that are read")));
    }
    Ok(length)
}

/// Reads `length` bytes from `offset`, or all that follow.
pub(super) fn read_bytes(path: &Path, offset: u64, length: Option<u64>) -> Result<Vec<u8>, ImportError> {
    use std::io::{Seek, SeekFrom};
    let failed = |cause| ImportError::Read { path: path.into(), cause };
    let length = check(path, offset, length)?;
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 != length {
        let cause = "became shorter while it was read".into();
        return Err(ImportError::File { path: path.into(), cause });
    }
    Ok(bytes)
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
    fn message(&mut self, mut bytes: &[u8], kind: Kind, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("its graphs are nested more than {MAX_DEPTH} deep"));
        }
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let (number, wire_type) = (tag >> 3, tag & 7);
            if number == 0 || number >= 1 << 29 {
                return Err("a field number is invalid".into());
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
                        return Err(format!("it holds more than {MAX_FIELDS} protobuf messages"));
                    }
                    if !matches!(field, Kind::Leaf) {
                        self.message(content, field, depth + 1)?;
                    }
                }
                _ => return Err("a field has an unknown wire type".into()),
            }
        }
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number has more than ten bytes".into())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let Some((head, tail)) = usize::try_from(length).ok().and_then(|l| bytes.split_at_checked(l)) else {
        return Err("it ends in the middle of a field (truncated?)".into());
    };
    *bytes = tail;
    Ok(head)
}
