//! From the annotated graph to the int8 graph.

use std::sync::Arc;

use resight_kernels::arithmetic::quantise_multipliers;
use resight_runtime::Quantisation;
use resight_runtime::layers::{
    Add, AveragePool, Channels, Concat, Convolution, Fill, GlobalAverage, Interleave, Linear, MaxPool,
    Multiply, Normalise, Pad, Resize, Table, Upsample, View,
};
use tract_onnx::prelude::tract_ndarray::Array2;
use tract_onnx::tract_core::internal::*;

use super::error::{LayerFault, QuantiseError};
use super::graph::{Encoding, Folded, QuantisationGraph, nhwc};
use super::means;
use crate::function::Function;
use crate::graph::{Between, FloatConvolution, NodeId, Operator};

/// Builds the graph of our operators.
///
/// # Errors
/// A node that a pass has left without an annotation, or that tract refuses.
pub fn lower(graph: &QuantisationGraph<'_>) -> Result<TypedModel, QuantiseError> {
    lower_part(graph, 0, &graph.float.output_nodes())
}

/// Builds the graph between the node `from`, whose int8 output is the input, and the nodes `to`,
/// which are its outputs in this order. None of them may depend on a node before `from`.
///
/// # Errors
/// A node that a pass has left without an annotation, or that tract refuses.
pub fn lower_part(
    graph: &QuantisationGraph<'_>,
    from: NodeId,
    to: &[NodeId],
) -> Result<TypedModel, QuantiseError> {
    let mut model = TypedModel::default();
    let last = to.iter().max().copied().ok_or(QuantiseError::Empty)?;
    let mut outlets: Vec<OutletId> = vec![];
    for (id, node) in graph.float.nodes.iter().enumerate().take(last + 1).skip(from) {
        let name = graph.annotations[id].name.as_str();
        if id == from {
            let [height, width, channels] = nhwc(node.shape);
            let fact = DatumType::I8.fact([1, height, width, channels]);
            outlets.push(model.add_source(name, fact).map_err(|error| LayerFault::graph(&error).of(node))?);
            continue;
        }
        let outlet = |&input: &NodeId| input.checked_sub(from).map(|input| outlets[input]);
        let inputs: Option<Vec<OutletId>> = node.inputs.iter().map(outlet).collect();
        let inputs = inputs.ok_or_else(|| LayerFault::PassOrder("input").of(node))?;
        outlets.push(wire(&mut model, graph, id, inputs)?);
    }
    let outputs: Vec<OutletId> = to.iter().filter_map(|id| outlets.get(id - from).copied()).collect();
    model.select_output_outlets(&outputs).map_err(QuantiseError::tract)?;
    Ok(model)
}

/// Gives a convolution the constant residual that it is annotated with.
fn fill(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    model: &mut TypedModel,
    inputs: &mut Vec<OutletId>,
) -> Result<(), QuantiseError> {
    let (annotation, node) = (&graph.annotations[id], graph.node(id));
    let values = annotation.residual_values.as_slice();
    let (channels, value) = match values {
        [] => return Ok(()),
        [value] => (node.shape[0], *value),
        _ => (1, 0),
    };
    let failed = |error: TractError| LayerFault::graph(&error).of(node);
    let fill = Fill { shape: [1, 1, channels], value };
    let mut wired =
        model.wire_node(format!("{}.zero", annotation.name), fill, &inputs[..1]).map_err(failed)?;
    if values.len() > 1 {
        let constant = constant(values).map_err(failed)?;
        wired = model.wire_node(format!("{}.bias", annotation.name), constant, &wired).map_err(failed)?;
    }
    inputs.push(wired[0]);
    Ok(())
}

/// A value for each channel, whatever the input of one value is: a convolution whose weights are zero.
fn constant(values: &[i8]) -> TractResult<Convolution> {
    // Of an accumulator there are so many steps in one of the output, the fewest that a multiplier can say.
    const STEPS: i32 = 2;
    let channels = values.len();
    let multipliers = vec![1.0 / f64::from(STEPS); channels];
    let (shift, multiplier) = quantise_multipliers(&multipliers).context("a half is a multiplier")?;
    let bias: Vec<i32> = values.iter().map(|&value| STEPS * i32::from(value)).collect();
    Ok(Convolution {
        weights: Arc::new(Tensor::zero::<i8>(&[channels, 1, 1, 1])?),
        bias: tensor1(&bias).into_arc_tensor(),
        multiplier: tensor1(&multiplier).into_arc_tensor(),
        padding_value: tensor1(&[0i8]).into_arc_tensor(),
        shift,
        residual_multiplier: None,
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        output: Quantisation { scale: 1.0, zero_point: 0 },
    })
}

/// Brings the inputs of a node that copies bytes to its scale, by a table where one has another.
fn rescale(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    model: &mut TypedModel,
    inputs: &mut [OutletId],
) -> Result<(), QuantiseError> {
    let node = graph.node(id);
    for (position, input) in inputs.iter_mut().enumerate() {
        let from = node.inputs[position];
        if graph.encoding(from)? != graph.encoding(id)? {
            let table = table(graph, from, id, &Function::Argument)?;
            if let Some(same) = rescaled(model, *input, &table) {
                *input = same;
                continue;
            }
            let name = format!("{}.{position}", graph.annotations[id].name);
            let wired = model.wire_node(name, table, &[*input]);
            *input = wired.map_err(|error| LayerFault::graph(&error).of(node))?[0];
        }
    }
    Ok(())
}

/// What a table gives of a value already: several nodes of one scale may take it.
fn rescaled(model: &TypedModel, value: OutletId, table: &Table) -> Option<OutletId> {
    let users = &model.node(value.node).outputs.get(value.slot)?.successors;
    let is_same = |id: &usize| model.node(*id).op_as::<Table>() == Some(table);
    users.iter().map(|user| user.node).find(is_same).map(OutletId::from)
}

/// Builds one node alone: its inputs are those of the node, int8 as their encodings say.
///
/// # Errors
/// A node that a pass has left without an annotation, or that tract refuses.
pub fn lower_node(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<TypedModel, QuantiseError> {
    let mut model = TypedModel::default();
    let node = graph.node(id);
    let mut inputs = vec![];
    for (position, &input) in node.inputs.iter().enumerate() {
        let [height, width, channels] = nhwc(graph.node(input).shape);
        let fact = match graph.encoding(input)? {
            Encoding::Average { .. } => DatumType::I16.fact([1, channels]),
            _ => DatumType::I8.fact([1, height, width, channels]),
        };
        let source = model.add_source(format!("input.{position}"), fact);
        inputs.push(source.map_err(|error| LayerFault::graph(&error).of(node))?);
    }
    let outlet = wire(&mut model, graph, id, inputs)?;
    model.select_output_outlets(&[outlet]).map_err(QuantiseError::tract)?;
    Ok(model)
}

/// Adds a node's operator to `model`; gives its output.
fn wire(
    model: &mut TypedModel,
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    mut inputs: Vec<OutletId>,
) -> Result<OutletId, QuantiseError> {
    let node = graph.node(id);
    let name = graph.annotations[id].name.as_str();
    let operator: Box<dyn TypedOp> = match &node.operator {
        Operator::Input => return Err(LayerFault::PassOrder("input").of(node)),
        Operator::Convolution(layer) => {
            fill(graph, id, model, &mut inputs)?;
            Box::new(convolution(graph, id, layer)?)
        }
        Operator::MaxPool { kernel, stride, padding } => {
            Box::new(MaxPool { kernel: *kernel, stride: *stride, padding: *padding })
        }
        Operator::GlobalAverage => match graph.encoding(id)? {
            Encoding::Average { fraction_bits, .. } => {
                Box::new(GlobalAverage { fraction_bits: *fraction_bits })
            }
            _ => return Err(LayerFault::AverageOfImage.of(node)),
        },
        Operator::Linear { .. } => Box::new(linear(graph, id)?),
        Operator::AveragePool { kernel, stride, padding, counts_padding } => {
            let [input, output] = [int8(graph, node.inputs[0])?, int8(graph, id)?];
            let rescale = AveragePool::rescale(input, output);
            let (multiplier, shift) = rescale.map_err(|error| LayerFault::graph(&error).of(node))?;
            Box::new(AveragePool {
                kernel: *kernel,
                stride: *stride,
                padding: *padding,
                counts_padding: *counts_padding,
                input_zero_point: input.zero_point,
                multiplier,
                shift,
                output,
            })
        }
        Operator::Table(function) => Box::new(table(graph, node.inputs[0], id, function)?),
        Operator::GeneralisedMean { inner, outer } => {
            let [from, to] = [int8(graph, node.inputs[0])?, int8(graph, id)?];
            Box::new(means::generalised_mean(from, to, inner, outer))
        }
        Operator::Add { .. } => {
            let [a, b] = [int8(graph, node.inputs[0])?, int8(graph, node.inputs[1])?];
            Box::new(Add::new(a, b, int8(graph, id)?).map_err(|error| LayerFault::graph(&error).of(node))?)
        }
        Operator::Multiply => {
            let [a, b] = [int8(graph, node.inputs[0])?, int8(graph, node.inputs[1])?];
            let is_of_file = graph.annotations[id].halves_to_even;
            let product = if is_of_file { Multiply::exact } else { Multiply::new }(a, b, int8(graph, id)?);
            Box::new(product.map_err(|error| LayerFault::graph(&error).of(node))?)
        }
        Operator::Normalise(factors) => {
            let zero_point = int8(graph, node.inputs[0])?.zero_point;
            let layer = Normalise::new(zero_point, factors, int8(graph, id)?);
            Box::new(layer.map_err(|error| LayerFault::graph(&error).of(node))?)
        }
        Operator::Concat => {
            rescale(graph, id, model, &mut inputs)?;
            Box::new(Concat { output: int8(graph, id)? })
        }
        Operator::Interleave(factor) => {
            rescale(graph, id, model, &mut inputs)?;
            let [_, height, width] = node.shape;
            Box::new(Interleave { factor: *factor, size: [height, width], output: int8(graph, id)? })
        }
        Operator::Resize { rows, columns } => {
            let places = |axis: &[Between]| -> Vec<(usize, f64)> {
                axis.iter().map(|between| (between.first, between.share)).collect()
            };
            let resize = Resize::new(&places(rows), &places(columns));
            Box::new(resize.map_err(|error| LayerFault::graph(&error).of(node))?)
        }
        Operator::Channels(order) => Box::new(Channels { order: order.clone() }),
        Operator::Pad { padding, reflects } => Box::new(Pad { padding: *padding, reflects: *reflects }),
        Operator::View => Box::new(View { shape: nhwc(node.shape) }),
        Operator::Upsample(factor) => Box::new(Upsample { factor: *factor }),
    };
    let wired = model.wire_node(name, operator, &inputs);
    Ok(wired.map_err(|error| LayerFault::graph(&error).of(node))?[0])
}

/// The encoding of a node's output, which has one scale.
fn int8(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<Quantisation, QuantiseError> {
    graph.encoding(id)?.tensor().ok_or_else(|| LayerFault::PassOrder("scale").of(graph.node(id)))
}

/// A function of what `input` gives, in the encoding of `output`.
fn table(
    graph: &QuantisationGraph<'_>,
    input: NodeId,
    output: NodeId,
    function: &Function,
) -> Result<Table, QuantiseError> {
    let (from, to) = (graph.encoding(input)?, int8(graph, output)?);
    let channels = graph.node(input).shape[0];
    let to_even = graph.annotations[output].halves_to_even;
    let differ = function.channels().is_some() || from.tensor().is_none();
    let tables = if differ { channels } else { 1 };
    let mut entries = Vec::with_capacity(tables * 256);
    for channel in 0..tables {
        for q in -128..128 {
            let x = from.scale(channel) * (f64::from(q) - from.zero_point(channel));
            let (steps, zero) = (function.at(x, channel) / f64::from(to.scale), f64::from(to.zero_point));
            let steps = if to_even { steps.round_ties_even() + zero } else { (steps + zero).round() };
            // What is no number lies where the network has never been.
            entries.push(steps.clamp(-128.0, 127.0) as i8);
        }
    }
    let entries = if differ {
        Array2::from_shape_vec((tables, 256), entries).map(IntoArcTensor::into_arc_tensor)
    } else {
        Ok(tensor1(&entries).into_arc_tensor())
    };
    let table = entries.map_err(|_| LayerFault::PassOrder("table").of(graph.node(output)))?;
    Ok(Table { table, output: to })
}

fn convolution(
    graph: &QuantisationGraph<'_>,
    id: NodeId,
    convolution: &FloatConvolution,
) -> Result<Convolution, QuantiseError> {
    let node = graph.node(id);
    let annotation = &graph.annotations[id];
    let output = graph.known(id, annotation.output, "output scale")?;
    let Encoding::Tensor(quantisation) = *graph.encoding(id)? else {
        return Err(LayerFault::PassOrder("encoding").of(node));
    };
    let Some(Folded::Convolution { bias, multiplier, shift }) = &annotation.folded else {
        return Err(LayerFault::PassOrder("integer bias").of(node));
    };
    let shape = graph.convolution_shape(id, convolution);
    let encoding = graph.encoding(node.inputs[0])?;
    let padding_value: Vec<i8> = (0..shape.input[2]).map(|channel| encoding.padding(channel)).collect();
    Ok(Convolution {
        weights: graph.known(id, annotation.weights.tensor(), "rounded weights")?,
        bias: tensor1(bias).into_arc_tensor(),
        multiplier: tensor1(multiplier).into_arc_tensor(),
        padding_value: tensor1(&padding_value).into_arc_tensor(),
        shift: *shift,
        residual_multiplier: output.residual_multiplier,
        stride: shape.stride,
        padding: shape.padding,
        dilation: shape.dilation,
        groups: shape.groups,
        output: quantisation,
    })
}

fn linear(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<Linear, QuantiseError> {
    let node = graph.node(id);
    let annotation = &graph.annotations[id];
    let Encoding::Average { fraction_bits, .. } = *graph.encoding(node.inputs[0])? else {
        return Err(LayerFault::LinearWithoutAverage.of(node));
    };
    let Some(Folded::Linear { bias }) = &annotation.folded else {
        return Err(LayerFault::PassOrder("integer bias").of(node));
    };
    let temperature = annotation.temperature.unwrap_or(1.0);
    let scale: Vec<f32> =
        annotation.weight_scales.iter().map(|&scale| (scale / temperature) as f32).collect();
    Ok(Linear {
        weights: graph.known(id, annotation.weights.tensor(), "rounded weights")?,
        bias: tensor1(bias).into_arc_tensor(),
        scale: tensor1(&scale).into_arc_tensor(),
        input_limit: 128i16 << fraction_bits,
    })
}
