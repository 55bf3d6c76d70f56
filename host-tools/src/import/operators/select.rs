//! What takes parts and puts parts together: `Pad`, `Slice`, `Gather`, `Split`, `Concat`,
//! `ReduceSum` over groups, `Expand`.

use tract_onnx::pb::NodeProto;

use crate::graph::Between;
use crate::import::array::normalise_axes;
use crate::import::attributes::Attributes;
use crate::import::constants::{SliceArguments, slice_arguments};
use crate::import::fault::NodeFault;
use crate::import::fault::parts::{PadFault, PartFault};
use crate::import::fault::structure::StructureFault;
use crate::import::importer::{Importer, named_like};
use crate::import::limits::MAX_DIMENSION;
use crate::import::operation::Kind;
use crate::import::rows::Rows;
use crate::import::value::{Axis, Data, Outcome, Value};

/// Most weights of the 0/1 matrix that a shortcut with channel padding becomes.
const MAX_SELECTION: usize = 1 << 24;

pub(super) fn pad(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.data(node, 0)?;
    let mode = attributes.string("mode")?.unwrap_or_else(|| "constant".into());
    if !["constant", "reflect", "edge"].contains(&mode.as_str()) {
        return Err(PadFault::Mode { mode }.into());
    }
    let value = if importer.opset < 11 {
        attributes.float("value")?
    } else {
        match importer.optional(node, 2)? {
            None => None,
            Some(Value::Float(array)) => Some(array.scalar().ok_or(PadFault::ValueCount)?),
            Some(_) => return Err(PadFault::ComputedValue.into()),
        }
    };
    if let Some(value) = value.filter(|&value| value != 0.0) {
        return Err(PadFault::Value(value).into());
    }
    let pads = importer.attribute_or_input(node, attributes, "pads", 1, 11)?.ok_or(PadFault::Missing)?;
    let rank = data.layout.len();
    let axes = importer.integers(node, 3)?.unwrap_or_else(|| (0..rank as i64).collect());
    let axes = normalise_axes(&axes, rank)?;
    if pads.len() != axes.len() * 2 {
        return Err(PadFault::Count { padding: pads, axes: axes.len() }.into());
    }
    // tract, which computes the reference, has no numbers below zero here.
    if pads.iter().any(|&amount| amount < 0) {
        return Err(PadFault::Negative(pads).into());
    }
    let [mut channels, mut vertical, mut horizontal, mut others] = [[0usize; 2]; 4];
    for (position, &axis) in axes.iter().enumerate() {
        let sides = match data.layout[axis] {
            Axis::Channels => &mut channels,
            Axis::Height => &mut vertical,
            Axis::Width => &mut horizontal,
            Axis::Batch | Axis::One | Axis::Outer(_) | Axis::Middle(_) | Axis::Inner | Axis::Features => {
                &mut others
            }
        };
        for side in 0..2 {
            let amount = usize::try_from(pads[position + side * axes.len()])
                .ok()
                .filter(|&p| p <= MAX_DIMENSION)
                .ok_or_else(|| PadFault::Range(pads.clone()))?;
            sides[side] += amount;
        }
    }
    if others != [0, 0] {
        return Err(PadFault::Axes { layout: data.layout, padding: pads }.into());
    }
    let mut data = data;
    let border = [vertical[0], horizontal[0], vertical[1], horizontal[1]];
    if mode != "constant" {
        let ([count, height, width], reflects) = (data.shape, mode == "reflect");
        let fits = !reflects
            || (vertical.iter().all(|&rows| rows < height)
                && horizontal.iter().all(|&columns| columns < width));
        if channels != [0, 0] || data.padding != [0; 4] || !fits {
            return Err(PadFault::Size { padding: pads, mode, dims: data.dims() }.into());
        }
        let shape = [count, height + vertical[0] + vertical[1], width + horizontal[0] + horizontal[1]];
        let kind = Kind::Pad { padding: border, reflects };
        return importer.value_of(node, kind, vec![data.operation], shape, &data.layout);
    }
    if channels != [0, 0] {
        data = select(importer, node, &data, [1, 1], channels)?;
    }
    for (side, amount) in border.into_iter().enumerate() {
        data.padding[side] += amount;
    }
    data.checked()?;
    Ok(Value::Data(data))
}

/// The rows and columns that a slice of an image takes, where some are cut off. Not where it also leaves
/// some between out, behind the first: tract, which computes the reference, takes other ones then.
fn places(data: &Data, slice: &SliceArguments, axes: &[usize]) -> Option<[Vec<usize>; 2]> {
    let mut places = [1, 2].map(|side| (0..data.shape[side]).collect::<Vec<usize>>());
    let mut is_cut = false;
    for (position, &axis) in axes.iter().enumerate() {
        let side = match data.layout[axis] {
            Axis::Height => 0,
            Axis::Width => 1,
            _ => return None,
        };
        let size = data.shape[1 + side] as i64;
        let within = |at: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(0, size) as usize;
        let (start, end) = (within(slice.starts[position]), within(slice.ends[position]));
        let step = usize::try_from(slice.steps[position]).ok().filter(|&step| step > 0)?;
        if start > 0 && step > 1 {
            return None;
        }
        is_cut |= start > 0 || end < size as usize;
        places[side] = (start..end).step_by(step).collect();
    }
    (is_cut && places.iter().all(|places| !places.is_empty())).then_some(places)
}

/// The image at these rows and columns.
fn cut(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, places: [Vec<usize>; 2]) -> Outcome {
    let shape = [data.shape[0], places[0].len(), places[1].len()];
    let [rows, columns] =
        places.map(|places| places.into_iter().map(|first| Between { first, share: 0.0 }).collect());
    importer.value_of(node, Kind::Resize { rows, columns }, vec![data.operation], shape, &data.layout)
}

pub(super) fn slice(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let read = slice_arguments(importer, node, attributes)?;
    let axes = normalise_axes(&read.axes, data.layout.len())?;
    if let Some(order) = reversed_channels(&data, &read, &axes) {
        return channels(importer, node, data, &order);
    }
    if let (&[axis], &[start], &[end], &[step]) =
        (axes.as_slice(), read.starts.as_slice(), read.ends.as_slice(), read.steps.as_slice())
        && matches!(data.layout[axis], Axis::Channels | Axis::Outer(_))
        && step > 0
    {
        let size = data.size(data.layout[axis]) as i64;
        let within = |at: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(0, size) as usize;
        let chosen: Vec<usize> = (within(start)..within(end)).step_by(step as usize).collect();
        return if chosen.len() < size as usize {
            part(importer, node, &data, data.layout[axis], &chosen)
        } else {
            Ok(Value::Data(data))
        };
    }
    let shape = data.dims();
    let mut stride = [1, 1];
    if let Some(places) = places(&data, &read, &axes) {
        return cut(importer, node, &data, places);
    }
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
            return Err(PartFault::Slice { start, end, step, axis, shape }.into());
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
    let indices = importer.integers(node, 1)?.ok_or(PartFault::NoIndices)?;
    let order: Option<Vec<usize>> = indices
        .iter()
        .map(|&index| usize::try_from(if index < 0 { index + count as i64 } else { index }).ok())
        .collect();
    let mut sorted = order.clone().unwrap_or_default();
    sorted.sort_unstable();
    let is_image = data.operation == 0;
    match order {
        Some(order)
            if data.layout[axis] == Axis::Channels
                && (!is_image || !sorted.iter().copied().eq(0..count))
                && importer.gathers_list(node)
                && order.iter().all(|&channel| channel < count) =>
        {
            part(importer, node, &data, Axis::Channels, &order)
        }
        Some(order) if data.layout[axis] == Axis::Channels && sorted.into_iter().eq(0..count) => {
            channels(importer, node, data, &order)
        }
        _ => Err(PartFault::Gather { indices, axis, dims: data.dims() }.into()),
    }
}

/// The channels in another order: of the image, which preprocessing can make so.
fn channels(importer: &mut Importer<'_>, node: &NodeProto, data: Data, order: &[usize]) -> Outcome {
    let unchanged = order.iter().copied().eq(0..data.shape[0]);
    if !unchanged && !importer.prepare_channels(node, &data, order) {
        return Err(PartFault::ChannelOrder.into());
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
) -> Result<Data, NodeFault> {
    if data.padding != [0; 4] || data.is_flat() {
        return Err(PartFault::NoPlainImage.into());
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
        return Err(PartFault::Widening { from: inputs, to: shape[0] }.into());
    }
    importer.charge(if inputs == shape[0] { 0 } else { inputs * shape[0] })?;
    Ok(importer.push(node, kind, vec![source], shape, &data.layout)?)
}

/// Some channels, or some groups of channels, in an order of their own.
fn part(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, axis: Axis, chosen: &[usize]) -> Outcome {
    if chosen.is_empty() || chosen.len() > MAX_DIMENSION {
        return Err(PartFault::Channels(chosen.len()).into());
    }
    let mut layout = data.layout.clone();
    let order: Vec<usize> = if let Axis::Outer(_) = axis {
        let inner = data.shape[0] / data.groups().max(1);
        layout.iter_mut().filter(|own| **own == axis).for_each(|own| *own = Axis::Outer(chosen.len()));
        chosen.iter().flat_map(|&outer| outer * inner..(outer + 1) * inner).collect()
    } else {
        chosen.to_vec()
    };
    let [_, height, width] = data.shape;
    let shape = [order.len(), height, width];
    // One of what was put side by side is there already.
    if let Some(source) = importer.is_part(data.operation, &order) {
        return Ok(Value::Data(Data { operation: source, shape, padding: [0; 4], layout }));
    }
    importer.value_of(node, Kind::Channels(order), vec![data.operation], shape, &layout)
}

/// `Split` of channels.
pub(super) fn split(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axis = attributes.integer("axis")?.unwrap_or(0);
    let axis = normalise_axes(&[axis], data.layout.len())?[0];
    let along = data.layout[axis];
    if !matches!(along, Axis::Channels | Axis::Outer(_)) {
        return Err(PartFault::SplitAxis { axis, layout: data.layout }.into());
    }
    let parts = node.output.len().max(1);
    attributes.integer("num_outputs")?;
    let stated = importer.attribute_or_input(node, attributes, "split", 1, 13)?;
    let size = data.size(along);
    let each = size.div_ceil(parts);
    let sizes: Vec<usize> = match stated {
        Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect(),
        None => (0..parts).map(|part| each.min(size.saturating_sub(part * each))).collect(),
    };
    if sizes.len() != parts || sizes.contains(&0) || sizes.iter().sum::<usize>() != size {
        return Err(PartFault::SplitSizes { parts: sizes, size }.into());
    }
    let mut first = 0;
    let mut result = None;
    for (position, &count) in sizes.iter().enumerate() {
        let name = node.output[position].clone();
        let own = NodeProto { output: vec![name], ..named_like(node) };
        let chosen: Vec<usize> = (first..first + count).collect();
        let value = part(importer, &own, &data, along, &chosen)?;
        if position == 0 {
            result = Some(value);
        } else {
            importer.define_output(node, position, value);
        }
        first += count;
    }
    result.ok_or_else(|| StructureFault::NoOutput.into())
}

/// `Concat` of channels, or of images as groups of channels.
pub(super) fn concat(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    if let Some(rows) = one_behind_the_other(importer, node, attributes)? {
        return Ok(Value::Rows(rows));
    }
    let mut parts: Vec<Data> = vec![];
    for position in 0..node.input.len() {
        parts.push(importer.plain(node, position)?);
    }
    let first = parts.first().ok_or(PartFault::NoInputs)?.clone();
    let axis = attributes.integer("axis")?.unwrap_or(1);
    let axis = normalise_axes(&[axis], first.layout.len())?[0];
    let same = |data: &Data| {
        let layouts = data.layout.iter().zip(&first.layout).enumerate();
        let fits = |(at, (&own, &other)): (usize, (&Axis, &Axis))| {
            at == axis || own == other || (data.is_unit(own) && first.is_unit(other))
        };
        data.layout.len() == first.layout.len()
            && { layouts }.all(fits)
            && data.shape[1..] == first.shape[1..]
            && std::mem::discriminant(&data.layout[axis]) == std::mem::discriminant(&first.layout[axis])
    };
    if !parts.iter().all(same) {
        let shapes: Vec<Vec<usize>> = parts.iter().map(Data::dims).collect();
        return Err(PartFault::Sizes(shapes).into());
    }
    let mut layout = first.layout.clone();
    match first.layout[axis] {
        Axis::Channels => {}
        // Images of the same channels, stacked: groups of channels.
        Axis::One
            if parts.iter().all(|part| part.shape[0] == first.shape[0])
                && layout[axis + 1..].iter().find(|a| ![Axis::One, Axis::Batch].contains(a))
                    == Some(&Axis::Channels) =>
        {
            layout[axis] = Axis::Outer(parts.len());
            layout.iter_mut().filter(|own| **own == Axis::Channels).for_each(|own| *own = Axis::Inner);
        }
        Axis::Outer(_)
            if parts
                .iter()
                .all(|p| p.parts() == first.parts() && p.size(Axis::Inner) == first.size(Axis::Inner)) =>
        {
            layout[axis] = Axis::Outer(parts.iter().map(Data::groups).sum());
        }
        _ => {
            return Err(PartFault::JoinAxis { axis, layout: first.layout }.into());
        }
    }
    let channels = parts.iter().map(|part| part.shape[0]).sum();
    let shape = [channels, first.shape[1], first.shape[2]];
    let inputs: Vec<usize> = parts.iter().map(|part| part.operation).collect();
    if let [only] = inputs.as_slice() {
        return Ok(Value::Data(Data { operation: *only, layout, ..first }));
    }
    importer.value_of(node, Kind::Concat, inputs, shape, &layout)
}

/// What `Concat` makes of a detector's levels: maps one behind the other. `None` where it only puts
/// channels side by side.
fn one_behind_the_other(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Result<Option<Rows>, NodeFault> {
    let (mut is_of_rows, mut sizes, mut parts) = (false, vec![], vec![]);
    for position in 0..node.input.len() {
        match importer.input(node, position)? {
            Value::Rows(rows) => {
                is_of_rows = true;
                parts.push(Some(rows));
            }
            Value::Data(data) if importer.gives_maps => {
                sizes.push([data.shape[1], data.shape[2]]);
                parts.push(Rows::of(&data, &data.dims()));
            }
            _ => return Ok(None),
        }
    }
    sizes.dedup();
    if !is_of_rows && sizes.len() < 2 {
        return Ok(None);
    }
    let parts: Option<Vec<Rows>> = parts.into_iter().collect();
    let Some(parts) = parts else { return Ok(None) };
    let axis = attributes.integer("axis")?.unwrap_or(1);
    let rank = parts.first().map_or(0, |rows| rows.dims().len());
    let axis = normalise_axes(&[axis], rank)?[0];
    let joined = Rows::concat(&parts, axis);
    if joined.is_none() && is_of_rows {
        return Err(PartFault::Levels { dims: parts.iter().map(Rows::dims).collect(), axis }.into());
    }
    Ok(joined)
}

/// `ReduceSum` over groups of channels.
pub(super) fn reduce_sum(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?.unwrap_or_default();
    attributes.ignore("noop_with_empty_axes");
    let keep = attributes.integer("keepdims")?.unwrap_or(1) != 0;
    let axes = normalise_axes(&axes, data.layout.len())?;
    let &[axis] = axes.as_slice() else { return Err(PartFault::SumAxes(axes.len()).into()) };
    if !matches!(data.layout[axis], Axis::Outer(_)) || data.parts() > 1 {
        return Err(PartFault::SumAxis { axis, layout: data.layout }.into());
    }
    let mut layout = data.layout.clone();
    layout[axis] = Axis::One;
    if !keep {
        layout.remove(axis);
    }
    layout.iter_mut().filter(|own| **own == Axis::Inner).for_each(|own| *own = Axis::Channels);
    let [_, height, width] = data.shape;
    let (inner, groups) = (data.size(Axis::Inner), data.groups());
    let shape = [inner, height, width];
    let tensor = importer.tensor_of(&node.input[0], data.operation);
    let mut sum: Option<(usize, String)> = None;
    for group in 0..groups {
        let order: Vec<usize> = (group * inner..(group + 1) * inner).collect();
        let (operation, name) = if let Some(source) = importer.is_part(data.operation, &order) {
            (source, importer.operations[source].tensor.clone())
        } else {
            let name = importer.add_group(&tensor, axis, group);
            (importer.step(node, Kind::Channels(order), vec![data.operation], shape, &name)?, name)
        };
        sum = Some(match sum {
            None => (operation, name),
            Some((before, so_far)) if group + 1 < groups => {
                let name = importer.add_node("Add", &[&so_far, &name], vec![]);
                (importer.step(node, Kind::Add, vec![before, operation], shape, &name)?, name)
            }
            Some((before, _)) => {
                let data = importer.push(node, Kind::Add, vec![before, operation], shape, &layout)?;
                return Ok(Value::Data(data));
            }
        });
    }
    let (operation, _) = sum.ok_or(PartFault::NoSum)?;
    Ok(Value::Data(Data { operation, shape, padding: [0; 4], layout }))
}

/// `Expand`, where what takes it does the same by itself.
pub(super) fn expand(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    if let norm @ Value::Norm(_) = importer.input(node, 0)? {
        // The reference needs it.
        importer.input(node, 1)?;
        return Ok(norm);
    }
    let data = importer.plain(node, 0)?;
    // The reference needs it.
    importer.input(node, 1)?;
    let output = node.output.first().map_or("", |output| output);
    let spreads = |operator: &String| ["Mul", "Expand"].contains(&operator.as_str());
    if importer.consumers.get(output).is_none_or(|users| !users.iter().all(spreads)) {
        return Err(PartFault::Repeated.into());
    }
    Ok(Value::Data(data))
}
