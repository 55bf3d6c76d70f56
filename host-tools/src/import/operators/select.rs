//! `Pad` and `Slice`.

use tract_onnx::pb::NodeProto;

use crate::import::array::normalise_axes;
use crate::import::attributes::Attributes;
use crate::import::constants::slice_arguments;
use crate::import::error::printable;
use crate::import::importer::Importer;
use crate::import::limits::MAX_DIMENSION;
use crate::import::operation::Kind;
use crate::import::value::{Data, Outcome, Value};

/// Most weights of the 0/1 matrix that a shortcut with channel padding becomes.
const MAX_SELECTION: usize = 1 << 24;

pub(super) fn pad(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.data(node, 0)?;
    let mode = attributes.string("mode")?.unwrap_or_else(|| "constant".into());
    if mode != "constant" {
        return Err(format!("its mode is `{}`; only constant zeros are supported", printable(&mode)));
    }
    let value = if importer.opset < 11 {
        attributes.float("value")?
    } else {
        match importer.optional(node, 2)? {
            None => None,
            Some(Value::Float(array)) => Some(array.scalar().ok_or("its value is no single number")?),
            Some(_) => return Err("its value is no constant; export with constant folding".into()),
        }
    };
    if value.is_some_and(|v| v != 0.0) {
        return Err(format!("it pads with {}; only zeros are supported", value.unwrap_or_default()));
    }
    let pads =
        importer.attribute_or_input(node, attributes, "pads", 1, 11)?.ok_or("its padding is missing")?;
    let axes = importer.integers(node, 3)?.unwrap_or_else(|| vec![0, 1, 2, 3]);
    let axes = normalise_axes(&axes, if data.flat { 2 } else { 4 })?;
    if pads.len() != axes.len() * 2 {
        return Err(format!("its padding {pads:?} does not fit {} axes", axes.len()));
    }
    let mut sides = [[0usize; 2]; 4];
    for (position, &axis) in axes.iter().enumerate() {
        for side in 0..2 {
            sides[axis][side] = usize::try_from(pads[position + side * axes.len()])
                .ok()
                .filter(|&p| p <= MAX_DIMENSION)
                .ok_or_else(|| format!("its padding {pads:?} is out of range"))?;
        }
    }
    let [batch, channels, vertical, horizontal] = sides;
    if batch != [0, 0] {
        return Err(format!("it pads the batch: {pads:?}"));
    }
    let mut data = data;
    if channels != [0, 0] {
        data = select(importer, node, data, [1, 1], channels)?;
    }
    for (side, amount) in [vertical[0], horizontal[0], vertical[1], horizontal[1]].into_iter().enumerate() {
        data.padding[side] += amount;
    }
    importer.padded(data)?;
    Ok(Value::Data(data))
}

pub(super) fn slice(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let read = slice_arguments(importer, node, attributes)?;
    let [c, h, w] = importer.shape_of(data);
    let shape = [1, c, h, w];
    let rank = if data.flat { 2 } else { 4 };
    let axes = normalise_axes(&read.axes, rank)?;
    let mut stride = [1, 1];
    for (position, &axis) in axes.iter().enumerate() {
        let (start, end, step) = (read.starts[position], read.ends[position], read.steps[position]);
        let size = shape[axis] as i64;
        let step_fits = if axis < 2 { step == 1 } else { (1..=MAX_DIMENSION as i64).contains(&step) };
        // The batch's size is unknown: only a slice to the far end keeps all of it.
        let whole = end >= if axis == 0 { i64::from(i32::MAX) } else { size };
        if (start != 0 && start.saturating_add(size) > 0) || start > 0 || !whole || !step_fits {
            return Err(format!(
                "it takes {start}..{end} in steps of {step} from axis {axis} of {shape:?}; only every n-th row and column from the first on is supported"
            ));
        }
        if axis >= 2 {
            stride[axis - 2] = step as usize;
        }
    }
    if stride != [1, 1] {
        return select(importer, node, data, stride, [0, 0]).map(Value::Data);
    }
    Ok(Value::Data(data))
}

/// Every stride-th position of the image, and zero channels around its channels.
fn select(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: Data,
    stride: [usize; 2],
    channels: [usize; 2],
) -> Result<Data, String> {
    if data.padding != [0; 4] || data.flat {
        return Err("only an image without padding can be subsampled or get channels".into());
    }
    let [c, h, w] = importer.shape_of(data);
    let shape = [c + channels[0] + channels[1], h.div_ceil(stride[0]), w.div_ceil(stride[1])];
    let before = &importer.operations[data.operation];
    // Two selections in a row are one from the first one's input.
    let (kind, source) = match before.kind {
        Kind::Select { stride: inner, before: first, after } => (
            Kind::Select {
                stride: [inner[0] * stride[0], inner[1] * stride[1]],
                before: first + channels[0],
                after: after + channels[1],
            },
            before.inputs[0],
        ),
        _ => (Kind::Select { stride, before: channels[0], after: channels[1] }, data.operation),
    };
    let inputs = importer.operations[source].shape[0];
    if inputs != shape[0] && inputs * shape[0] > MAX_SELECTION {
        return Err(format!("widening {inputs} channels to {} takes too many weights", shape[0]));
    }
    importer.charge(if inputs == shape[0] { 0 } else { inputs * shape[0] })?;
    importer.push(node, kind, vec![source], shape)
}
