//! What a quantised file says of its numbers, and the marks of what it rounds.

use std::collections::HashMap;

use resight_runtime::Quantisation;
use tract_onnx::pb::ModelProto;

use crate::import::names::is_standard;

/// The operator of a mark. No file has it: nodes of that name are refused but for the marks
/// themselves.
pub(in crate::import) const MARK: &str = "ResightRounding";

/// The attribute of a mark that rounds the image to whole grey levels.
pub(in crate::import) const WHOLE_LEVELS: &str = "whole_levels";

/// The attribute of a mark that rounds to numbers of which the least is zero.
pub(in crate::import) const FROM_ZERO: &str = "from_zero";

/// The operator that has a number in a list for each integer of what was rounded: of a TFLite file's functions. Its
/// inputs are the result and the numbers.
pub(in crate::import) const TABLE: &str = "ResightTable";

/// The attribute of a table with what a step of its input is worth.
pub(in crate::import) const STEP: &str = "step";

/// The attribute of a table with how many steps from zero its first number is at.
pub(in crate::import) const FIRST: &str = "first";

/// What a quantised file says of its numbers.
#[derive(Debug, Clone, Default)]
pub struct FileQuantisation {
    /// What results are rounded to, by the name of the node of the
    /// [`FloatGraph`](crate::graph::FloatGraph) that does it and nothing else.
    pub activations: HashMap<String, Quantisation>,
    /// The largest magnitude among the integer weights of each output, by the name of the layer's
    /// node: what one step of the output's weights is worth follows from it.
    pub weights: HashMap<String, Vec<u32>>,
    /// What one step of the weights of each output is worth in the file, by the same name.
    pub scales: HashMap<String, Vec<f32>>,
    /// Whether the first layers take the image as the grey levels that it is made of.
    pub takes_levels: bool,
    /// As `activations`, by the name of the rounded tensor.
    pub(in crate::import) tensors: HashMap<String, Quantisation>,
}

/// Whether the file holds operators on quantised numbers.
pub fn is_quantised(proto: &ModelProto) -> bool {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    nodes.into_iter().any(|node| is_quantised_operator(&node.op_type, &node.domain))
}

/// Whether the operator computes on quantised numbers.
pub(in crate::import) fn is_quantised_operator(operator: &str, domain: &str) -> bool {
    operator.starts_with("QLinear")
        || matches!(
            operator,
            "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" | "ConvInteger" | "MatMulInteger"
        )
        || (!is_standard(domain) && operator == "QGemm")
}
