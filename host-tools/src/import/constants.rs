//! Nodes that compute constants and shapes, not results of the network.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::array::Array;
use super::attributes::Attributes;
use super::fault::NodeFault;
use super::fault::parts::PartFault;
use super::fault::shapes::ShapeFault;
use super::importer::Importer;
use super::limits::elements;
use super::names::printable;
use super::tensor::{Constant, is_float};
use super::value::Value;

pub(super) struct SliceArguments {
    pub(super) starts: Vec<i64>,
    pub(super) ends: Vec<i64>,
    pub(super) axes: Vec<i64>,
    pub(super) steps: Vec<i64>,
}

/// Nodes that compute constants and shapes: `None` where the node works on data.
pub(super) fn constants(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Result<Option<Value>, NodeFault> {
    if node.op_type == "Constant" {
        let value = attributes.constant()?;
        attributes.finish()?;
        return Ok(Some(value));
    }
    let names: Vec<&String> = node.input.iter().filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    // Initialisers are constants; look at the rest without reading weights.
    if importer.works_on_data(&node.input) {
        return Ok(None);
    }
    let unresolved = Value::Unresolved(printable(&node.op_type));
    let mut inputs = Vec::new();
    for position in 0..node.input.len() {
        inputs.push(importer.optional(node, position)?);
    }
    let value = match inputs.into_iter().next().flatten() {
        Some(Value::Float(array)) => on_floats(importer, node, attributes, array)?.map(Value::Float),
        Some(Value::Integer(array)) => on_integers(importer, node, attributes, array)?,
        _ => None,
    };
    Ok(Some(value.unwrap_or(unresolved)))
}

/// What exporters leave of constant folding on weights.
fn on_floats(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
    array: Array<f32>,
) -> Result<Option<Array<f32>>, NodeFault> {
    Ok(match node.op_type.as_str() {
        "Identity" => Some(array),
        "Cast" if is_float(attributes.integer("to")?.unwrap_or(0)) => Some(array),
        "Transpose" => Some(array.transpose(attributes.integers("perm")?.as_deref())?),
        "Unsqueeze" => {
            let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?;
            Some(array.unsqueeze(&axes.ok_or(ShapeFault::NoAxes)?)?)
        }
        "Squeeze" => {
            let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?;
            Some(array.squeeze(axes.as_deref())?)
        }
        "Reshape" => Some(array.reshape(&importer.integers(node, 1)?.ok_or(ShapeFault::NoShape)?)?),
        "Reciprocal" => quotient(&Array { dims: vec![], data: vec![1.0] }, &array),
        "Div" => match importer.input(node, 1)? {
            Value::Float(divisor) => quotient(&array, &divisor),
            _ => None,
        },
        _ => None,
    })
}

/// One number over another, where it is one: the root of a power that was learnt (`GeM`).
fn quotient(number: &Array<f32>, divisor: &Array<f32>) -> Option<Array<f32>> {
    let rank = number.dims.len().max(divisor.dims.len());
    let value = number.scalar()? / divisor.scalar()?;
    value.is_finite().then(|| Array { dims: vec![1; rank], data: vec![value] })
}

/// Weights that are all the same: files without their weights are made so, for tests of the networks.
fn weights_of_shape(
    importer: &mut Importer<'_>,
    shape: &Array<Option<i64>>,
    value: f32,
) -> Result<Option<Value>, NodeFault> {
    let Some(dims) = shape.known() else { return Ok(None) };
    let dims: Vec<usize> = dims
        .into_iter()
        .map(|size| usize::try_from(size).map_err(|_| ShapeFault::NoSize(size)))
        .collect::<Result<_, _>>()?;
    let count = elements(&dims)?;
    importer.charge_made(count)?;
    Ok(Some(Value::Float(Array { dims, data: vec![value; count] })))
}

/// Shape computations.
fn on_integers(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
    array: Array<Option<i64>>,
) -> Result<Option<Value>, NodeFault> {
    let result = match node.op_type.as_str() {
        "Identity" => Some(array),
        "Cast" => {
            let to = attributes.integer("to")?.unwrap_or(0);
            let integers = [DataType::Int32, DataType::Int64].map(|t| i64::from(t as i32));
            integers.contains(&to).then_some(array)
        }
        "Shape" => Some(Array::vector(array.dims.iter().map(|&d| Some(d as i64)).collect())),
        "Unsqueeze" => {
            let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?;
            Some(array.unsqueeze(&axes.ok_or(ShapeFault::NoAxes)?)?)
        }
        "Squeeze" => {
            let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?;
            Some(array.squeeze(axes.as_deref())?)
        }
        "Reshape" => match importer.input(node, 1)? {
            Value::Integer(target) => target.known().map(|t| array.reshape(&t)).transpose()?,
            _ => None,
        },
        "Transpose" => Some(array.transpose(attributes.integers("perm")?.as_deref())?),
        "Gather" if attributes.integer("axis")?.unwrap_or(0) == 0 => match importer.input(node, 1)? {
            Value::Integer(indices) => array.gather(&indices),
            _ => None,
        },
        "Concat" if array.dims.len() == 1 || attributes.integer("axis")? == Some(0) => {
            let mut parts = Vec::new();
            for position in 0..node.input.len() {
                match importer.input(node, position)? {
                    Value::Integer(part) => parts.push(part),
                    _ => return Ok(None),
                }
            }
            Array::concatenate(&parts)
        }
        "Slice" => {
            let read = slice_arguments(importer, node, attributes)?;
            match (read.starts.as_slice(), read.ends.as_slice(), read.steps.as_slice(), read.axes.as_slice())
            {
                (&[start], &[end], &[step], &[0]) => array.slice(start, end, step),
                (&[start], &[end], &[step], &[-1]) if array.dims.len() == 1 => array.slice(start, end, step),
                _ => None,
            }
        }
        "ConstantOfShape" => match attributes.constant_of_shape()? {
            Some(Constant::Integer(value)) => {
                value.scalar().flatten().and_then(|value| array.constant_of_shape(value))
            }
            Some(Constant::Float(value)) => return weights_of_shape(importer, &array, value.data[0]),
            None => None,
        },
        "Add" | "Sub" | "Mul" | "Div" => match importer.input(node, 1)? {
            Value::Integer(other) => array.arithmetic(&node.op_type, &other),
            _ => None,
        },
        _ => None,
    };
    Ok(result.map(Value::Integer))
}

pub(super) fn slice_arguments(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Result<SliceArguments, NodeFault> {
    let starts =
        importer.attribute_or_input(node, attributes, "starts", 1, 10)?.ok_or(PartFault::NoStarts)?;
    let ends = importer.attribute_or_input(node, attributes, "ends", 2, 10)?.ok_or(PartFault::NoEnds)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 3, 10)?;
    let steps = if importer.opset < 10 { None } else { importer.integers(node, 4)? };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(PartFault::SliceCounts.into());
    }
    Ok(SliceArguments { starts, ends, axes, steps })
}
