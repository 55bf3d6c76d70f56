//! Local response normalisation (`LRN`), as networks before batch normalisation have it, in layers that integers
//! have.

use tract_onnx::pb::NodeProto;

use crate::function::{Binary, Function};
use crate::import::array::Array;
use crate::import::attributes::Attributes;
use crate::import::fault::NodeFault;
use crate::import::fault::normalisation::{MAX_CHANNELS, NormalisationFault};
use crate::import::fault::structure::StructureFault;
use crate::import::importer::Importer;
use crate::import::model::tensor;
use crate::import::operation::Kind;
use crate::import::value::Outcome;

/// `x / (bias + alpha / size * sum(x^2))^beta`, the sum over `size` neighbouring channels of the same position:
/// the squares by a table, their sum by a 1x1 convolution with a band of weights, the power by a table, and a
/// product.
pub(super) fn local_response(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let number = |name: &'static str, otherwise: f32| -> Result<f32, NodeFault> {
        let value = attributes.float(name)?.unwrap_or(otherwise);
        let is_usable = value.is_finite() && value > 0.0;
        is_usable.then_some(value).ok_or_else(|| NormalisationFault::NotPositive { name, value }.into())
    };
    let (alpha, beta, bias) = (number("alpha", 1e-4)?, number("beta", 0.75)?, number("bias", 1.0)?);
    let size = attributes.integer("size")?.ok_or(NormalisationFault::NoSize)?;
    let (data, shape) = importer.image(node)?;
    if data.padding != [0; 4] {
        return Err(NormalisationFault::PadBefore.into());
    }
    let channels = shape[0];
    let neighbours = usize::try_from(size).ok().filter(|size| (1..=2 * MAX_CHANNELS).contains(size));
    let neighbours = neighbours.ok_or(NormalisationFault::Neighbours(size))?;
    if channels > MAX_CHANNELS {
        return Err(NormalisationFault::Channels(channels).into());
    }
    let Some(output) = node.output.first() else { return Err(StructureFault::NoOutput.into()) };
    let weights = band(channels, neighbours, alpha / neighbours as f32);
    importer.charge(weights.len())?;

    let input = importer.tensor_of(&node.input[0], data.operation);
    let square = importer.add_node("Mul", &[&input, &input], vec![]);
    let dims = vec![channels, channels, 1, 1];
    let stored = importer.add_node("Constant", &[], vec![tensor(&Array { dims, data: weights.clone() })]);
    let sum = importer.add_node("Conv", &[&square, &stored], vec![]);
    let [constant, exponent] = [bias, -beta].map(|value| {
        importer.add_node("Constant", &[], vec![tensor(&Array { dims: vec![], data: vec![value] })])
    });
    let base = importer.add_node("Add", &[&sum, &constant], vec![]);
    let power = importer.add_node("Pow", &[&base, &exponent], vec![]);
    importer.replace(output, "Mul", &[&input, &power]);

    let squared = Function::Argument.with(Binary::Product, Function::Argument);
    let at = importer.step(node, Kind::Function(squared), vec![data.operation], shape, &square)?;
    let kind = Kind::Convolution {
        weights,
        bias: vec![0.0; channels],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
    };
    let at = importer.step(node, kind, vec![at], shape, &sum)?;
    let factor = Function::Argument
        .with(Binary::Sum, Function::number(f64::from(bias)))
        .with(Binary::Power, Function::number(f64::from(-beta)));
    let at = importer.step(node, Kind::Function(factor), vec![at], shape, &power)?;
    importer.value_of(node, Kind::Multiply, vec![data.operation, at], shape, &data.layout)
}

/// The matrix, `[output][input]`, that adds each channel's neighbours: one more behind it than before it where
/// their number is even.
fn band(channels: usize, neighbours: usize, weight: f32) -> Vec<f32> {
    let (before, behind) = ((neighbours - 1) / 2, neighbours / 2);
    let mut weights = vec![0.0; channels * channels];
    for channel in 0..channels {
        let (first, last) = (channel.saturating_sub(before), (channel + behind).min(channels - 1));
        weights[channel * channels + first..=channel * channels + last].fill(weight);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_of_the_definition() {
        let rows = |neighbours| {
            let weights = band(4, neighbours, 1.0);
            weights.chunks(4).map(|row| row.iter().sum::<f32>() as i32).collect::<Vec<_>>()
        };
        assert_eq!(rows(1), [1, 1, 1, 1]);
        assert_eq!(rows(3), [2, 3, 3, 2]);
        assert_eq!(band(4, 2, 1.0)[..8], [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(rows(9), [4, 4, 4, 4]);
    }
}
