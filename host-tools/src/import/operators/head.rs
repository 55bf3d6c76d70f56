//! `Gemm`, `MatMul`, `Softmax`, `Sigmoid`.

use resight_model_file::Activation;
use tract_onnx::pb::NodeProto;

use super::shares::{is_of_parts, softmax_of_parts};
use crate::import::array::{Array, normalise_axes};
use crate::import::attributes::Attributes;
use crate::import::fault::NodeFault;
use crate::import::fault::heads::HeadFault;
use crate::import::fault::inputs::InputFault;
use crate::import::importer::Importer;
use crate::import::limits::LimitFault;
use crate::import::names::node_name;
use crate::import::operation::Kind;
use crate::import::rows::Rows;
use crate::import::value::{Axis, Data, FLAT, Outcome, Value};

pub(super) fn gemm(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let (data, features) = features(importer, node)?;
    if attributes.integer("transA")?.unwrap_or(0) != 0 {
        return Err(HeadFault::TransposedInput.into());
    }
    let transposed = attributes.integer("transB")?.unwrap_or(0) != 0;
    let alpha = attributes.float("alpha")?.unwrap_or(1.0);
    let beta = attributes.float("beta")?.unwrap_or(1.0);
    attributes.ignore("broadcast");
    let matrix = importer.weights(node, 1)?.ok_or(InputFault::NoWeights)?;
    let (mut weights, outputs) = connected(matrix, features, transposed)?;
    for weight in &mut weights {
        *weight *= alpha;
    }
    let bias = match importer.weights(node, 2)? {
        None => vec![0.0; outputs],
        Some(array) if array.data.len() == 1 => vec![array.data[0] * beta; outputs],
        Some(array) if array.dims == [outputs] || array.dims == [1, outputs] => {
            array.data.iter().map(|b| b * beta).collect()
        }
        Some(array) => {
            return Err(HeadFault::Bias { dims: array.dims, outputs }.into());
        }
    };
    linear(importer, node, &data, weights, bias, outputs)
}

pub(super) fn mat_mul(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    if importer.works_on_data(node.input.get(1..).unwrap_or_default()) {
        return Err(HeadFault::Matrices.into());
    }
    let (data, features) = features(importer, node)?;
    let matrix = importer.weights(node, 1)?.ok_or(InputFault::NoWeights)?;
    let (weights, outputs) = connected(matrix, features, false)?;
    linear(importer, node, &data, weights, vec![0.0; outputs], outputs)
}

/// A flattened image, in the order that the runtime has its values in: rows, columns, channels.
fn rows_first(importer: &mut Importer<'_>, node: &NodeProto, data: &Data) -> Result<Data, LimitFault> {
    let features = data.shape.iter().product();
    let tensor = importer.operations[data.operation].tensor.clone();
    let copy = importer.add_transpose(tensor, vec![0, 2, 3, 1]);
    let view = importer.step(node, Kind::View, vec![data.operation], [features, 1, 1], &copy)?;
    Ok(Data { operation: view, shape: [features, 1, 1], padding: [0; 4], layout: FLAT.to_vec() })
}

/// Weights `[output][channel][row][column]` as `[output][row][column][channel]`.
fn columns_for(importer: &Importer<'_>, data: &Data, weights: Vec<f32>) -> Vec<f32> {
    let view = &importer.operations[data.operation];
    let [channels, height, width] = match view.kind {
        Kind::View => importer.operations[view.inputs[0]].shape,
        _ => return weights,
    };
    let positions = height * width;
    if data.shape[0] != channels * positions || positions == 1 {
        return weights;
    }
    let mut ordered = Vec::with_capacity(weights.len());
    for row in weights.chunks_exact(channels * positions) {
        ordered.extend((0..row.len()).map(|at| row[at % channels * positions + at / channels]));
    }
    ordered
}

/// A fully connected layer with weights `[output][input]`.
fn linear(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: &Data,
    weights: Vec<f32>,
    bias: Vec<f32>,
    outputs: usize,
) -> Outcome {
    let kind = Kind::Convolution {
        weights: columns_for(importer, data, weights),
        bias,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
    };
    importer.value_of(node, kind, vec![data.operation], [outputs, 1, 1], &data.layout)
}

/// The flat input of a fully connected layer.
fn features(importer: &mut Importer<'_>, node: &NodeProto) -> Result<(Data, usize), NodeFault> {
    let data = importer.plain(node, 0)?;
    if data.layout == [Axis::Batch, Axis::Features] {
        let data = rows_first(importer, node, &data)?;
        let features = data.shape[0];
        return Ok((data, features));
    }
    if !data.is_flat() {
        return Err(HeadFault::Image(data.shape).into());
    }
    let features = data.shape[0];
    Ok((data, features))
}

/// The softmax over the classes of each box.
fn softmax_of_rows(
    importer: &Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
    rows: Rows,
) -> Outcome {
    let axis = attributes.integer("axis")?.unwrap_or(if importer.opset < 13 { 1 } else { -1 });
    let dims = rows.dims();
    let axes = normalise_axes(&[axis], dims.len())?;
    if node.op_type != "Softmax" {
        return Err(HeadFault::LogarithmOfScores.into());
    }
    let ended = rows.ending_in(Activation::Softmax, Some(axes[0])).map(Value::Rows);
    ended.ok_or_else(|| HeadFault::AxisOfScores { axis, dims }.into())
}

pub(super) fn softmax(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    if let Value::Rows(rows) = importer.input(node, 0)? {
        return softmax_of_rows(importer, node, attributes, rows);
    }
    let data = importer.plain(node, 0)?;
    let axis = attributes.integer("axis")?.unwrap_or(if importer.opset < 13 { 1 } else { -1 });
    let axes = normalise_axes(&[axis], data.layout.len())?;
    if is_of_parts(data.layout[axes[0]]) && node.op_type == "Softmax" {
        return softmax_of_parts(importer, node, &data, axes[0]);
    }
    if data.layout[axes[0]] == Axis::Channels && importer.ends_in_map(node) {
        return Ok(Value::Probabilities(data.operation, Activation::Softmax));
    }
    if data.layout[axes[0]] != Axis::Channels || data.shape[1] * data.shape[2] != 1 {
        return Err(HeadFault::Axis(axis).into());
    }
    if !importer.makes_output(node) {
        return Err(HeadFault::SoftmaxWithin.into());
    }
    if data.shape[0] == 1 {
        return Err(HeadFault::SoftmaxOfOne.into());
    }
    importer.activation = Some(Activation::Softmax);
    log::info!("node `{}` ({}) is left out: logits come before softmax", node_name(node), node.op_type);
    Ok(Value::Probabilities(data.operation, Activation::Softmax))
}

/// The probabilities of outputs that do not exclude each other.
pub(super) fn sigmoid(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    if !importer.makes_output(node) {
        return Err(HeadFault::SigmoidWithin.into());
    }
    let [outputs, height, width] = data.shape;
    if height * width != 1 {
        return Err(HeadFault::SigmoidOfImage { height, width }.into());
    }
    let kind =
        if outputs == 1 { "" } else { ", one for each of the classes, which do not exclude each other" };
    log::info!("node `{}` ({}) is left out: logits come before sigmoid{kind}", node_name(node), node.op_type);
    importer.activation = Some(Activation::Sigmoid);
    Ok(Value::Probabilities(data.operation, Activation::Sigmoid))
}

/// A matrix as `[output][input]`, and its number of outputs.
fn connected(matrix: Array<f32>, features: usize, transposed: bool) -> Result<(Vec<f32>, usize), NodeFault> {
    let dims = matrix.dims.clone();
    let matrix = if transposed || dims.len() != 2 { matrix } else { matrix.transpose(None)? };
    match matrix.dims.as_slice() {
        &[outputs, inputs] if inputs == features && outputs > 0 => Ok((matrix.data, outputs)),
        _ => Err(HeadFault::Weights { dims, features }.into()),
    }
}
