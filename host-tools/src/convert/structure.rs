//! From roundings that are nodes to layers whose outputs have scale and zero point.

use resight_runtime::Quantisation;

use super::error::{ConvertError, ConvertFault};
use crate::function::{Binary, Function};
use crate::graph::{FloatGraph, Node, NodeId, Operator};
use crate::import::FileQuantisation;
use crate::quantise::graph::Encoding;

/// A network whose layers round their own results.
#[derive(Debug)]
pub struct Rounded {
    /// The network, without nodes that only round, but for those that change scale or zero point.
    pub graph: FloatGraph,
    /// What each node's output is rounded to, by [`NodeId`]; none for the image, for what widens numbers
    /// and for logits that are real numbers.
    pub outputs: Vec<Option<Quantisation>>,
}

/// Takes the nodes that only round, which `quantisation` names, into the layers before them; `image` is how
/// the image is encoded.
///
/// # Errors
/// Names a node whose result is nowhere rounded, and one that takes the image in floats.
pub fn structure(
    graph: &FloatGraph,
    quantisation: &FileQuantisation,
    image: &Encoding,
) -> Result<Rounded, ConvertError> {
    let mark = |node: &Node| match &node.operator {
        Operator::Table(Function::Argument) => quantisation.activations.get(&node.name).copied(),
        _ => None,
    };
    let marks: Vec<Option<Quantisation>> = graph.nodes.iter().map(mark).collect();
    let wanted = wanted(graph, &marks);
    let rounded = Rounded {
        graph: FloatGraph { name: graph.name.clone(), nodes: vec![], outputs: vec![] },
        outputs: vec![],
    };
    let mut builder = Builder { rounded, place: vec![], image, takes_levels: quantisation.takes_levels };
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs = node.inputs.iter().map(|&input| builder.place[input]).collect();
        let node = Node { inputs, ..node.clone() };
        let place = match marks[id] {
            Some(quantisation) => builder.mark(node, quantisation),
            None => builder.node(node, wanted[id])?,
        };
        builder.place.push(place);
    }
    Ok(builder.rounded)
}

/// What each node's result is rounded to by those that follow, the widest of it: what only copies
/// values passes it on.
fn wanted(graph: &FloatGraph, marks: &[Option<Quantisation>]) -> Vec<Option<Quantisation>> {
    let mut wanted: Vec<Option<Quantisation>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        let passes_on = node.operator.keeps_values() || matches!(node.operator, Operator::Concat);
        let offered = marks[id].or(wanted[id].filter(|_| passes_on));
        let Some(offered) = offered else { continue };
        for &input in &node.inputs {
            if wanted[input].is_none_or(|other| other.scale < offered.scale) {
                wanted[input] = Some(offered);
            }
        }
    }
    wanted
}

/// A network while nodes are added to it.
struct Builder<'a> {
    rounded: Rounded,
    /// Where each node of the file's network is.
    place: Vec<NodeId>,
    image: &'a Encoding,
    /// Whether convolutions take the image as grey levels.
    takes_levels: bool,
}

impl Builder<'_> {
    fn push(&mut self, node: Node, output: Option<Quantisation>) -> NodeId {
        self.rounded.graph.nodes.push(node);
        self.rounded.outputs.push(output);
        self.rounded.outputs.len() - 1
    }

    /// A node that only rounds: nothing where its input is rounded so already.
    fn mark(&mut self, node: Node, quantisation: Quantisation) -> NodeId {
        let input = node.inputs[0];
        if self.rounded.outputs[input] == Some(quantisation) {
            // What the layer gives is the rounded tensor from here on.
            self.rounded.graph.nodes[input].tensor = node.tensor;
            return input;
        }
        let is_image = matches!(self.rounded.graph.nodes[input].operator, Operator::Input);
        if is_image && is_same(self.image, &Encoding::Tensor(quantisation), node.shape[0]) {
            self.rounded.outputs[input] = Some(quantisation);
            return input;
        }
        self.push(node, Some(quantisation))
    }

    /// Any other node.
    fn node(&mut self, mut node: Node, wanted: Option<Quantisation>) -> Result<NodeId, ConvertError> {
        let outputs = &self.rounded.outputs;
        let inputs: Vec<Option<Quantisation>> = node.inputs.iter().map(|&input| outputs[input]).collect();
        match &node.operator {
            Operator::Input | Operator::Linear { .. } => return Ok(self.push(node, None)),
            operator if operator.keeps_values() => return Ok(self.push(node, inputs[0])),
            _ => {}
        }
        let is_layer = matches!(node.operator, Operator::Convolution(_));
        let is_image = |&input: &NodeId| {
            self.takes_levels
                && is_layer
                && matches!(self.rounded.graph.nodes[input].operator, Operator::Input)
        };
        let is_float = |input: &NodeId| self.rounded.outputs[*input].is_none() && !is_image(input);
        if node.inputs.iter().any(is_float) {
            return Err(ConvertFault::FloatImage.of(&node.name));
        }
        if matches!(node.operator, Operator::GlobalAverage) {
            return Ok(self.push(node, None));
        }
        // Values that are only put together need no rounding of their own.
        let widest = inputs.iter().flatten().copied().max_by(|a, b| a.scale.total_cmp(&b.scale));
        let of_inputs = widest.filter(|_| matches!(node.operator, Operator::Concat));
        let of_inputs = of_inputs.or(inputs[0].filter(|_| selects(&node.operator)));
        let output = wanted.or(of_inputs).ok_or_else(|| ConvertFault::Island.of(&node.name))?;
        if let Operator::Table(function) = &node.operator
            && inputs == [Some(output)]
            && is_identity(function, output, node.shape[0])
        {
            return Ok(node.inputs[0]);
        }
        let limit = limit(&mut node.operator, output);
        let (name, tensor, shape) = (format!("{}_limit", node.name), node.tensor.clone(), node.shape);
        let place = self.push(node, Some(output));
        let Some(limit) = limit else { return Ok(place) };
        let table = Node { name, operator: Operator::Table(limit), inputs: vec![place], tensor, shape };
        Ok(self.push(table, Some(output)))
    }
}

/// Whether each result is one of the input's values, or zero.
fn selects(operator: &Operator) -> bool {
    let Operator::Convolution(layer) = operator else { return false };
    let columns = layer.weights.len() / layer.bias.len().max(1);
    #[expect(clippy::float_cmp, reason = "only exactly the same value is the same integer")]
    let is_one = |row: &[f32]| {
        let mut used = row.iter().filter(|&&weight| weight != 0.0);
        used.next().is_none_or(|&weight| weight == 1.0) && used.next().is_none()
    };
    layer.kernel == [1, 1]
        && layer.padding == [0; 4]
        && !layer.relu
        && !layer.residual
        && layer.bias.iter().all(|&bias| bias == 0.0)
        && layer.weights.chunks_exact(columns.max(1)).all(is_one)
}

/// Whether the same integers stand for the same numbers in all channels.
fn is_same(one: &Encoding, other: &Encoding, channels: usize) -> bool {
    (0..channels).all(|channel| {
        let steps = |q: i32| {
            let real = one.scale(channel) * (f64::from(q) - one.zero_point(channel));
            (real / other.scale(channel) + other.zero_point(channel) - f64::from(q)).abs()
        };
        steps(-128) < 1e-3 && steps(127) < 1e-3
    })
}

/// Whether a function changes no number of this scale and zero point.
fn is_identity(function: &Function, quantisation: Quantisation, channels: usize) -> bool {
    let (scale, zero) = (f64::from(quantisation.scale), f64::from(quantisation.zero_point));
    (0..channels).all(|channel| {
        (-128..=127).map(f64::from).all(|q| {
            let steps = function.at(scale * (q - zero), channel) / scale + zero;
            (steps.round().clamp(-128.0, 127.0) - q).abs() < 0.5
        })
    })
}

/// Takes a ReLU and its ceiling out of a layer whose output is not limited by them anyway: where zero
/// is the least number of the output, saturation is the ReLU, and where the ceiling is the largest one,
/// it is the ceiling. Gives what limits the values otherwise.
fn limit(operator: &mut Operator, output: Quantisation) -> Option<Function> {
    let (relu, ceiling) = match operator {
        Operator::Convolution(layer) => (&mut layer.relu, layer.ceiling),
        Operator::Add { relu } => (relu, None),
        _ => return None,
    };
    if !*relu {
        return None;
    }
    let steps = |value: f32| f64::from(value) / f64::from(output.scale) + f64::from(output.zero_point);
    let ends = ceiling.is_none_or(|ceiling| steps(ceiling).round() >= 127.0);
    if output.zero_point == -128 && ends {
        if let Operator::Convolution(layer) = operator {
            layer.ceiling = None;
        }
        return None;
    }
    *relu = false;
    if let Operator::Convolution(layer) = operator {
        layer.ceiling = None;
    }
    let positive = Function::Argument.with(Binary::Maximum, Function::number(0.0));
    Some(match ceiling {
        Some(high) => positive.with(Binary::Minimum, Function::number(f64::from(high))),
        None => positive,
    })
}
