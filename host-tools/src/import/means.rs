//! Generalised means (`GeM`): the root of the mean of powers.
//!
//! A power of an activation spans more orders of magnitude than an int8 tensor holds, so that the three
//! operations are one, whose sum is wide.

use super::folding::Folding;
use crate::function::Function;
use crate::graph::Operator;

/// A function of the node `inputs`, which nothing else reads where `sole`; or the generalised mean that it ends, whose
/// inputs take their place. `uses` says how often the result of each operation is needed.
pub(super) fn function(
    nodes: &mut [Folding],
    inputs: &mut Vec<usize>,
    sole: bool,
    outer: Function,
    uses: &[usize],
) -> Operator {
    match absorb(nodes, (inputs[0], sole), &outer, uses) {
        None => Operator::Table(outer),
        Some((inner, source)) => {
            *inputs = source;
            Operator::GeneralisedMean { inner, outer }
        }
    }
}

/// The nodes behind which `outer` is a generalised mean: the inner function, and what that reads. They are no
/// nodes of their own any more.
fn absorb(
    nodes: &mut [Folding],
    (input, sole): (usize, bool),
    outer: &Function,
    uses: &[usize],
) -> Option<(Function, Vec<usize>)> {
    let mean = nodes.get(input)?;
    let is_mean = sole && matches!(mean.node.operator, Operator::GlobalAverage);
    let table = mean.node.inputs.first().copied().filter(|_| is_mean)?;
    let Operator::Table(inner) = &nodes[table].node.operator else { return None };
    let source = &nodes[*nodes[table].node.inputs.first()?].node.operator;
    let is_known = uses[nodes[table].last] == 1 && !is_image(nodes, table);
    if !is_known || !are_powers(inner, outer, is_non_negative(source)) {
        return None;
    }
    let found = (inner.clone(), nodes[table].node.inputs.clone());
    nodes[input].absorbed = true;
    nodes[table].absorbed = true;
    Some(found)
}

fn is_non_negative(operator: &Operator) -> bool {
    match operator {
        Operator::Convolution(convolution) => convolution.relu,
        Operator::Add { relu } => *relu,
        _ => false,
    }
}

/// Whether the inner function is never negative, of arguments that are not where `non_negative`, and the outer one
/// rises from zero on: tried over as many orders of magnitude as an activation may have.
fn are_powers(inner: &Function, outer: &Function, non_negative: bool) -> bool {
    let sizes = || (-24..=24).map(|half| libm::exp10(f64::from(half) / 2.0));
    let whole = inner.channels().is_none() && outer.channels().is_none();
    let positive = |x: f64| inner.at(x, 0) >= 0.0 && (non_negative || inner.at(-x, 0) >= 0.0);
    let rises = std::iter::once(0.0).chain(sizes()).map(|x| outer.at(x, 0)).is_sorted_by(|a, b| a <= b);
    whole && inner.at(0.0, 0) >= 0.0 && sizes().all(positive) && rises
}

/// Whether a node's input is grey levels, which have a scale for each channel.
fn is_image(nodes: &[Folding], mut index: usize) -> bool {
    loop {
        let Some(&input) = nodes[index].node.inputs.first() else { return true };
        let operator = &nodes[input].node.operator;
        if !operator.keeps_values() {
            return matches!(operator, Operator::Input);
        }
        index = input;
    }
}
