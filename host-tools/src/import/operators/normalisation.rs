//! `BatchNormalization`.

use tract_onnx::pb::NodeProto;

use super::arithmetic::affine;
use crate::import::attributes::Attributes;
use crate::import::fault::normalisation::NormalisationFault;
use crate::import::fault::operators::OperatorFault;
use crate::import::importer::Importer;
use crate::import::value::Outcome;

pub(super) fn batch_normalisation(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    if attributes.integer("training_mode")?.unwrap_or(0) != 0 {
        return Err(OperatorFault::Training.into());
    }
    if attributes.integer("spatial")?.unwrap_or(1) != 1 {
        return Err(NormalisationFault::Spatial.into());
    }
    attributes.ignore("momentum");
    attributes.ignore("is_test");
    let epsilon = f64::from(attributes.float("epsilon")?.unwrap_or(1e-5));
    let channels = data.shape[0];
    let gamma = importer.per_channel(node, 1, channels)?;
    let beta = importer.per_channel(node, 2, channels)?;
    let mean = importer.per_channel(node, 3, channels)?;
    let variance = importer.per_channel(node, 4, channels)?;
    let mut scale = Vec::with_capacity(channels);
    let mut offset = Vec::with_capacity(channels);
    for channel in 0..channels {
        let divisor = (f64::from(variance[channel]) + epsilon).sqrt();
        if divisor.is_nan() || divisor <= 0.0 {
            return Err(NormalisationFault::Variance { channel, variance: variance[channel] }.into());
        }
        let factor = f64::from(gamma[channel]) / divisor;
        scale.push(factor);
        offset.push(f64::from(beta[channel]) - f64::from(mean[channel]) * factor);
    }
    affine(importer, node, &data, scale, offset)
}
