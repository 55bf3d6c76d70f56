//! Functions of each value: `Relu`, `Clip`, `LeakyRelu`, `HardSwish` and their kind.

use resight_model_file::Activation;
use tract_onnx::pb::NodeProto;

use super::arithmetic::constant_per_channel;
use super::{head, norm};
use crate::function::{Binary, Function, Lookup, Unary};
use crate::import::attributes::Attributes;
use crate::import::fault::NodeFault;
use crate::import::fault::arithmetic::ArithmeticFault;
use crate::import::fault::attributes::AttributeFault;
use crate::import::fault::functions::FunctionFault;
use crate::import::importer::Importer;
use crate::import::operation::Kind;
use crate::import::quantised::{FIRST, STEP};
use crate::import::value::{Outcome, Value};

pub(super) fn relu(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    if importer.is_non_negative(data.operation) {
        return Ok(Value::Data(data));
    }
    importer.value_of(node, Kind::Relu, vec![data.operation], data.shape, &data.layout)
}

pub(super) fn clip(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    if let Value::Norm(_) = importer.input(node, 0)? {
        return norm::guarded(importer, node, attributes);
    }
    let mut limit = |position, name| -> Result<Option<f32>, NodeFault> {
        if importer.opset < 11 {
            return Ok(attributes.float(name)?);
        }
        match importer.optional(node, position)? {
            None => Ok(None),
            Some(Value::Float(array)) => Ok(Some(array.scalar().ok_or(FunctionFault::LimitCount)?)),
            Some(_) => Err(FunctionFault::ComputedLimit.into()),
        }
    };
    let (low, high) = (limit(1, "min")?, limit(2, "max")?);
    if low.is_some_and(f32::is_nan) || high.is_some_and(f32::is_nan) {
        return Err(FunctionFault::LimitNotANumber.into());
    }
    let low = low.unwrap_or(f32::MIN).max(f32::MIN);
    let high = high.unwrap_or(f32::MAX).min(f32::MAX);
    if low == 0.0 && high == f32::MAX {
        return relu(importer, node, attributes);
    }
    let data = importer.plain(node, 0)?;
    if low == f32::MIN && high == f32::MAX {
        return Ok(Value::Data(data));
    }
    if low == 0.0 && high > 0.0 {
        return importer.value_of(node, Kind::Clip { high }, vec![data.operation], data.shape, &data.layout);
    }
    importer.apply(node, &data, &Function::Argument.limited(f64::from(low), f64::from(high)))
}

/// The sigmoid of one output at the end, which is left out, or a function.
pub(super) fn sigmoid(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    if let Value::Rows(rows) = importer.input(node, 0)? {
        let ended = rows.ending_in(Activation::Sigmoid, None).map(Value::Rows);
        return ended.ok_or_else(|| FunctionFault::Probabilities.into());
    }
    if importer.ends_in_map(node) {
        let data = importer.plain(node, 0)?;
        return Ok(Value::Probabilities(data.operation, Activation::Sigmoid));
    }
    if importer.makes_output(node) && !importer.gives_maps {
        return head::sigmoid(importer, node, attributes);
    }
    function(importer, node, attributes)
}

pub(super) fn parametric_relu(importer: &mut Importer<'_>, node: &NodeProto, _: &Attributes<'_>) -> Outcome {
    let data = importer.plain(node, 0)?;
    let slope = constant_per_channel(importer, node, &data, 1)?;
    importer.apply(node, &data, &leaky(Function::numbers(&slope)))
}

/// A number in a list for each step of what was rounded.
pub(super) fn looked_up(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let numbers = importer.weights(node, 1)?.filter(|numbers| !numbers.data.is_empty());
    let numbers = numbers.ok_or(ArithmeticFault::NoConstant)?;
    let step = attributes.float(STEP)?.unwrap_or(1.0);
    if !(step.is_finite() && step > 0.0) {
        return Err(ArithmeticFault::NotFinite.into());
    }
    let lookup = Lookup {
        step: f64::from(step),
        first: attributes.integer(FIRST)?.unwrap_or(0) as f64,
        numbers: numbers.data.iter().map(|&number| f64::from(number)).collect(),
    };
    importer.apply(node, &data, &Function::Lookup(lookup, Box::new(Function::Argument)))
}

/// A function that has a name in ONNX.
pub(super) fn function(
    importer: &mut Importer<'_>,
    node: &NodeProto,
    attributes: &Attributes<'_>,
) -> Outcome {
    let data = importer.plain(node, 0)?;
    let x = || Function::Argument;
    let number = |name: &'static str, otherwise: f32| -> Result<Function, AttributeFault> {
        Ok(Function::number(f64::from(attributes.float(name)?.unwrap_or(otherwise))))
    };
    let function = match node.op_type.as_str() {
        "Sigmoid" => x().then(Unary::Sigmoid),
        "Tanh" => x().then(Unary::Tanh),
        "Erf" => x().then(Unary::ErrorFunction),
        "Exp" => x().then(Unary::Exponential),
        "Log" => x().then(Unary::Logarithm),
        "Sqrt" => x().then(Unary::Root),
        "Abs" => x().then(Unary::Magnitude),
        "Softplus" => x().then(Unary::Softplus),
        "Reciprocal" => Function::number(1.0).with(Binary::Quotient, x()),
        "Softsign" => {
            let divisor = x().then(Unary::Magnitude).with(Binary::Sum, Function::number(1.0));
            x().with(Binary::Quotient, divisor)
        }
        "LeakyRelu" => leaky(number("alpha", 0.01)?),
        "Elu" => exponential_linear(number("alpha", 1.0)?),
        "Selu" => {
            let (alpha, gamma) = (number("alpha", 1.673_263_2)?, number("gamma", 1.050_701)?);
            exponential_linear(alpha).with(Binary::Product, gamma)
        }
        "HardSigmoid" => hard_sigmoid(number("alpha", 0.2)?, number("beta", 0.5)?),
        "HardSwish" => {
            let gate = hard_sigmoid(Function::number(1.0 / 6.0), Function::number(0.5));
            x().with(Binary::Product, gate)
        }
        "Swish" => {
            let scaled = x().with(Binary::Product, number("alpha", 1.0)?);
            x().with(Binary::Product, scaled.then(Unary::Sigmoid))
        }
        "Mish" => x().with(Binary::Product, x().then(Unary::Softplus).then(Unary::Tanh)),
        "Gelu" => {
            let is_exact = attributes.string("approximate")?.is_none_or(|how| how == "none");
            gaussian_linear(is_exact)
        }
        other => return Err(FunctionFault::Unknown(other.to_owned()).into()),
    };
    importer.apply(node, &data, &function)
}

/// `max(x, 0) + slope * min(x, 0)`.
fn leaky(slope: Function) -> Function {
    let zero = || Function::number(0.0);
    let negative = Function::Argument.with(Binary::Minimum, zero()).with(Binary::Product, slope);
    Function::Argument.with(Binary::Maximum, zero()).with(Binary::Sum, negative)
}

/// `max(x, 0) + alpha * (exp(min(x, 0)) - 1)`.
fn exponential_linear(alpha: Function) -> Function {
    let zero = || Function::number(0.0);
    let below = Function::Argument.with(Binary::Minimum, zero());
    let negative = below.then(Unary::Exponential).with(Binary::Difference, Function::number(1.0));
    let positive = Function::Argument.with(Binary::Maximum, zero());
    positive.with(Binary::Sum, negative.with(Binary::Product, alpha))
}

/// `alpha * x + beta` from 0 to 1.
fn hard_sigmoid(alpha: Function, beta: Function) -> Function {
    Function::Argument.with(Binary::Product, alpha).with(Binary::Sum, beta).limited(0.0, 1.0)
}

/// `x` times the share of a normal distribution below it, or what stands for that with `tanh`.
fn gaussian_linear(is_exact: bool) -> Function {
    let (x, number) = (|| Function::Argument, Function::number);
    let curve = if is_exact {
        x().with(Binary::Product, number(std::f64::consts::FRAC_1_SQRT_2)).then(Unary::ErrorFunction)
    } else {
        let cube = x().with(Binary::Power, number(3.0)).with(Binary::Product, number(0.044_715));
        let inner = x().with(Binary::Sum, cube);
        let factor = number((2.0 / std::f64::consts::PI).sqrt());
        inner.with(Binary::Product, factor).then(Unary::Tanh)
    };
    let half = x().with(Binary::Product, number(0.5));
    half.with(Binary::Product, curve.with(Binary::Sum, number(1.0)))
}
