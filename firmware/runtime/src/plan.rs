//! Networks run node by node by tract's plan: the reference for compiled programs.

use std::sync::Arc;

use tract_nnef::internal::*;
use tract_nnef::tract_core::plan::TurnStateHandler;

use crate::target::Target;

/// Tells the layers of a session what to pack themselves for.
#[derive(Debug)]
struct ForTarget(Target);

impl TurnStateHandler for ForTarget {
    fn before_plan_eval(&self, turn: &mut TurnState) -> TractResult<()> {
        turn.shared.insert(self.0);
        Ok(())
    }

    fn after_plan_eval(&self, _: &mut TurnState) -> TractResult<()> {
        Ok(())
    }
}

/// tract's plan of a graph with kernels for `target`, on the calling thread. Without this
/// function a plan runs the scalar kernels.
///
/// # Errors
/// A graph that tract cannot order.
pub fn plan(graph: TypedModel, target: Target) -> TractResult<Arc<TypedRunnableModel>> {
    let plan = TypedSimplePlan::build(graph, &RunOptions::default())?;
    Ok(Arc::new(plan.with_turn_handler(ForTarget(target))))
}
