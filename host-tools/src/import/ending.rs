//! The end of every int8 network: the average over all positions in 16 bits, and the linear layer
//! that makes the logits of it.
//!
//! Layers between the average and the last linear one (`Linear, ReLU, Linear`) are 1x1
//! convolutions of a 1x1 image. Then the average over the image is a depthwise convolution with a
//! window of the image's size, and the average before the linear layer is over one position, which
//! only widens the numbers.

use crate::graph::{FloatConvolution, GraphOutput, Node, Operator};

use super::fault::folding::FoldingFault;
use super::folding::{Folding, Refusal, average, identity};

/// Most weights of the identity matrix behind a network that ends in an average.
const MAX_IDENTITY: usize = 1 << 24;

/// Makes `nodes`, which are in their final order, end in one average and one linear layer.
pub(super) fn finish(nodes: &mut Vec<Folding>) -> Result<(), Refusal> {
    let Some(last) = nodes.last() else {
        return Err(nothing());
    };
    if matches!(last.node.operator, Operator::GlobalAverage) {
        let identity = logits_of_average(nodes)?;
        nodes.push(identity);
    } else {
        linear_last(nodes)?;
    }
    let linear = nodes.len() - 1;
    let features = nodes[linear].node.inputs[0];
    if !ends_in_average(nodes, features) {
        if is_image(nodes, features) {
            return Err(nodes[linear].refusal(FoldingFault::OfImage));
        }
        widen(nodes);
    }
    // What lies behind the last image is the head; averages before it belong to gates and the like,
    // often over large images.
    let tail = nodes.len() - 2;
    let head = nodes.iter().rposition(|folding| folding.node.shape[1..] != [1, 1]).unwrap_or(0);
    for index in 0..tail {
        if matches!(nodes[index].node.operator, Operator::GlobalAverage) {
            let [channels, height, width] = nodes[nodes[index].node.inputs[0]].node.shape;
            nodes[index].node.operator = if index > head {
                Operator::Convolution(average(channels, [height, width]))
            } else {
                Operator::AveragePool {
                    kernel: [height, width],
                    stride: [1, 1],
                    padding: [0; 4],
                    counts_padding: false,
                }
            };
        }
    }
    Ok(())
}

/// The refusal of a network without nodes.
fn nothing() -> Refusal {
    Refusal { node: "(none)".into(), operator: "input".into(), cause: FoldingFault::NoClassifier }
}

/// As [`finish`], of a network that ends in a vector. Whatever makes it, a linear layer comes last: one that
/// changes nothing where there is no other.
pub(super) fn finish_vector(nodes: &mut Vec<Folding>) -> Result<(), Refusal> {
    if let Some(last) = nodes.last() {
        let [numbers, height, width] = last.node.shape;
        if [height, width] != [1, 1] {
            return Err(last.refusal(FoldingFault::Map { height, width }));
        }
        if numbers * numbers > MAX_IDENTITY {
            return Err(last.refusal(FoldingFault::LongVector(numbers)));
        }
        if !is_linear(nodes) {
            let index = nodes.len() - 1;
            let before = &nodes[index];
            let last = Folding {
                node: Node {
                    name: format!("{}_vector", before.node.name),
                    operator: Operator::Convolution(identity(numbers)),
                    inputs: vec![index],
                    tensor: before.node.tensor.clone(),
                    shape: before.node.shape,
                },
                last: before.last,
                selection: false,
                absorbed: false,
                operator: before.operator.clone(),
            };
            nodes.push(last);
        }
    }
    finish(nodes)
}

/// Checks the outputs of a network that gives maps. An average over an image is a layer like others
/// there.
pub(super) fn maps(nodes: &mut [Folding], outputs: &[GraphOutput]) -> Result<(), Refusal> {
    for (position, output) in outputs.iter().enumerate() {
        if is_image(nodes, output.node) {
            return Err(nodes[output.node].refusal(FoldingFault::ImageAsOutput));
        }
        if let Some(same) = outputs[..position].iter().find(|other| other.node == output.node) {
            let (first, second) = (same.name.clone(), output.name.clone());
            return Err(nodes[output.node].refusal(FoldingFault::SameOutputs { first, second }));
        }
    }
    for index in 0..nodes.len() {
        if matches!(nodes[index].node.operator, Operator::GlobalAverage) {
            let [_, height, width] = nodes[nodes[index].node.inputs[0]].node.shape;
            nodes[index].node.operator = Operator::AveragePool {
                kernel: [height, width],
                stride: [1, 1],
                padding: [0; 4],
                counts_padding: false,
            };
        }
    }
    Ok(())
}

/// Ends the `nodes` of a quantised file, which stay as the file has them. Averages over the image are
/// rounded to 8 bits like any other result. Where the file rounds its logits too, nothing follows them;
/// else they are those of a linear layer, before which the numbers are widened.
pub(super) fn finish_rounded(nodes: &mut Vec<Folding>) -> Result<(), Refusal> {
    let Some(last) = nodes.last() else {
        return Err(nothing());
    };
    let is_rounded = matches!(last.node.operator, Operator::Table(_));
    if is_rounded && last.node.shape[1..] != [1, 1] {
        return Err(last.refusal(FoldingFault::NoClassifier));
    }
    let mut kept = None;
    if !is_rounded {
        linear_last(nodes)?;
        // An average that is not rounded before it has 16 bits, as in every network.
        let features = nodes.last().and_then(|last| last.node.inputs.first().copied());
        kept = features.filter(|&features| ends_in_average(nodes, features));
    }
    for index in 0..nodes.len() {
        if kept != Some(index) && matches!(nodes[index].node.operator, Operator::GlobalAverage) {
            let [_, height, width] = nodes[nodes[index].node.inputs[0]].node.shape;
            nodes[index].node.operator = Operator::AveragePool {
                kernel: [height, width],
                stride: [1, 1],
                padding: [0; 4],
                counts_padding: false,
            };
        }
    }
    if !is_rounded && kept.is_none() {
        widen(nodes);
    }
    Ok(())
}

/// Puts an average over one position, which only widens the numbers, before the last node, the linear
/// layer.
fn widen(nodes: &mut Vec<Folding>) {
    let linear = nodes.len() - 1;
    let features = nodes[linear].node.inputs[0];
    let before = &nodes[features];
    let widening = Folding {
        node: Node {
            name: format!("{}_input", nodes[linear].node.name),
            operator: Operator::GlobalAverage,
            inputs: vec![features],
            tensor: before.node.tensor.clone(),
            shape: before.node.shape,
        },
        last: before.last,
        selection: false,
        absorbed: false,
        operator: before.operator.clone(),
    };
    nodes.insert(linear, widening);
    nodes[linear + 1].node.inputs = vec![linear];
}

/// Whether the node is the average that the last one, the linear layer, alone uses.
fn ends_in_average(nodes: &[Folding], features: usize) -> bool {
    let uses = nodes.iter().flat_map(|node| &node.node.inputs).filter(|&&input| input == features).count();
    matches!(nodes[features].node.operator, Operator::GlobalAverage)
        && uses == 1
        && features + 2 == nodes.len()
        && !is_image(nodes, nodes[features].node.inputs[0])
}

/// Whether the node's values are grey levels of the image, which have a scale for each channel.
fn is_image(nodes: &[Folding], mut index: usize) -> bool {
    loop {
        match nodes[index].node.operator {
            Operator::Input => return true,
            _ if nodes[index].node.operator.keeps_values() => index = nodes[index].node.inputs[0],
            _ => return false,
        }
    }
}

/// The linear layer that changes nothing, behind the last node: the average over a convolution
/// whose channels are the classes.
fn logits_of_average(nodes: &[Folding]) -> Result<Folding, Refusal> {
    let index = nodes.len() - 1;
    let last = &nodes[index];
    let classes = last.node.shape[0];
    let is_classifier = match &nodes[last.node.inputs[0]].node.operator {
        Operator::Convolution(c) => c.kernel == [1, 1] && c.stride == [1, 1] && c.groups == 1 && !c.residual,
        _ => false,
    };
    if !is_classifier || classes * classes > MAX_IDENTITY {
        return Err(last.refusal(FoldingFault::NoClassifier));
    }
    let mut weights = vec![0.0; classes * classes];
    for class in 0..classes {
        weights[class * classes + class] = 1.0;
    }
    Ok(Folding {
        node: Node {
            name: format!("{}_logits", last.node.name),
            operator: Operator::Linear { weights: weights.into(), bias: vec![0.0; classes] },
            inputs: vec![index],
            tensor: last.node.tensor.clone(),
            shape: last.node.shape,
        },
        last: last.last,
        selection: false,
        absorbed: false,
        operator: last.operator.clone(),
    })
}

/// Whether a 1x1 convolution has all weights of a linear layer, or one for each output: a bias behind what was
/// rounded.
fn is_dense_or_single(c: &FloatConvolution) -> bool {
    c.groups == 1 || (c.groups == c.weights.len() && c.groups * c.groups <= MAX_IDENTITY)
}

/// The matrix that multiplies each feature alone.
fn diagonal(weights: &[f32]) -> Vec<f32> {
    let mut matrix = vec![0.0; weights.len() * weights.len()];
    for (at, &weight) in weights.iter().enumerate() {
        matrix[at * weights.len() + at] = weight;
    }
    matrix
}

/// Whether the last node, a 1x1 convolution of a 1x1 image, is a linear layer.
fn is_linear(nodes: &[Folding]) -> bool {
    let Some((last, before)) = nodes.split_last() else { return false };
    let single = |node: &Node| node.shape[1..] == [1, 1];
    let from_single = last.node.inputs.first().is_some_and(|&input| single(&before[input].node));
    match &last.node.operator {
        Operator::Convolution(c) if from_single && single(&last.node) => {
            c.kernel == [1, 1] && is_dense_or_single(c) && !c.relu && !c.residual
        }
        _ => false,
    }
}

/// Turns the last node, a 1x1 convolution of a 1x1 image, into the linear layer that it is.
fn linear_last(nodes: &mut [Folding]) -> Result<(), Refusal> {
    let is_linear = is_linear(nodes);
    let Some(last) = nodes.last_mut() else { return Ok(()) };
    match last.convolution() {
        Some(c) if is_linear => {
            let (mut weights, bias) = (std::mem::take(&mut c.weights), std::mem::take(&mut c.bias));
            if c.groups > 1 {
                weights = diagonal(&weights).into();
            }
            last.node.operator = Operator::Linear { weights, bias };
            Ok(())
        }
        _ => Err(last.refusal(FoldingFault::NoClassifier)),
    }
}
