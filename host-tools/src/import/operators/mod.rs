//! ONNX operators: one function each, found by name.

mod activation;
mod arithmetic;
mod convolution;
mod head;
mod identity;
mod norm;
mod normalisation;
mod pooling;
mod reshape;
mod resize;
mod response;
mod select;
mod shares;
mod transposed;

use tract_onnx::pb::NodeProto;

use super::attributes::Attributes;
use super::constants;
use super::fault::NodeFault;
use super::fault::operators::OperatorFault;
use super::fault::structure::StructureFault;
use super::importer::Importer;
use super::names::is_standard;
use super::operation::Kind;
use super::quantised::{FROM_ZERO, MARK, TABLE, WHOLE_LEVELS, is_quantised_operator};
use super::value::{Data, Outcome, Value};

/// Reads a node that works on results of the network. The message of a refusal goes on after the
/// node's name: `its weights are missing`.
type Handler = fn(&mut Importer<'_>, &NodeProto, &Attributes<'_>) -> Outcome;

/// The operators that are understood.
const HANDLERS: &[(&str, Handler)] = &[
    ("Abs", activation::function),
    ("Add", arithmetic::arithmetic),
    ("AveragePool", pooling::average_pool),
    ("BatchNormalization", normalisation::batch_normalisation),
    ("Cast", identity::cast),
    ("Clip", activation::clip),
    ("Concat", select::concat),
    ("Conv", convolution::convolution),
    ("ConvTranspose", transposed::transposed_convolution),
    ("Div", arithmetic::arithmetic),
    ("Dropout", identity::dropout),
    ("Elu", activation::function),
    ("Erf", activation::function),
    ("Exp", activation::function),
    ("Expand", select::expand),
    ("Flatten", reshape::flatten),
    ("Gather", select::gather),
    ("Gelu", activation::function),
    ("Gemm", head::gemm),
    ("GlobalAveragePool", pooling::global_average_pool),
    ("GlobalMaxPool", pooling::global_max_pool),
    ("HardSigmoid", activation::function),
    ("HardSwish", activation::function),
    ("Identity", identity::identity),
    ("LRN", response::local_response),
    ("LeakyRelu", activation::function),
    ("Log", activation::function),
    ("LogSoftmax", head::softmax),
    ("LpNormalization", norm::lp_normalisation),
    ("MatMul", head::mat_mul),
    ("Max", arithmetic::arithmetic),
    ("MaxPool", pooling::max_pool),
    ("Min", arithmetic::arithmetic),
    ("Mish", activation::function),
    ("Mul", arithmetic::arithmetic),
    ("PRelu", activation::parametric_relu),
    ("Pad", select::pad),
    ("Pow", arithmetic::arithmetic),
    ("Reciprocal", activation::function),
    ("ReduceL2", norm::norm),
    ("ReduceMax", pooling::reduce_max),
    ("ReduceMean", pooling::reduce_mean),
    ("ReduceSum", select::reduce_sum),
    ("Relu", activation::relu),
    ("Reshape", reshape::reshape),
    (TABLE, activation::looked_up),
    ("Resize", resize::resize),
    ("Shape", reshape::shape),
    ("Selu", activation::function),
    ("Sigmoid", activation::sigmoid),
    ("Slice", select::slice),
    ("Softmax", head::softmax),
    ("Softplus", activation::function),
    ("Softsign", activation::function),
    ("Sqrt", activation::function),
    ("Split", select::split),
    ("Squeeze", reshape::squeeze),
    ("Sub", arithmetic::arithmetic),
    ("Sum", arithmetic::sum),
    ("Swish", activation::function),
    ("Tanh", activation::function),
    ("Transpose", reshape::transpose),
    ("Unsqueeze", reshape::unsqueeze),
    ("Upsample", resize::resize),
];

/// Reads one node, whose inputs were read before.
pub(super) fn read(importer: &mut Importer<'_>, node: &NodeProto) -> Result<(), NodeFault> {
    if let Some(attribute) = node.attribute.iter().find(|a| a.g.is_some() || !a.graphs.is_empty()) {
        return Err(StructureFault::Subgraph { name: attribute.name.clone() }.into());
    }
    if is_quantised_operator(&node.op_type, &node.domain) {
        return Err(OperatorFault::Quantised.into());
    }
    if node.op_type == MARK {
        let value = rounding(importer, node)?;
        importer.follow_image(node, &value);
        return Ok(importer.define(node, value)?);
    }
    if !is_standard(&node.domain) {
        return Err(OperatorFault::Domain { domain: node.domain.clone() }.into());
    }
    let value = value(importer, node)?;
    importer.follow_image(node, &value);
    Ok(importer.define(node, value)?)
}

/// The rounding of a result, as a quantised file says. It does not touch probabilities, which are
/// left out.
fn rounding(importer: &mut Importer<'_>, node: &NodeProto) -> Outcome {
    if !importer.rounds {
        return Err(OperatorFault::unsupported(&node.op_type).into());
    }
    if let value @ Value::Probabilities(..) = importer.input(node, 0)? {
        return Ok(value);
    }
    let data = importer.data(node, 0)?;
    let has = |name: &str| node.attribute.iter().any(|attribute| attribute.name == name);
    if has(WHOLE_LEVELS) {
        return if importer.prepare_levels(node, &data) {
            Ok(Value::Data(data))
        } else {
            Err(OperatorFault::ZeroPoints.into())
        };
    }
    // Zeros round it stay zeros.
    let kind = Kind::Rounding { from_zero: has(FROM_ZERO) };
    let rounded = importer.push(node, kind, vec![data.operation], data.shape, &data.layout)?;
    Ok(Value::Data(Data { padding: data.padding, ..rounded }))
}

fn value(importer: &mut Importer<'_>, node: &NodeProto) -> Outcome {
    let attributes = Attributes::new(node);
    if let Some(value) = constants::constants(importer, node, &attributes)? {
        return Ok(value);
    }
    let Some((_, handler)) = HANDLERS.iter().find(|(operator, _)| *operator == node.op_type) else {
        return Err(OperatorFault::unsupported(&node.op_type).into());
    };
    let value = handler(importer, node, &attributes)?;
    attributes.finish()?;
    Ok(value)
}
