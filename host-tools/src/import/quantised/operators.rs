//! One operator of a quantised file after the other, as operators of floats.

use resight_runtime::Quantisation;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::constant::Integers;
use super::fault::QuantisedFault;
use super::layers;
use super::marks::is_quantised_operator;
use super::parameters::Parameters;
use super::rewriting::{Rewriting, Stored, input};
use crate::import::array::Array;
use crate::import::width::Width;

/// Operators whose results are values of their first input, whatever these stand for.
const KEEPING: &[&str] = &[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalMaxPool",
    "Identity",
    "MaxPool",
    "ReduceMax",
    "Reshape",
    "Resize",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Upsample",
];

/// Adds the float nodes that a node stands for.
pub(super) fn rewrite(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    match node.op_type.as_str() {
        "QuantizeLinear" => quantise(rewriting, node),
        "DequantizeLinear" => dequantise(rewriting, node),
        "DynamicQuantizeLinear" => Err(QuantisedFault::Dynamic(
            "it finds scales anew for each picture (dynamic quantisation), which integers with fixed scales cannot",
        )),
        "QLinearConv" => layers::convolution(rewriting, node),
        "QLinearMatMul" => layers::matrix(rewriting, node),
        "QGemm" => layers::gemm(rewriting, node),
        "ConvInteger" => integer_layer(rewriting, node, "Conv", 0),
        "MatMulInteger" => integer_layer(rewriting, node, "MatMul", 1),
        "QLinearAdd" => binary(rewriting, node, "Add"),
        "QLinearMul" => binary(rewriting, node, "Mul"),
        "QLinearConcat" => concat(rewriting, node),
        "QLinearGlobalAveragePool" => unary(rewriting, node, "GlobalAveragePool", &[]),
        "QLinearAveragePool" => {
            let window = ["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"];
            unary(rewriting, node, "AveragePool", &window)
        }
        "QLinearReduceMean" => unary(rewriting, node, "ReduceMean", &["axes", "keepdims"]),
        "QLinearSigmoid" => unary(rewriting, node, "Sigmoid", &[]),
        "QLinearLeakyRelu" => unary(rewriting, node, "LeakyRelu", &["alpha"]),
        "QLinearSoftmax" => softmax(rewriting, node),
        "Conv" | "Gemm" | "MatMul" => layers::float_layer(rewriting, node),
        operator if is_quantised_operator(operator, &node.domain) => Err(QuantisedFault::Operator),
        _ => other(rewriting, node),
    }
}

/// An integer attribute, or what stands for it.
fn attribute(node: &NodeProto, name: &str, otherwise: i64) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(otherwise, |attribute| attribute.i)
}

/// Scales and zero points of a `QuantizeLinear` or `DequantizeLinear`, whose numbers have the type
/// `width` where no zero point says it.
fn linear(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    width: Option<Width>,
) -> Result<Parameters, QuantisedFault> {
    let block = attribute(node, "block_size", 0);
    if block != 0 {
        return Err(QuantisedFault::Blocks(block));
    }
    rewriting.parameters(node, [1, 2], width, attribute(node, "axis", 1))
}

fn quantise(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let type_name = attribute(node, "output_dtype", 0);
    let width = if type_name == 0 {
        None
    } else {
        let data_type = i32::try_from(type_name).unwrap_or(0);
        let width = Width::of(data_type).filter(|&width| width != Width::Int32);
        Some(width.ok_or_else(|| QuantisedFault::Type {
            what: "output",
            name: node.output.first().cloned().unwrap_or_default(),
            found: DataType::try_from(data_type).map_or("unknown", |found| found.as_str_name()).into(),
        })?)
    };
    let parameters = linear(rewriting, node, width)?;
    let (source, output) = (input(node, 0)?.to_owned(), Rewriting::output(node)?);
    if let Some(real) = rewriting.floats("input", &source)? {
        let integers = parameters.quantise(&real)?;
        rewriting.store(&output, Stored::Constant(integers));
        return Ok(());
    }
    let quantisation = parameters.activation()?;
    rewriting.mark(node, source, &output, quantisation);
    Ok(())
}

fn dequantise(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let (source, output) = (input(node, 0)?.to_owned(), Rewriting::output(node)?);
    let Some(stored) = rewriting.stored(&source)? else {
        // A constant of another type is named, and anything else is no quantised tensor.
        rewriting.refuse_type("input", &source)?;
        return Err(QuantisedFault::NotQuantised { name: source });
    };
    let width = match &stored {
        Stored::Constant(integers) => Some(integers.width),
        Stored::Image(width) => Some(*width),
        Stored::Result(_) => None,
    };
    let parameters = linear(rewriting, node, width)?;
    if let (Stored::Result(found), true) = (&stored, parameters.scales.len() > 1) {
        return levels(rewriting, node, &source, *found, &parameters);
    }
    let real = rewriting.real(node, 0, &parameters)?;
    if let Some(weights) = rewriting.weights.get(&real).cloned() {
        rewriting.weights.insert(output.clone(), weights);
    }
    rewriting.push_like(node, "Identity", vec![real], &output, &[]);
    Ok(())
}

/// Whole grey levels of the image that are read with a zero point for each channel, which zeros round it stand
/// for: as `resight export` writes them.
fn levels(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    source: &str,
    found: Quantisation,
    parameters: &Parameters,
) -> Result<(), QuantisedFault> {
    let is_one = |scale: &f32| scale.to_bits() == 1.0f32.to_bits();
    let is_whole = found.zero_point == -128 && is_one(&found.scale) && parameters.scales.iter().all(is_one);
    if !is_whole || parameters.axis != 1 || !rewriting.take_whole_levels(source) {
        return Err(QuantisedFault::ActivationPerChannel);
    }
    let less =
        |zero: &i64| (i64::from(found.zero_point) - (zero - i64::from(parameters.width.offset()))) as f32;
    let less: Vec<f32> = parameters.zero_points.iter().map(less).collect();
    let less = Array { dims: vec![less.len(), 1, 1], data: less };
    let less = rewriting.push_constant(source, &less);
    rewriting.push_like(node, "Add", vec![source.to_owned(), less], &Rewriting::output(node)?, &[]);
    Ok(())
}

/// `ConvInteger` and `MatMulInteger`: the sums of products as 32-bit integers, which nodes of floats
/// scale. Where x has the scale s, they are the result of x with weights of steps of 1/s.
fn integer_layer(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    operator: &str,
    axis: usize,
) -> Result<(), QuantisedFault> {
    let name = input(node, 0)?.to_owned();
    let Some(Stored::Result(quantisation)) = rewriting.stored(&name)? else {
        return Err(QuantisedFault::NotQuantised { name });
    };
    // What the node itself says of zero points.
    let zero = |rewriting: &mut Rewriting<'_>, at: usize, width: Width| {
        let name = node.input.get(at).filter(|name| !name.is_empty()).cloned();
        name.map_or(Ok((0, width)), |name| rewriting.zero_point(&name))
    };
    let (zero_point, width) = zero(rewriting, 2, Width::Uint8)?;
    let read = Parameters { scales: vec![quantisation.scale], zero_points: vec![zero_point], axis: 1, width };
    let x = rewriting.real(node, 0, &read)?;
    let (zero_point, width) = zero(rewriting, 3, Width::Uint8)?;
    let scale = 1.0 / quantisation.scale;
    let steps = Parameters { scales: vec![scale], zero_points: vec![zero_point], axis: axis as i64, width };
    let weights = rewriting.real(node, 1, &steps)?;
    layers::layer(rewriting, node, &weights, axis)?;
    let attributes = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    rewriting.push_like(node, operator, vec![x, weights], &Rewriting::output(node)?, &attributes);
    Ok(())
}

/// A and B, each with scale and zero point, and those of the output.
fn binary(rewriting: &mut Rewriting<'_>, node: &NodeProto, operator: &str) -> Result<(), QuantisedFault> {
    let (of_a, of_b) =
        (rewriting.parameters(node, [1, 2], None, 1)?, rewriting.parameters(node, [4, 5], None, 1)?);
    let inputs = vec![rewriting.real(node, 0, &of_a)?, rewriting.real(node, 3, &of_b)?];
    layers::rounded(rewriting, node, operator, inputs, [6, 7], &[])
}

/// X with scale and zero point, and those of the output.
fn unary(
    rewriting: &mut Rewriting<'_>,
    node: &NodeProto,
    operator: &str,
    attributes: &[&str],
) -> Result<(), QuantisedFault> {
    if attribute(node, "channels_last", 0) != 0 {
        return Err(QuantisedFault::Attribute("channels_last"));
    }
    let parameters = rewriting.parameters(node, [1, 2], None, 1)?;
    let inputs = vec![rewriting.real(node, 0, &parameters)?];
    layers::rounded(rewriting, node, operator, inputs, [3, 4], attributes)
}

/// Scale and zero point of the output, then inputs, each with scale and zero point.
fn concat(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let mut inputs = vec![];
    for at in (2..node.input.len()).step_by(3) {
        let parameters = rewriting.parameters(node, [at + 1, at + 2], None, 1)?;
        inputs.push(rewriting.real(node, at, &parameters)?);
    }
    layers::rounded(rewriting, node, "Concat", inputs, [0, 1], &["axis"])
}

/// The probabilities are left out, as those of floats are, with what they are rounded to.
fn softmax(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let parameters = rewriting.parameters(node, [1, 2], None, 1)?;
    let inputs = vec![rewriting.real(node, 0, &parameters)?];
    let quantisation = rewriting.parameters(node, [3, 4], None, 1)?.activation()?;
    let output = Rewriting::output(node)?;
    rewriting.push_like(node, "Softmax", inputs, &output, &["axis"]);
    rewriting.store(&output, Stored::Result(quantisation));
    Ok(())
}

/// A node that is not about quantised numbers: of floats, or one that moves 8-bit numbers about.
fn other(rewriting: &mut Rewriting<'_>, node: &NodeProto) -> Result<(), QuantisedFault> {
    let mut taken = vec![];
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        match rewriting.stored(name)? {
            Some(Stored::Constant(integers)) if integers.width == Width::Int32 => {}
            Some(stored) => taken.push((name.clone(), stored)),
            None => {}
        }
    }
    if let (Some(weights), Some(output)) =
        (node.input.first().and_then(|name| rewriting.weights.get(name)), node.output.first())
    {
        let moved = match node.op_type.as_str() {
            "Transpose" => weights.transposed(),
            "Identity" => Some(weights.clone()),
            _ => None,
        };
        if let Some(moved) = moved {
            rewriting.weights.insert(output.clone(), moved);
        }
    }
    let Some((name, first)) = taken.first().cloned() else {
        rewriting.push(node.clone());
        return Ok(());
    };
    let agree = taken.iter().all(|(_, stored)| is_same(stored, &first));
    match (node.op_type.as_str(), first) {
        ("Clip", stored) => clip(rewriting, node, &stored),
        ("Cast", Stored::Image(Width::Uint8)) => {
            rewriting.push(node.clone());
            Ok(())
        }
        (operator, stored @ (Stored::Result(_) | Stored::Image(_)))
            if KEEPING.contains(&operator) || (["Concat", "Split"].contains(&operator) && agree) =>
        {
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                rewriting.store(output, stored.clone());
            }
            rewriting.push(node.clone());
            Ok(())
        }
        (operator, _) => Err(QuantisedFault::Integers { name, operator: operator.into() }),
    }
}

fn is_same(one: &Stored, other: &Stored) -> bool {
    match (one, other) {
        (Stored::Result(one), Stored::Result(other)) => one == other,
        (Stored::Image(one), Stored::Image(other)) => one == other,
        _ => false,
    }
}

/// `Clip` of 8-bit numbers to fewer of them, as Brevitas writes for fewer bits and for weights without
/// -128.
fn clip(rewriting: &mut Rewriting<'_>, node: &NodeProto, stored: &Stored) -> Result<(), QuantisedFault> {
    let bound = |rewriting: &mut Rewriting<'_>, at: usize| {
        let name = node.input.get(at).filter(|name| !name.is_empty()).cloned();
        name.map(|name| rewriting.zero_point(&name)).transpose()
    };
    let (low, high) = (bound(rewriting, 1)?, bound(rewriting, 2)?);
    let output = Rewriting::output(node)?;
    match stored {
        Stored::Constant(Integers { array, width }) => {
            let (least, most) = width.range();
            let (low, high) = (low.map_or(least, |low| low.0), high.map_or(most, |high| high.0));
            let data = array.data.iter().map(|value| (*value).max(low).min(high)).collect();
            let array = Array { dims: array.dims.clone(), data };
            rewriting.store(&output, Stored::Constant(Integers { array, width: *width }));
            Ok(())
        }
        Stored::Result(quantisation) => {
            let real = |(bound, width): (i64, Width)| {
                let steps = bound - i64::from(width.offset()) - i64::from(quantisation.zero_point);
                Array { dims: vec![], data: vec![steps as f32 * quantisation.scale] }
            };
            let source = input(node, 0)?.to_owned();
            let mut clipped = source;
            for (operator, bound) in [("Max", low), ("Min", high)] {
                let Some(bound) = bound else { continue };
                let bound = rewriting.push_constant(&clipped, &real(bound));
                let result = rewriting.unused_name(&clipped);
                rewriting.push_like(node, operator, vec![clipped, bound], &result, &[]);
                clipped = result;
            }
            rewriting.mark(node, clipped, &output, *quantisation);
            Ok(())
        }
        Stored::Image(_) => {
            Err(QuantisedFault::Integers { name: input(node, 0)?.to_owned(), operator: node.op_type.clone() })
        }
    }
}
