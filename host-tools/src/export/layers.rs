//! One layer after the other, as operators of ONNX.

use resight_runtime::layers::{
    Add, AveragePool, Channels, Concat, Convolution, Dequantise, Fill, GeneralisedMean, GlobalAverage,
    Linear, MaxPool, Multiply, Pad, Table, Upsample, View,
};
use resight_runtime::tract::TypedNode;

use crate::onnx;

use super::error::{ExportError, NumberFault};
use super::writer::{Exported, Writer, shape_of, window};
use super::{tables, weighted};

/// Writes a layer and gives its result.
pub(super) fn layer(writer: &mut Writer<'_>, node: &TypedNode) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    // Its user knows what it holds.
    if node.op_as::<Fill>().is_some() || weighted::constant(writer, node).is_some() {
        return Ok(Exported { quantisation: None, ..writer.input(node, 0)? });
    }
    if let Some(layer) = node.op_as::<Convolution>() {
        return weighted::convolution(writer, node, layer);
    }
    if let Some(layer) = node.op_as::<Linear>() {
        return weighted::linear(writer, node, layer);
    }
    if let Some(layer) = node.op_as::<Table>() {
        return tables::table(writer, node, layer);
    }
    if let Some(layer) = node.op_as::<GeneralisedMean>() {
        return tables::generalised_mean(writer, node, layer);
    }
    if node.op_as::<Dequantise>().is_some() {
        let input = writer.input(node, 0)?;
        let tensor = writer.without_ends(input.tensor);
        return Ok(Exported { tensor, quantisation: None, ..input });
    }
    if node.op_as::<GlobalAverage>().is_some() {
        let input = writer.int8(node, 0)?;
        // Over one position an average only widens.
        if input.shape[..2] == [1, 1] {
            return Ok(input);
        }
        let tensor = writer.node("GlobalAveragePool", name, &[&input.tensor], vec![]);
        return Ok(Exported { tensor, shape: shape_of(node), ..input });
    }
    let count = node.inputs.len();
    let inputs: Vec<Exported> = (0..count).map(|at| writer.int8(node, at)).collect::<Result<_, _>>()?;
    let tensors: Vec<&str> = inputs.iter().map(|input| input.tensor.as_str()).collect();
    let own = inputs.first().and_then(|input| input.quantisation);
    let (tensor, output) = if let Some(layer) = node.op_as::<Add>() {
        (writer.node("Add", name, &tensors, vec![]), Some(layer.output))
    } else if let Some(layer) = node.op_as::<Multiply>() {
        (product(writer, name, layer, &inputs), Some(layer.output))
    } else if let Some(layer) = node.op_as::<Concat>() {
        (writer.node("Concat", name, &tensors, vec![onnx::integer("axis", 1)]), Some(layer.output))
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
        let order = writer.constant(onnx::of_i64(&format!("{name}/order"), &order));
        return Ok(writer.node("Gather", name, &[&input.tensor, &order], vec![onnx::integer("axis", 1)]));
    }
    if let Some(layer) = node.op_as::<Pad>() {
        let [top, left, bottom, right] = layer.padding.map(|side| side as i64);
        let pads =
            writer.constant(onnx::of_i64(&format!("{name}/pads"), &[0, 0, top, left, 0, 0, bottom, right]));
        let mode = onnx::text("mode", if layer.reflects { "reflect" } else { "edge" });
        return Ok(writer.node("Pad", name, &[&input.tensor, &pads], vec![mode]));
    }
    if let Some(layer) = node.op_as::<View>() {
        let rows = onnx::integers("perm", &[0, 2, 3, 1]);
        let moved = writer.node("Transpose", &format!("{name}_rows"), &[&input.tensor], vec![rows]);
        let [height, width, channels] = layer.shape.map(|size| size as i64);
        let shape = writer.constant(onnx::of_i64(&format!("{name}/shape"), &[0, height, width, channels]));
        let viewed = writer.node("Reshape", &format!("{name}_view"), &[&moved, &shape], vec![]);
        return Ok(writer.node("Transpose", name, &[&viewed], vec![onnx::integers("perm", &[0, 3, 1, 2])]));
    }
    if let Some(layer) = node.op_as::<Upsample>() {
        let factors = [1.0, 1.0, layer.factor[0] as f32, layer.factor[1] as f32];
        let factors = writer.constant(onnx::of_f32(&format!("{name}/factors"), &[4], &factors));
        let attributes = vec![
            onnx::text("mode", "nearest"),
            onnx::text("coordinate_transformation_mode", "asymmetric"),
            onnx::text("nearest_mode", "floor"),
        ];
        return Ok(writer.node("Resize", name, &[&input.tensor, "", &factors], attributes));
    }
    Err(unknown(writer, node))
}

fn unknown(writer: &Writer<'_>, node: &TypedNode) -> ExportError {
    let (file, layer) = (writer.model.file().into(), node.name.clone());
    ExportError::Layer { file, layer, operator: node.op.name().into_owned() }
}

fn average_pool(writer: &mut Writer<'_>, node: &TypedNode, layer: &AveragePool, input: &Exported) -> String {
    let is_global = layer.kernel == input.shape[..2] && layer.padding == [0; 4];
    if is_global {
        return writer.node("GlobalAveragePool", &node.name, &[&input.tensor], vec![]);
    }
    let mut attributes = window(layer.kernel, layer.stride, layer.padding);
    attributes.push(onnx::integer("count_include_pad", i64::from(layer.counts_padding)));
    writer.node("AveragePool", &node.name, &[&input.tensor], attributes)
}

/// A product, whose multiplier has 14 bits: the first factor is read as so much more or less that no other
/// multiplier is the right one.
fn product(writer: &mut Writer<'_>, name: &str, layer: &Multiply, inputs: &[Exported]) -> String {
    let scale = |at: usize| {
        let quantisation = inputs.get(at).and_then(|input: &Exported| input.quantisation);
        quantisation.map_or(1.0, |quantisation| f64::from(quantisation.scale))
    };
    let multiplier = f64::from(layer.multiplier) / f64::from(1u32 << layer.shift);
    let first = multiplier * f64::from(layer.output.scale) / scale(1);
    let tensors: Vec<String> = inputs
        .iter()
        .enumerate()
        .map(
            |(at, input)| {
                if at == 0 { writer.read_as(name, input, first as f32) } else { input.tensor.clone() }
            },
        )
        .collect();
    let tensors: Vec<&str> = tensors.iter().map(String::as_str).collect();
    writer.node("Mul", name, &tensors, vec![])
}
