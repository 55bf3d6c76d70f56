//! A file as a whole: its format, its outside, its outputs.

use resight_model_file::{Activation, FileFormat};

use super::image::ImageFault;
use super::outputs::OutputFault;
use super::protobuf::ProtobufFault;
use super::sparse::SparseFault;
use crate::import::bytes::BytesFault;
use crate::import::names::printable;
use crate::import::tflite::fault::FileFault;

/// Why a file as a whole is refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    /// Its bytes cannot be read.
    #[error(transparent)]
    Bytes(#[from] BytesFault),
    /// It is a TFLite file that cannot be used.
    #[error(transparent)]
    Tflite(#[from] FileFault),
    /// What it is given is no image that can be used.
    #[error(transparent)]
    Image(#[from] ImageFault),
    /// It has no bytes.
    #[error("the file is empty; export the model again")]
    Empty,
    /// It has another format.
    #[error("not an ONNX file: it is {format}; {remedy}", remedy = remedy(*format))]
    Format {
        /// The format that it has.
        format: FileFormat,
    },
    /// Its protobuf cannot be decoded.
    #[error("not an ONNX file, or a damaged one: {0}; export or copy the model again")]
    Damaged(ProtobufFault),
    /// It has nodes of a kind that it defines itself.
    #[error("it defines the function `{name}`; export the model without functions", name = printable(name))]
    Function {
        /// The function's name.
        name: String,
    },
    /// It holds no network.
    #[error("not an ONNX file: it holds no graph")]
    NoGraph,
    /// It is of an operator set that is not known.
    #[error("ONNX operator set {found} is outside of {first} to {last}; export with opset 13")]
    OperatorSet {
        /// Its operator set.
        found: i64,
        /// The first one that is known.
        first: i64,
        /// The last one.
        last: i64,
    },
    /// It does not say which operator set it is of.
    #[error("it names no ONNX operator set; export it again with opset 13")]
    NoOperatorSet,
    /// Two initialisers have one name.
    #[error("two initialisers have the name `{name}`", name = printable(name))]
    InitialiserTwice {
        /// The name.
        name: String,
    },
    /// A sparse initialiser cannot be used.
    #[error("the sparse initialiser `{name}` {cause}", name = printable(name))]
    Sparse {
        /// The initialiser's name.
        name: String,
        /// What is wrong with it.
        cause: SparseFault,
    },
    /// It has no output.
    #[error("it has no output")]
    NoOutput,
    /// It has no output of the name that a map was asked for by.
    #[error(
        "it has no output `{name}`, but {outputs}; say in the decoder's file which output is what",
        name = printable(name),
        outputs = quoted(outputs)
    )]
    NoMap {
        /// The name.
        name: String,
        /// Its first outputs.
        outputs: Vec<String>,
    },
    /// No node makes the result that was asked for.
    #[error(
        "it has no result `{name}`; its outputs are {outputs}",
        name = printable(name),
        outputs = quoted(outputs)
    )]
    NoResult {
        /// The name.
        name: String,
        /// Its first outputs.
        outputs: Vec<String>,
    },
    /// It does not say which of its outputs is the last.
    #[error(
        "the network has {0} outputs, of which none is made of all others; say which one holds the logits \
         (`--logits NAME`), or export it with the logits alone"
    )]
    Outputs(usize),
    /// No node makes one of its outputs.
    #[error("no node makes the output `{name}`; the file is damaged", name = printable(name))]
    UnmadeOutput {
        /// The output's name.
        name: String,
    },
    /// One of its outputs cannot be used.
    #[error("the output `{name}` {cause}", name = printable(name))]
    Output {
        /// The output's name.
        name: String,
        /// What is wrong with it.
        cause: OutputFault,
    },
    /// It was to end in a vector, and ends in probabilities.
    #[error(
        "the output `{name}` ends in {activation}: it is no vector but probabilities; leave out `--task embed`",
        name = printable(name)
    )]
    Probabilities {
        /// The output's name.
        name: String,
        /// What makes the probabilities.
        activation: Activation,
    },
    /// It is of an operator set without what the phases of a transposed convolution need.
    #[error("a transposed convolution is read from operator set {since} on; export with opset 13")]
    TransposedConvolution {
        /// The first operator set that has it.
        since: i64,
    },
    /// It was to be quantised, and is not.
    #[error("the network is not quantised; `resight quantize` makes an int8 network of it")]
    NotQuantised,
}

/// How a file of another format becomes an ONNX file.
fn remedy(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Tar => "a model file of resight is quantised already; anything else must be unpacked",
        FileFormat::Zip => "a network saved by PyTorch must be exported by torch.onnx.export",
        FileFormat::Gzip | FileFormat::Zstd => "unpack it",
        FileFormat::Hdf5 => "a network saved by Keras must be exported by tf2onnx",
        FileFormat::GitLfsPointer => "`git lfs pull` or `resight fetch` brings the network itself",
        FileFormat::Html => "the download led to a page about the file, or to a login",
        FileFormat::Png | FileFormat::Jpeg => "the network is expected here",
    }
}

/// Names in quotes, one behind the other.
fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", printable(name))).collect();
    names.join(", ")
}
