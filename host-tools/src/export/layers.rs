//! One layer after the other, as operators of ONNX.

use resight_kernels::arithmetic::FRACTION_BITS;
use resight_runtime::Quantisation;
use resight_runtime::layers::{
    Add, AveragePool, Channels, Concat, Convolution, Dequantise, Fill, GlobalAverage, Linear, MaxPool,
    Multiply, Pad, Table, Upsample, View,
};
use resight_runtime::tract::TypedNode;

use super::error::{ExportError, NumberFault};
use super::format::Format;
use super::proto;
use super::writer::{Exported, Writer, shape_of};

/// Writes a layer and gives its result.
pub(super) fn layer(writer: &mut Writer<'_>, node: &TypedNode) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    if let Some(layer) = node.op_as::<Convolution>() {
        return convolution(writer, node, layer);
    }
    if let Some(layer) = node.op_as::<Linear>() {
        return linear(writer, node, layer);
    }
    if let Some(layer) = node.op_as::<Table>() {
        return table(writer, node, layer);
    }
    // Its user knows what it holds.
    if node.op_as::<Fill>().is_some() {
        return Ok(Exported { quantisation: None, ..writer.input(node, 0)? });
    }
    if node.op_as::<Dequantise>().is_some() {
        let input = writer.input(node, 0)?;
        let tensor = writer.without_ends(input.tensor);
        return Ok(Exported { tensor, quantisation: None, ..input });
    }
    if node.op_as::<GlobalAverage>().is_some() {
        let input = int8(writer, node, 0)?;
        // Over one position an average only widens.
        if input.shape[..2] == [1, 1] {
            return Ok(input);
        }
        let tensor = writer.node("GlobalAveragePool", name, &[&input.tensor], vec![]);
        return Ok(Exported { tensor, shape: shape_of(node), ..input });
    }
    let count = node.inputs.len();
    let inputs: Vec<Exported> = (0..count).map(|at| int8(writer, node, at)).collect::<Result<_, _>>()?;
    let tensors: Vec<&str> = inputs.iter().map(|input| input.tensor.as_str()).collect();
    let own = inputs.first().and_then(|input| input.quantisation);
    let (tensor, output) = if let Some(layer) = node.op_as::<Add>() {
        (writer.node("Add", name, &tensors, vec![]), Some(layer.output))
    } else if let Some(layer) = node.op_as::<Multiply>() {
        (writer.node("Mul", name, &tensors, vec![]), Some(layer.output))
    } else if let Some(layer) = node.op_as::<Concat>() {
        (writer.node("Concat", name, &tensors, vec![proto::integer("axis", 1)]), Some(layer.output))
    } else if let Some(layer) = node.op_as::<AveragePool>() {
        (average_pool(writer, node, layer, &inputs[0]), Some(layer.output))
    } else if let Some(layer) = node.op_as::<MaxPool>() {
        let window = window(layer.kernel, layer.stride, layer.padding);
        (writer.node("MaxPool", name, &tensors, window), own)
    } else {
        (moved(writer, node, &inputs)?, own)
    };
    let quantisation = output.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let tensor = writer.rounded(name, &tensor, quantisation);
    Ok(Exported { tensor, quantisation: Some(quantisation), shape: shape_of(node), is_image: false })
}

/// A layer that only moves numbers.
fn moved(writer: &mut Writer<'_>, node: &TypedNode, inputs: &[Exported]) -> Result<String, ExportError> {
    let name = node.name.as_str();
    let [input] = inputs else { return Err(unknown(writer, node)) };
    if let Some(layer) = node.op_as::<Channels>() {
        let order: Vec<i64> = layer.order.iter().map(|&channel| channel as i64).collect();
        let order = writer.constant(proto::of_i64(&format!("{name}/order"), &order));
        return Ok(writer.node("Gather", name, &[&input.tensor, &order], vec![proto::integer("axis", 1)]));
    }
    if let Some(layer) = node.op_as::<Pad>() {
        let [top, left, bottom, right] = layer.padding.map(|side| side as i64);
        let pads =
            writer.constant(proto::of_i64(&format!("{name}/pads"), &[0, 0, top, left, 0, 0, bottom, right]));
        let mode = proto::text("mode", if layer.reflects { "reflect" } else { "edge" });
        return Ok(writer.node("Pad", name, &[&input.tensor, &pads], vec![mode]));
    }
    if let Some(layer) = node.op_as::<View>() {
        let rows = proto::integers("perm", &[0, 2, 3, 1]);
        let moved = writer.node("Transpose", &format!("{name}_rows"), &[&input.tensor], vec![rows]);
        let [height, width, channels] = layer.shape.map(|size| size as i64);
        let shape = writer.constant(proto::of_i64(&format!("{name}/shape"), &[0, height, width, channels]));
        let viewed = writer.node("Reshape", &format!("{name}_view"), &[&moved, &shape], vec![]);
        return Ok(writer.node("Transpose", name, &[&viewed], vec![proto::integers("perm", &[0, 3, 1, 2])]));
    }
    if let Some(layer) = node.op_as::<Upsample>() {
        let factors = [1.0, 1.0, layer.factor[0] as f32, layer.factor[1] as f32];
        let factors = writer.constant(proto::of_f32(&format!("{name}/factors"), &[4], &factors));
        let attributes = vec![
            proto::text("mode", "nearest"),
            proto::text("coordinate_transformation_mode", "asymmetric"),
            proto::text("nearest_mode", "floor"),
        ];
        return Ok(writer.node("Resize", name, &[&input.tensor, "", &factors], attributes));
    }
    Err(unknown(writer, node))
}

fn unknown(writer: &Writer<'_>, node: &TypedNode) -> ExportError {
    let (file, layer) = (writer.model.file().into(), node.name.clone());
    ExportError::Layer { file, layer, operator: node.op.name().into_owned() }
}

/// A layer's input as numbers with one scale: of the image its grey levels.
fn int8(writer: &mut Writer<'_>, node: &TypedNode, at: usize) -> Result<Exported, ExportError> {
    let input = writer.input(node, at)?;
    if !input.is_image {
        return Ok(input);
    }
    let tensor = writer.grey_levels(&format!("{}_{at}", node.name), [0; 4]);
    Ok(Exported { tensor, is_image: false, ..input })
}

fn window(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
) -> Vec<tract_onnx::pb::AttributeProto> {
    vec![
        proto::integers("kernel_shape", &kernel),
        proto::integers("strides", &stride),
        proto::integers("pads", &padding),
    ]
}

fn average_pool(writer: &mut Writer<'_>, node: &TypedNode, layer: &AveragePool, input: &Exported) -> String {
    let is_global = layer.kernel == input.shape[..2] && layer.padding == [0; 4];
    if is_global {
        return writer.node("GlobalAveragePool", &node.name, &[&input.tensor], vec![]);
    }
    let mut attributes = window(layer.kernel, layer.stride, layer.padding);
    attributes.push(proto::integer("count_include_pad", i64::from(layer.counts_padding)));
    writer.node("AveragePool", &node.name, &[&input.tensor], attributes)
}

/// `acc * multiplier`, as a convolution of real numbers: weights have the scale
/// `multiplier * output scale / input scale`, and what zero points put into the integer bias goes out of it.
fn convolution(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &Convolution,
) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let input = writer.input(node, 0)?;
    let from = input.quantisation.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let weights: Vec<i8> = writer.numbers(node, &layer.weights)?;
    let bias: Vec<i32> = writer.numbers(node, &layer.bias)?;
    let multiplier: Vec<i32> = writer.numbers(node, &layer.multiplier)?;
    let &[outputs, height, width, channels] = layer.weights.shape() else {
        return Err(writer.fault(node, NumberFault::Tensor(format!("weights {:?}", layer.weights.shape()))));
    };
    let (residual, residual_zero) = residual(writer, node, layer)?;
    let taps = height * width * channels;
    let (mut scales, mut biases) = (vec![], vec![]);
    for (row, weights) in weights.chunks_exact(taps.max(1)).enumerate() {
        let real = f64::from(multiplier[row]) / f64::from(1u32 << 31) * f64::from(1u32 << layer.shift)
            / f64::from(1u32 << FRACTION_BITS);
        let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
        let zero = f64::from(layer.output.zero_point) - residual_zero;
        let (real, steps) = whole_zero_point(real, zero);
        let own = i64::from(bias[row]) + i64::from(from.zero_point) * sum - steps;
        biases.push(i32::try_from(own).map_err(|_| writer.fault(node, NumberFault::Bias(own)))?);
        scales.push((real * f64::from(layer.output.scale) / f64::from(from.scale)) as f32);
    }
    // `[output][row][column][channel]` as `[output][channel][row][column]`.
    let area = height * width;
    let ordered: Vec<i8> = (0..weights.len())
        .map(|at| {
            let (output, channel, tap) = (at / taps, at / area % channels, at % area);
            weights[output * taps + tap * channels + channel]
        })
        .collect();
    let dims = [outputs, channels, height, width];
    let [weights, bias] = layer_constants(writer, name, &dims, &ordered, &scales, (from.scale, &biases));
    // Zeros round grey levels would be black: the padding comes before, where zero is the mean.
    let (tensor, padding) = if input.is_image {
        (writer.grey_levels(&format!("{name}_0"), layer.padding), [0; 4])
    } else {
        (input.tensor, layer.padding)
    };
    let mut attributes = window([height, width], layer.stride, padding);
    attributes.push(proto::integers("dilations", &layer.dilation));
    attributes.push(proto::integer("group", layer.groups as i64));
    let mut result = writer.node("Conv", name, &[&tensor, &weights, &bias], attributes);
    if let Some(residual) = residual {
        result = writer.node("Add", &format!("{name}_residual"), &[&result, &residual.tensor], vec![]);
    }
    let tensor = writer.rounded(name, &result, layer.output);
    Ok(Exported { tensor, quantisation: Some(layer.output), shape: shape_of(node), is_image: false })
}

/// A zero point of an output is a part of the integer bias here, in ONNX it is not: `zero` output steps
/// are taken out of it as a whole number of accumulator steps. Gives the multiplier with which these are
/// worth `zero` exactly, and their number. Of a small zero point the nearest number is closer.
fn whole_zero_point(multiplier: f64, zero: f64) -> (f64, i64) {
    let steps = (zero / multiplier).round();
    let exact = zero / steps;
    let moves = zero.abs() >= 32.0 && (exact / multiplier - 1.0).abs() < 1e-3;
    (if moves { exact } else { multiplier }, steps as i64)
}

/// The residual of a convolution, if it is more than a constant, and what the numbers of either stand for
/// in output steps where they are to be zero.
fn residual(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &Convolution,
) -> Result<(Option<Exported>, f64), ExportError> {
    let Some(multiplier) = layer.residual_multiplier else { return Ok((None, 0.0)) };
    let factor = f64::from(multiplier) / f64::from(1u32 << FRACTION_BITS);
    let maker = node.inputs.get(1).and_then(|outlet| writer.model.graph().nodes.get(outlet.node));
    if let Some(fill) = maker.and_then(|maker| maker.op_as::<Fill>()) {
        return Ok((None, f64::from(fill.value) * factor));
    }
    let residual = int8(writer, node, 1)?;
    let zero = residual.quantisation.map_or(0, |quantisation| quantisation.zero_point);
    Ok((Some(residual), f64::from(zero) * factor))
}

/// Weights and biases of a layer: integers with scales per output, or the real numbers that these mean.
fn layer_constants(
    writer: &mut Writer<'_>,
    name: &str,
    dims: &[usize],
    weights: &[i8],
    scales: &[f32],
    (input_scale, biases): (f32, &[i32]),
) -> [String; 2] {
    let rows = scales.len();
    let per_row = weights.len() / rows.max(1);
    let bias_scales: Vec<f32> = scales.iter().map(|scale| scale * input_scale).collect();
    if writer.format == Format::F32 {
        let rows_of = weights.chunks_exact(per_row.max(1)).zip(scales);
        let real: Vec<f32> = rows_of
            .flat_map(|(row, scale)| row.iter().map(move |&weight| f32::from(weight) * scale))
            .collect();
        let bias: Vec<f32> = biases
            .iter()
            .zip(&bias_scales)
            .map(|(&bias, &scale)| (f64::from(bias) * f64::from(scale)) as f32)
            .collect();
        let weights = writer.constant(proto::of_f32(&format!("{name}/weights"), dims, &real));
        return [weights, writer.constant(proto::of_f32(&format!("{name}/bias"), &[rows], &bias))];
    }
    let stored = writer.constant(proto::of_i8(&format!("{name}/weights"), dims, weights));
    let scale = writer.constant(proto::of_f32(&format!("{name}/weight_scales"), &[rows], scales));
    let zeros = writer.constant(proto::of_i8(&format!("{name}/weight_zero_points"), &[rows], &vec![0; rows]));
    let axis = || vec![proto::integer("axis", 0)];
    let weights =
        writer.node("DequantizeLinear", &format!("{name}_weights"), &[&stored, &scale, &zeros], axis());
    let stored = writer.constant(proto::of_i32(&format!("{name}/bias"), &[rows], biases));
    let scale = writer.constant(proto::of_f32(&format!("{name}/bias_scales"), &[rows], &bias_scales));
    [weights, writer.node("DequantizeLinear", &format!("{name}_bias"), &[&stored, &scale], axis())]
}

/// `(bias + sum(w * a)) * scale` of averages with fractional bits, as a linear layer of real averages.
fn linear(writer: &mut Writer<'_>, node: &TypedNode, layer: &Linear) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let input = writer.input(node, 0)?;
    let Quantisation { scale, zero_point } =
        input.quantisation.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let weights: Vec<i8> = writer.numbers(node, &layer.weights)?;
    let bias: Vec<i32> = writer.numbers(node, &layer.bias)?;
    let own: Vec<f32> = writer.numbers(node, &layer.scale)?;
    let &[outputs, features] = layer.weights.shape() else {
        return Err(writer.fault(node, NumberFault::Tensor(format!("weights {:?}", layer.weights.shape()))));
    };
    // Steps of an average: an int8 step in so many parts.
    let parts = f64::from(layer.input_limit) / 128.0;
    let scales: Vec<f32> =
        own.iter().map(|&own| (f64::from(own) * parts / f64::from(scale)) as f32).collect();
    let rows = weights.chunks_exact(features.max(1)).zip(bias.iter().zip(&own));
    let real: Vec<f32> = rows
        .map(|(row, (&bias, &own))| {
            let sum: i64 = row.iter().map(|&weight| i64::from(weight)).sum();
            let zeros = parts * f64::from(zero_point) * sum as f64;
            ((f64::from(bias) + zeros) * f64::from(own)) as f32
        })
        .collect();
    let dims = [outputs, features];
    let weights = if writer.format == Format::F32 {
        let rows = weights.chunks_exact(features.max(1)).zip(&scales);
        let real: Vec<f32> =
            rows.flat_map(|(row, scale)| row.iter().map(move |&weight| f32::from(weight) * scale)).collect();
        writer.constant(proto::of_f32(&format!("{name}/weights"), &dims, &real))
    } else {
        let stored = writer.constant(proto::of_i8(&format!("{name}/weights"), &dims, &weights));
        let scale = writer.constant(proto::of_f32(&format!("{name}/weight_scales"), &[outputs], &scales));
        let zeros = vec![0; outputs];
        let zeros = writer.constant(proto::of_i8(&format!("{name}/weight_zero_points"), &[outputs], &zeros));
        let axis = vec![proto::integer("axis", 0)];
        writer.node("DequantizeLinear", &format!("{name}_weights"), &[&stored, &scale, &zeros], axis)
    };
    let bias = writer.constant(proto::of_f32(&format!("{name}/bias"), &[outputs], &real));
    let axis = vec![proto::integer("axis", 1)];
    let flat = writer.node("Flatten", &format!("{name}_flatten"), &[&input.tensor], axis);
    let inputs = [flat.as_str(), &weights, &bias];
    let tensor = writer.node("Gemm", name, &inputs, vec![proto::integer("transB", 1)]);
    Ok(Exported { tensor, quantisation: None, shape: [1, 1, outputs], is_image: false })
}

/// A table: rounding where it is no more than that, ReLU and rounding, or else a look-up.
fn table(writer: &mut Writer<'_>, node: &TypedNode, layer: &Table) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let input = writer.input(node, 0)?;
    let entries: Vec<i8> = writer.numbers(node, &layer.table)?;
    let exported = |tensor| Exported {
        tensor,
        quantisation: Some(layer.output),
        shape: shape_of(node),
        is_image: false,
    };
    let channels = input.shape[2];
    let real = |q: i32, channel: usize| real_of(writer, &input, q, channel);
    let step = |value: f64| {
        let steps = value / f64::from(layer.output.scale) + f64::from(layer.output.zero_point);
        steps.round().clamp(-128.0, 127.0) as i8
    };
    let is = |function: &dyn Fn(f64) -> f64| {
        entries.iter().enumerate().all(|(index, &entry)| {
            let (channel, q) = (index / 256, (index % 256) as i32 - 128);
            step(function(real(q, channel % channels.max(1)))) == entry
        })
    };
    if is(&|value| value) {
        let tensor = writer.rounded(name, &input.tensor, layer.output);
        return Ok(exported(tensor));
    }
    if is(&|value| value.max(0.0)) {
        let relu = writer.node("Relu", name, &[&input.tensor], vec![]);
        let tensor = writer.rounded(name, &relu, layer.output);
        return Ok(exported(tensor));
    }
    Ok(exported(look_up(writer, node, &entries, layer.output)?))
}

/// What an int8 number of a layer's input stands for; of the image, after normalisation.
fn real_of(writer: &Writer<'_>, input: &Exported, q: i32, channel: usize) -> f64 {
    if input.is_image {
        let preprocessing = writer.model.preprocessing();
        let (mean, deviation) = (preprocessing.mean[channel], preprocessing.standard_deviation[channel]);
        return (f64::from(q + 128) / 255.0 - f64::from(mean)) / f64::from(deviation);
    }
    let quantisation = input.quantisation.unwrap_or(Quantisation { scale: 1.0, zero_point: 0 });
    f64::from(quantisation.scale) * f64::from(q - quantisation.zero_point)
}

/// The entry of a table for each number, of the channel's table where there are several.
fn look_up(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    entries: &[i8],
    output: Quantisation,
) -> Result<String, ExportError> {
    let name = node.name.as_str();
    let input = int8(writer, node, 0)?;
    let from = input.quantisation.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let [scale, zero] = writer.steps(&format!("{name}_from"), from);
    let stored =
        writer.node("QuantizeLinear", &format!("{name}_stored"), &[&input.tensor, &scale, &zero], vec![]);
    let to = proto::integer("to", 7);
    let wide = writer.node("Cast", &format!("{name}_wide"), &[&stored], vec![to]);
    let tables = entries.len() / 256;
    let offsets: Vec<i64> = (0..tables).map(|table| table as i64 * 256 + 128).collect();
    let mut offsets = proto::of_i64(&format!("{name}/offsets"), &offsets);
    offsets.dims = vec![tables as i64, 1, 1];
    let offsets = writer.constant(offsets);
    let index = writer.node("Add", &format!("{name}_index"), &[&wide, &offsets], vec![]);
    let quantisation = output;
    let real: Vec<f32> = entries.iter().map(|&entry| quantisation.dequantise(entry)).collect();
    let table = writer.constant(proto::of_f32(&format!("{name}/table"), &[real.len()], &real));
    Ok(writer.node("Gather", name, &[&table, &index], vec![proto::integer("axis", 0)]))
}
