//! What moves or drops dimensions without computing: `Flatten`, `Reshape`, `Squeeze`,
//! `Unsqueeze`, `Transpose`; and `Shape`.

use tract_onnx::pb::NodeProto;

use crate::import::array::{Array, normalise_axes};
use crate::import::attributes::Attributes;
use crate::import::fault::shapes::{Purpose, ShapeFault};
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::rows::Rows;
use crate::import::value::{Axis, Data, FLAT, Layout, Outcome, Value};

pub(super) fn flatten(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    if let Value::Rows(rows) = importer.input(node, 0)? {
        let all = rows.dims().iter().product();
        let flat = if attributes.integer("axis")?.unwrap_or(1) == 1 { rows.reshape(&[1, all]) } else { None };
        return flat.map(Value::Rows).ok_or_else(|| ShapeFault::FlattenedRows(rows.dims()).into());
    }
    let data = importer.plain(node, 0)?;
    let axis = attributes.integer("axis")?.unwrap_or(1);
    let rank = data.layout.len();
    let split = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    let split = usize::try_from(split).ok().filter(|&split| split <= rank);
    // The batch and nothing but dimensions of 1 with it, the channels and nothing else with them.
    let batch = split.map(|split| merged(&data, &data.layout[..split]));
    let in_groups =
        data.layout.iter().any(|axis| matches!(axis, Axis::Outer(_) | Axis::Middle(_) | Axis::Features));
    if batch != Some(vec![Axis::Batch]) || in_groups {
        return Err(ShapeFault::FlattenAxis(axis).into());
    }
    if data.shape[1] * data.shape[2] > 1 && !data.is_reordered() {
        return Ok(Value::Data(Data { layout: vec![Axis::Batch, Axis::Features], ..data }));
    }
    if importer.gives_maps
        && let Some(rows) = Rows::of(&data, &[1, data.dims().iter().product()])
    {
        return Ok(Value::Rows(rows));
    }
    drop_positions(&data)
}

pub(super) fn reshape(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let keeps_zero = attributes.integer("allowzero")?.unwrap_or(0) != 0;
    if let Value::Rows(rows) = importer.input(node, 0)? {
        return reshape_rows(importer, node, &rows);
    }
    let data = importer.plain(node, 0)?;
    let own = data.dims();
    let target = match importer.input(node, 1)? {
        Value::Integer(target) => target.data,
        Value::Unresolved(_) => vec![None, None],
        _ => return Err(ShapeFault::Computed.into()),
    };
    let users = node.output.first().and_then(|output| importer.consumers.get(output));
    let feeds = |operator: &str| users.is_some_and(|users| users.iter().any(|user| user == operator));
    let purpose = if feeds("InstanceNormalization") {
        Purpose::GroupNormalisation
    } else if feeds("MatMul") || feeds("Einsum") || (own.len() == 4 && target.len() == 3) {
        Purpose::Attention
    } else {
        Purpose::Other
    };
    let refuse = || ShapeFault::Reshape { from: own.clone(), to: target.clone(), purpose };
    if target.iter().skip(1).any(Option::is_none) {
        // The shape depends on the batch in a way that is not understood. Before a fully
        // connected layer it can only be [N, channels].
        let output = node.output.first().map_or("", |o| o);
        let next = importer.consumers.get(output);
        let connected = next.is_some_and(|n| n.iter().all(|op| op == "Gemm" || op == "MatMul"));
        return if connected && target.len() == 2 {
            let flat = flattened(&data, &[1, own.iter().product()]);
            flat.map_or_else(
                || drop_positions(&data),
                |layout| Ok(Value::Data(Data { layout, ..data.clone() })),
            )
        } else {
            Err(refuse().into())
        };
    }
    let mut dims = Vec::new();
    for (axis, &value) in target.iter().enumerate() {
        dims.push(match value {
            // Only the batch can be unknown here.
            None => 1,
            Some(0) if keeps_zero => return Err(refuse().into()),
            Some(0) => *own.get(axis).ok_or_else(refuse)? as i64,
            Some(value) => value,
        });
    }
    let result = Array { dims: own.clone(), data: vec![(); own.iter().product()] }.reshape(&dims);
    let result = result.map_err(|_| refuse())?.dims;
    if let Some(layout) = flattened(&data, &result) {
        return Ok(Value::Data(Data { layout, ..data }));
    }
    let Some(Matched { layout, shuffled }) = matched(&data, &result, !importer.gives_maps) else {
        let rows = if importer.gives_maps { Rows::of(&data, &result) } else { None };
        return rows.map(Value::Rows).ok_or_else(|| refuse().into());
    };
    if let Some(order) = shuffled {
        return importer.value_of(node, Kind::Channels(order), vec![data.operation], data.shape, &layout);
    }
    Ok(Value::Data(Data { layout, ..data }))
}

/// Maps one behind the other under other dimensions.
fn reshape_rows(importer: &mut Importer<'_>, node: &NodeProto, rows: &Rows) -> Outcome {
    let own = rows.dims();
    let Value::Integer(target) = importer.input(node, 1)? else {
        return Err(ShapeFault::Computed.into());
    };
    let refuse = || ShapeFault::ReshapedRows { from: own.clone(), to: target.data.clone() };
    // Only the batch can be unknown here, and 0 is what it was.
    let size = |(axis, value): (usize, &Option<i64>)| match value {
        None => (axis == 0).then_some(1),
        Some(0) => own.get(axis).map(|&size| size as i64),
        Some(value) => Some(*value),
    };
    let dims: Option<Vec<i64>> = target.data.iter().enumerate().map(size).collect();
    let whole = Array { dims: own.clone(), data: vec![(); own.iter().product()] };
    let result = dims.and_then(|dims| whole.reshape(&dims).ok()).ok_or_else(refuse)?;
    rows.reshape(&result.dims).map(Value::Rows).ok_or_else(|| refuse().into())
}

/// `[batch, features]` of an image.
fn flattened(data: &Data, dims: &[usize]) -> Option<Layout> {
    let features = [Axis::Channels, Axis::Height, Axis::Width];
    let own: Layout = data.layout.iter().copied().filter(|&axis| axis != Axis::One).collect();
    let fits = own.first() == Some(&Axis::Batch) && own[1..].iter().all(|axis| features.contains(axis));
    let [1, count] = *dims else { return None };
    let is_image = data.shape[1] * data.shape[2] > 1 && count == data.shape.iter().product::<usize>();
    (fits && is_image && !data.is_reordered()).then(|| vec![Axis::Batch, Axis::Features])
}

/// What data is under other dimensions.
struct Matched {
    layout: Layout,
    /// The order of channels that merging their parts makes.
    shuffled: Option<Vec<usize>>,
}

/// The data under other dimensions, if only dimensions of 1 come or go, channels are divided into
/// groups, these where `in_parts` into parts, or all of them merged.
fn matched(data: &Data, dims: &[usize], in_parts: bool) -> Option<Matched> {
    if data.layout.first() != Some(&Axis::Batch) || dims.first() != Some(&1) {
        return None;
    }
    let left: Layout = data.layout[1..].iter().copied().filter(|&axis| !data.is_unit(axis)).collect();
    let (mut left, mut rest) = (left.as_slice(), &dims[1..]);
    let mut shuffled = None;
    let mut layout = vec![Axis::Batch];
    while let Some((&size, others)) = rest.split_first() {
        let channels = data.shape[0];
        rest = others;
        match (left, others) {
            ([Axis::Outer(_), Axis::Inner, after @ ..], _) if size == channels => {
                layout.push(Axis::Channels);
                left = after;
            }
            ([Axis::Inner, Axis::Outer(groups), after @ ..], _) if size == channels => {
                layout.push(Axis::Channels);
                left = after;
                let inner = channels / groups;
                shuffled = Some((0..channels).map(|c| c % groups * inner + c / groups).collect());
            }
            ([Axis::Outer(_), Axis::Middle(_), Axis::Inner, after @ ..], _) if size == channels => {
                layout.push(Axis::Channels);
                left = after;
            }
            ([Axis::Middle(parts), Axis::Outer(groups), Axis::Inner, after @ ..], _) if size == channels => {
                layout.push(Axis::Channels);
                left = after;
                let inner = channels / (groups * parts);
                let place = |part: usize, group: usize| (group * parts + part) * inner;
                let places = (0..*parts).flat_map(|part| (0..*groups).map(move |group| place(part, group)));
                shuffled = Some(places.flat_map(|place| place..place + inner).collect());
            }
            ([axis, after @ ..], _) if data.size(*axis) == size => {
                layout.push(*axis);
                left = after;
            }
            (_, _) if size == 1 => layout.push(Axis::One),
            ([Axis::Channels, after @ ..], [inner, others @ ..]) if size * inner == channels => {
                layout.extend([Axis::Outer(size), Axis::Inner]);
                (left, rest) = (after, others);
            }
            ([Axis::Channels, after @ ..], [parts, inner, others @ ..])
                if in_parts && size * parts * inner == channels =>
            {
                layout.extend([Axis::Outer(size), Axis::Middle(*parts), Axis::Inner]);
                (left, rest) = (after, others);
            }
            _ => return None,
        }
    }
    left.is_empty().then_some(Matched { layout, shuffled })
}

pub(super) fn squeeze(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer
        .attribute_or_input(node, attributes, "axes", 1, 13)?
        .ok_or(ShapeFault::SqueezeWithoutAxes)?;
    let dropped = normalise_axes(&axes, data.layout.len())?;
    if !dropped.iter().all(|&axis| data.is_unit(data.layout[axis])) {
        return Err(ShapeFault::Squeezed { axes, layout: data.layout }.into());
    }
    let layout = (0..data.layout.len()).filter(|axis| !dropped.contains(axis)).map(|axis| data.layout[axis]);
    Ok(Value::Data(Data { layout: layout.collect(), ..data }))
}

pub(super) fn unsqueeze(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 1, 13)?.ok_or(ShapeFault::NoAxes)?;
    let rank = data.layout.len() + axes.len();
    let added = normalise_axes(&axes, rank)?;
    let mut own = data.layout.iter().copied();
    let layout = (0..rank)
        .filter_map(|axis| if added.contains(&axis) { Some(Axis::One) } else { own.next() })
        .collect();
    Ok(Value::Data(Data { layout, ..data }))
}

pub(super) fn transpose(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let rows = match importer.input(node, 0)? {
        Value::Rows(rows) => Some(rows),
        _ => None,
    };
    if let Some(rows) = rows {
        let rank = rows.dims().len() as i64;
        let order = attributes.integers("perm")?.unwrap_or_else(|| (0..rank).rev().collect());
        let positions = normalise_axes(&order, rows.dims().len())?;
        let moved = rows.transpose(&positions).map(Value::Rows);
        return moved.ok_or_else(|| ShapeFault::TransposedRows { dims: rows.dims(), order }.into());
    }
    let data = importer.data(node, 0)?;
    let rank = data.layout.len();
    let order = attributes.integers("perm")?.unwrap_or_else(|| (0..rank as i64).rev().collect());
    if order.iter().any(|&axis| axis < 0) {
        return Err(ShapeFault::NegativeAxes(order).into());
    }
    let positions = normalise_axes(&order, rank)?;
    let layout: Layout = positions.iter().map(|&position| data.layout[position]).collect();
    if layout.len() != rank || layout.first() != data.layout.first() {
        return Err(ShapeFault::Transposed { layout: data.layout, order }.into());
    }
    Ok(Value::Data(Data { layout, ..data }))
}

/// The dimensions without those of 1.
fn merged(data: &Data, layout: &[Axis]) -> Layout {
    layout.iter().copied().filter(|&axis| !data.is_unit(axis)).collect()
}

/// The same data as `[batch, channels]`.
fn drop_positions(data: &Data) -> Outcome {
    if merged(data, &data.layout) != FLAT {
        let [channels, height, width] = data.shape;
        return Err(ShapeFault::FlattenedImage { channels, height, width }.into());
    }
    Ok(Value::Data(Data { layout: FLAT.to_vec(), ..data.clone() }))
}

pub(super) fn shape(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let data = importer.data(node, 0)?;
    data.checked()?;
    let size = |&axis: &Axis| (axis != Axis::Batch).then(|| data.size(axis) as i64);
    let shape = Array::vector(data.layout.iter().map(size).collect());
    let start = attributes.integer("start")?.unwrap_or(0);
    let end = attributes.integer("end")?.unwrap_or(i64::MAX);
    shape.slice(start, end, 1).map(Value::Integer).ok_or_else(|| ShapeFault::Range.into())
}
