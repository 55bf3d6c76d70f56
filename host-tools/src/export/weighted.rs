//! Layers with weights.

use resight_kernels::arithmetic::{FRACTION_BITS, requantise};
use resight_runtime::Quantisation;
use resight_runtime::layers::{Convolution, Fill, Linear};
use resight_runtime::tract::TypedNode;

use crate::onnx;

use super::error::{ExportError, NumberFault};
use super::format::Format;
use super::writer::{Exported, Writer, shape_of, window};

/// How far from a whole number of accumulator steps a bias may be, in steps of the output, to be written as
/// one: that is no more than what sums of floats are rounded to.
const UNEVEN: f64 = 1.0 / 65536.0;

/// Integer weights, what they are worth, and biases.
struct Weights {
    /// Outputs, inputs of a group, and height and width of a convolution.
    dims: Vec<usize>,
    /// In the order of `dims`.
    integers: Vec<i8>,
    /// What a step of each output's weights is worth, by that of the input's.
    scales: Vec<f32>,
    /// In real numbers.
    biases: Vec<f64>,
    /// The same in steps of the accumulators, where all are whole.
    whole_biases: Option<Vec<i32>>,
    /// What a step of the input is worth.
    input_scale: f32,
}

impl Weights {
    /// Real numbers, of integers that are in the file unless all of it is of floats.
    fn write(&self, writer: &mut Writer<'_>, name: &str) -> String {
        let rows = self.scales.len();
        if writer.format == Format::F32 {
            let row = (self.integers.len() / rows.max(1)).max(1);
            let real: Vec<f32> = self
                .integers
                .chunks_exact(row)
                .zip(&self.scales)
                .flat_map(|(row, scale)| row.iter().map(move |&weight| f32::from(weight) * scale))
                .collect();
            return writer.constant(onnx::of_f32(&format!("{name}/weights"), &self.dims, &real));
        }
        let stored = writer.constant(onnx::of_i8(&format!("{name}/weights"), &self.dims, &self.integers));
        let scale = writer.constant(onnx::of_f32(&format!("{name}/weight_scales"), &[rows], &self.scales));
        let zeros = onnx::of_i8(&format!("{name}/weight_zero_points"), &[rows], &vec![0; rows]);
        let zeros = writer.constant(zeros);
        let axis = vec![onnx::integer("axis", 0)];
        writer.node("DequantizeLinear", &format!("{name}_weights"), &[&stored, &scale, &zeros], axis)
    }

    /// Biases as real numbers, of the dimensions `dims`.
    fn write_real_bias(&self, writer: &mut Writer<'_>, name: &str, dims: &[usize]) -> String {
        let real: Vec<f32> = self.biases.iter().map(|&bias| bias as f32).collect();
        writer.constant(onnx::of_f32(&format!("{name}/bias"), dims, &real))
    }

    /// Biases as integers in steps of input and weights, the form that runtimes compute in integers with.
    fn write_whole_bias(&self, writer: &mut Writer<'_>, name: &str, biases: &[i32]) -> String {
        let rows = biases.len();
        let scales: Vec<f32> = self.scales.iter().map(|scale| scale * self.input_scale).collect();
        let stored = writer.constant(onnx::of_i32(&format!("{name}/bias"), &[rows], biases));
        let scale = writer.constant(onnx::of_f32(&format!("{name}/bias_scales"), &[rows], &scales));
        let axis = vec![onnx::integer("axis", 0)];
        writer.node("DequantizeLinear", &format!("{name}_bias"), &[&stored, &scale], axis)
    }
}

/// `acc * multiplier`, as a convolution of real numbers: weights have the scale
/// `multiplier * output scale / input scale`, and what zero points put into the integer bias goes out of it.
pub(super) fn convolution(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &Convolution,
) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let input = writer.input(node, 0)?;
    // What padding of the image reads as differs from channel to channel.
    let levels: Option<Vec<i8>> = (input.is_image && layer.padding != [0; 4])
        .then(|| writer.numbers(node, &layer.padding_value))
        .transpose()?;
    let (residual, zeros_of_residual) = residual(writer, node, layer)?;
    let zeros: Vec<f64> =
        zeros_of_residual.iter().map(|zero| f64::from(layer.output.zero_point) - zero).collect();
    let weights = convolution_weights(writer, node, layer, &input, levels.as_deref(), &zeros)?;
    let tensor = if input.is_image {
        writer.grey_levels(&format!("{name}_0"), levels.as_deref())
    } else {
        input.tensor
    };
    let mut attributes = window([weights.dims[2], weights.dims[3]], layer.stride, layer.padding);
    attributes.push(onnx::integers("dilations", &layer.dilation));
    attributes.push(onnx::integer("group", layer.groups as i64));
    let real = weights.write(writer, name);
    let rows = weights.scales.len();
    // Sums of two roundings are floats in any runtime, and so is what reads numbers with a zero point for
    // each channel.
    let is_integer = writer.format == Format::Qdq && residual.is_none() && levels.is_none();
    let mut result = match (&weights.whole_biases, is_integer) {
        (Some(biases), true) => {
            let bias = weights.write_whole_bias(writer, name, biases);
            writer.node("Conv", name, &[&tensor, &real, &bias], attributes)
        }
        // Apart from the convolution: some runtimes round the bias of one to whole steps.
        (None, true) => {
            let sums = writer.node("Conv", name, &[&tensor, &real], attributes);
            let bias = weights.write_real_bias(writer, name, &[rows, 1, 1]);
            writer.node("Add", &format!("{name}_bias"), &[&sums, &bias], vec![])
        }
        (_, false) => {
            let bias = weights.write_real_bias(writer, name, &[rows]);
            writer.node("Conv", name, &[&tensor, &real, &bias], attributes)
        }
    };
    if let Some(residual) = residual {
        result = writer.node("Add", &format!("{name}_residual"), &[&result, &residual.tensor], vec![]);
    }
    let tensor = writer.rounded(name, &result, layer.output);
    Ok(Exported { tensor, quantisation: Some(layer.output), shape: shape_of(node), is_image: false })
}

/// `levels` are what stands for zero in each channel of an image; `zeros` are what the numbers of the output
/// are to be less than they are here, in its steps, for each channel or for all.
fn convolution_weights(
    writer: &Writer<'_>,
    node: &TypedNode,
    layer: &Convolution,
    input: &Exported,
    levels: Option<&[i8]>,
    zeros: &[f64],
) -> Result<Weights, ExportError> {
    let from = input.quantisation.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let weights: Vec<i8> = writer.numbers(node, &layer.weights)?;
    let bias: Vec<i32> = writer.numbers(node, &layer.bias)?;
    let multiplier: Vec<i32> = writer.numbers(node, &layer.multiplier)?;
    let &[outputs, height, width, channels] = layer.weights.shape() else {
        return Err(writer.fault(node, NumberFault::Tensor(format!("weights {:?}", layer.weights.shape()))));
    };
    let (area, taps) = (height * width, height * width * channels);
    let group = (outputs / layer.groups.max(1)).max(1);
    let zero_of_input = |row: usize, column: usize| {
        let channel = row / group * channels + column % channels;
        levels.map_or(from.zero_point, |levels| levels.get(channel).map_or(0, |&level| level.into()))
    };
    let (mut scales, mut biases, mut whole) = (vec![], vec![], Some(vec![]));
    for (row, weights) in weights.chunks_exact(taps.max(1)).enumerate() {
        let real = f64::from(multiplier[row]) / f64::from(1u32 << 31) * f64::from(1u32 << layer.shift)
            / f64::from(1u32 << FRACTION_BITS);
        let products = weights.iter().enumerate();
        let of_input: i64 =
            products.map(|(column, &weight)| i64::from(weight) * i64::from(zero_of_input(row, column))).sum();
        let sum = (i64::from(bias[row]) + of_input) as f64;
        let zero = zeros.get(row).or(zeros.first()).copied().unwrap_or_default();
        let steps = sum - zero / real;
        let is_whole = (steps - steps.round()).abs() * real < UNEVEN && steps.abs() < f64::from(i32::MAX);
        whole = whole.filter(|_| is_whole);
        if let Some(whole) = &mut whole {
            whole.push(steps.round() as i32);
        }
        let scale = f64::from(layer.output.scale);
        biases.push((sum * real - zero) * scale);
        scales.push((real * scale / f64::from(from.scale)) as f32);
    }
    // `[output][row][column][channel]` as `[output][channel][row][column]`.
    let integers = (0..weights.len())
        .map(|at| {
            let (output, channel, tap) = (at / taps, at / area % channels, at % area);
            weights[output * taps + tap * channels + channel]
        })
        .collect();
    let dims = vec![outputs, channels, height, width];
    Ok(Weights { dims, integers, scales, biases, whole_biases: whole, input_scale: from.scale })
}

/// The residual of a convolution, if it is more than a constant, and what the numbers of either stand for
/// in output steps where they are to be zero, for all channels or for each.
fn residual(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &Convolution,
) -> Result<(Option<Exported>, Vec<f64>), ExportError> {
    let Some(multiplier) = layer.residual_multiplier else { return Ok((None, vec![0.0])) };
    let factor = f64::from(multiplier) / f64::from(1u32 << FRACTION_BITS);
    let maker = writer.maker(node, 1);
    if let Some(fill) = maker.and_then(|maker| maker.op_as::<Fill>()) {
        return Ok((None, vec![f64::from(fill.value) * factor]));
    }
    if let Some((maker, constant)) = maker.and_then(|maker| Some((maker, constant(writer, maker)?))) {
        let bias: Vec<i32> = writer.numbers(maker, &constant.bias)?;
        let multipliers: Vec<i32> = writer.numbers(maker, &constant.multiplier)?;
        let value = |(&bias, &multiplier): (&i32, &i32)| requantise(bias, constant.shift, multiplier, 0);
        let values = bias.iter().zip(&multipliers).map(value);
        return Ok((None, values.map(|value| f64::from(value) * factor).collect()));
    }
    let residual = writer.int8(node, 1)?;
    let zero = residual.quantisation.map_or(0, |quantisation| quantisation.zero_point);
    Ok((Some(residual), vec![f64::from(zero) * factor]))
}

/// A convolution that gives a value for each channel, whatever the network's input is.
pub(super) fn constant<'a>(writer: &Writer<'_>, node: &'a TypedNode) -> Option<&'a Convolution> {
    let is_filled = writer.maker(node, 0).is_some_and(TypedNode::op_is::<Fill>);
    let layer =
        node.op_as::<Convolution>().filter(|layer| is_filled && layer.residual_multiplier.is_none())?;
    let weights: Vec<i8> = writer.numbers(node, &layer.weights).ok()?;
    weights.iter().all(|&weight| weight == 0).then_some(layer)
}

/// `(bias + sum(w * a)) * scale` of averages with fractional bits, as a linear layer of real averages.
pub(super) fn linear(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &Linear,
) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let input = writer.input(node, 0)?;
    let Quantisation { scale, zero_point } =
        input.quantisation.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let integers: Vec<i8> = writer.numbers(node, &layer.weights)?;
    let bias: Vec<i32> = writer.numbers(node, &layer.bias)?;
    let own: Vec<f32> = writer.numbers(node, &layer.scale)?;
    let &[outputs, features] = layer.weights.shape() else {
        return Err(writer.fault(node, NumberFault::Tensor(format!("weights {:?}", layer.weights.shape()))));
    };
    // Steps of an average: an int8 step in so many parts.
    let parts = f64::from(layer.input_limit) / 128.0;
    let scales = own.iter().map(|&own| (f64::from(own) * parts / f64::from(scale)) as f32).collect();
    let rows = integers.chunks_exact(features.max(1)).zip(bias.iter().zip(&own));
    let biases = rows
        .map(|(row, (&bias, &own))| {
            let sum: i64 = row.iter().map(|&weight| i64::from(weight)).sum();
            let zeros = parts * f64::from(zero_point) * sum as f64;
            (f64::from(bias) + zeros) * f64::from(own)
        })
        .collect();
    let dims = vec![outputs, features];
    let weights = Weights { dims, integers, scales, biases, whole_biases: None, input_scale: scale };
    let real = weights.write(writer, name);
    let bias = weights.write_real_bias(writer, name, &[outputs]);
    let axis = vec![onnx::integer("axis", 1)];
    let flat = writer.node("Flatten", &format!("{name}_flatten"), &[&input.tensor], axis);
    let inputs = [flat.as_str(), &real, &bias];
    let tensor = writer.node("Gemm", name, &inputs, vec![onnx::integer("transB", 1)]);
    Ok(Exported { tensor, quantisation: None, shape: [1, 1, outputs], is_image: false })
}
