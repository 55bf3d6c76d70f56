//! From an ONNX file to a [`FloatGraph`].
//!
//! The protobuf is read node by node, so that every error can name the ONNX node. What the
//! int8 network cannot hold is an error; nothing is left in float in silence.
//!
//! Opset 7 to 26 is read, NCHW or NHWC, with a symbolic or a fixed batch:
//! - `Conv` (two dimensions, any groups, strides, dilations, padding; over the channels of one
//!   position too), `Gemm`, `MatMul`, also of a flattened image;
//! - `BatchNormalization` in inference; `Add`, `Sub`, `Mul`, `Div` with constants per channel;
//! - `Relu`, `Clip`, `LeakyRelu`, `PRelu`, `Sigmoid`, `HardSigmoid`, `HardSwish`, `Tanh`, `Elu`, `Selu`,
//!   `Gelu`, `Softplus`, `Mish`, `Swish` and other functions of one value, also where they are written
//!   in parts (`x * sigmoid(x)`, `x * (1 + erf(x / sqrt(2))) / 2`);
//! - `Add` and `Sum` of two results; `Mul` of two results of one shape, or with a gate for each
//!   channel or position;
//! - `Concat`, `Split`, `Slice` and `Gather` of channels; their division into groups by `Reshape`,
//!   with `Transpose` (shuffles), `ReduceSum` and a `Softmax` of two groups;
//! - `MaxPool`, `AveragePool`, `GlobalAveragePool`, `GlobalMaxPool`, `ReduceMean` and `ReduceMax` over
//!   the image, in any place, `ceil_mode` included; `Resize` to the nearest and linear;
//! - `ConvTranspose`, as a convolution for each phase;
//! - `Pad` with zeros, by reflection or with the edge; `Slice` of every n-th
//!   position and `Pad` of channels (the shortcuts of the CIFAR networks);
//! - `Flatten`, `Reshape`, `Squeeze`, `Unsqueeze`, `Expand`, with the computations of shapes that
//!   exporters write for them;
//! - `Identity`, `Dropout`, `Cast` between floats, `Constant`; a final `Softmax` or `Sigmoid` is left
//!   out.
//!
//! The steps:
//! 1. `file`: bytes to a protobuf of bounded size;
//! 2. `model`, `order`: its input, output and operator set, and the nodes in their order;
//! 3. `operators`: ONNX nodes to a small list of elementary operations, with constants,
//!    shape computations, padding, flattening and dropout already resolved; one function for an
//!    operator, found by its name;
//! 4. `fold`: batch normalisation, residual addition and `Relu` into the convolutions.

mod array;
mod attributes;
mod binary;
mod border;
mod bytes;
mod choices;
mod constants;
mod data;
mod elementary;
mod encodings;
mod ending;
mod error;
mod fault;
mod file;
mod fold;
mod folding;
mod importer;
mod initialisers;
mod limits;
mod means;
mod model;
mod names;
mod operation;
mod operators;
mod order;
mod outputs;
mod outside;
mod phases;
mod plain;
mod preparation;
mod quantised;
mod rows;
mod tensor;
mod tflite;
mod value;
mod width;
mod window;
mod wire;

use std::path::{Path, PathBuf};

use resight_model_file::Activation;
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use crate::graph::FloatGraph;

use self::model::Ending;

pub use encodings::{EncodingFault, EncodingsError};
pub use error::ImportError;
pub use fault::{ModelFault, NodeFault};
pub use limits::{MAX_ACTIVATIONS, MAX_DIMENSION, MAX_ELEMENTS, MAX_FILE_BYTES, MAX_WEIGHTS};
pub use model::OPERATOR_SETS;
pub use outside::{Outside, OutsideError};
pub use preparation::Preparation;
pub use quantised::{FileQuantisation, is_quantised};

/// A network that was read from an ONNX file.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What the quantiser works on.
    pub graph: FloatGraph,
    /// The same network for the reference engine: only the nodes and initialisers that the
    /// outputs depend on, but for those of `outside`, external data loaded, all floats f32, one input in NCHW, and as the
    /// outputs the tensors of the graph's: of a classifier that of its last node.
    pub proto: ModelProto,
    /// Large initialisers, which are in a file and not in `proto`.
    pub outside: Vec<Outside>,
    /// What the network does with the image before both of them begin.
    pub preparation: Preparation,
    /// Whether the file's network has one output: the logit of the second of two classes. Both
    /// forms here have two, of which the first is always zero.
    pub is_binary: bool,
    /// What makes probabilities of the logits: sigmoid where the file ends in one of several
    /// outputs. A file that ends in logits does not say, and is taken for one by softmax.
    pub activation: Activation,
    /// Whether the file divides the vector that it ends in by its L2 norm; both forms here do not. `None` of a
    /// network that was not read as one that ends in a vector.
    pub normalised: Option<bool>,
    /// The file's metadata, keys and values.
    pub metadata: Vec<(String, String)>,
}

/// Reads an ONNX file.
///
/// # Errors
/// [`ImportError`], for anything that is not a float residual network in ONNX: the message
/// names the file, the node, the operator, the cause and the remedy.
pub fn import(path: &Path) -> Result<Imported, ImportError> {
    import_sized(path, None)
}

/// What is asked of a file where it leaves it open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Height and width of the image.
    pub size: Option<[usize; 2]>,
    /// The result that holds the logits, or the vector of a network that ends in one: an output, or what a node within makes. Where there are several
    /// outputs, it is the one that all others lead to if nothing is said.
    pub logits: Option<String>,
    /// A file of AIMET's encodings, which says what a network of floats is rounded to.
    pub encodings: Option<PathBuf>,
}

/// Reads an ONNX file that may leave height and width of the image open: they are those of `size`
/// then.
///
/// # Errors
/// As [`import`].
pub fn import_sized(path: &Path, size: Option<[usize; 2]>) -> Result<Imported, ImportError> {
    import_wanted(path, &Wanted { size, ..Wanted::default() })
}

/// Reads an ONNX file as it is [`Wanted`].
///
/// # Errors
/// As [`import`].
pub fn import_wanted(path: &Path, wanted: &Wanted) -> Result<Imported, ImportError> {
    import_ending(read(path)?, path, wanted.size, &Ending::Logits(wanted.logits.clone()))
}

/// Reads an ONNX file of a network for boxes, masks and the like: its outputs of these names, or the
/// first one where there are none, as maps. Height and width of the image as for [`import_sized`].
///
/// # Errors
/// As [`import`].
pub fn import_maps(path: &Path, size: Option<[usize; 2]>, names: &[String]) -> Result<Imported, ImportError> {
    import_ending(read(path)?, path, size, &Ending::Maps(names.to_vec()))
}

/// Reads an ONNX file of a network that ends in a vector, which says what a picture shows: [`Wanted::logits`]
/// names it.
///
/// # Errors
/// As [`import`]; an output that is no vector.
pub fn import_vector(path: &Path, wanted: &Wanted) -> Result<Imported, ImportError> {
    import_ending(read(path)?, path, wanted.size, &Ending::Vector(wanted.logits.clone()))
}

/// As [`import_vector`], of a model that is already in memory.
///
/// # Errors
/// As [`import_vector`].
pub fn import_proto_vector(proto: ModelProto, path: &Path) -> Result<Imported, ImportError> {
    import_ending(proto, path, None, &Ending::Vector(None))
}

/// As [`import_maps`], of a model that is already in memory.
///
/// # Errors
/// As [`import`].
pub fn import_proto_maps(proto: ModelProto, path: &Path, names: &[String]) -> Result<Imported, ImportError> {
    import_ending(proto, path, None, &Ending::Maps(names.to_vec()))
}

/// Imports a model that is already in memory; `path` is the name in errors and the place
/// that external data is relative to.
///
/// # Errors
/// As [`import`].
pub fn import_proto(proto: ModelProto, path: &Path) -> Result<Imported, ImportError> {
    import_proto_sized(proto, path, None)
}

/// As [`import_proto`], with the size of [`import_sized`].
///
/// # Errors
/// As [`import`].
pub fn import_proto_sized(
    proto: ModelProto,
    path: &Path,
    size: Option<[usize; 2]>,
) -> Result<Imported, ImportError> {
    import_ending(proto, path, size, &Ending::Logits(None))
}

/// Reads an ONNX file that is quantised already, as it is [`Wanted`]: as the float network whose constants are the real numbers that the file means, and what the file rounds. The reference
/// engine's form rounds as the file does.
///
/// # Errors
/// As [`import`]; a file that is not quantised, and scales, zero points and types that cannot be used.
pub fn import_quantised(path: &Path, wanted: &Wanted) -> Result<(Imported, FileQuantisation), ImportError> {
    import_quantised_wanted(read(path)?, path, wanted)
}

/// As [`import_quantised`], of a model that is already in memory.
///
/// # Errors
/// As [`import_quantised`].
pub fn import_quantised_proto(
    proto: ModelProto,
    path: &Path,
    size: Option<[usize; 2]>,
) -> Result<(Imported, FileQuantisation), ImportError> {
    import_quantised_wanted(proto, path, &Wanted { size, ..Wanted::default() })
}

/// As [`import_quantised`], of the bytes of a TFLite file; `path` is the name in errors.
///
/// # Errors
/// As [`import_quantised`].
pub fn import_tflite(bytes: &[u8], path: &Path) -> Result<(Imported, FileQuantisation), ImportError> {
    import_quantised_proto(tflite::to_onnx(bytes, path)?, path, None)
}

fn import_quantised_wanted(
    mut proto: ModelProto,
    path: &Path,
    wanted: &Wanted,
) -> Result<(Imported, FileQuantisation), ImportError> {
    if let Some(file) = &wanted.encodings {
        if is_quantised(&proto) {
            return Err(EncodingsError::Quantised { path: path.into() }.into());
        }
        encodings::apply(&mut proto, file)?;
    }
    if !is_quantised(&proto) {
        return Err(ImportError::file(path, ModelFault::NotQuantised));
    }
    make_plain(&mut proto, path)?;
    let (proto, mut quantisation) = quantised::dequantise(proto, path)?;
    let mut imported = import_ending(proto, path, wanted.size, &Ending::Rounded(wanted.logits.clone()))?;
    quantised::with_rounding(&mut imported.proto, &quantisation.tensors);
    quantisation.takes_levels = imported.preparation.levels.is_some();
    Ok((imported, quantisation))
}

/// Reads a file of either kind: a quantised one as a network of floats that rounds as it does.
///
/// # Errors
/// As [`import`] and [`import_quantised`].
pub fn import_any(
    path: &Path,
    size: Option<[usize; 2]>,
) -> Result<(Imported, Option<FileQuantisation>), ImportError> {
    let proto = read(path)?;
    if is_quantised(&proto) {
        let (imported, quantisation) = import_quantised_proto(proto, path, size)?;
        return Ok((imported, Some(quantisation)));
    }
    Ok((import_proto_sized(proto, path, size)?, None))
}

/// See [`file::read`]. Constants of a quantised file are changed before they are used.
fn read(path: &Path) -> Result<ModelProto, ImportError> {
    file::read(path, is_quantised)
}

/// See [`plain::make_plain`].
fn make_plain(proto: &mut ModelProto, path: &Path) -> Result<(), ImportError> {
    let Some(graph) = &mut proto.graph else { return Ok(()) };
    plain::make_plain(graph).map_err(|cause| ImportError::file(path, cause))
}

fn import_ending(
    mut proto: ModelProto,
    path: &Path,
    size: Option<[usize; 2]>,
    ending: &Ending,
) -> Result<Imported, ImportError> {
    let pair = |entry: &StringStringEntryProto| (entry.key.clone(), entry.value.clone());
    let metadata = proto.metadata_props.iter().map(pair).collect();
    make_plain(&mut proto, path)?;
    if let (Ending::Maps(names), Some(graph)) = (ending, proto.graph.as_mut()) {
        let first = graph.output.first().map(|output| vec![output.name.clone()]).unwrap_or_default();
        choices::leave_out(graph, if names.is_empty() { &first } else { names });
    }
    let elementary = elementary::elementary(proto, path, size, ending.clone())?;
    let mut graph = fold::fold(elementary.operations, elementary.name, elementary.outputs, ending).map_err(
        |refusal| ImportError::Node {
            path: path.into(),
            node: refusal.node,
            operator: refusal.operator,
            cause: Box::new(refusal.cause.into()),
        },
    )?;
    let mut proto = elementary.proto;
    phases::name(&mut graph, &mut proto).map_err(|cause| ImportError::file(path, cause))?;
    let normalised = elementary.normalised;
    let is_binary = normalised.is_none() && binary::two_classes(&mut graph, &mut proto);
    // The proto's outputs are the values of the graph's.
    if let Some(graph_proto) = proto.graph.as_mut() {
        let output = |node: usize| tract_onnx::pb::ValueInfoProto {
            name: graph.nodes[node].tensor.clone(),
            ..Default::default()
        };
        graph_proto.output = graph.output_nodes().into_iter().map(output).collect();
    }
    // The sigmoid of one output is the softmax of two.
    let activation = elementary.activation.filter(|_| !is_binary).unwrap_or_default();
    Ok(Imported {
        graph,
        proto,
        outside: elementary.outside,
        preparation: elementary.preparation,
        is_binary,
        activation,
        normalised,
        metadata,
    })
}
