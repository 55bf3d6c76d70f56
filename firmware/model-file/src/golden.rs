//! Golden vectors: the members `golden/N.input.bin` and `golden/N.logits.bin`.

/// An input and the output that the network must have for it, bit for bit, on any machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// The int8 input, `[height, width, channels]`.
    pub input: Vec<i8>,
    /// The logits.
    pub logits: Vec<f32>,
}

pub(crate) fn golden_input(index: usize) -> String {
    format!("golden/{index}.input.bin")
}

pub(crate) fn golden_logits(index: usize) -> String {
    format!("golden/{index}.logits.bin")
}
