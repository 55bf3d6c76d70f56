//! Golden vectors: the members below `golden/`.

/// An input and the outputs that the network must have for it, bit for bit, on any machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// The int8 input, `[height, width, channels]`: the member `golden/N.input.bin`.
    pub input: Vec<i8>,
    /// The outputs.
    pub expected: Expected,
}

/// The outputs of a [`Golden`] vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// The logits of a classifier: the member `golden/N.logits.bin`.
    Logits(Vec<f32>),
    /// The bytes of each output, little-endian: the members `golden/N.output.M.bin`.
    Tensors(Vec<Vec<u8>>),
}

impl Golden {
    /// A golden vector of a classifier.
    pub fn classes(input: Vec<i8>, logits: Vec<f32>) -> Self {
        Self { input, expected: Expected::Logits(logits) }
    }

    /// The logits of a classifier; none of another network.
    pub fn logits(&self) -> Option<&[f32]> {
        match &self.expected {
            Expected::Logits(logits) => Some(logits),
            Expected::Tensors(_) => None,
        }
    }
}

pub(crate) fn golden_input(index: usize) -> String {
    format!("golden/{index}.input.bin")
}

pub(crate) fn golden_logits(index: usize) -> String {
    format!("golden/{index}.logits.bin")
}

pub(crate) fn golden_output(index: usize, output: usize) -> String {
    format!("golden/{index}.output.{output}.bin")
}
