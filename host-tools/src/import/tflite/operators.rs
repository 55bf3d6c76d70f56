//! Operators of TFLite as nodes of ONNX, one function for a kind.

use tract_onnx::pb::AttributeProto;

use super::fault::TfliteFault;
use super::flatbuffer::Number;
use super::hard_swish;
use super::schema::{Kind, Operator, Steps};
use super::writer::{Order, Writer, activation_steps};
use crate::onnx;

/// The operators that are known: their number, their name, and what reads them.
const KNOWN: &[(i32, &str, Handler)] = &[
    (0, "ADD", |writer, operator, name| arithmetic(writer, operator, name, "Add")),
    (1, "AVERAGE_POOL_2D", |writer, operator, name| pool(writer, operator, name, "AveragePool")),
    (2, "CONCATENATION", concatenation),
    (3, "CONV_2D", |writer, operator, name| convolution(writer, operator, name, false)),
    (4, "DEPTHWISE_CONV_2D", |writer, operator, name| convolution(writer, operator, name, true)),
    (6, "DEQUANTIZE", same),
    (9, "FULLY_CONNECTED", connected),
    (14, "LOGISTIC", |writer, operator, name| unary(writer, operator, name, "Sigmoid")),
    (17, "MAX_POOL_2D", |writer, operator, name| pool(writer, operator, name, "MaxPool")),
    (18, "MUL", |writer, operator, name| arithmetic(writer, operator, name, "Mul")),
    (19, "RELU", |writer, operator, name| unary(writer, operator, name, "Relu")),
    (20, "RELU_N1_TO_1", |writer, operator, name| limited(writer, operator, name, -1.0, 1.0)),
    (21, "RELU6", |writer, operator, name| limited(writer, operator, name, 0.0, 6.0)),
    (22, "RESHAPE", reshape),
    (25, "SOFTMAX", softmax),
    (28, "TANH", |writer, operator, name| unary(writer, operator, name, "Tanh")),
    (34, "PAD", pad),
    (40, "MEAN", mean),
    (41, "SUB", |writer, operator, name| arithmetic(writer, operator, name, "Sub")),
    (43, "SQUEEZE", reshape),
    (98, "LEAKY_RELU", leaky_relu),
    (114, "QUANTIZE", same),
    (117, "HARD_SWISH", hard_swish),
];

/// Names of others, for messages.
const OTHERS: &[(i32, &str)] = &[
    (5, "DEPTH_TO_SPACE"),
    (11, "L2_NORMALIZATION"),
    (13, "LOCAL_RESPONSE_NORMALIZATION"),
    (16, "LSTM"),
    (23, "RESIZE_BILINEAR"),
    (26, "SPACE_TO_DEPTH"),
    (36, "GATHER"),
    (39, "TRANSPOSE"),
    (42, "DIV"),
    (45, "STRIDED_SLICE"),
    (49, "SPLIT"),
    (50, "LOG_SOFTMAX"),
    (53, "CAST"),
    (54, "PRELU"),
    (56, "ARG_MAX"),
    (65, "SLICE"),
    (67, "TRANSPOSE_CONV"),
    (70, "EXPAND_DIMS"),
    (74, "SUM"),
    (77, "SHAPE"),
    (82, "REDUCE_MAX"),
    (83, "PACK"),
    (97, "RESIZE_NEAREST_NEIGHBOR"),
    (100, "MIRROR_PAD"),
    (126, "BATCH_MATMUL"),
    (150, "GELU"),
];

/// Reads an operator, whose inputs were read before; the name is that of its nodes.
type Handler = fn(&mut Writer<'_>, &Operator<'_>, &str) -> Result<(), TfliteFault>;

/// What messages call the operator.
pub(super) fn name(operator: &Operator<'_>) -> String {
    let known = KNOWN.iter().map(|&(code, name, _)| (code, name)).chain(OTHERS.iter().copied());
    match known.into_iter().find(|&(code, _)| code == operator.code) {
        Some((_, name)) => name.into(),
        None if operator.code == 32 => format!("custom {}", operator.custom),
        None => format!("operator {}", operator.code),
    }
}

/// Adds the nodes that an operator stands for.
pub(super) fn translate(
    writer: &mut Writer<'_>,
    operator: &Operator<'_>,
    name: &str,
) -> Result<(), TfliteFault> {
    // Shapes are computed in integers; the file says what came of them.
    let network = writer.network;
    let is_shape = |&output: &i32| {
        network.tensor(output).is_some_and(|tensor| matches!(tensor.kind, Kind::Int32 | Kind::Int64))
    };
    if !operator.outputs.is_empty() && operator.outputs.iter().all(is_shape) {
        return Ok(());
    }
    let (_, _, handler) =
        KNOWN.iter().find(|(code, _, _)| *code == operator.code).ok_or(TfliteFault::Operator)?;
    handler(writer, operator, name)
}

/// The floats of an input that is a result of the network.
fn input(writer: &Writer<'_>, operator: &Operator<'_>, at: usize) -> Result<String, TfliteFault> {
    let tensor = *operator.inputs.get(at).ok_or(TfliteFault::Input(at))?;
    writer.made(tensor).ok_or(TfliteFault::Input(at))
}

/// The dimensions of an input or, with `None`, of the output.
fn dims(writer: &Writer<'_>, operator: &Operator<'_>, at: Option<usize>) -> Result<Vec<usize>, TfliteFault> {
    let (tensor, fault) = match at {
        Some(at) => (operator.inputs.get(at), TfliteFault::Input(at)),
        None => (operator.outputs.first(), TfliteFault::Output),
    };
    let network = writer.network;
    tensor.and_then(|&tensor| network.tensor(tensor)).map(|tensor| tensor.dims.clone()).ok_or(fault)
}

/// Rows, columns and channels of an input that is an image.
fn image(writer: &Writer<'_>, operator: &Operator<'_>, at: usize) -> Result<[usize; 3], TfliteFault> {
    match *dims(writer, operator, Some(at))? {
        [_, height, width, channels] => Ok([height, width, channels]),
        ref other => {
            let tensor = operator.inputs.get(at).and_then(|&tensor| writer.network.tensor(tensor));
            let name = tensor.map_or(String::new(), |tensor| tensor.name.into());
            Err(TfliteFault::Dims { name, dims: other.to_vec() })
        }
    }
}

/// A number of the options.
fn option<T: Number>(operator: &Operator<'_>, at: usize, default: T) -> Result<T, TfliteFault> {
    match operator.options {
        Some(options) => Ok(options.number(at, default)?),
        None => Ok(default),
    }
}

/// A size in the options, at least 1.
fn size(operator: &Operator<'_>, at: usize, default: i32, what: &'static str) -> Result<usize, TfliteFault> {
    let value = option(operator, at, default)?;
    let fits = usize::try_from(value).ok().filter(|value| (1..=1 << 16).contains(value));
    fits.ok_or(TfliteFault::Option { what, value: value.into() })
}

/// The function that an operator has in its options, behind what it computes.
fn activated(writer: &mut Writer<'_>, code: i8, name: &str, real: String) -> Result<String, TfliteFault> {
    let name = format!("{name}_activation");
    Ok(match code {
        0 => real,
        1 => writer.node(&name, "Relu", &[&real], vec![]),
        2 => clip(writer, &name, &real, -1.0, 1.0),
        3 => clip(writer, &name, &real, 0.0, 6.0),
        4 => writer.node(&name, "Tanh", &[&real], vec![]),
        other => return Err(TfliteFault::Option { what: "fused activation", value: other.into() }),
    })
}

fn clip(writer: &mut Writer<'_>, name: &str, real: &str, low: f32, high: f32) -> String {
    let (low, high) = (writer.number("low", low), writer.number("high", high));
    writer.node(name, "Clip", &[real, &low, &high], vec![])
}

/// Strides, dilations and padding of windows over an image.
fn window(
    image: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: i8,
) -> Result<Vec<AttributeProto>, TfliteFault> {
    let mut pads = [0; 4];
    match padding {
        // SAME: the output has as many positions as strides fit, and what is missing is put round the image,
        // the odd one behind.
        0 => {
            for axis in 0..2 {
                let reach = (kernel[axis] - 1) * dilation[axis] + 1;
                let steps = image[axis].div_ceil(stride[axis]).saturating_sub(1);
                let missing = (steps * stride[axis] + reach).saturating_sub(image[axis]);
                (pads[axis], pads[axis + 2]) = (missing / 2, missing - missing / 2);
            }
        }
        1 => {}
        other => return Err(TfliteFault::Option { what: "padding", value: other.into() }),
    }
    Ok(vec![
        onnx::integers("kernel_shape", &kernel),
        onnx::integers("strides", &stride),
        onnx::integers("pads", &pads),
    ])
}

fn convolution(
    writer: &mut Writer<'_>,
    operator: &Operator<'_>,
    name: &str,
    is_depthwise: bool,
) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let image = image(writer, operator, 0)?;
    let weights = dims(writer, operator, Some(1))?;
    let &[outputs, height, width, depth] = weights.as_slice() else {
        return Err(TfliteFault::Dims { name: "weights".into(), dims: weights });
    };
    let padding = option(operator, 0, 0i8)?;
    let stride = [size(operator, 2, 0, "stride")?, size(operator, 1, 0, "stride")?];
    // Depthwise ones have their multiplier between.
    let (activation, dilated) = if is_depthwise { (4, 5) } else { (3, 4) };
    let dilation = [size(operator, dilated + 1, 1, "dilation")?, size(operator, dilated, 1, "dilation")?];
    if height == 0 || width == 0 || depth == 0 || outputs == 0 || image[2] == 0 {
        return Err(TfliteFault::Dims { name: "weights".into(), dims: weights });
    }
    let groups = if is_depthwise { image[2] } else { image[2] / depth };
    let mut attributes = window(image, [height, width], stride, dilation, padding)?;
    attributes.push(onnx::integers("dilations", &dilation));
    attributes.push(onnx::integer("group", groups as i64));
    let order = if is_depthwise { Order::Depthwise } else { Order::Convolution };
    let weights = writer.constant(operator, 1, name, order)?;
    let bias = bias(writer, operator, name)?;
    let inputs: Vec<&str> = [x.as_str(), &weights].into_iter().chain(bias.as_deref()).collect();
    let real = writer.node(name, "Conv", &inputs, attributes);
    let real = activated(writer, option(operator, activation, 0i8)?, name, real)?;
    writer.finish(operator, name, real)
}

/// The bias of a layer, if it has one.
fn bias(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<Option<String>, TfliteFault> {
    let has = operator.inputs.get(2).is_some_and(|&tensor| tensor >= 0);
    has.then(|| writer.constant(operator, 2, name, Order::Same)).transpose()
}

fn connected(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let format = option(operator, 1, 0i8)?;
    if format != 0 {
        return Err(TfliteFault::Option { what: "format of weights", value: format.into() });
    }
    let mut x = input(writer, operator, 0)?;
    let from = dims(writer, operator, Some(0))?;
    // An image is taken as the vector that it is.
    let image = match *from {
        [_, height, width, channels] => {
            x = writer.node(&format!("{name}_flatten"), "Flatten", &[&x], vec![onnx::integer("axis", 1)]);
            Some([height, width, channels])
        }
        _ => operator.inputs.first().and_then(|&tensor| writer.flat_of(tensor)),
    };
    let order = image.filter(|image| image[0] * image[1] > 1).map_or(Order::Same, Order::Flat);
    let weights = writer.constant(operator, 1, name, order)?;
    let bias = bias(writer, operator, name)?;
    let inputs: Vec<&str> = [x.as_str(), &weights].into_iter().chain(bias.as_deref()).collect();
    let real = writer.node(name, "Gemm", &inputs, vec![onnx::integer("transB", 1)]);
    let real = activated(writer, option(operator, 0, 0i8)?, name, real)?;
    writer.finish(operator, name, real)
}

fn pool(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str, kind: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let image = image(writer, operator, 0)?;
    let padding = option(operator, 0, 0i8)?;
    let stride = [size(operator, 2, 0, "stride")?, size(operator, 1, 0, "stride")?];
    let kernel = [size(operator, 4, 0, "filter")?, size(operator, 3, 0, "filter")?];
    let attributes = window(image, kernel, stride, [1, 1], padding)?;
    let real = writer.node(name, kind, &[&x], attributes);
    let real = activated(writer, option(operator, 5, 0i8)?, name, real)?;
    writer.finish(operator, name, real)
}

fn concatenation(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let rank = dims(writer, operator, None)?.len() as i64;
    let axis = i64::from(option(operator, 0, 0i32)?);
    let axis = if axis < 0 { axis + rank } else { axis };
    if axis != rank - 1 {
        return Err(TfliteFault::Option { what: "axis", value: axis });
    }
    let parts: Vec<String> =
        (0..operator.inputs.len()).map(|at| input(writer, operator, at)).collect::<Result<_, _>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let real = writer.node(name, "Concat", &parts, vec![onnx::integer("axis", 1)]);
    let real = activated(writer, option(operator, 1, 0i8)?, name, real)?;
    writer.finish(operator, name, real)
}

/// A sum, difference or product of two results, or with a constant.
fn arithmetic(
    writer: &mut Writer<'_>,
    operator: &Operator<'_>,
    name: &str,
    kind: &str,
) -> Result<(), TfliteFault> {
    let rank = dims(writer, operator, None)?.len();
    let mut terms = vec![];
    for at in 0..2 {
        let made = operator.inputs.get(at).and_then(|&tensor| writer.made(tensor));
        let order = if rank == 4 { Order::Channels } else { Order::Same };
        terms.push(made.map_or_else(|| writer.constant(operator, at, name, order), Ok)?);
    }
    let real = writer.node(name, kind, &[&terms[0], &terms[1]], vec![]);
    let real = activated(writer, option(operator, 0, 0i8)?, name, real)?;
    writer.finish(operator, name, real)
}

fn unary(
    writer: &mut Writer<'_>,
    operator: &Operator<'_>,
    name: &str,
    kind: &str,
) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let real = writer.node(name, kind, &[&x], vec![]);
    keep_flat(writer, operator);
    writer.finish(operator, name, real)
}

fn limited(
    writer: &mut Writer<'_>,
    operator: &Operator<'_>,
    name: &str,
    low: f32,
    high: f32,
) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let real = clip(writer, name, &x, low, high);
    keep_flat(writer, operator);
    writer.finish(operator, name, real)
}

fn leaky_relu(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let slope = option(operator, 0, 0.0f32)?;
    let real = writer.node(name, "LeakyRelu", &[&x], vec![onnx::float("alpha", slope)]);
    keep_flat(writer, operator);
    writer.finish(operator, name, real)
}

fn hard_swish(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let real = if let Some((from, least, numbers)) = hard_swish_of_integers(writer, operator) {
        writer.looked_up(name, &x, &from, least, &numbers)
    } else {
        let slope = vec![onnx::float("alpha", 1.0 / 6.0), onnx::float("beta", 0.5)];
        let gate = writer.node(&format!("{name}_gate"), "HardSigmoid", &[&x], slope);
        writer.node(name, "Mul", &[&x, &gate], vec![])
    };
    keep_flat(writer, operator);
    writer.finish(operator, name, real)
}

/// Where it is of integers: their steps, the least of them, and the real numbers of what becomes of each.
fn hard_swish_of_integers(writer: &Writer<'_>, operator: &Operator<'_>) -> Option<(Steps, i64, Vec<f32>)> {
    let tensor = |tensors: &[i32]| tensors.first().and_then(|&tensor| writer.network.tensor(tensor));
    let (from, to) = (tensor(&operator.inputs)?, tensor(&operator.outputs)?);
    if from.kind != to.kind {
        return None;
    }
    let least = if from.kind == Kind::Int8 { -128 } else { 0 };
    let (from, to) = (activation_steps(from).ok()?, activation_steps(to).ok()?);
    let integers = hard_swish::integers(&from, &to, least)?;
    let (scale, zero) = (to.scales[0], to.zero_points[0]);
    Some((from, least, integers.into_iter().map(|q| scale * (q - zero) as f32).collect()))
}

/// The same numbers, rounded otherwise or not at all.
fn same(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    keep_flat(writer, operator);
    writer.finish(operator, name, x)
}

/// What is done value by value leaves a vector in its order.
fn keep_flat(writer: &mut Writer<'_>, operator: &Operator<'_>) {
    let flat = operator.inputs.first().and_then(|&tensor| writer.flat_of(tensor));
    if let (Some(flat), Some(&output)) = (flat, operator.outputs.first()) {
        writer.set_flat(output, flat);
    }
}

/// The probabilities, which are left out at import.
fn softmax(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let beta = option(operator, 0, 0.0f32)?;
    if (beta - 1.0).abs() > 1e-6 {
        return Err(TfliteFault::Option { what: "beta, rounded,", value: beta as i64 });
    }
    let real = writer.node(name, "Softmax", &[&x], vec![onnx::integer("axis", 1)]);
    writer.finish(operator, name, real)
}

/// From an image to a vector, from a vector to an image of one position, or neither.
fn reshape(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let (from, to) = (dims(writer, operator, Some(0))?, dims(writer, operator, None)?);
    let output = *operator.outputs.first().ok_or(TfliteFault::Output)?;
    let real = match (from.as_slice(), to.as_slice()) {
        (&[_, height, width, channels], &[1, features]) if height * width * channels == features => {
            writer.set_flat(output, [height, width, channels]);
            writer.node(name, "Flatten", &[&x], vec![onnx::integer("axis", 1)])
        }
        (&[_, features], &[1, 1, 1, channels]) if features == channels => {
            let shape = writer.integers("shape", &[1, channels as i64, 1, 1]);
            writer.node(name, "Reshape", &[&x, &shape], vec![])
        }
        (own, other) if own == other => {
            keep_flat(writer, operator);
            x
        }
        _ => return Err(TfliteFault::Reshape { from, to }),
    };
    // The numbers are the same, so nothing is rounded.
    let network = writer.network;
    if let Some(tensor) = network.tensor(output).filter(|tensor| tensor.kind != Kind::Float) {
        activation_steps(tensor)?;
    }
    writer.set(output, real);
    Ok(())
}

fn pad(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let sides = writer.whole(operator, 1).ok_or(TfliteFault::Computed(1))?;
    // Of batch, rows, columns and channels, before and behind each.
    let &[0, 0, top, bottom, left, right, first, last] = sides.as_slice() else {
        return Err(TfliteFault::Option { what: "number of sides", value: sides.len() as i64 });
    };
    let pads = writer.integers("pads", &[0, first, top, left, 0, last, bottom, right]);
    let real = writer.node(name, "Pad", &[&x, &pads], vec![]);
    // Zeros round it have their number already.
    let output = *operator.outputs.first().ok_or(TfliteFault::Output)?;
    writer.set(output, real);
    Ok(())
}

fn mean(writer: &mut Writer<'_>, operator: &Operator<'_>, name: &str) -> Result<(), TfliteFault> {
    let x = input(writer, operator, 0)?;
    let rank = dims(writer, operator, Some(0))?.len() as i64;
    let mut axes: Vec<i64> = writer.whole(operator, 1).ok_or(TfliteFault::Computed(1))?;
    axes.iter_mut().filter(|axis| **axis < 0).for_each(|axis| *axis += rank);
    axes.sort_unstable();
    if rank != 4 || axes != [1, 2] {
        return Err(TfliteFault::Option {
            what: "number of axes besides rows and columns",
            value: axes.len() as i64,
        });
    }
    let mut real = writer.node(name, "GlobalAveragePool", &[&x], vec![]);
    if dims(writer, operator, None)?.len() == 2 {
        real = writer.node(&format!("{name}_flatten"), "Flatten", &[&real], vec![onnx::integer("axis", 1)]);
    }
    writer.finish(operator, name, real)
}
