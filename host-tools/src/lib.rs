//! What the `resight` command line is made of: import, quantisation, evaluation.

pub mod graph;
pub mod import;
pub mod quantise;
pub mod reference;
pub mod synth;
