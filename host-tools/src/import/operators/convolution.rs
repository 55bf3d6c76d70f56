//! `Conv`, of images, and over the channels of one position (ECA).

use tract_onnx::pb::NodeProto;

use crate::import::attributes::Attributes;
use crate::import::fault::attributes::AttributeFault;
use crate::import::fault::convolutions::ConvolutionFault;
use crate::import::fault::inputs::InputFault;
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, NCHW, Outcome, Value};
use crate::import::window::Window;

pub(super) fn convolution(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    if let Value::Data(data) = importer.input(node, 0)?
        && data.layout == [Axis::Batch, Axis::One, Axis::Channels]
    {
        return over_channels(importer, node, attributes, &data);
    }
    let (data, [channels, height, width]) = importer.image(node)?;
    let weights = importer.weights(node, 1)?.ok_or(InputFault::NoWeights)?;
    let &[outputs, inputs_per_group, kernel_height, kernel_width] = weights.dims.as_slice() else {
        return Err(ConvolutionFault::Dimensions(weights.dims).into());
    };
    let kernel = [kernel_height, kernel_width];
    if weights.data.is_empty() {
        return Err(ConvolutionFault::Empty(weights.dims).into());
    }
    let groups = attributes.integer("group")?.unwrap_or(1);
    let groups = usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0 && g.checked_mul(inputs_per_group) == Some(channels) && outputs.is_multiple_of(g))
        .ok_or_else(|| ConvolutionFault::Groups { dims: weights.dims.clone(), groups, channels })?;
    let window = Window::read(attributes, Some(kernel), [height, width])?;
    let bias = match importer.optional(node, 2)? {
        Some(_) => importer.per_channel(node, 2, outputs)?,
        None => vec![0.0; outputs],
    };
    let padding = std::array::from_fn(|i| window.padding[i] + data.padding[i]);
    let kind = Kind::Convolution {
        weights: weights.data,
        bias,
        kernel,
        stride: window.stride,
        padding,
        dilation: window.dilation,
        groups,
    };
    importer.value_of(node, kind, vec![data.operation], [outputs, window.output[0], window.output[1]], &NCHW)
}

/// A convolution of one dimension over the channels of one position: the channels become columns.
fn over_channels(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
    data: &Data,
) -> Outcome {
    let weights = importer.weights(node, 1)?.ok_or(InputFault::NoWeights)?;
    let &[1, 1, taps] = weights.dims.as_slice() else {
        return Err(ConvolutionFault::Row(weights.dims).into());
    };
    let one = |name: &'static str, otherwise: usize| -> Result<usize, AttributeFault> {
        Ok(attributes.sizes::<1>(name, 1)?.map_or(otherwise, |[value]| value))
    };
    let [left, right] = attributes.sizes::<2>("pads", 0)?.unwrap_or([0, 0]);
    let channels = data.shape[0];
    let fits = one("strides", 1)? == 1
        && one("dilations", 1)? == 1
        && one("kernel_shape", taps)? == taps
        && attributes.integer("group")?.unwrap_or(1) == 1
        && attributes.string("auto_pad")?.is_none_or(|how| how == "NOTSET")
        && left + right + 1 == taps;
    if !fits {
        return Err(ConvolutionFault::ChannelCount.into());
    }
    let bias = match importer.optional(node, 2)? {
        Some(_) => importer.per_channel(node, 2, 1)?,
        None => vec![0.0],
    };
    let tensor = importer.operations[data.operation].tensor.clone();
    let row = importer.step(node, Kind::View, vec![data.operation], [1, 1, channels], &tensor)?;
    let kind = Kind::Convolution {
        weights: weights.data,
        bias,
        kernel: [1, taps],
        stride: [1, 1],
        padding: [0, left, 0, right],
        dilation: [1, 1],
        groups: 1,
    };
    let output = node.output.first().cloned().unwrap_or_default();
    let convolution = importer.step(node, kind, vec![row], [1, 1, channels], &output)?;
    importer.value_of(node, Kind::View, vec![convolution], [channels, 1, 1], &data.layout)
}
