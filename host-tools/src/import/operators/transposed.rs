//! `ConvTranspose`, as a convolution for each phase of the output.

use tract_onnx::pb::NodeProto;

use crate::import::array::Array;
use crate::import::attributes::Attributes;
use crate::import::fault::NodeFault;
use crate::import::fault::convolutions::{ConvolutionFault, MAX_PHASES};
use crate::import::fault::inputs::InputFault;
use crate::import::fault::window::WindowFault;
use crate::import::importer::{Importer, named_like};
use crate::import::limits::elements;
use crate::import::names::node_name;
use crate::import::operation::Kind;
use crate::import::value::{Data, NCHW, Outcome, Value};

/// Along one axis.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    /// What is cut off before the first output.
    before: usize,
    output: usize,
}

/// Every `stride`-th output of an axis as a convolution of the input.
struct Phase {
    /// Which tap of the kernel each tap is; none for one that is zero.
    taps: Vec<Option<usize>>,
    /// Padding on both sides.
    padding: [usize; 2],
    /// Outputs.
    length: usize,
}

impl Axis {
    /// Output `j * stride + place` is the sum over the taps `t` of
    /// `kernel[first + stride * t] * input[j + shift - t]`.
    fn phase(self, place: usize) -> Phase {
        let length = (self.output - place).div_ceil(self.stride);
        let first = (place + self.before) % self.stride;
        let shift = (place + self.before) / self.stride;
        let count = if first < self.kernel { (self.kernel - first).div_ceil(self.stride) } else { 0 };
        let mut taps: Vec<Option<usize>> = (0..count).rev().map(|t| Some(first + self.stride * t)).collect();
        // The first tap reads `shift - (count - 1)` behind the output's own place.
        let lead = shift as i64 - (count as i64 - 1);
        if taps.is_empty() {
            taps.push(None);
        }
        // What a window does not reach at its sides it reaches with taps of zero.
        let leading = if count == 0 { 0 } else { lead.max(0) as usize };
        taps.splice(..0, std::iter::repeat_n(None, leading));
        let left = if count == 0 { 0 } else { (-lead).max(0) as usize };
        let right = length as i64 + taps.len() as i64 - 1 - self.input as i64 - left as i64;
        taps.extend(std::iter::repeat_n(None, (-right).max(0) as usize));
        Phase { taps, padding: [left, right.max(0) as usize], length }
    }
}

/// A kernel `[input][output of the group][y][x]`.
struct Kernel {
    weights: Array<f32>,
    groups: usize,
    outputs: usize,
}

impl Kernel {
    /// The weights of a phase, `[output][input of the group][y][x]`.
    fn phase(&self, rows: &Phase, columns: &Phase) -> Vec<f32> {
        let [inputs, per_group, height, width] = [0, 1, 2, 3].map(|axis| self.weights.dims[axis]);
        let group_inputs = inputs / self.groups;
        let mut weights = vec![];
        for output in 0..self.outputs {
            let (group, within) = (output / per_group, output % per_group);
            for input in group * group_inputs..(group + 1) * group_inputs {
                let plane = (input * per_group + within) * height;
                for row in &rows.taps {
                    weights.extend(columns.taps.iter().map(|column| match (row, column) {
                        (Some(row), Some(column)) => self.weights.data[(plane + row) * width + column],
                        _ => 0.0,
                    }));
                }
            }
        }
        weights
    }
}

pub(super) fn transposed_convolution(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    if importer.rounds {
        return Err(ConvolutionFault::TransposedRounded.into());
    }
    let (_, [channels, height, width]) = importer.image(node)?;
    let data = importer.plain(node, 0)?;
    let weights = importer.weights(node, 1)?.ok_or(InputFault::NoWeights)?;
    let &[inputs, per_group, kernel_height, kernel_width] = weights.dims.as_slice() else {
        return Err(ConvolutionFault::TransposedDimensions(weights.dims).into());
    };
    let groups = attributes.integer("group")?.unwrap_or(1);
    let groups = usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0 && inputs == channels && inputs.is_multiple_of(g) && !weights.data.is_empty())
        .ok_or_else(|| ConvolutionFault::Groups { dims: weights.dims.clone(), groups, channels })?;
    let axes = axes(attributes, [kernel_height, kernel_width], [height, width])?;
    let outputs = per_group * groups;
    let bias = match importer.optional(node, 2)? {
        Some(_) => importer.per_channel(node, 2, outputs)?,
        None => vec![0.0; outputs],
    };
    let stride = axes.map(|axis| axis.stride);
    let size = axes.map(|axis| axis.output);
    let shape = [outputs, size[0], size[1]];
    let kernel = Kernel { weights, groups, outputs };
    let mut phases = vec![];
    for place in 0..stride[0] * stride[1] {
        let (rows, columns) = (axes[0].phase(place / stride[1]), axes[1].phase(place % stride[1]));
        importer.charge(elements(&[outputs, channels / groups, rows.taps.len(), columns.taps.len()])?)?;
        let kind = Kind::Convolution {
            weights: kernel.phase(&rows, &columns),
            bias: bias.clone(),
            kernel: [rows.taps.len(), columns.taps.len()],
            stride: [1, 1],
            padding: [rows.padding[0], columns.padding[0], rows.padding[1], columns.padding[1]],
            dilation: [1, 1],
            groups,
        };
        let named = NodeProto { name: format!("{}.phase{place}", node_name(node)), ..named_like(node) };
        let tensor = node.output.first().map_or("", |output| output);
        phases.push(importer.step(
            &named,
            kind,
            vec![data.operation],
            [outputs, rows.length, columns.length],
            tensor,
        )?);
    }
    if let [only] = phases[..] {
        return Ok(Value::Data(Data { operation: only, shape, padding: [0; 4], layout: NCHW.to_vec() }));
    }
    importer.value_of(node, Kind::Interleave(stride), phases, shape, &NCHW)
}

/// Reads how the kernel moves.
fn axes(attributes: &Attributes<'_>, kernel: [usize; 2], input: [usize; 2]) -> Result<[Axis; 2], NodeFault> {
    let stated = attributes.sizes::<2>("kernel_shape", 1)?;
    if stated.is_some_and(|stated| stated != kernel) {
        return Err(WindowFault::Kernel { stated, kernel }.into());
    }
    let stride = attributes.sizes::<2>("strides", 1)?.unwrap_or([1, 1]);
    let padding = attributes.sizes::<4>("pads", 0)?.unwrap_or([0; 4]);
    let beyond = attributes.sizes::<2>("output_padding", 0)?.unwrap_or([0; 2]);
    let dilation = attributes.sizes::<2>("dilations", 1)?.unwrap_or([1, 1]);
    let automatic = attributes.string("auto_pad")?.is_some_and(|how| how != "NOTSET" && how != "VALID");
    if automatic || attributes.integers("output_shape")?.is_some_and(|shape| !shape.is_empty()) {
        return Err(ConvolutionFault::PaddingOfOutput.into());
    }
    if dilation != [1, 1] || stride[0] * stride[1] > MAX_PHASES {
        return Err(ConvolutionFault::Phases { stride, dilation }.into());
    }
    let mut axes = [Axis { input: 0, kernel: 0, stride: 0, before: 0, output: 0 }; 2];
    for (at, axis) in axes.iter_mut().enumerate() {
        let whole = (input[at] - 1) * stride[at] + kernel[at] + beyond[at];
        let output = whole
            .checked_sub(padding[at] + padding[at + 2])
            .filter(|&output| output >= stride[at])
            .ok_or(ConvolutionFault::NoStep(padding))?;
        elements(&[output])?;
        *axis =
            Axis { input: input[at], kernel: kernel[at], stride: stride[at], before: padding[at], output };
    }
    Ok(axes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_the_transposed_convolution() {
        for (input, kernel, stride, before, after, beyond) in [
            (5, 4, 2, 1, 1, 0),
            (5, 3, 2, 1, 1, 1),
            (5, 3, 2, 1, 1, 0),
            (4, 2, 2, 0, 0, 0),
            (4, 2, 3, 0, 0, 1),
            (6, 7, 3, 2, 4, 0),
            (6, 1, 2, 0, 0, 1),
            (7, 2, 2, 2, 0, 0),
            (7, 2, 2, 0, 3, 0),
            (3, 5, 1, 2, 2, 0),
        ] {
            let output = (input - 1) * stride + kernel + beyond - before - after;
            let axis = Axis { input, kernel, stride, before, output };
            let image: Vec<i64> = (0..input as i64).map(|value| value * value + 3).collect();
            let weights: Vec<i64> = (1..=kernel as i64).map(|value| 7 * value - 11).collect();
            let mut expected = vec![0; output];
            for (i, value) in image.iter().enumerate() {
                for (k, weight) in weights.iter().enumerate() {
                    let at = (i * stride + k).checked_sub(before).filter(|&at| at < output);
                    if let Some(at) = at {
                        expected[at] += value * weight;
                    }
                }
            }
            let mut found = vec![i64::MIN; output];
            for place in 0..stride {
                let phase = axis.phase(place);
                let room = input + phase.padding[0] + phase.padding[1];
                assert_eq!(room - phase.taps.len() + 1, phase.length);
                for j in 0..phase.length {
                    let taps = phase.taps.iter().enumerate();
                    found[j * stride + place] = taps
                        .map(|(u, tap)| {
                            let value = (j + u).checked_sub(phase.padding[0]).and_then(|at| image.get(at));
                            tap.map_or(0, |tap| weights[tap]) * value.copied().unwrap_or(0)
                        })
                        .sum();
                }
            }
            assert_eq!(found, expected, "{input} {kernel} {stride} {before} {after} {beyond}");
        }
    }
}
