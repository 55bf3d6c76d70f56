//! Files that others have quantised: to the float network that they round, and what they round it to.
//!
//! Both forms are read: `QuantizeLinear` and `DequantizeLinear` round operators of floats (QDQ), and
//! operators of integers (`QLinearConv` and the like). Either becomes a float network in which
//! - constants are dequantised, so that they are the real numbers that the file means;
//! - each tensor that the file rounds to 8 bits is behind a node that says so, a mark: across it nothing
//!   is folded, so the roundings of the file stay where they are.
//!
//! The rest of the import takes this network as any other one.

mod constant;
mod fault;
mod layers;
mod operators;
mod parameters;
mod reference;
mod rewriting;

use std::collections::HashMap;
use std::path::Path;

use resight_runtime::Quantisation;
use tract_onnx::pb::ModelProto;

use super::error::{ImportError, is_standard};

pub(super) use self::constant::Width;
pub(super) use self::reference::with_rounding;
use self::rewriting::Rewriting;

/// The operator of a mark. No file has it: nodes of that name are refused but for the marks
/// themselves.
pub(super) const MARK: &str = "ResightRounding";

/// What a quantised file says of its numbers.
#[derive(Debug, Clone, Default)]
pub struct FileQuantisation {
    /// What results are rounded to, by the name of the node of the
    /// [`FloatGraph`](crate::graph::FloatGraph) that does it and nothing else.
    pub activations: HashMap<String, Quantisation>,
    /// The largest magnitude among the integer weights of each output, by the name of the layer's
    /// node: what one step of the output's weights is worth follows from it.
    pub weights: HashMap<String, Vec<u32>>,
    /// As `activations`, by the name of the rounded tensor.
    pub(super) tensors: HashMap<String, Quantisation>,
}

/// Whether the file holds operators on quantised numbers.
pub fn is_quantised(proto: &ModelProto) -> bool {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    nodes.into_iter().any(|node| is_quantised_operator(&node.op_type, &node.domain))
}

/// Whether the operator computes on quantised numbers.
pub(super) fn is_quantised_operator(operator: &str, domain: &str) -> bool {
    operator.starts_with("QLinear")
        || matches!(
            operator,
            "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" | "ConvInteger" | "MatMulInteger"
        )
        || (!is_standard(domain) && operator == "QGemm")
}

/// The float network of a quantised one.
///
/// # Errors
/// Names the node whose numbers cannot be used.
pub(super) fn dequantise(
    mut proto: ModelProto,
    path: &Path,
) -> Result<(ModelProto, FileQuantisation), ImportError> {
    let Some(graph) = proto.graph.take() else { return Ok((proto, FileQuantisation::default())) };
    let mut rewriting = Rewriting::new(graph, path);
    rewriting.run()?;
    let (graph, quantisation) = rewriting.finish();
    proto.graph = Some(graph);
    Ok((proto, quantisation))
}
