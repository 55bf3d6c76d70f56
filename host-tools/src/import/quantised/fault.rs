//! Why a quantised file is refused.

use crate::import::names::printable;
use crate::import::tensor::TensorFault;

/// Why a node of a quantised file is refused: what follows its name and operator in the message.
#[derive(Debug, thiserror::Error)]
pub enum QuantisedFault {
    #[error("its input {0} is missing; the file is damaged, export it again")]
    MissingInput(usize),
    #[error("it has no output; the file is damaged, export it again")]
    NoOutput,
    #[error(
        "its {what} `{name}` is computed while the network runs (dynamic quantisation); quantise statically, with \
         calibration pictures",
        name = printable(.name)
    )]
    Computed { what: &'static str, name: String },
    #[error(
        "its scale `{name}` is {value} at position {position}; a scale must be positive and finite, quantise the \
         network again",
        name = printable(.name)
    )]
    Scale { name: String, value: f32, position: usize },
    #[error("its {what} `{name}` {cause}", name = printable(.name))]
    Tensor { what: &'static str, name: String, cause: TensorFault },
    #[error(
        "its {what} `{name}` holds {found}, which is none of {least} to {most}; quantise the network again",
        name = printable(.name)
    )]
    Beyond { what: &'static str, name: String, found: i64, least: i64, most: i64 },
    #[error(
        "its {what} `{name}` has the type {found}; only int8 and uint8 are supported: quantise to 8 bits",
        name = printable(.name)
    )]
    Type { what: &'static str, name: String, found: String },
    #[error("it has {scales} scales and {zero_points} zero points; the file is damaged, quantise it again")]
    Count { scales: usize, zero_points: usize },
    #[error(
        "its scales are for blocks of {0} values (block-wise quantisation); quantise per tensor or per channel"
    )]
    Blocks(i64),
    #[error(
        "its scales have {rank} dimensions (block-wise quantisation); quantise per tensor or per channel"
    )]
    BlockScales { rank: usize },
    #[error(
        "it has a scale for each channel of a result of the network; only weights can have them: quantise \
         activations per tensor"
    )]
    ActivationPerChannel,
    #[error(
        "its {scales} scales lie along axis {axis} of a tensor {dims:?}; the file is damaged, quantise it again"
    )]
    Axis { scales: usize, axis: i64, dims: Vec<usize> },
    #[error(
        "its weights have a scale for each index of axis {found}, which is not that of the outputs ({expected}); \
         quantise per output channel or per tensor"
    )]
    InputAxis { found: usize, expected: usize },
    #[error("the zero point of its 32-bit integers is {0}; only 0 is supported")]
    WideZeroPoint(i64),
    #[error(
        "its input `{name}` has scale {found} and zero point {found_zero}, here it is read with {scale} and {zero}; \
         quantise the network again, so that both agree",
        name = printable(.name)
    )]
    Disagreement { name: String, found: f32, found_zero: i32, scale: f32, zero: i32 },
    #[error(
        "its input `{name}` is no quantised tensor; put a QuantizeLinear before it",
        name = printable(.name)
    )]
    NotQuantised { name: String },
    #[error(
        "it takes the 8-bit numbers of `{name}` as they are, which {operator} cannot; put a DequantizeLinear before \
         it",
        name = printable(.name)
    )]
    Integers { name: String, operator: String },
    #[error(
        "its weights `{name}` are in f32: a float layer inside of a quantised network; quantise it too (leave it out \
         of the nodes that are excluded), or `resight quantize` the f32 file",
        name = printable(.name)
    )]
    FloatWeights { name: String },
    #[error("{0}; quantise statically, with calibration pictures")]
    Dynamic(&'static str),
    #[error("its weights have {0} dimensions; only layers of one weight matrix are supported")]
    Rank(usize),
    #[error("its attribute `{0}` is not supported; quantise the network again without it")]
    Attribute(&'static str),
    #[error(
        "it is not supported in a quantised network; export with QuantizeLinear and DequantizeLinear (QDQ)"
    )]
    Operator,
}
