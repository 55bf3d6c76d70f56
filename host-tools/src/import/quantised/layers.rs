//! Layers with weights.

use tract_onnx::pb::NodeProto;

use super::fault::QuantisedFault;
use super::rewriting::{Rewriting, input};
use crate::import::width::Width;

/// Remembers what the largest integer weight of each of a layer's outputs is; the outputs lie along
/// `axis` of the weights.
pub(super) fn layer(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    weights: &str,
    axis: usize,
) -> Result<(), QuantisedFault> {
    let Some(found) = rewriting.weights.get(weights) else {
        return Err(QuantisedFault::FloatWeights { name: weights.into() });
    };
    if found.magnitudes.dims.len() <= axis {
        return Err(QuantisedFault::Rank(found.magnitudes.dims.len()));
    }
    if let Some(scales) = found.axis.filter(|&scales| scales != axis) {
        return Err(QuantisedFault::InputAxis { found: scales, expected: axis });
    }
    let largest = found.largest(axis);
    let scales = match found.scales.as_slice() {
        &[scale] => vec![scale; largest.len()],
        scales => scales.to_vec(),
    };
    rewriting.set_layer(node, largest, scales);
    Ok(())
}

/// `Conv`, `Gemm` and `MatMul` of floats, between `DequantizeLinear` and `QuantizeLinear`.
pub(super) fn float_layer(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let weights = input(node, 1)?.to_owned();
    let transposed = node.attribute.iter().any(|attribute| attribute.name == "transB" && attribute.i != 0);
    let axis = usize::from(node.op_type != "Conv" && !transposed);
    layer(rewriting, node, &weights, axis)?;
    rewriting.push(node.clone());
    Ok(())
}

/// `QLinearConv`: x, its scale and zero point, weights with theirs, scale and zero point of the
/// output, and a bias of 32 bits.
pub(super) fn convolution(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let attributes = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    let inputs = with_weights(rewriting, node, [3, 4, 5], 0, Some(8))?;
    rounded(rewriting, node, "Conv", inputs, [6, 7], &attributes)
}

/// `QLinearMatMul`: a and b, each with scale and zero point, and those of the output.
pub(super) fn matrix(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let inputs = with_weights(rewriting, node, [3, 4, 5], 1, None)?;
    rounded(rewriting, node, "MatMul", inputs, [6, 7], &[])
}

/// onnxruntime's `QGemm`: a and b, each with scale and zero point, a bias of 32 bits, and scale and
/// zero point of the output, which is of floats without them.
pub(super) fn gemm(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let transposed = node.attribute.iter().any(|attribute| attribute.name == "transB" && attribute.i != 0);
    let inputs = with_weights(rewriting, node, [3, 4, 5], usize::from(!transposed), Some(6))?;
    let attributes = ["transA", "transB", "alpha"];
    if node.input.get(7).is_some_and(|name| !name.is_empty()) {
        return rounded(rewriting, node, "Gemm", inputs, [7, 8], &attributes);
    }
    rewriting.push_like(node, "Gemm", inputs, &Rewriting::output(node)?, &attributes);
    Ok(())
}

/// The float inputs of a layer: its first input, weights, and perhaps a bias, in steps of both.
fn with_weights(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    [weights, scale, zero]: [usize; 3],
    axis: usize,
    bias: Option<usize>,
) -> Result<Vec<String>, QuantisedFault> {
    let of_input = rewriting.parameters(node, [1, 2], None, 1)?;
    let of_weights = rewriting.parameters(node, [scale, zero], None, axis as i64)?;
    let x = rewriting.real(node, 0, &of_input)?;
    let weights = rewriting.real(node, weights, &of_weights)?;
    layer(rewriting, node, &weights, axis)?;
    let mut inputs = vec![x, weights];
    if let Some(at) = bias.filter(|&at| node.input.get(at).is_some_and(|name| !name.is_empty())) {
        let step = of_input.activation()?.scale;
        let mut of_bias = of_weights.clone();
        of_bias.scales = of_weights.scales.iter().map(|scale| scale * step).collect();
        of_bias.zero_points.fill(0);
        of_bias.width = Width::Int32;
        of_bias.axis = -1;
        inputs.push(rewriting.real(node, at, &of_bias)?);
    }
    Ok(inputs)
}

/// A node of floats and the mark behind it; scale and zero point of the output are these inputs.
pub(super) fn rounded(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    operator: &str,
    inputs: Vec<String>,
    output_at: [usize; 2],
    attributes: &[&str],
) -> Result<(), QuantisedFault> {
    let quantisation = rewriting.parameters(node, output_at, None, 1)?.activation()?;
    let output = Rewriting::output(node)?;
    let before = rewriting.unused_name(&output);
    rewriting.push_like(node, operator, inputs, &before, attributes);
    rewriting.mark(node, before, &output, quantisation);
    Ok(())
}
