//! Chooses what each int8 tensor covers, from its histogram.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::graph::Operator;
use crate::quantise::calibrate::Calibration;
use crate::quantise::error::QuantiseError;
use crate::quantise::graph::QuantisationGraph;
use crate::quantise::range::choose;

/// Sets `range` of every convolution.
///
/// # Errors
/// None.
pub fn run(graph: &mut QuantisationGraph<'_>, calibration: &Calibration<'_>) -> Result<(), QuantiseError> {
    let nodes = &graph.float.nodes;
    let done = AtomicUsize::new(0);
    let total = nodes.len();
    let (method, progress) = (calibration.options.method, calibration.progress);
    graph.annotations.par_iter_mut().enumerate().for_each(|(id, annotation)| {
        if let (Operator::Convolution(_), Some(statistics)) =
            (&nodes[id].operator, &calibration.statistics[id])
        {
            annotation.range = Some(choose(method, &statistics.histogram));
        }
        progress("choosing ranges", done.fetch_add(1, Ordering::Relaxed) + 1, total);
    });
    Ok(())
}
