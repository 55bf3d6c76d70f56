//! `MaxPool`, `AveragePool`, `GlobalAveragePool`, `GlobalMaxPool`, `ReduceMean`.

use tract_onnx::pb::NodeProto;

use crate::import::array::normalise_axes;
use crate::import::attributes::Attributes;
use crate::import::fault::pools::PoolFault;
use crate::import::fault::window::WindowFault;
use crate::import::importer::Importer;
use crate::import::limits::elements;
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Layout, NCHW, Outcome, Value};
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
        return Err(WindowFault::Dilation(window.dilation).into());
    }
    if data.padding != [0; 4] && !importer.is_non_negative(data.operation) {
        return Err(PoolFault::ZerosBefore.into());
    }
    let padding = window.reach(data.padding);
    // A window of nothing but padding has no maximum.
    if (0..4).any(|side| padding[side] >= window.kernel[side % 2]) {
        return Err(PoolFault::Padding { padding, kernel: window.kernel }.into());
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
    if window.dilation != [1, 1] {
        return Err(WindowFault::Dilation(window.dilation).into());
    }
    let has_overhang = window.overhang != [0, 0];
    if has_overhang || (window.padding != [0; 4] && !counts_padding) {
        let counts = counts_padding && window.padding != [0; 4];
        if data.padding != [0; 4] || (counts && has_overhang) {
            return Err(PoolFault::CountedZeros.into());
        }
        let padding = window.reach([0; 4]);
        let kind = Kind::AveragePool {
            kernel: window.kernel,
            stride: window.stride,
            padding,
            counts_padding: counts,
        };
        let shape = [channels, window.output[0], window.output[1]];
        return importer.value_of(node, kind, vec![data.operation], shape, &NCHW);
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
    if averaged.is_empty() || !averaged.iter().all(|&axis| is_position(data.layout[axis])) {
        return Err(PoolFault::MeanAxes { axes, layout: data.layout }.into());
    }
    let kept = |position: usize| keep || !averaged.contains(&position);
    let layout: Layout = data
        .layout
        .iter()
        .enumerate()
        .filter(|(position, _)| kept(*position))
        .map(|(_, &axis)| axis)
        .collect();
    if averaged.len() < positions {
        // Rows or columns alone.
        let [channels, height, width] = data.shape;
        let over = |axis: Axis| averaged.iter().any(|&position| data.layout[position] == axis);
        let kernel = [if over(Axis::Height) { height } else { 1 }, if over(Axis::Width) { width } else { 1 }];
        let shape = [channels, height / kernel[0], width / kernel[1]];
        // One axis after the other is all of the image.
        let before = &importer.operations[data.operation];
        if let (Kind::AveragePool { stride: [1, 1], padding: [0, 0, 0, 0], .. }, [_, 1, 1]) =
            (&before.kind, shape)
        {
            let source = before.inputs[0];
            let image = importer.operations[source].shape;
            let took_axis = [1, 2].into_iter().all(|axis| [1, image[axis]].contains(&before.shape[axis]));
            if took_axis {
                let whole =
                    Data { operation: source, shape: image, padding: [0; 4], layout: data.layout.clone() };
                return global_average(importer, node, &whole, &layout);
            }
        }
        let kind = Kind::AveragePool { kernel, stride: [1, 1], padding: [0; 4], counts_padding: false };
        return importer.value_of(node, kind, vec![data.operation], shape, &layout);
    }
    global_average(importer, node, &data, &layout)
}

/// `ReduceMax` over the image.
pub(super) fn reduce_max(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let axes = importer.attribute_or_input(node, attributes, "axes", 1, 18)?.unwrap_or_default();
    attributes.ignore("noop_with_empty_axes");
    let keep = attributes.integer("keepdims")?.unwrap_or(1) != 0;
    let taken = normalise_axes(&axes, data.layout.len())?;
    let mut over: Layout = taken.iter().map(|&axis| data.layout[axis]).collect();
    over.sort_by_key(|&axis| axis == Axis::Width);
    if over != [Axis::Height, Axis::Width] {
        return Err(PoolFault::MaximumAxes { axes, layout: data.layout }.into());
    }
    let kept = (0..data.layout.len()).filter(|position| keep || !taken.contains(position));
    let layout: Layout = kept.map(|position| data.layout[position]).collect();
    let [channels, height, width] = data.shape;
    let kind = Kind::MaxPool { kernel: [height, width], stride: [1, 1], padding: [0; 4] };
    importer.value_of(node, kind, vec![data.operation], [channels, 1, 1], &layout)
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
