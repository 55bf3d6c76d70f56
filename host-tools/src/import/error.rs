//! Why a file is refused.

use std::path::{Path, PathBuf};

use tract_onnx::pb::NodeProto;

use super::bytes::{BytesError, BytesFault};
use super::encodings::fault::EncodingsError;
use super::fault::{ModelFault, NodeFault};
use super::names::{is_standard, node_name, printable};

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
        cause: Box<ModelFault>,
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
        cause: Box<NodeFault>,
    },
}

impl ImportError {
    /// The refusal of a file as a whole.
    pub(super) fn file(path: &Path, cause: impl Into<ModelFault>) -> ImportError {
        ImportError::File { path: path.into(), cause: Box::new(cause.into()) }
    }

    /// The refusal of one node.
    pub(super) fn node(path: &Path, node: &NodeProto, cause: impl Into<NodeFault>) -> ImportError {
        let domain = if is_standard(&node.domain) { String::new() } else { format!("{}.", node.domain) };
        ImportError::Node {
            path: path.into(),
            node: node_name(node),
            operator: printable(&format!("{domain}{}", node.op_type)),
            cause: Box::new(cause.into()),
        }
    }
}

impl From<BytesError> for ImportError {
    fn from(BytesError { path, cause }: BytesError) -> ImportError {
        match cause {
            BytesFault::System(cause) => ImportError::Read { path, cause },
            cause => ImportError::File { path, cause: Box::new(cause.into()) },
        }
    }
}
