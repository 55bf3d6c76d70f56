//! `Conv`.

use tract_onnx::pb::NodeProto;

use crate::import::attributes::Attributes;
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::value::{NCHW, Outcome};
use crate::import::window::Window;

pub(super) fn convolution(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let (data, [channels, height, width]) = importer.image(node)?;
    let weights = importer.weights(node, 1)?.ok_or("its weights are missing")?;
    let &[outputs, inputs_per_group, kernel_height, kernel_width] = weights.dims.as_slice() else {
        return Err(format!(
            "its weights have the dimensions {:?}; only two-dimensional convolutions are supported",
            weights.dims
        ));
    };
    let kernel = [kernel_height, kernel_width];
    if weights.data.is_empty() {
        return Err(format!("its weights are empty: {:?}", weights.dims));
    }
    let groups = attributes.integer("group")?.unwrap_or(1);
    let groups = usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0 && g.checked_mul(inputs_per_group) == Some(channels) && outputs.is_multiple_of(g))
        .ok_or_else(|| {
            format!(
                "weights {:?} in {groups} groups do not fit an input of {channels} channels",
                weights.dims
            )
        })?;
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
