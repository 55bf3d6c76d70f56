//! How much of a network is computed in integers.

use resight_runtime::RuntimeError;
use tract_onnx::tract_core::internal::*;

/// Share of a graph's multiply-accumulate operations that is done on int8 weights in integers,
/// percent, by the cost that each tract operator states. 0 for a graph without any.
///
/// # Errors
/// A node that cannot state its cost, for example one of unknown size.
pub fn int8_mac_coverage_percent(graph: &TypedModel) -> Result<f64, RuntimeError> {
    let count = || -> TractResult<(i64, i64)> {
        let (mut int8, mut all) = (0, 0);
        for id in graph.eval_order()? {
            for (cost, count) in graph.node(id).op.cost(&graph.node_input_facts(id)?)? {
                let Cost::FMA(datum_type) = cost else { continue };
                let count = count.to_i64()?;
                all += count;
                int8 += if datum_type == DatumType::I8 { count } else { 0 };
            }
        }
        Ok((int8, all))
    };
    let (int8, all) =
        count().map_err(|error| RuntimeError::Graph(format!("counting operations: {error:#}")))?;
    Ok(if all == 0 { 0.0 } else { 100.0 * int8 as f64 / all as f64 })
}
