//! What moves or drops dimensions of 1: `Flatten`, `Reshape`, `Squeeze`, `Unsqueeze`; and `Shape`.

use tract_onnx::pb::NodeProto;

use crate::import::array::{Array, normalise_axes};
use crate::import::attributes::Attributes;
use crate::import::error::shown;
use crate::import::importer::Importer;
use crate::import::value::{Data, Outcome, Value};

pub(super) fn flatten(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.data(node, 0)?;
    let axis = attributes.integer("axis")?.unwrap_or(1);
    let rank = if data.flat { 2 } else { 4 };
    if axis != 1 && axis != 1 - rank {
        return Err(format!("its axis is {axis}; only 1 is supported"));
    }
    drop_positions(importer, data)
}

pub(super) fn reshape(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let keeps_zero = attributes.integer("allowzero")?.unwrap_or(0) != 0;
    let [c, h, w] = importer.shape_of(data);
    let own: Vec<usize> = if data.flat { vec![1, c] } else { vec![1, c, h, w] };
    let target = match importer.input(node, 1)? {
        Value::Integer(target) => target.data,
        Value::Unresolved(_) => vec![None, None],
        _ => return Err("its shape is no constant; export with fixed shapes and constant folding".into()),
    };
    let refuse = || {
        format!(
            "it reshapes {own:?} to {}; only [N, {c}] from a 1x1 image is supported, with a symbolic batch or batch 1",
            shown(&target)
        )
    };
    if target.iter().skip(1).any(Option::is_none) {
        // The shape depends on the batch in a way that is not understood. Before a fully
        // connected layer it can only be [N, channels].
        let output = node.output.first().map_or("", |o| o);
        let next = importer.consumers.get(output);
        let connected = next.is_some_and(|n| n.iter().all(|op| op == "Gemm" || op == "MatMul"));
        return if connected && target.len() == 2 { drop_positions(importer, data) } else { Err(refuse()) };
    }
    let mut dims = Vec::new();
    for (axis, &value) in target.iter().enumerate() {
        dims.push(match value {
            // Only the batch can be unknown here.
            None => 1,
            Some(0) if keeps_zero => return Err(refuse()),
            Some(0) => *own.get(axis).ok_or_else(refuse)? as i64,
            Some(value) => value,
        });
    }
    let result = Array { dims: own.clone(), data: vec![(); c * h * w] }.reshape(&dims);
    let result = result.map_err(|_| refuse())?.dims;
    if result == [1, c, h, w] {
        Ok(Value::Data(Data { flat: false, ..data }))
    } else if result == [1, c] {
        drop_positions(importer, data)
    } else {
        Err(refuse())
    }
}

pub(super) fn squeeze(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?.unwrap_or_default();
    let flat = node.op_type == "Squeeze";
    let mut normalised = normalise_axes(&axes, 4)?;
    normalised.sort_unstable();
    if normalised != [2, 3] || data.flat == flat {
        return Err(format!("its axes are {axes:?}; only height and width, [2, 3], are supported"));
    }
    if flat { drop_positions(importer, data) } else { Ok(Value::Data(Data { flat, ..data })) }
}

/// The same data without its 1x1 positions.
fn drop_positions(importer: &Importer<'_>, data: Data) -> Outcome {
    let [c, h, w] = importer.padded(data)?;
    if h * w != 1 || data.padding != [0; 4] {
        return Err(format!(
            "it flattens {c}x{h}x{w}; only 1x1 images can be flattened, average over all positions before"
        ));
    }
    Ok(Value::Data(Data { flat: true, ..data }))
}

pub(super) fn shape(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.data(node, 0)?;
    let [c, h, w] = importer.padded(data)?.map(|d| Some(d as i64));
    let shape = Array::vector(if data.flat { vec![None, c] } else { vec![None, c, h, w] });
    let start = attributes.integer("start")?.unwrap_or(0);
    let end = attributes.integer("end")?.unwrap_or(i64::MAX);
    shape.slice(start, end, 1).map(Value::Integer).ok_or_else(|| "its range is invalid".into())
}

pub(super) fn transpose(_: &mut Importer<'_>, _: &NodeProto, _: &Attributes<'_>) -> Outcome {
    Err("transposing activations is not supported; export the model in NCHW layout, without transpositions"
        .into())
}
