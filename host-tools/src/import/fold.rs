//! Elementary operations to the nodes of a [`FloatGraph`].
//!
//! An affine operation, a residual addition and a `Relu` go into the convolution before them
//! when nothing else uses what is in between, in this order: that is what one convolution of
//! [`FloatConvolution`] computes. Where no convolution can take an affine operation, it becomes a
//! depthwise 1x1 convolution of its own (batch normalisation before a convolution, for one).
//! Functions, sums that no convolution takes, products and the rest are nodes of their own.

use std::collections::{HashMap, HashSet};

use resight_model_file::Activation;

use crate::function::{Binary, Function};
use crate::graph::{FloatConvolution, FloatGraph, GraphOutput, Node, Operator};

use super::ending;
use super::fault::folding::FoldingFault;
use super::folding::{Folding, Refusal, depthwise, identity};
use super::means;
use super::model::Ending;
use super::operation::{Kind, Operation};

/// What becomes of an operation.
enum Step {
    New(Operator),
    Into(usize),
}

/// Folds `operations`; the results of the operations `outputs` are the network's.
pub(super) fn fold(
    operations: Vec<Operation>,
    name: String,
    outputs: Vec<(usize, String, Option<Activation>)>,
    ending: &Ending,
) -> Result<FloatGraph, Refusal> {
    let uses = uses(&operations, &outputs);
    let shapes: Vec<[usize; 3]> = operations.iter().map(|o| o.shape).collect();
    let mut nodes: Vec<Folding> = Vec::new();
    // The node that holds an operation's result. An operation is only folded on when it has one
    // use, so no other needs what was there before.
    let mut holder = vec![0; operations.len()];
    for (index, operation) in operations.into_iter().enumerate() {
        if uses[index] == 0 {
            continue;
        }
        let selection = matches!(operation.kind, Kind::Select { .. });
        let mut inputs: Vec<usize> = operation.inputs.iter().map(|&input| holder[input]).collect();
        let sole: Vec<bool> = operation.inputs.iter().map(|&input| uses[input] == 1).collect();
        let step = match operation.kind {
            Kind::Input => Step::New(Operator::Input),
            Kind::MaxPool { kernel, stride, padding } => {
                Step::New(Operator::MaxPool { kernel, stride, padding })
            }
            Kind::GlobalAverage => Step::New(Operator::GlobalAverage),
            Kind::Convolution { weights, bias, kernel, stride, padding, dilation, groups } => {
                let mut convolution = FloatConvolution {
                    weights: weights.into(),
                    bias,
                    kernel,
                    stride,
                    padding,
                    dilation,
                    groups,
                    residual: false,
                    relu: false,
                    ceiling: None,
                };
                if sole[0] && absorb_affine(&mut nodes[inputs[0]], &mut convolution) {
                    inputs.clone_from(&nodes[inputs[0]].node.inputs);
                }
                Step::New(Operator::Convolution(convolution))
            }
            Kind::Affine { scale, offset } => affine(&mut nodes, inputs[0], sole[0], &scale, &offset),
            Kind::Relu => relu(&mut nodes, inputs[0], sole[0], operation.shape[0]),
            Kind::Clip { high } => clip(&mut nodes, inputs[0], sole[0], high),
            Kind::Add => add(&mut nodes, &inputs, &sole, matches!(ending, Ending::Rounded(_))),
            Kind::Rounding { .. } => Step::New(Operator::Table(Function::Argument)),
            Kind::Function(function) => {
                // A quantised file has rounded in between.
                let sole = sole[0] && !matches!(ending, Ending::Rounded(_));
                Step::New(means::function(&mut nodes, &mut inputs, sole, function, &uses))
            }
            Kind::AveragePool { kernel, stride, padding, counts_padding } => {
                Step::New(Operator::AveragePool { kernel, stride, padding, counts_padding })
            }
            Kind::Multiply => Step::New(Operator::Multiply),
            Kind::Normalise => Step::New(Operator::Normalise(vec![1.0; operation.shape[0]])),
            Kind::Concat => Step::New(Operator::Concat),
            Kind::Channels(order) => Step::New(Operator::Channels(order)),
            Kind::View => Step::New(Operator::View),
            Kind::Pad { padding, reflects } => Step::New(Operator::Pad { padding, reflects }),
            Kind::Upsample(factor) => Step::New(Operator::Upsample(factor)),
            Kind::Resize { rows, columns } => Step::New(Operator::Resize { rows, columns }),
            Kind::Interleave(factor) => Step::New(Operator::Interleave(factor)),
            Kind::Select { stride, before, .. } => {
                let channels = shapes[operation.inputs[0]][0];
                Step::New(Operator::Convolution(select(channels, operation.shape[0], before, stride)))
            }
        };
        let Operation { name, operator, tensor, shape, .. } = operation;
        let node = Node { name, operator: Operator::Input, inputs, tensor, shape };
        let folding = Folding { node, last: index, selection, absorbed: false, operator };
        holder[index] = settle(&mut nodes, step, folding);
    }
    let outputs = outputs
        .into_iter()
        .map(|(operation, name, activation)| GraphOutput {
            name,
            node: holder[operation],
            activation,
            group: None,
        })
        .collect();
    finish(nodes, name, outputs, ending)
}

/// Takes a step with an operation, which is described by `folding` but for its operator. Gives the node
/// that holds the operation's result.
fn settle(nodes: &mut Vec<Folding>, step: Step, folding: Folding) -> usize {
    match step {
        Step::Into(into) => {
            nodes[into].node.tensor = folding.node.tensor;
            nodes[into].last = folding.last;
            into
        }
        Step::New(operator) => {
            nodes.push(Folding { node: Node { operator, ..folding.node }, ..folding });
            nodes.len() - 1
        }
    }
}

/// How often each operation's result is needed for the outputs; 0 for one that is not.
fn uses(operations: &[Operation], outputs: &[(usize, String, Option<Activation>)]) -> Vec<usize> {
    let mut uses = vec![0; operations.len()];
    for (output, _, _) in outputs {
        uses[*output] += 1;
    }
    for (index, operation) in operations.iter().enumerate().rev() {
        if uses[index] > 0 {
            for &input in &operation.inputs {
                uses[input] += 1;
            }
        }
    }
    // The input stays, whatever becomes of it.
    if let Some(input) = uses.first_mut() {
        *input = (*input).max(1);
    }
    uses
}

fn affine(nodes: &mut [Folding], input: usize, sole: bool, scale: &[f64], offset: &[f64]) -> Step {
    nodes[input].selection &= !sole;
    if let (true, [factor, ..], Some(convolution)) = (sole, scale, nodes[input].convolution()) {
        // Behind a ceiling only a positive factor for all channels is in reach.
        let is_factor = *factor > 0.0 && scale.iter().all(|other| other.to_bits() == factor.to_bits());
        if let (true, Some(ceiling)) = (is_factor && offset.iter().all(|&o| o == 0.0), convolution.ceiling)
            && !convolution.residual
        {
            for value in convolution.weights.to_mut().iter_mut().chain(&mut convolution.bias) {
                *value = (f64::from(*value) * factor) as f32;
            }
            convolution.ceiling = Some((f64::from(ceiling) * factor) as f32);
            return Step::Into(input);
        }
    }
    if let (true, Operator::Normalise(factors)) = (sole, &mut nodes[input].node.operator)
        && offset.iter().all(|&offset| offset == 0.0)
    {
        for (own, factor) in factors.iter_mut().zip(scale) {
            *own = (f64::from(*own) * factor) as f32;
        }
        return Step::Into(input);
    }
    if let Some(open) = open(nodes, input, sole, |c| !c.relu && !c.residual) {
        for index in open {
            let Some(convolution) = nodes[index].convolution() else { continue };
            let per_output = convolution.weights.len() / scale.len();
            for (weights, factor) in convolution.weights.to_mut().chunks_exact_mut(per_output).zip(scale) {
                for weight in weights {
                    *weight = (f64::from(*weight) * factor) as f32;
                }
            }
            for ((bias, factor), offset) in convolution.bias.iter_mut().zip(scale).zip(offset) {
                *bias = (f64::from(*bias) * factor + offset) as f32;
            }
        }
        return Step::Into(input);
    }
    let as_f32 = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
    Step::New(Operator::Convolution(depthwise(as_f32(scale), as_f32(offset), [1, 1])))
}

/// The convolutions that give a node's values and can take more in: the node itself, or all phases of
/// a transposed convolution. `None` where one of them cannot, or where others use its values too.
fn open(
    nodes: &mut [Folding],
    input: usize,
    sole: bool,
    takes: impl Fn(&FloatConvolution) -> bool,
) -> Option<Vec<usize>> {
    let own = match nodes[input].node.operator {
        Operator::Interleave(_) => nodes[input].node.inputs.clone(),
        _ => vec![input],
    };
    let all = own.iter().all(|&index| nodes[index].convolution().is_some_and(|c| takes(c)));
    (sole && all).then_some(own)
}

/// Folds `before`, where it only scales and shifts each channel, into the convolution behind it;
/// `before` has no other use. Says whether it did.
fn absorb_affine(before: &mut Folding, convolution: &mut FloatConvolution) -> bool {
    // Padding with zeros comes between the two.
    if convolution.padding != [0; 4] || before.selection {
        return false;
    }
    let Some(affine) = before.convolution() else { return false };
    let channels = affine.bias.len();
    let is_affine = affine.groups == channels
        && affine.weights.len() == channels
        && affine.stride == [1, 1]
        && affine.padding == [0; 4]
        && !affine.relu
        && !affine.residual;
    if !is_affine {
        return false;
    }
    let taps = convolution.kernel[0] * convolution.kernel[1];
    let (group_inputs, group_outputs) =
        (channels / convolution.groups, convolution.bias.len() / convolution.groups);
    let rows = convolution.weights.to_mut().chunks_exact_mut(group_inputs * taps).zip(&mut convolution.bias);
    for (output, (row, bias)) in rows.enumerate() {
        let first = output / group_outputs * group_inputs;
        let mut shifted = f64::from(*bias);
        for (position, weight) in row.iter_mut().enumerate() {
            let channel = first + position / taps;
            shifted += f64::from(*weight) * f64::from(affine.bias[channel]);
            *weight = (f64::from(*weight) * f64::from(affine.weights[channel])) as f32;
        }
        *bias = shifted as f32;
    }
    before.absorbed = true;
    true
}

fn relu(nodes: &mut [Folding], input: usize, sole: bool, channels: usize) -> Step {
    if let Some(open) = open(nodes, input, sole, |c| !c.relu) {
        for index in open {
            nodes[index].convolution().into_iter().for_each(|convolution| convolution.relu = true);
        }
        return Step::Into(input);
    }
    match &mut nodes[input].node.operator {
        Operator::Add { relu } if sole => {
            *relu = true;
            return Step::Into(input);
        }
        Operator::Input | Operator::Convolution(_) | Operator::MaxPool { .. } | Operator::GlobalAverage => {}
        _ => {
            return Step::New(Operator::Table(
                Function::Argument.with(Binary::Maximum, Function::number(0.0)),
            ));
        }
    }
    let mut convolution = identity(channels);
    convolution.relu = true;
    Step::New(Operator::Convolution(convolution))
}

/// From 0 to `high`: a ReLU whose output ends there.
fn clip(nodes: &mut [Folding], input: usize, sole: bool, high: f32) -> Step {
    if let Some(open) = open(nodes, input, sole, |_| true) {
        for index in open {
            let Some(convolution) = nodes[index].convolution() else { continue };
            convolution.relu = true;
            convolution.ceiling = Some(convolution.ceiling.map_or(high, |ceiling| ceiling.min(high)));
        }
        return Step::Into(input);
    }
    Step::New(Operator::Table(Function::Argument.limited(0.0, f64::from(high))))
}

fn add(nodes: &mut [Folding], inputs: &[usize], sole: &[bool], rounds: bool) -> Step {
    let mut open = Vec::new();
    for position in 0..2 {
        let node = &mut nodes[inputs[position]];
        // In a quantised file a selection keeps its integers, and a sum tells scales apart more finely than the
        // multiplier of a residual does.
        let is_kept = rounds && node.selection;
        if !is_kept && node.convolution().is_some_and(|c| sole[position] && !c.relu && !c.residual) {
            open.push((!node.selection, node.last, position));
        }
    }
    // The later of two convolutions; a shortcut's selection only when there is no other, because
    // as a residual it loses nothing to quantisation.
    if let Some(&(_, _, position)) = open.iter().max() {
        let into = inputs[position];
        nodes[into].node.inputs.push(inputs[1 - position]);
        if let Some(convolution) = nodes[into].convolution() {
            convolution.residual = true;
        }
        return Step::Into(into);
    }
    Step::New(Operator::Add { relu: false })
}

/// Every stride-th position of `inputs` channels, which come after `before` channels of zeros.
fn select(inputs: usize, outputs: usize, before: usize, stride: [usize; 2]) -> FloatConvolution {
    if inputs == outputs {
        return depthwise(vec![1.0; inputs], vec![0.0; inputs], stride);
    }
    let mut weights = vec![0.0; inputs * outputs];
    for channel in 0..inputs {
        weights[(before + channel) * inputs + channel] = 1.0;
    }
    FloatConvolution {
        weights: weights.into(),
        bias: vec![0.0; outputs],
        kernel: [1, 1],
        stride,
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        residual: false,
        relu: false,
        ceiling: None,
    }
}

/// Orders the nodes, ends those of a classifier with an average and a linear layer, and checks the
/// result.
fn finish(
    mut nodes: Vec<Folding>,
    name: String,
    mut outputs: Vec<GraphOutput>,
    ending: &Ending,
) -> Result<FloatGraph, Refusal> {
    // An absorbed addition moves its convolution behind the other operand.
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&index| !nodes[index].absorbed).collect();
    order.sort_by_key(|&index| nodes[index].last);
    let mut place = vec![0; nodes.len()];
    for (position, &index) in order.iter().enumerate() {
        place[index] = position;
    }
    nodes.retain(|node| !node.absorbed);
    nodes.sort_by_key(|node| node.last);
    for node in &mut nodes {
        for input in &mut node.node.inputs {
            *input = place[*input];
        }
    }
    for output in &mut outputs {
        output.node = place[output.node];
    }
    match ending {
        Ending::Logits(_) => {
            ending::finish(&mut nodes)?;
            outputs.clear();
        }
        Ending::Vector(_) => {
            ending::finish_vector(&mut nodes)?;
            outputs.clear();
        }
        Ending::Rounded(_) => {
            ending::finish_rounded(&mut nodes)?;
            outputs.clear();
        }
        Ending::Maps(_) => ending::maps(&mut nodes, &outputs)?,
    }
    let mut names: HashSet<String> = HashSet::new();
    // The last number that was appended to a name, so that many equal names take no longer.
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for folding in &mut nodes {
        let parameters = match &folding.node.operator {
            Operator::Convolution(FloatConvolution { weights, bias, .. })
            | Operator::Linear { weights, bias } => Some((weights, bias)),
            _ => None,
        };
        if parameters.is_some_and(|(w, b)| w.iter().chain(b.iter()).any(|v| !v.is_finite())) {
            return Err(folding.refusal(FoldingFault::Overflow));
        }
        let base = folding.node.name.clone();
        while !names.insert(folding.node.name.clone()) {
            let number = numbers.entry(base.clone()).or_insert(1);
            *number += 1;
            folding.node.name = format!("{base}_{number}");
        }
    }
    let nodes = nodes.into_iter().map(|folding| stored(folding.node)).collect();
    Ok(FloatGraph { name, nodes, outputs })
}

/// A node to which nothing is added any more: very many weights need not be in memory.
fn stored(mut node: Node) -> Node {
    if let Operator::Convolution(FloatConvolution { weights, .. }) | Operator::Linear { weights, .. } =
        &mut node.operator
    {
        weights.store();
    }
    node
}
