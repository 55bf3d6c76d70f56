//! Functions of one value.

use resight_runtime::Quantisation;
use resight_runtime::layers::{GeneralisedMean, Table};
use resight_runtime::tract::TypedNode;

use crate::onnx;

use super::error::{ExportError, NumberFault};
use super::writer::{Exported, Writer, shape_of};

/// ONNX's numbers of types.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// A function that ONNX has operators for.
struct Known {
    function: fn(f64) -> f64,
    write: fn(&mut Writer<'_>, &str, &str) -> String,
}

/// What networks have tables for, the plainest first.
const KNOWN: [Known; 8] = [
    Known { function: |x| x, write: |_, _, x| x.to_owned() },
    Known { function: |x| x.max(0.0), write: |writer, name, x| writer.node("Relu", name, &[x], vec![]) },
    Known { function: |x| x.clamp(0.0, 6.0), write: clip },
    Known { function: sigmoid, write: |writer, name, x| writer.node("Sigmoid", name, &[x], vec![]) },
    Known { function: |x| x * sigmoid(x), write: |writer, name, x| gate(writer, name, x, "Sigmoid") },
    Known { function: hard_sigmoid, write: hard },
    Known { function: |x| x * hard_sigmoid(x), write: hard_swish },
    Known { function: libm::tanh, write: |writer, name, x| writer.node("Tanh", name, &[x], vec![]) },
];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn hard_sigmoid(x: f64) -> f64 {
    (x / 6.0 + 0.5).clamp(0.0, 1.0)
}

fn clip(writer: &mut Writer<'_>, name: &str, x: &str) -> String {
    let (low, high) =
        (writer.number(&format!("{name}/least"), 0.0), writer.number(&format!("{name}/most"), 6.0));
    writer.node("Clip", name, &[x, &low, &high], vec![])
}

fn gate(writer: &mut Writer<'_>, name: &str, x: &str, operator: &str) -> String {
    let factor = writer.node(operator, &format!("{name}_gate"), &[x], vec![]);
    writer.node("Mul", name, &[x, &factor], vec![])
}

fn hard(writer: &mut Writer<'_>, name: &str, x: &str) -> String {
    let slope = vec![onnx::float("alpha", 1.0 / 6.0), onnx::float("beta", 0.5)];
    writer.node("HardSigmoid", name, &[x], slope)
}

fn hard_swish(writer: &mut Writer<'_>, name: &str, x: &str) -> String {
    let factor = hard(writer, &format!("{name}_gate"), x);
    writer.node("Mul", name, &[x, &factor], vec![])
}

/// A table: rounding where it is no more than that, a function that ONNX has and rounding, or else a look-up.
pub(super) fn table(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &Table,
) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let input = writer.input(node, 0)?;
    let entries: Vec<i8> = writer.numbers(node, &layer.table)?;
    let channels = input.shape[2];
    // As ONNX rounds, in f32 and halves to the even number.
    let step = |value: f64| {
        let steps = (value / f64::from(layer.output.scale)) as f32;
        (steps.round_ties_even() + layer.output.zero_point as f32).clamp(-128.0, 127.0) as i8
    };
    let is = |function: fn(f64) -> f64| {
        entries.iter().enumerate().all(|(index, &entry)| {
            let (channel, q) = (index / 256, (index % 256) as i32 - 128);
            step(function(real_of(writer, &input, q, channel % channels.max(1)))) == entry
        })
    };
    let tensor = match KNOWN.iter().find(|known| is(known.function)) {
        Some(known) => {
            let tensor = (known.write)(writer, name, &input.tensor);
            writer.rounded(name, &tensor, layer.output)
        }
        None => look_up(writer, node, &entries, layer.output)?,
    };
    Ok(Exported { tensor, quantisation: Some(layer.output), shape: shape_of(node), is_image: false })
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
    let real: Vec<f32> = entries.iter().map(|&entry| output.dequantise(entry)).collect();
    gather(writer, node, &node.name, &real)
}

/// As [`look_up`], of real numbers, by nodes whose names begin with `name`.
fn gather(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    name: &str,
    entries: &[f32],
) -> Result<String, ExportError> {
    let input = writer.int8(node, 0)?;
    let from = input.quantisation.ok_or_else(|| writer.fault(node, NumberFault::NoScale(0)))?;
    let [scale, zero] = writer.steps(&format!("{name}_from"), from);
    let stored =
        writer.node("QuantizeLinear", &format!("{name}_stored"), &[&input.tensor, &scale, &zero], vec![]);
    let to = onnx::integer("to", INT64);
    let wide = writer.node("Cast", &format!("{name}_wide"), &[&stored], vec![to]);
    let tables = entries.len() / 256;
    let offsets: Vec<i64> = (0..tables).map(|table| table as i64 * 256 + 128).collect();
    let mut offsets = onnx::of_i64(&format!("{name}/offsets"), &offsets);
    offsets.dims = vec![tables as i64, 1, 1];
    let offsets = writer.constant(offsets);
    let index = writer.node("Add", &format!("{name}_index"), &[&wide, &offsets], vec![]);
    let table = writer.constant(onnx::of_f32(&format!("{name}/table"), &[entries.len()], entries));
    Ok(writer.node("Gather", name, &[&table, &index], vec![onnx::integer("axis", 0)]))
}

/// A generalised mean: the mean of the terms, and how many of the limits it reaches.
pub(super) fn generalised_mean(
    writer: &mut Writer<'_>,
    node: &TypedNode,
    layer: &GeneralisedMean,
) -> Result<Exported, ExportError> {
    let name = node.name.as_str();
    let real = |numbers: Vec<i32>| numbers.into_iter().map(|number| number as f32).collect::<Vec<_>>();
    let (terms, limits) =
        (real(writer.numbers(node, &layer.terms)?), real(writer.numbers(node, &layer.limits)?));
    let terms = gather(writer, node, &format!("{name}_terms"), &terms)?;
    let mean = writer.node("GlobalAveragePool", &format!("{name}_mean"), &[&terms], vec![]);
    // The limits along a fifth axis.
    let axes = writer.constant(onnx::of_i64(&format!("{name}/axes"), &[4]));
    let wide = writer.node("Unsqueeze", &format!("{name}_wide"), &[&mean, &axes], vec![]);
    let limits = writer.constant(onnx::of_f32(&format!("{name}/limits"), &[limits.len()], &limits));
    let reached = writer.node("GreaterOrEqual", &format!("{name}_reached"), &[&wide, &limits], vec![]);
    let to = onnx::integer("to", FLOAT);
    let ones = writer.node("Cast", &format!("{name}_ones"), &[&reached], vec![to]);
    let flat = onnx::integer("keepdims", 0);
    let steps = writer.node("ReduceSum", &format!("{name}_steps"), &[&ones, &axes], vec![flat]);
    let Quantisation { scale, zero_point } = layer.output;
    let zero = writer.number(&format!("{name}/zero"), (-128 - zero_point) as f32);
    let shifted = writer.node("Add", &format!("{name}_shifted"), &[&steps, &zero], vec![]);
    let step = writer.number(&format!("{name}/step"), scale);
    let tensor = writer.node("Mul", name, &[&shifted, &step], vec![]);
    let tensor = writer.rounded(name, &tensor, layer.output);
    Ok(Exported { tensor, quantisation: Some(layer.output), shape: shape_of(node), is_image: false })
}
