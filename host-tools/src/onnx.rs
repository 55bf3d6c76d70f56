//! Attributes, tensors and values of ONNX, for what writes graphs.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{AttributeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

pub(crate) fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..AttributeProto::default() }
}

pub(crate) fn integers(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|&value| value as i64).collect(),
        ..AttributeProto::default()
    }
}

pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String as i32,
        s: value.as_bytes().to_vec(),
        ..AttributeProto::default()
    }
}

fn tensor(name: &str, dims: &[usize], data_type: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&dimension| dimension as i64).collect(),
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    }
}

pub(crate) fn of_f32(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, DataType::Float, bytes)
}

pub(crate) fn of_i8(name: &str, dims: &[usize], values: &[i8]) -> TensorProto {
    tensor(name, dims, DataType::Int8, values.iter().map(|value| value.cast_unsigned()).collect())
}

pub(crate) fn of_i32(name: &str, dims: &[usize], values: &[i32]) -> TensorProto {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, DataType::Int32, bytes)
}

pub(crate) fn of_i64(name: &str, values: &[i64]) -> TensorProto {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, &[values.len()], DataType::Int64, bytes)
}

/// Bytes as int8 or uint8 numbers.
pub(crate) fn of_bytes(name: &str, dims: &[usize], is_signed: bool, bytes: Vec<u8>) -> TensorProto {
    tensor(name, dims, if is_signed { DataType::Int8 } else { DataType::Uint8 }, bytes)
}

/// The little-endian bytes of f32 numbers.
pub(crate) fn of_float_bytes(name: &str, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    tensor(name, dims, DataType::Float, bytes)
}

/// The little-endian bytes of i32 numbers.
pub(crate) fn of_i32_bytes(name: &str, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    tensor(name, dims, DataType::Int32, bytes)
}

/// A float tensor of any number of pictures.
pub(crate) fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
    of_type(name, dims, DataType::Float)
}

/// A tensor of grey levels from 0 to 255, with an open batch before these dimensions.
pub(crate) fn levels(name: &str, dims: &[usize]) -> ValueInfoProto {
    of_type(name, dims, DataType::Uint8)
}

fn of_type(name: &str, dims: &[usize], data_type: DataType) -> ValueInfoProto {
    let dimension = |value| Dimension { value: Some(value), ..Dimension::default() };
    let batch = dimension(dimension::Value::DimParam("N".into()));
    let rest = dims.iter().map(|&size| dimension(dimension::Value::DimValue(size as i64)));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: data_type as i32,
                shape: Some(TensorShapeProto { dim: [batch].into_iter().chain(rest).collect() }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
