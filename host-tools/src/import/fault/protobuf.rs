//! The protobuf of a file.

/// Most protobuf messages and strings in a file. ResNet-152 has some ten thousand. Each may
/// take up to about a kilobyte of memory for two bytes of file, which is why they are counted
/// before they are decoded.
pub(in crate::import) const MAX_FIELDS: usize = 1 << 18;
/// Deepest nesting of graphs in attributes that is looked at.
pub(in crate::import) const MAX_DEPTH: usize = 32;

/// Why bytes are no protobuf that can be decoded.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufFault {
    #[error("its graphs are nested more than {MAX_DEPTH} deep")]
    Depth,
    #[error("it holds more than {MAX_FIELDS} protobuf messages")]
    Fields,
    #[error("a field number is invalid")]
    FieldNumber,
    #[error("a field has an unknown wire type")]
    WireType,
    #[error("a number has more than ten bytes")]
    LongNumber,
    #[error("it ends in the middle of a field (truncated?)")]
    Truncated,
    #[error(transparent)]
    Decoding(#[from] prost::DecodeError),
}
