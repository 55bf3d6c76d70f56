//! Why a file is refused, and how nodes are named in messages.

use std::path::{Path, PathBuf};

use tract_onnx::pb::NodeProto;

use super::encodings::fault::EncodingsError;

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
    /// The encodings that were given with it cannot be used.
    #[error(transparent)]
    Encodings(#[from] EncodingsError),
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

/// A name from the file, fit for a one-line message.
pub(super) fn printable(name: &str) -> String {
    const LONGEST: usize = 120;
    let escaped = name.escape_debug().to_string();
    if escaped.chars().count() <= LONGEST {
        return escaped;
    }
    escaped.chars().take(LONGEST).chain("…".chars()).collect()
}

/// Dimensions of which some are unknown.
pub(super) fn shown(dims: &[Option<i64>]) -> String {
    let dims: Vec<String> = dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// The node's name, or that of its first output.
pub(super) fn node_name(node: &NodeProto) -> String {
    let output = node.output.iter().find(|o| !o.is_empty());
    printable(if node.name.is_empty() { output.map_or("(unnamed)", |o| o) } else { &node.name })
}

/// The refusal of one node.
pub(super) fn node_error(path: &Path, node: &NodeProto, cause: String) -> ImportError {
    let domain = if is_standard(&node.domain) { String::new() } else { format!("{}.", node.domain) };
    ImportError::Node {
        path: path.into(),
        node: node_name(node),
        operator: printable(&format!("{domain}{}", node.op_type)),
        cause,
    }
}

/// Whether the domain is that of the standard operators.
pub(super) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}
