//! What changes nothing in inference: `Identity`, `Dropout`, `Cast` between floats.

use tract_onnx::pb::NodeProto;

use crate::import::attributes::Attributes;
use crate::import::fault::functions::FunctionFault;
use crate::import::fault::operators::OperatorFault;
use crate::import::importer::Importer;
use crate::import::tensor::is_float;
use crate::import::value::{Outcome, Value};

pub(super) fn dropout(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    attributes.ignore("ratio");
    attributes.ignore("seed");
    attributes.ignore("is_test");
    let training = importer.integers(node, 2)?.unwrap_or_default();
    if training.iter().any(|&t| t != 0) {
        return Err(OperatorFault::Training.into());
    }
    Ok(importer.input(node, 0)?)
}

pub(super) fn cast(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let to = attributes.integer("to")?.unwrap_or(0);
    attributes.ignore("saturate");
    attributes.ignore("round_mode");
    if !is_float(to) {
        return Err(FunctionFault::Cast(to).into());
    }
    Ok(Value::Data(importer.data(node, 0)?))
}

pub(super) fn identity(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    Ok(importer.input(node, 0)?)
}
