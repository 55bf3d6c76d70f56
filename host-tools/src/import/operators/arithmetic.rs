//! `Add`, `Sub`, `Mul`, `Div`, `Sum`, `Pow`, `Min` and `Max`, of two results or with a constant per
//! channel.

use tract_onnx::pb::NodeProto;

use super::norm;
use crate::function::{Binary, Function};
use crate::import::attributes::Attributes;
use crate::import::fault::NodeFault;
use crate::import::fault::arithmetic::ArithmeticFault;
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Outcome, Value};

pub(super) fn arithmetic(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let values = [importer.input(node, 0)?, importer.input(node, 1)?];
    match values {
        [Value::Data(_), Value::Data(_)] => {
            let (left, right) = (importer.plain(node, 0)?, importer.plain(node, 1)?);
            two_results(importer, node, &left, &right)
        }
        [Value::Data(data), Value::Norm(norm)] if node.op_type == "Div" => {
            norm::quotient(importer, node, &data, &norm)
        }
        [Value::Norm(_), Value::Float(_)] if node.op_type == "Max" => {
            norm::guarded(importer, node, attributes)
        }
        [Value::Data(_), _] => {
            let data = importer.plain(node, 0)?;
            with_constant(importer, node, &data, 1)
        }
        [_, Value::Data(_)] => {
            let data = importer.plain(node, 1)?;
            with_constant(importer, node, &data, 0)
        }
        _ => Err(ArithmeticFault::NoResult.into()),
    }
}

/// Arithmetic of two results of the network: a residual addition, a gate, or a function that is
/// written with the tensor twice, such as `x * sigmoid(x)`.
fn two_results(importer: &mut Importer<'_>, node: &NodeProto, left: &Data, right: &Data) -> Outcome {
    let operation = binary(&node.op_type).ok_or(ArithmeticFault::Operator)?;
    let (shape, other) = (left.shape, right.shape);
    let is_same = shape == other && left.has_layout(&right.layout);
    let is_addition = operation == Binary::Sum;
    if is_same
        && let Some((source, [f, g], is_curved)) = importer.same_source(left.operation, right.operation)
        && (is_curved || !is_addition)
    {
        let function = f.with(operation, g);
        if function.is_small() {
            return importer.value_of(node, Kind::Function(function), vec![source], shape, &left.layout);
        }
    }
    if operation == Binary::Product {
        return multiply(importer, node, left, right);
    }
    if !is_addition {
        return Err(ArithmeticFault::TwoResults(node.op_type.clone()).into());
    }
    if !is_same {
        return Err(ArithmeticFault::Sum { left: shape, right: other }.into());
    }
    if left.operation == right.operation {
        return affine(importer, node, left, vec![2.0; shape[0]], vec![0.0; shape[0]]);
    }
    importer.value_of(node, Kind::Add, vec![left.operation, right.operation], shape, &left.layout)
}

/// The product of two results: of one shape, or an image and a gate.
fn multiply(importer: &mut Importer<'_>, node: &NodeProto, left: &Data, right: &Data) -> Outcome {
    // Dimensions are compared from the last, and those that are missing are 1.
    let broadcasts = |image: &Data, gate: &Data| {
        let [channels, height, width] = image.shape;
        let missing = image.layout.len().checked_sub(gate.layout.len());
        let aligned = missing.is_some_and(|missing| {
            image.layout[missing..].iter().zip(&gate.layout).all(|(&own, &other)| {
                own == other || gate.is_unit(other) || (gate.size(other) == 1 && other != Axis::Batch)
            })
        });
        let fits = [image.shape, [channels, 1, 1], [1, height, width]].contains(&gate.shape);
        aligned && fits
    };
    let (image, gate) = if broadcasts(left, right) {
        (left, right)
    } else if broadcasts(right, left) {
        (right, left)
    } else {
        return Err(ArithmeticFault::Product { left: left.shape, right: right.shape }.into());
    };
    importer.value_of(node, Kind::Multiply, vec![image.operation, gate.operation], image.shape, &image.layout)
}

/// What an ONNX operator does with two numbers.
fn binary(operator: &str) -> Option<Binary> {
    Some(match operator {
        "Add" | "Sum" => Binary::Sum,
        "Sub" => Binary::Difference,
        "Mul" => Binary::Product,
        "Div" => Binary::Quotient,
        "Min" => Binary::Minimum,
        "Max" => Binary::Maximum,
        "Pow" => Binary::Power,
        _ => return None,
    })
}

/// The constant at `position` of a node that works on `data`, one for each channel.
pub(super) fn constant_per_channel(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: &Data,
    position: usize,
) -> Result<Vec<f64>, NodeFault> {
    let channels = data.shape[0];
    let array = importer.weights(node, position)?.ok_or(ArithmeticFault::NoConstant)?;
    // Right-aligned, all dimensions but the channels' are 1.
    let fits = array.dims.len() <= data.layout.len()
        && array
            .dims
            .iter()
            .rev()
            .zip(data.layout.iter().rev())
            .all(|(&d, &axis)| d == 1 || (axis == Axis::Channels && d == channels));
    if !fits {
        let name = node.input[position].clone();
        return Err(ArithmeticFault::Constant { name, dims: array.dims }.into());
    }
    let value = |c: usize| f64::from(if array.data.len() == 1 { array.data[0] } else { array.data[c] });
    Ok((0..channels).map(value).collect())
}

/// Arithmetic with a constant per channel; the constant is the input at `position`.
fn with_constant(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, position: usize) -> Outcome {
    let constant = constant_per_channel(importer, node, data, position)?;
    let channels = data.shape[0];
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let is_function = matches!(importer.operations[data.operation].kind, Kind::Function(_));
    match (node.op_type.as_str(), position) {
        _ if is_function => function_of(importer, node, data, &constant, position),
        ("Add" | "Sum", _) => affine(importer, node, data, ones, constant),
        ("Sub", 1) => affine(importer, node, data, ones, constant.iter().map(|c| -c).collect()),
        // tract 0.23.9 folds it into a convolution before with the wrong sign, so there would
        // be no reference.
        ("Sub", _) => Err(ArithmeticFault::FromConstant.into()),
        ("Mul", _) => affine(importer, node, data, constant, zeros),
        ("Div", 1) => affine(importer, node, data, constant.iter().map(|c| 1.0 / c).collect(), zeros),
        ("Div", _) => Err(ArithmeticFault::Divisor.into()),
        _ => function_of(importer, node, data, &constant, position),
    }
}

/// Arithmetic with a constant as a function of each value.
fn function_of(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: &Data,
    constant: &[f64],
    position: usize,
) -> Outcome {
    let operation = binary(&node.op_type).ok_or(ArithmeticFault::NoArithmetic)?;
    let constant = Function::numbers(constant);
    let function = if position == 0 {
        constant.with(operation, Function::Argument)
    } else {
        Function::Argument.with(operation, constant)
    };
    importer.apply(node, data, &function)
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
        return Err(ArithmeticFault::NotFinite.into());
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
        return Err(ArithmeticFault::Count(node.input.len()).into());
    }
    arithmetic(importer, node, attributes)
}
