//! How nodes hang together.

use crate::import::names::printable;

/// Why a node does not fit among the others.
#[derive(Debug, thiserror::Error)]
pub enum StructureFault {
    #[error("it has no output")]
    NoOutput,
    #[error("its second output is used; only the first is supported, export for inference")]
    SecondOutput,
    #[error("its output `{name}` exists twice; the file is damaged", name = printable(name))]
    OutputTwice { name: String },
    #[error(
        "its input `{name}` is neither an initialiser nor made by a node; export the model with its weights",
        name = printable(name)
    )]
    UnmadeInput { name: String },
    #[error("it depends on its own output (a cycle); the file is damaged")]
    Cycle,
    #[error(
        "its attribute `{name}` holds a subgraph; control flow is not supported, export a plain network",
        name = printable(name)
    )]
    Subgraph { name: String },
}
