//! How names and dimensions from a file are shown in messages.

use tract_onnx::pb::NodeProto;

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

/// Whether the domain is that of the standard operators.
pub(super) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}
