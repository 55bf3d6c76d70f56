//! `MaxPool`, `AveragePool`, `GlobalAveragePool`, `GlobalMaxPool`, `ReduceMean`.

use tract_onnx::pb::NodeProto;

use crate::import::array::normalise_axes;
use crate::import::attributes::Attributes;
use crate::import::importer::Importer;
use crate::import::limits::elements;
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Layout, NCHW, Outcome, Value, shown_layout};
use crate::import::window::Window;

pub(super) fn max_pool(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let (data, [channels, height, width]) = importer.image(node)?;
    attributes.ignore("storage_order");
    let window = Window::read(attributes, None, [height, width])?;
    if window.dilation != [1, 1] {
        return Err(format!("its dilation is {:?}; only 1 is supported", window.dilation));
    }
    if data.padding != [0; 4] && !importer.is_non_negative(data.operation) {
        return Err(
            "it follows a Pad with zeros, which are more than negative values; pad within the MaxPool".into(),
        );
    }
    let padding: [usize; 4] = std::array::from_fn(|i| window.padding[i] + data.padding[i]);
    // A window of nothing but padding has no maximum.
    if (0..4).any(|side| padding[side] >= window.kernel[side % 2]) {
        return Err(format!("its padding {padding:?} is not smaller than its window {:?}", window.kernel));
    }
    let kind = Kind::MaxPool { kernel: window.kernel, stride: window.stride, padding };
    importer.value_of(node, kind, vec![data.operation], [channels, window.output[0], window.output[1]], &NCHW)
}

pub(super) fn average_pool(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let (data, [channels, height, width]) = importer.image(node)?;
    let counts_padding = attributes.integer("count_include_pad")?.unwrap_or(0) != 0;
    let window = Window::read(attributes, None, [height, width])?;
    if window.kernel == [height, width] && window.padding == [0; 4] && data.padding == [0; 4] {
        return global_average(importer, node, &data, &NCHW);
    }
    if (window.padding != [0; 4] && !counts_padding) || window.dilation != [1, 1] {
        return Err(
            "its window is neither the whole image nor the same everywhere; average without padding or count it"
                .into(),
        );
    }
    // The same weight for each position of the window: a convolution per channel.
    let count = elements(&[channels, window.kernel[0], window.kernel[1]])?;
    importer.charge(count)?;
    let area = count / channels;
    let kind = Kind::Convolution {
        weights: vec![1.0 / area as f32; area * channels],
        bias: vec![0.0; channels],
        kernel: window.kernel,
        stride: window.stride,
        padding: std::array::from_fn(|i| window.padding[i] + data.padding[i]),
        dilation: [1, 1],
        groups: channels,
    };
    importer.value_of(node, kind, vec![data.operation], [channels, window.output[0], window.output[1]], &NCHW)
}

fn global_average(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, layout: &[Axis]) -> Outcome {
    let [channels, height, width] = data.shape;
    if [height, width] == [1, 1] {
        // Nothing to average.
        return Ok(Value::Data(Data { layout: layout.to_vec(), ..data.clone() }));
    }
    importer.value_of(node, Kind::GlobalAverage, vec![data.operation], [channels, 1, 1], layout)
}

pub(super) fn reduce_mean(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 1, 18)?.unwrap_or_default();
    attributes.ignore("noop_with_empty_axes");
    let keep = attributes.integer("keepdims")?.unwrap_or(1) != 0;
    let averaged = normalise_axes(&axes, data.layout.len())?;
    let is_position = |axis: Axis| matches!(axis, Axis::Height | Axis::Width);
    let positions = data.layout.iter().filter(|&&axis| is_position(axis)).count();
    if averaged.len() != positions || !averaged.iter().all(|&axis| is_position(data.layout[axis])) {
        return Err(format!(
            "it averages over the axes {axes:?} of {}; only height and width are supported",
            shown_layout(&data.layout)
        ));
    }
    let kept = |position: usize| keep || !averaged.contains(&position);
    let layout: Layout = data
        .layout
        .iter()
        .enumerate()
        .filter(|(position, _)| kept(*position))
        .map(|(_, &axis)| axis)
        .collect();
    global_average(importer, node, &data, &layout)
}

pub(super) fn global_average_pool(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    _: &Attributes<'_>,
) -> Outcome {
    importer.image(node)?;
    let data = importer.plain(node, 0)?;
    global_average(importer, node, &data, &NCHW)
}

pub(super) fn global_max_pool(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    importer.image(node)?;
    let data = importer.plain(node, 0)?;
    let [channels, height, width] = data.shape;
    let kind = Kind::MaxPool { kernel: [height, width], stride: [1, 1], padding: [0; 4] };
    importer.value_of(node, kind, vec![data.operation], [channels, 1, 1], &NCHW)
}
