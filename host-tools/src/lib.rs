//! What the `resight` command line is made of: import, quantisation, evaluation.

pub mod boxes;
pub mod cards;
pub mod classifier;
pub mod comparison;
pub mod convert;
pub mod coverage;
pub mod decisions;
pub mod evaluate;
pub mod export;
pub mod fetch;
pub mod function;
pub mod graph;
pub mod images;
pub mod import;
pub mod label_files;
pub mod masks;
pub mod preprocess;
pub mod quantise;
pub mod readable;
pub mod reference;
pub mod save;
pub mod synth;
pub mod tags;
pub mod tasks;
pub mod teach;
