//! `Relu`, and `Clip` where it is the same.

use tract_onnx::pb::NodeProto;

use crate::import::attributes::Attributes;
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::value::{Outcome, Value};

pub(super) fn relu(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    if importer.is_non_negative(data.operation) {
        return Ok(Value::Data(data));
    }
    importer.value_of(node, Kind::Relu, vec![data.operation], data.shape, &data.layout)
}

pub(super) fn clip(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let mut limit = |position, name| -> Result<Option<f32>, String> {
        if importer.opset < 11 {
            return attributes.float(name);
        }
        match importer.optional(node, position)? {
            None => Ok(None),
            Some(Value::Float(array)) => Ok(Some(array.scalar().ok_or("its limit is no single number")?)),
            Some(_) => Err("its limits are no constants; export with constant folding".into()),
        }
    };
    let (low, high) = (limit(1, "min")?, limit(2, "max")?);
    if low != Some(0.0) || high.is_some_and(|h| h < f32::MAX) {
        let shown = |v: Option<f32>| v.map_or("none".into(), |v| v.to_string());
        return Err(format!(
            "it limits to {} and {}; only a ReLU (0 and none) is supported, train the network with ReLU",
            shown(low),
            shown(high)
        ));
    }
    relu(importer, node, attributes)
}
