//! From an ONNX file to a [`FloatGraph`].
//!
//! The protobuf is read node by node, so that every error can name the ONNX node. What the
//! int8 network cannot hold is an error; nothing is left in float in silence.
//!
//! Opset 7 to 22 is read, NCHW, with a symbolic or a fixed batch:
//! - `Conv` (two dimensions, any groups, strides, dilations, padding), `Gemm`, `MatMul`;
//! - `BatchNormalization` in inference; `Add`, `Sub`, `Mul`, `Div` with constants per channel;
//! - `Relu`, and `Clip` where it is the same; `Add` and `Sum` of two results;
//! - `MaxPool`, `GlobalAveragePool`, `AveragePool`, `ReduceMean` over the image;
//! - `Pad` with zeros before a convolution; `Slice` of every n-th position and `Pad` of channels
//!   (the shortcuts of the CIFAR networks);
//! - `Flatten`, `Reshape`, `Squeeze`, `Unsqueeze` of 1x1 images, with the computations of shapes
//!   that exporters write for them;
//! - `Identity`, `Dropout`, `Cast` between floats, `Constant`; a final `Softmax` is left out.
//!
//! The steps:
//! 1. `file`: bytes to a protobuf of bounded size;
//! 2. `operators`: ONNX nodes to a small list of elementary operations, with constants,
//!    shape computations, padding, flattening and dropout already resolved;
//! 3. `fold`: batch normalisation, residual addition and `Relu` into the convolutions.

mod constant;
mod file;
mod fold;
mod operators;
mod shape;

use std::path::{Path, PathBuf};

use tract_onnx::pb::ModelProto;

use crate::graph::FloatGraph;

/// Largest ONNX file, and largest sum of external data files, in bytes.
pub const MAX_FILE_BYTES: u64 = 2 << 30;
/// Largest dimension of any tensor.
pub const MAX_DIMENSION: usize = 1 << 16;
/// Largest number of elements of a constant tensor.
pub const MAX_ELEMENTS: usize = 1 << 30;
/// Largest number of elements of the input and of any result, 256 MiB in f32.
pub const MAX_ACTIVATIONS: usize = 1 << 26;
/// Largest number of weights and other constants of all nodes together, 1 GiB in f32.
pub const MAX_WEIGHTS: usize = 1 << 28;
/// Standard ONNX operator sets that are understood.
pub const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 7..=22;

/// A network that was read from an ONNX file.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What the quantiser works on.
    pub graph: FloatGraph,
    /// The same network for the reference engine: only the nodes and initialisers that the
    /// logits depend on, external data loaded, all floats f32, one input, and as the only
    /// output the tensor of the graph's last node.
    pub proto: ModelProto,
}

/// Why an ONNX file was refused. Every message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Read {
        /// The ONNX file, or the external data file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file as a whole cannot be used.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The ONNX file.
        path: PathBuf,
        /// The cause and the remedy.
        cause: String,
    },
    /// One node cannot be used.
    #[error("{path}: node `{node}` ({operator}): {cause}", path = path.display())]
    Node {
        /// The ONNX file.
        path: PathBuf,
        /// The node's name, or the name of its first output where it has none.
        node: String,
        /// Its operator.
        operator: String,
        /// The cause and the remedy.
        cause: String,
    },
}

/// Reads an ONNX file.
///
/// # Errors
/// [`ImportError`], for anything that is not a float residual network in ONNX: the message
/// names the file, the node, the operator, the cause and the remedy.
pub fn import(path: &Path) -> Result<Imported, ImportError> {
    let proto = file::read(path)?;
    import_proto(proto, path)
}

/// Imports a model that is already in memory; `path` is the name in errors and the place
/// that external data is relative to.
///
/// # Errors
/// As [`import`].
pub fn import_proto(proto: ModelProto, path: &Path) -> Result<Imported, ImportError> {
    let elementary = operators::elementary(proto, path)?;
    let graph = fold::fold(elementary.operations, elementary.name, elementary.output).map_err(|refusal| {
        ImportError::Node {
            path: path.into(),
            node: refusal.node,
            operator: refusal.operator,
            cause: refusal.cause,
        }
    })?;
    let mut proto = elementary.proto;
    // The proto's only output is the value of the graph's last node.
    if let (Some(graph_proto), Some(last)) = (proto.graph.as_mut(), graph.nodes.last()) {
        graph_proto.output =
            vec![tract_onnx::pb::ValueInfoProto { name: last.tensor.clone(), ..Default::default() }];
    }
    Ok(Imported { graph, proto })
}

/// A name from the file, fit for a one-line message.
fn printable(name: &str) -> String {
    const LONGEST: usize = 120;
    let escaped = name.escape_debug().to_string();
    if escaped.chars().count() <= LONGEST {
        return escaped;
    }
    escaped.chars().take(LONGEST).chain("…".chars()).collect()
}

/// Number of elements of a tensor, within [`MAX_DIMENSION`] and [`MAX_ELEMENTS`].
fn elements(dimensions: &[usize]) -> Result<usize, String> {
    let mut product = 1usize;
    for &dimension in dimensions {
        if dimension > MAX_DIMENSION {
            return Err(format!("dimension {dimension} of {dimensions:?} is above {MAX_DIMENSION}"));
        }
        product = product
            .checked_mul(dimension)
            .filter(|&p| p <= MAX_ELEMENTS)
            .ok_or_else(|| format!("a tensor {dimensions:?} has more than {MAX_ELEMENTS} elements"))?;
    }
    Ok(product)
}

/// Refuses a `[channels, height, width]` that is too large to compute with.
fn check_activation(shape: &[usize; 3]) -> Result<(), String> {
    match elements(shape)? {
        count if count > MAX_ACTIVATIONS => {
            Err(format!("a result {shape:?} has more than {MAX_ACTIVATIONS} elements; use a smaller image"))
        }
        _ => Ok(()),
    }
}
