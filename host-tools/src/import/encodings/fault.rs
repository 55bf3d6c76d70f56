//! Why encodings cannot be used.

use std::path::PathBuf;

/// Most bytes of the JSON file: some thousand tensors with a scale for each channel.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Why encodings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EncodingsError {
    /// The file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is larger than any such file.
    #[error("{path}: {bytes} bytes are more than the {MAX_BYTES} that are read; is it the file of encodings?", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no JSON.
    #[error("{path}: not a file of AIMET's encodings: {cause}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// It has another structure.
    #[error(
        "{path}: not a file of AIMET's encodings of the versions 0.4 to 2.0: it says {found}; export them again",
        path = path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        found: String,
    },
    /// The network has its roundings already.
    #[error(
        "{path}: the network has QuantizeLinear of its own; leave the encodings out, or export it without them",
        path = path.display()
    )]
    Quantised {
        /// The ONNX file.
        path: PathBuf,
    },
    /// One encoding cannot be used.
    #[error("{path}: the encoding of `{name}` {fault}", path = path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The tensor, fit for a line.
        name: String,
        /// Why.
        fault: EncodingFault,
    },
}

/// Why one encoding cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingFault {
    /// Something is not there, or of another kind.
    #[error("has no usable `{0}`; export the encodings again")]
    Missing(&'static str),
    /// It is of floats.
    #[error("is of floats of {0} bits; quantise to integers of 8 bits")]
    Float(u64),
    /// It is of other integers.
    #[error("is of {0} bits; only 8 bits are supported, quantise the network to them")]
    Bits(u64),
    /// It is block-wise.
    #[error("is for blocks of values; quantise per tensor or per channel")]
    Blocks,
    /// Its zero lies outside of what it encodes.
    #[error("has the zero point {0}, which its 8 bits do not hold; export the encodings again")]
    ZeroPoint(i64),
    /// It has not as many scales as zero points.
    #[error("has {scales} scales and {zero_points} zero points; export the encodings again")]
    Count {
        /// How many scales.
        scales: usize,
        /// How many zero points.
        zero_points: usize,
    },
    /// The network has no such tensor.
    #[error("is of no tensor of the network; give the ONNX file that was exported with it")]
    Unknown,
}
