//! How the windows of convolutions and pools move over an image.

use super::attributes::Attributes;
use super::fault::NodeFault;
use super::fault::window::WindowFault;
use super::limits::elements;

/// How a window moves over an image.
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub(super) padding: [usize; 4],
    pub(super) dilation: [usize; 2],
    /// How far the last windows reach over the padding, with `ceil_mode`: `[bottom, right]`.
    pub(super) overhang: [usize; 2],
    /// `[height, width]`.
    pub(super) output: [usize; 2],
}

impl Window {
    /// Its padding and `other`, and as far as the last windows reach.
    pub(super) fn reach(&self, other: [usize; 4]) -> [usize; 4] {
        let overhang = [0, 0, self.overhang[0], self.overhang[1]];
        std::array::from_fn(|side| self.padding[side] + other[side] + overhang[side])
    }

    /// Reads the attributes of a convolution (whose weights give the kernel) or a pooling.
    pub(super) fn read(
        attributes: &Attributes<'_>,
        weights: Option<[usize; 2]>,
        image: [usize; 2],
    ) -> Result<Self, NodeFault> {
        let stated = attributes.sizes::<2>("kernel_shape", 1)?;
        let kernel = weights.or(stated).ok_or(WindowFault::NoKernel)?;
        if stated.is_some_and(|k| k != kernel) {
            return Err(WindowFault::Kernel { stated, kernel }.into());
        }
        let stride = attributes.sizes::<2>("strides", 1)?.unwrap_or([1, 1]);
        let dilation = attributes.sizes::<2>("dilations", 1)?.unwrap_or([1, 1]);
        let stated = attributes.sizes::<4>("pads", 0)?.unwrap_or([0; 4]);
        let automatic = attributes.string("auto_pad")?.unwrap_or_else(|| "NOTSET".into());
        // ONNX pooling rounds the output size up in ceil mode.
        let ceil = attributes.integer("ceil_mode")?.unwrap_or(0) != 0;
        // Positions that the window spans.
        let span: [usize; 2] = std::array::from_fn(|axis| (kernel[axis] - 1) * dilation[axis] + 1);
        let padding = match automatic.as_str() {
            "" | "NOTSET" => stated,
            "VALID" => [0; 4],
            "SAME_UPPER" | "SAME_LOWER" => {
                let mut padding = [0; 4];
                for axis in 0..2 {
                    let covered = (image[axis].div_ceil(stride[axis]) - 1) * stride[axis] + span[axis];
                    let total = covered.saturating_sub(image[axis]);
                    let (small, large) = (total / 2, total.div_ceil(2));
                    let (first, last) =
                        if automatic == "SAME_UPPER" { (small, large) } else { (large, small) };
                    padding[axis] = first;
                    padding[axis + 2] = last;
                }
                padding
            }
            _ => return Err(WindowFault::AutomaticPadding { how: automatic }.into()),
        };
        let (mut output, mut overhang) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let size = image[axis] + padding[axis] + padding[axis + 2];
            elements(&[size])?;
            let Some(room) = size.checked_sub(span[axis]) else {
                return Err(WindowFault::Span { span, image }.into());
            };
            output[axis] = room / stride[axis] + 1;
            // A window more, if it begins within the image.
            let next = output[axis] * stride[axis];
            if ceil && !room.is_multiple_of(stride[axis]) && next < image[axis] + padding[axis] {
                output[axis] += 1;
                overhang[axis] = next + span[axis] - size;
            }
        }
        Ok(Window { kernel, stride, padding, dilation, overhang, output })
    }
}
