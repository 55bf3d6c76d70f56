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
pub(super) mod fault;
mod layers;
mod marks;
mod operators;
mod parameters;
mod reference;
mod rewriting;

use std::path::Path;

use tract_onnx::pb::ModelProto;

pub(super) use self::marks::{FIRST, FROM_ZERO, MARK, STEP, TABLE, WHOLE_LEVELS, is_quantised_operator};
pub use self::marks::{FileQuantisation, is_quantised};
pub(super) use self::reference::with_rounding;
use self::rewriting::Rewriting;
use super::error::ImportError;

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
    for node in rewriting.take_nodes() {
        let node = rewriting.named(node);
        let result = operators::rewrite(&mut rewriting, &node);
        result.map_err(|fault| ImportError::node(path, &node, fault))?;
    }
    let (graph, quantisation) = rewriting.finish();
    proto.graph = Some(graph);
    Ok((proto, quantisation))
}
