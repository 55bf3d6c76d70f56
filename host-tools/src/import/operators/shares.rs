//! `Softmax` over parts of the channels at one position: the shares of split attention and of selective
//! kernels.
//!
//! Exponentials span more orders of magnitude than int8 holds, so they are never formed. A part is weighed
//! against another one, pairs against pairs and so on: with `d = x - y`, where `y` is what `x` is weighed
//! against, the share is the product of `sigmoid(d)` over the rounds, and `ln(exp(x) + exp(y))`, which is
//! `x + softplus(-d)`, stands for both in the next round.

use tract_onnx::pb::NodeProto;

use crate::function::{Binary, Function, Unary};
use crate::import::fault::NodeFault;
use crate::import::fault::heads::HeadFault;
use crate::import::importer::Importer;
use crate::import::limits::LimitFault;
use crate::import::model::{integer, integers};
use crate::import::operation::Kind;
use crate::import::value::{Axis, Data, Outcome};

/// Most channels of a softmax over parts.
const MAX_CHANNELS: usize = 1 << 12;

/// Whether the dimension is one of parts of the channels.
pub(super) fn is_of_parts(axis: Axis) -> bool {
    matches!(axis, Axis::Outer(_) | Axis::Middle(_))
}

/// The softmax over the parts along the dimension `axis`.
pub(super) fn softmax_of_parts(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    data: &Data,
    axis: usize,
) -> Outcome {
    let channels = data.shape[0];
    let parts = data.size(data.layout[axis]);
    if parts == 1 {
        return Err(HeadFault::OnePart.into());
    }
    if !parts.is_power_of_two() || channels > MAX_CHANNELS || data.shape[1..] != [1, 1] {
        return Err(HeadFault::Parts { parts, channels, most: MAX_CHANNELS }.into());
    }
    if parts == 2 && data.parts() == 1 {
        return softmax_of_two(importer, node, data, axis);
    }
    let before = if matches!(data.layout[axis], Axis::Middle(_)) { data.groups() } else { 1 };
    let division = Division { before, parts, after: channels / (before * parts) };
    let mut round = division.first(importer, node, data)?;
    let mut share = round.share(importer, node)?;
    while let Some(next) = round.next(importer, node, &division)? {
        round = next;
        let other = round.share(importer, node)?;
        share = together(importer, node, Kind::Multiply, "Mul", [&share, &other])?;
    }
    let apart = Kind::Channels(division.apart());
    importer.value_of(node, apart, vec![share.operation], data.shape, &data.layout)
}

/// The softmax over two halves of the channels: the sigmoid of their difference.
fn softmax_of_two(importer: &mut Importer<'_>, node: &NodeProto, data: &Data, axis: usize) -> Outcome {
    let channels = data.shape[0];
    // Each channel less its counterpart, as a convolution.
    let half = channels / 2;
    let mut weights = vec![0.0; channels * channels];
    for channel in 0..channels {
        weights[channel * channels + channel] = 1.0;
        weights[channel * channels + (channel + half) % channels] = -1.0;
    }
    importer.charge(weights.len())?;
    let tensor = importer.tensor_of(&node.input[0], data.operation);
    let order = importer.add_node("Constant", &[], vec![integers(&[1, 0])]);
    let exchanged = importer.add_node("Gather", &[&tensor, &order], vec![integer("axis", axis as i64)]);
    let difference = importer.add_node("Sub", &[&tensor, &exchanged], vec![]);
    let kind = pointwise(weights, channels, 1);
    let step = importer.step(node, kind, vec![data.operation], data.shape, &difference)?;
    let sigmoid = Kind::Function(Function::Argument.then(Unary::Sigmoid));
    importer.value_of(node, sigmoid, vec![step], data.shape, &data.layout)
}

/// A 1x1 convolution without a bias.
fn pointwise(weights: Vec<f32>, channels: usize, groups: usize) -> Kind {
    Kind::Convolution {
        weights,
        bias: vec![0.0; channels],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups,
    }
}

/// How channels are divided: `[before][parts][after]`. Here they are in the order
/// `[before][after][parts]`, so that what is weighed against each other lies in one small group of a
/// convolution.
struct Division {
    before: usize,
    parts: usize,
    after: usize,
}

/// An operation's result and the tensor that the reference has for it.
struct Step {
    operation: usize,
    tensor: String,
}

/// Each part weighed against what is `distance` from it.
struct Round {
    distance: usize,
    /// What is weighed.
    own: Step,
    /// `own` less what it is weighed against.
    difference: Step,
}

impl Division {
    fn channels(&self) -> usize {
        self.before * self.parts * self.after
    }

    /// Where the channels `[before][after][parts]` come from.
    fn joined(&self) -> Vec<usize> {
        let Self { parts, after, .. } = *self;
        (0..self.channels())
            .map(|at| (at / parts / after * parts + at % parts) * after + at / parts % after)
            .collect()
    }

    /// Where the channels `[before][parts][after]` come from.
    fn apart(&self) -> Vec<usize> {
        let Self { parts, after, .. } = *self;
        (0..self.channels())
            .map(|at| (at / after / parts * after + at % after) * parts + at / after % parts)
            .collect()
    }

    fn first(&self, importer: &mut Importer<'_>, node: &NodeProto, data: &Data) -> Result<Round, NodeFault> {
        let Self { before, parts, after } = *self;
        let tensor = importer.operations[data.operation].tensor.clone();
        let dims = integers(&[1, before as i64, parts as i64, after as i64]);
        let dims = importer.add_node("Constant", &[], vec![dims]);
        let divided = importer.add_node("Reshape", &[&tensor, &dims], vec![]);
        let tensor = importer.add_transpose(divided, vec![0, 1, 3, 2]);
        let kind = Kind::Channels(self.joined());
        let operation = importer.step(node, kind, vec![data.operation], data.shape, &tensor)?;
        self.round(importer, node, Step { operation, tensor }, 1)
    }

    fn round(
        &self,
        importer: &mut Importer<'_>,
        node: &NodeProto,
        own: Step,
        distance: usize,
    ) -> Result<Round, NodeFault> {
        let (channels, parts) = (self.channels(), self.parts);
        let mut weights = vec![0.0; channels * parts];
        for (channel, row) in weights.chunks_exact_mut(parts).enumerate() {
            row[channel % parts] = 1.0;
            row[(channel % parts) ^ distance] = -1.0;
        }
        importer.charge(weights.len())?;
        let order: Vec<i64> = (0..parts).map(|part| (part ^ distance) as i64).collect();
        let order = importer.add_node("Constant", &[], vec![integers(&order)]);
        let others = importer.add_node("Gather", &[&own.tensor, &order], vec![integer("axis", 3)]);
        let tensor = importer.add_node("Sub", &[&own.tensor, &others], vec![]);
        let kind = pointwise(weights, channels, channels / parts);
        let operation = importer.step(node, kind, vec![own.operation], [channels, 1, 1], &tensor)?;
        Ok(Round { distance, own, difference: Step { operation, tensor } })
    }
}

impl Round {
    /// The share of each against the other.
    fn share(&self, importer: &mut Importer<'_>, node: &NodeProto) -> Result<Step, LimitFault> {
        let Step { operation, tensor } = &self.difference;
        let tensor = importer.add_node("Sigmoid", &[tensor], vec![]);
        let sigmoid = Kind::Function(Function::Argument.then(Unary::Sigmoid));
        let shape = importer.operations[*operation].shape;
        Ok(Step { operation: importer.step(node, sigmoid, vec![*operation], shape, &tensor)?, tensor })
    }

    /// Both together against as many others; `None` after the last round.
    fn next(
        &self,
        importer: &mut Importer<'_>,
        node: &NodeProto,
        division: &Division,
    ) -> Result<Option<Self>, NodeFault> {
        let distance = 2 * self.distance;
        if distance >= division.parts {
            return Ok(None);
        }
        let Step { operation, tensor } = &self.difference;
        // The same for the reference, whose exponentials overflow above 88.
        let negative = importer.add_node("Neg", &[tensor], vec![]);
        let above = importer.add_node("Relu", &[&negative], vec![]);
        let size = importer.add_node("Abs", &[tensor], vec![]);
        let below = importer.add_node("Neg", &[&size], vec![]);
        let rest = importer.add_node("Softplus", &[&below], vec![]);
        let tensor = importer.add_node("Add", &[&above, &rest], vec![]);
        let softplus = Function::Argument.with(Binary::Product, Function::number(-1.0)).then(Unary::Softplus);
        let shape = importer.operations[*operation].shape;
        let more = importer.step(node, Kind::Function(softplus), vec![*operation], shape, &tensor)?;
        let more = Step { operation: more, tensor };
        let own = together(importer, node, Kind::Add, "Add", [&self.own, &more])?;
        division.round(importer, node, own, distance).map(Some)
    }
}

/// Two results of one shape as one.
fn together(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    kind: Kind,
    operator: &str,
    [left, right]: [&Step; 2],
) -> Result<Step, LimitFault> {
    let tensor = importer.add_node(operator, &[&left.tensor, &right.tensor], vec![]);
    let shape = importer.operations[left.operation].shape;
    let operation = importer.step(node, kind, vec![left.operation, right.operation], shape, &tensor)?;
    Ok(Step { operation, tensor })
}

#[cfg(test)]
mod tests {
    use super::Division;

    #[test]
    fn channels_come_back_to_their_places() {
        let division = Division { before: 2, parts: 4, after: 3 };
        let (joined, apart) = (division.joined(), division.apart());
        // The parts of the second channel of the first group.
        assert_eq!(joined[4..8], [1, 4, 7, 10]);
        assert_eq!(joined[12], 12);
        assert!((0..24).all(|channel| joined[apart[channel]] == channel));
    }
}
