//! `Add`, `Sub`, `Mul`, `Div` and `Sum`, of two results or with a constant per channel.

use tract_onnx::pb::NodeProto;

use crate::import::attributes::Attributes;
use crate::import::error::printable;
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Outcome, Value};

pub(super) fn arithmetic(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    let values = [importer.input(node, 0)?, importer.input(node, 1)?];
    match values {
        [Value::Data(_), Value::Data(_)] => {
            let (left, right) = (importer.plain(node, 0)?, importer.plain(node, 1)?);
            two_results(importer, node, &left, &right)
        }
        [Value::Data(_), _] => {
            let data = importer.plain(node, 0)?;
            with_constant(importer, node, &data, 1)
        }
        [_, Value::Data(_)] => {
            let data = importer.plain(node, 1)?;
            with_constant(importer, node, &data, 0)
        }
        _ => Err("none of its inputs is a result of the network; export with constant folding".into()),
    }
}

/// Arithmetic of two results of the network: residual addition.
fn two_results(importer: &mut Importer<'_>, node: &NodeProto, left: &Data, right: &Data) -> Outcome {
    match node.op_type.as_str() {
        "Add" | "Sum" => {}
        "Mul" => {
            return Err(
                "multiplying two results of the network (gates, squeeze-and-excitation) is not supported; use a network without it"
                    .into(),
            );
        }
        _ => {
            return Err("only the addition of two results of the network is supported".into());
        }
    }
    let (shape, other) = (left.shape, right.shape);
    if shape != other || !left.has_layout(&right.layout) {
        return Err(format!("it adds {shape:?} and {other:?}; both must have the same shape"));
    }
    if left.operation == right.operation {
        return affine(importer, node, left, vec![2.0; shape[0]], vec![0.0; shape[0]]);
    }
    importer.value_of(node, Kind::Add, vec![left.operation, right.operation], shape, &left.layout)
}

/// Arithmetic with a constant per channel; the constant is the input at `position`.
fn with_constant(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, position: usize) -> Outcome {
    let channels = data.shape[0];
    let array = importer.weights(node, position)?.ok_or("its constant is missing")?;
    // Right-aligned, all dimensions but the channels' are 1.
    let fits = array.dims.len() <= data.layout.len()
        && array
            .dims
            .iter()
            .rev()
            .zip(data.layout.iter().rev())
            .all(|(&d, &axis)| d == 1 || (axis == Axis::Channels && d == channels));
    if !fits {
        return Err(format!(
            "its constant `{}` has the dimensions {:?}; only one value per channel is supported",
            printable(&node.input[position]),
            array.dims
        ));
    }
    let constant: Vec<f64> = (0..channels)
        .map(|c| f64::from(if array.data.len() == 1 { array.data[0] } else { array.data[c] }))
        .collect();
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    match (node.op_type.as_str(), position) {
        ("Add" | "Sum", _) => affine(importer, node, data, ones, constant),
        ("Sub", 1) => affine(importer, node, data, ones, constant.iter().map(|c| -c).collect()),
        // tract 0.23.9 folds it into a convolution before with the wrong sign, so there would
        // be no reference.
        ("Sub", _) => Err(
            "subtracting a result of the network from a constant is not supported; multiply by -1 and add"
                .into(),
        ),
        ("Mul", _) => affine(importer, node, data, constant, zeros),
        ("Div", 1) => affine(importer, node, data, constant.iter().map(|c| 1.0 / c).collect(), zeros),
        _ => Err("dividing by a result of the network is not supported".into()),
    }
}

pub(super) fn affine(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: &Data,
    scale: Vec<f64>,
    offset: Vec<f64>,
) -> Outcome {
    // Weights are f32 in the end.
    if scale.iter().chain(&offset).any(|&v| !(v as f32).is_finite()) {
        return Err("its scale or offset is not finite".into());
    }
    #[expect(clippy::float_cmp, reason = "only exactly nothing may be left out")]
    if scale.iter().all(|&s| s == 1.0) && offset.iter().all(|&o| o == 0.0) {
        return Ok(Value::Data(data.clone()));
    }
    if importer.prepare(node, data, &scale, &offset) {
        return Ok(Value::Data(data.clone()));
    }
    importer.value_of(node, Kind::Affine { scale, offset }, vec![data.operation], data.shape, &data.layout)
}

pub(super) fn sum(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    if node.input.len() != 2 {
        return Err(format!("it adds {} tensors; two are supported, export with Add", node.input.len()));
    }
    arithmetic(importer, node, attributes)
}
