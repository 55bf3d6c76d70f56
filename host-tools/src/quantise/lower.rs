//! From the annotated graph to the int8 graph.

use resight_runtime::layers::{Convolution, GlobalAverage, Linear, MaxPool};
use tract_onnx::prelude::tract_ndarray::{Array2, Array4};
use tract_onnx::tract_core::internal::*;

use super::error::{LayerFault, QuantiseError};
use super::graph::{Encoding, Folded, QuantisationGraph, nhwc};
use crate::graph::{FloatConvolution, NodeId, Operator};

/// Builds the graph of our operators.
///
/// # Errors
/// A node that a pass has left without an annotation, or that tract refuses.
pub fn lower(graph: &QuantisationGraph<'_>) -> Result<TypedModel, QuantiseError> {
    let mut model = TypedModel::default();
    let mut outlets: Vec<OutletId> = vec![];
    for (id, node) in graph.float.nodes.iter().enumerate() {
        let name = graph.annotations[id].name.as_str();
        let inputs: Vec<OutletId> = node.inputs.iter().map(|&input| outlets[input]).collect();
        let operator: Box<dyn TypedOp> = match &node.operator {
            Operator::Input => {
                let [height, width, channels] = nhwc(node.shape);
                let fact = DatumType::I8.fact([1, height, width, channels]);
                outlets
                    .push(model.add_source(name, fact).map_err(|error| LayerFault::graph(&error).of(node))?);
                continue;
            }
            Operator::Convolution(layer) => Box::new(convolution(graph, id, layer)?),
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
        };
        let wired = model.wire_node(name, operator, &inputs);
        outlets.push(wired.map_err(|error| LayerFault::graph(&error).of(node))?[0]);
    }
    let output = outlets.last().ok_or(QuantiseError::Empty)?;
    model.select_output_outlets(&[*output]).map_err(QuantiseError::tract)?;
    Ok(model)
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
    let weights = Array4::from_shape_vec(
        (shape.output_channels, shape.kernel[0], shape.kernel[1], shape.group_channels()),
        annotation.weights.clone(),
    )
    .map_err(|_| LayerFault::PassOrder("rounded weights").of(node))?;
    Ok(Convolution {
        weights: weights.into_arc_tensor(),
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
    let matrix = graph.matrix(id);
    let weights = Array2::from_shape_vec((matrix.rows, matrix.columns), annotation.weights.clone())
        .map_err(|_| LayerFault::PassOrder("rounded weights").of(node))?;
    let scale: Vec<f32> = annotation.weight_scales.iter().map(|&scale| scale as f32).collect();
    Ok(Linear {
        weights: weights.into_arc_tensor(),
        bias: tensor1(bias).into_arc_tensor(),
        scale: tensor1(&scale).into_arc_tensor(),
        input_limit: 128i16 << fraction_bits,
    })
}
