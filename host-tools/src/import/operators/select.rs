//! `Pad`, `Slice` and `Gather`.

use tract_onnx::pb::NodeProto;

use crate::import::array::normalise_axes;
use crate::import::attributes::Attributes;
use crate::import::constants::{SliceArguments, slice_arguments};
use crate::import::error::printable;
use crate::import::importer::Importer;
use crate::import::limits::MAX_DIMENSION;
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Outcome, Value};

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
    let rank = data.layout.len();
    let axes = importer.integers(node, 3)?.unwrap_or_else(|| (0..rank as i64).collect());
    let axes = normalise_axes(&axes, rank)?;
    if pads.len() != axes.len() * 2 {
        return Err(format!("its padding {pads:?} does not fit {} axes", axes.len()));
    }
    let [mut channels, mut vertical, mut horizontal, mut others] = [[0usize; 2]; 4];
    for (position, &axis) in axes.iter().enumerate() {
        let sides = match data.layout[axis] {
            Axis::Channels => &mut channels,
            Axis::Height => &mut vertical,
            Axis::Width => &mut horizontal,
            Axis::Batch | Axis::One => &mut others,
        };
        for side in 0..2 {
            let amount = usize::try_from(pads[position + side * axes.len()])
                .ok()
                .filter(|&p| p <= MAX_DIMENSION)
                .ok_or_else(|| format!("its padding {pads:?} is out of range"))?;
            sides[side] += amount;
        }
    }
    if others != [0, 0] {
        return Err(format!("it pads the batch: {pads:?}"));
    }
    let mut data = data;
    if channels != [0, 0] {
        data = select(importer, node, &data, [1, 1], channels)?;
    }
    for (side, amount) in [vertical[0], horizontal[0], vertical[1], horizontal[1]].into_iter().enumerate() {
        data.padding[side] += amount;
    }
    data.checked()?;
    Ok(Value::Data(data))
}

pub(super) fn slice(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let read = slice_arguments(importer, node, attributes)?;
    let axes = normalise_axes(&read.axes, data.layout.len())?;
    if let Some(order) = reversed_channels(&data, &read, &axes) {
        return channels(importer, node, data, &order);
    }
    let shape = data.dims();
    let mut stride = [1, 1];
    for (position, &axis) in axes.iter().enumerate() {
        let (start, end, step) = (read.starts[position], read.ends[position], read.steps[position]);
        let size = shape[axis] as i64;
        let position = match data.layout[axis] {
            Axis::Height => Some(0),
            Axis::Width => Some(1),
            _ => None,
        };
        let step_fits = step == 1 || (position.is_some() && (1..=MAX_DIMENSION as i64).contains(&step));
        // The batch's size is unknown: only a slice to the far end keeps all of it.
        let whole = end >= if data.layout[axis] == Axis::Batch { i64::from(i32::MAX) } else { size };
        if (start != 0 && start.saturating_add(size) > 0) || start > 0 || !whole || !step_fits {
            return Err(format!(
                "it takes {start}..{end} in steps of {step} from axis {axis} of {shape:?}; only every n-th row and column from the first on is supported"
            ));
        }
        if let Some(position) = position {
            stride[position] = step as usize;
        }
    }
    if stride != [1, 1] {
        return select(importer, node, &data, stride, [0, 0]).map(Value::Data);
    }
    Ok(Value::Data(data))
}

/// The order of channels that a `Slice` makes which takes all of them from the last to the first.
fn reversed_channels(data: &Data, read: &SliceArguments, axes: &[usize]) -> Option<Vec<usize>> {
    let (&[axis], &[start], &[end], &[-1]) =
        (axes, read.starts.as_slice(), read.ends.as_slice(), read.steps.as_slice())
    else {
        return None;
    };
    let count = data.shape[0] as i64;
    let from_last = start == -1 || start >= count - 1;
    (data.layout[axis] == Axis::Channels && from_last && end < -count)
        .then(|| (0..data.shape[0]).rev().collect())
}

pub(super) fn gather(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axis = attributes.integer("axis")?.unwrap_or(0);
    let axis = normalise_axes(&[axis], data.layout.len())?[0];
    let count = data.shape[0];
    let indices = importer.integers(node, 1)?.ok_or("its indices are missing")?;
    let order: Option<Vec<usize>> = indices
        .iter()
        .map(|&index| usize::try_from(if index < 0 { index + count as i64 } else { index }).ok())
        .collect();
    let mut sorted = order.clone().unwrap_or_default();
    sorted.sort_unstable();
    match order {
        Some(order) if data.layout[axis] == Axis::Channels && sorted.into_iter().eq(0..count) => {
            channels(importer, node, data, &order)
        }
        _ => Err(format!(
            "it takes {indices:?} from axis {axis} of {:?}; only another order of the image's channels is supported",
            data.dims()
        )),
    }
}

/// The channels in another order: of the image, which preprocessing can make so.
fn channels(importer: &mut Importer<'_>, node: &NodeProto, data: Data, order: &[usize]) -> Outcome {
    let unchanged = order.iter().copied().eq(0..data.shape[0]);
    if !unchanged && !importer.prepare_channels(node, &data, order) {
        return Err("it changes the order of channels of a result, or of an image that is also used as it is; only the image's own channels can be exchanged, before everything else".into());
    }
    Ok(Value::Data(data))
}

/// Every stride-th position of the image, and zero channels around its channels.
fn select(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: &Data,
    stride: [usize; 2],
    channels: [usize; 2],
) -> Result<Data, String> {
    if data.padding != [0; 4] || data.is_flat() {
        return Err("only an image without padding can be subsampled or get channels".into());
    }
    let [c, h, w] = data.shape;
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
    importer.push(node, kind, vec![source], shape, &data.layout)
}
