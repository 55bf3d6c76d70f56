//! L2 normalisation over channels: `LpNormalization`, and a result over its `ReduceL2`.

use tract_onnx::pb::NodeProto;

use crate::import::array::{Array, normalise_axes};
use crate::import::attributes::Attributes;
use crate::import::fault::normalisation::{LEAST_NORM, NormalisationFault};
use crate::import::fault::structure::StructureFault;
use crate::import::importer::Importer;
use crate::import::model::{integer, integer_list, integers, tensor};
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Outcome, Value};

/// `LpNormalization`: each position's channels over their L2 norm.
pub(super) fn lp_normalisation(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let power = attributes.integer("p")?.unwrap_or(2);
    if power != 2 {
        return Err(NormalisationFault::Power(power).into());
    }
    let axis = attributes.integer("axis")?.unwrap_or(-1);
    let axis = normalise_axes(&[axis], data.layout.len())?[0];
    over_channels(&data, &[axis])?;
    let Some(output) = node.output.first() else { return Err(StructureFault::NoOutput.into()) };
    // By the reference a norm of zero divides zero, which is no number.
    let input = importer.tensor_of(&node.input[0], data.operation);
    let axes = if importer.opset < 18 {
        importer.add_node(
            "ReduceL2",
            &[&input],
            vec![integer_list("axes", &[axis as i64]), integer("keepdims", 1)],
        )
    } else {
        let axes = importer.add_node("Constant", &[], vec![integers(&[axis as i64])]);
        importer.add_node("ReduceL2", &[&input, &axes], vec![integer("keepdims", 1)])
    };
    let least = importer.add_node("Constant", &[], vec![tensor(&Array { dims: vec![], data: vec![1e-12] })]);
    let norm = importer.add_node("Max", &[&axes, &least], vec![]);
    importer.replace(output, "Div", &[&input, &norm]);
    normalise(importer, node, &data)
}

/// `ReduceL2` over channels, which the same result is divided by.
pub(super) fn norm(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 1, 18)?.unwrap_or_default();
    attributes.ignore("noop_with_empty_axes");
    if attributes.integer("keepdims")?.unwrap_or(1) == 0 {
        return Err(NormalisationFault::DroppedDimension.into());
    }
    over_channels(&data, &normalise_axes(&axes, data.layout.len())?)?;
    Ok(Value::Norm(data))
}

/// A node that keeps a norm above a little: `Clip` or `Max`.
pub(super) fn guarded(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let norm = importer.input(node, 0)?;
    let limit = match node.op_type.as_str() {
        "Clip" if importer.opset < 11 => attributes.float("min")?,
        _ => match importer.optional(node, 1)? {
            Some(Value::Float(array)) => array.scalar(),
            _ => None,
        },
    };
    let has_ceiling = importer.optional(node, 2)?.is_some();
    match limit {
        Some(limit) if (0.0..=LEAST_NORM).contains(&limit) && !has_ceiling => Ok(norm),
        _ => Err(NormalisationFault::LimitedNorm.into()),
    }
}

/// A result over its own norm.
pub(super) fn quotient(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, norm: &Data) -> Outcome {
    if data.operation != norm.operation || data.layout != norm.layout || data.padding != [0; 4] {
        return Err(NormalisationFault::NormOfAnother.into());
    }
    normalise(importer, node, data)
}

fn normalise(importer: &mut Importer<'_>, node: &NodeProto, data: &Data) -> Outcome {
    importer.value_of(node, Kind::Normalise, vec![data.operation], data.shape, &data.layout)
}

/// Refuses a norm over anything but all channels.
fn over_channels(data: &Data, axes: &[usize]) -> Result<(), NormalisationFault> {
    match axes {
        &[axis] if data.layout[axis] == Axis::Channels => Ok(()),
        _ => Err(NormalisationFault::NormAxes { axes: axes.to_vec(), layout: data.layout.clone() }),
    }
}
