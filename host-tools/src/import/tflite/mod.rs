//! Networks in TFLite's format (LiteRT): as the ONNX file that they would be, in which what the file has in
//! integers is between `QuantizeLinear` and `DequantizeLinear`.
//!
//! 1. `flatbuffer` reads tables in place, with every offset checked;
//! 2. `schema` has the parts of the format that a network is made of;
//! 3. `operators` adds for each operator the nodes that it stands for; images are `[batch, rows, columns,
//!    channels]` before and `[batch, channels, rows, columns]` behind.
//!
//! The rest is the import of a quantised ONNX file.

pub(super) mod fault;
mod flatbuffer;
mod hard_swish;
mod operators;
mod schema;
mod writer;

use std::path::Path;

use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto};

use self::fault::{FileFault, TfliteFault};
use self::schema::{Kind, Network, Steps};
use self::writer::{Writer, activation_steps};
use super::error::ImportError;
use super::limits::check_activation;
use super::names::printable;
use crate::onnx;

/// Operators as they are since ONNX 1.8: the first with scales per channel.
const OPERATOR_SET: i64 = 13;
/// The version of the file format that belongs to it.
const IR_VERSION: i64 = 8;

/// Whether bytes are a TFLite file.
pub(super) fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

/// The ONNX form of a TFLite file.
///
/// # Errors
/// Names the tensor or the operator that is damaged or cannot be used.
pub(super) fn to_onnx(bytes: &[u8], path: &Path) -> Result<ModelProto, ImportError> {
    let refuse = |fault: FileFault| ImportError::file(path, fault);
    let network = Network::read(bytes).map_err(refuse)?;
    let mut writer = Writer::new(&network);
    let image = image(&mut writer).map_err(refuse)?;
    for operator in &network.operators {
        let output = operator.outputs.first().and_then(|&output| network.tensor(output));
        let name =
            output.map_or_else(|| format!("operator {}", operator.index), |output| output.name.to_owned());
        operators::translate(&mut writer, operator, &name).map_err(|fault| ImportError::Node {
            path: path.into(),
            node: printable(&name),
            operator: printable(&operators::name(operator)),
            cause: Box::new(fault.into()),
        })?;
    }
    let &[output] = network.outputs.as_slice() else {
        return Err(refuse(FileFault::Outputs(network.outputs.len())));
    };
    let Some(logits) = writer.made(output) else { return Err(refuse(FileFault::Outputs(0))) };
    let classes = network.tensor(output).and_then(|tensor| tensor.dims.last().copied()).unwrap_or(0);
    let graph = GraphProto {
        name: if network.name.is_empty() { "network".into() } else { network.name.into() },
        node: writer.nodes,
        initializer: writer.constants,
        input: vec![if image.is_levels {
            onnx::levels(&image.name, &image.dims)
        } else {
            onnx::value(&image.name, &image.dims)
        }],
        output: vec![onnx::value(&logits, &[classes])],
        ..GraphProto::default()
    };
    Ok(ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
        graph: Some(graph),
        ..ModelProto::default()
    })
}

/// What the network is given.
struct Image {
    name: String,
    /// Channels, rows, columns.
    dims: [usize; 3],
    /// Whether it is the bytes of a picture, as they are.
    is_levels: bool,
}

/// Adds the image: as the bytes of a picture where the file's integers are these, or else as floats, which integers
/// are made of.
fn image(writer: &mut Writer<'_>) -> Result<Image, FileFault> {
    let network = writer.network;
    let &[input] = network.inputs.as_slice() else { return Err(FileFault::Inputs(network.inputs.len())) };
    let tensor = network.tensor(input).ok_or(FileFault::Inputs(0))?;
    let refuse = || FileFault::Input { name: tensor.name.into(), dims: tensor.dims.clone() };
    let &[1, height, width, channels] = tensor.dims.as_slice() else { return Err(refuse()) };
    let dims = [channels, height, width];
    if dims.contains(&0) || check_activation(&dims).is_err() {
        return Err(refuse());
    }
    let name = "image".to_owned();
    let fault = |fault: TfliteFault| FileFault::Tensor {
        index: input as usize,
        name: tensor.name.into(),
        cause: fault.into(),
    };
    if tensor.kind != Kind::Float {
        let steps = activation_steps(tensor).map_err(fault)?;
        let least = if tensor.kind == Kind::Int8 { -128 } else { 0 };
        let real = |q: i64| f64::from(steps.scales[0]) * (q - steps.zero_points[0]) as f64;
        if is_usual([real(least), real(least + 255)]) {
            let zero_points = vec![steps.zero_points[0] - least];
            let real = writer.real_levels(&name, &Steps { zero_points, ..steps });
            writer.set(input, real);
            return Ok(Image { name, dims, is_levels: true });
        }
    }
    let rounded = writer.rounded(input, &name, name.clone()).map_err(fault)?;
    writer.set(input, rounded);
    Ok(Image { name, dims, is_levels: false })
}

/// Whether the 256 steps of an image between these numbers are the grey levels of a picture in one of the usual
/// ranges, as far as a zero point that is a whole number can say: what runs such files gives them a picture's bytes.
fn is_usual([low, high]: [f64; 2]) -> bool {
    const USUAL: [[f64; 2]; 3] = [[0.0, 255.0], [0.0, 1.0], [-1.0, 1.0]];
    let near = |one: f64, other: f64, width: f64| (one - other).abs() < width / 64.0;
    USUAL.iter().any(|[least, most]| {
        let width = most - least;
        near(low, *least, width) && near(high, *most, width)
    })
}
