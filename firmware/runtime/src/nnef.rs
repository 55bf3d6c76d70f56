//! NNEF form of the operators: the registry `resight`.

use std::sync::Arc;

use tract_nnef::internal::*;
use tract_nnef::ser::{array, ints};

use crate::operators::{Convolution, GlobalAverage, Linear, MaxPool, Quantisation};

/// A tract NNEF framework that knows the operators of resight.
///
/// Node names keep their dots (`layer1.0.conv1`) through NNEF's extended identifiers.
pub fn framework() -> Nnef {
    let mut framework = tract_nnef::nnef().with_registry(registry());
    framework.allow_extended_identifier_syntax(true);
    framework
}

/// The registry `resight` with the four operators.
pub fn registry() -> Registry {
    let mut registry = Registry::new("resight")
        .with_doc("Integer operators of int8 residual networks. Activations are NHWC, batch 1.");
    let output = [("output", TypeName::Scalar.tensor())];
    registry.register_dumper(dump_convolution);
    registry.register_primitive(
        "resight_convolution",
        &[
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().array().named("residual"),
            TypeName::Scalar.tensor().named("weights"),
            TypeName::Scalar.tensor().named("bias"),
            TypeName::Scalar.tensor().named("multiplier"),
            TypeName::Scalar.tensor().named("padding_value"),
            TypeName::Integer.named("shift"),
            TypeName::Integer.array().named("residual_multiplier"),
            TypeName::Integer.array().named("stride"),
            TypeName::Integer.array().named("padding"),
            TypeName::Integer.array().named("dilation"),
            TypeName::Integer.named("groups"),
            TypeName::Scalar.named("scale"),
            TypeName::Integer.named("zero_point"),
        ],
        &output,
        load_convolution,
    );
    registry.register_dumper(dump_max_pool);
    registry.register_primitive(
        "resight_max_pool",
        &[
            TypeName::Scalar.tensor().named("input"),
            TypeName::Integer.array().named("kernel"),
            TypeName::Integer.array().named("stride"),
            TypeName::Integer.array().named("padding"),
        ],
        &output,
        load_max_pool,
    );
    registry.register_dumper(dump_global_average);
    registry.register_primitive(
        "resight_global_average",
        &[TypeName::Scalar.tensor().named("input"), TypeName::Integer.named("fraction_bits")],
        &output,
        load_global_average,
    );
    registry.register_dumper(dump_linear);
    registry.register_primitive(
        "resight_linear",
        &[
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("weights"),
            TypeName::Scalar.tensor().named("bias"),
            TypeName::Scalar.tensor().named("scale"),
            TypeName::Integer.named("input_limit"),
        ],
        &output,
        load_linear,
    );
    registry
}

/// Writes a constant as a `.dat` member named after its node, whatever its size.
fn variable(
    ast: &mut IntoAst<'_>,
    node: &TypedNode,
    name: &str,
    tensor: &Arc<Tensor>,
) -> TractResult<Arc<RValue>> {
    ast.konst_variable(format!("{}_{name}", node.name), tensor)
}

fn input(ast: &IntoAst<'_>, node: &TypedNode, index: usize) -> RValue {
    (*ast.mapping[&node.inputs[index]]).clone()
}

type Dumped = TractResult<Option<Arc<RValue>>>;

fn dump_convolution(ast: &mut IntoAst<'_>, node: &TypedNode, op: &Convolution) -> Dumped {
    let residual = if node.inputs.len() > 1 { vec![input(ast, node, 1)] } else { vec![] };
    let weights = variable(ast, node, "weights", &op.weights)?;
    let bias = variable(ast, node, "bias", &op.bias)?;
    let multiplier = variable(ast, node, "multiplier", &op.multiplier)?;
    let padding_value = variable(ast, node, "padding_value", &op.padding_value)?;
    let residual_multiplier: Vec<RValue> = op.residual_multiplier.iter().map(numeric).collect();
    Ok(Some(invocation(
        "resight_convolution",
        &[],
        &[
            ("input", input(ast, node, 0)),
            ("residual", array(residual)),
            ("weights", (*weights).clone()),
            ("bias", (*bias).clone()),
            ("multiplier", (*multiplier).clone()),
            ("padding_value", (*padding_value).clone()),
            ("shift", numeric(op.shift)),
            ("residual_multiplier", array(residual_multiplier)),
            ("stride", ints(&op.stride)),
            ("padding", ints(&op.padding)),
            ("dilation", ints(&op.dilation)),
            ("groups", numeric(op.groups)),
            ("scale", numeric(op.output.scale)),
            ("zero_point", numeric(op.output.zero_point)),
        ],
    )))
}

#[allow(clippy::unnecessary_wraps, reason = "the registry's signature")]
fn dump_max_pool(ast: &mut IntoAst<'_>, node: &TypedNode, op: &MaxPool) -> Dumped {
    Ok(Some(invocation(
        "resight_max_pool",
        &[],
        &[
            ("input", input(ast, node, 0)),
            ("kernel", ints(&op.kernel)),
            ("stride", ints(&op.stride)),
            ("padding", ints(&op.padding)),
        ],
    )))
}

#[allow(clippy::unnecessary_wraps, reason = "the registry's signature")]
fn dump_global_average(ast: &mut IntoAst<'_>, node: &TypedNode, op: &GlobalAverage) -> Dumped {
    let arguments = [("input", input(ast, node, 0)), ("fraction_bits", numeric(op.fraction_bits))];
    Ok(Some(invocation("resight_global_average", &[], &arguments)))
}

fn dump_linear(ast: &mut IntoAst<'_>, node: &TypedNode, op: &Linear) -> Dumped {
    let weights = variable(ast, node, "weights", &op.weights)?;
    let bias = variable(ast, node, "bias", &op.bias)?;
    let scale = variable(ast, node, "scale", &op.scale)?;
    Ok(Some(invocation(
        "resight_linear",
        &[],
        &[
            ("input", input(ast, node, 0)),
            ("weights", (*weights).clone()),
            ("bias", (*bias).clone()),
            ("scale", (*scale).clone()),
            ("input_limit", numeric(op.input_limit)),
        ],
    )))
}

/// A constant of the expected type.
fn tensor(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
    name: &str,
    datum_type: DatumType,
) -> TractResult<Arc<Tensor>> {
    let tensor: Arc<Tensor> = invocation.named_arg_as(builder, name)?;
    ensure!(
        tensor.datum_type() == datum_type,
        "`{name}` must be {datum_type:?}, found {:?}",
        tensor.datum_type()
    );
    Ok(tensor)
}

/// An integer, refused where it does not fit its field.
fn integer<T: TryFrom<i64>>(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
    name: &str,
) -> TractResult<T> {
    let value: i64 = invocation.named_arg_as(builder, name)?;
    T::try_from(value).map_err(|_| format_err!("`{name}` is {value}, out of range"))
}

fn integers<const N: usize>(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
    name: &str,
) -> TractResult<[usize; N]> {
    let values: TVec<i64> = invocation.named_arg_as(builder, name)?;
    let numbers: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .with_context(|| format!("`{name}` must be {N} numbers that are not negative, found {values:?}"))
}

fn load_convolution(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
) -> TractResult<Value> {
    let mut inputs: TVec<OutletId> = tvec!(invocation.named_arg_as(builder, "input")?);
    let residual: TVec<OutletId> = invocation.named_arg_as(builder, "residual")?;
    let multipliers: TVec<i64> = invocation.named_arg_as(builder, "residual_multiplier")?;
    ensure!(
        residual.len() == multipliers.len() && residual.len() <= 1,
        "a convolution takes one residual with one multiplier, or none"
    );
    inputs.extend(residual);
    let residual_multiplier = multipliers
        .first()
        .map(|&m| i32::try_from(m).map_err(|_| format_err!("`residual_multiplier` is {m}, out of range")))
        .transpose()?;
    let op = Convolution {
        weights: tensor(builder, invocation, "weights", DatumType::I8)?,
        bias: tensor(builder, invocation, "bias", DatumType::I32)?,
        multiplier: tensor(builder, invocation, "multiplier", DatumType::I32)?,
        padding_value: tensor(builder, invocation, "padding_value", DatumType::I8)?,
        shift: integer(builder, invocation, "shift")?,
        residual_multiplier,
        stride: integers(builder, invocation, "stride")?,
        padding: integers(builder, invocation, "padding")?,
        dilation: integers(builder, invocation, "dilation")?,
        groups: integer(builder, invocation, "groups")?,
        output: Quantisation {
            scale: invocation.named_arg_as(builder, "scale")?,
            zero_point: integer(builder, invocation, "zero_point")?,
        },
    };
    builder.wire(op, &inputs)
}

fn load_max_pool(builder: &mut ModelBuilder<'_>, invocation: &ResolvedInvocation<'_>) -> TractResult<Value> {
    let input: OutletId = invocation.named_arg_as(builder, "input")?;
    let op = MaxPool {
        kernel: integers(builder, invocation, "kernel")?,
        stride: integers(builder, invocation, "stride")?,
        padding: integers(builder, invocation, "padding")?,
    };
    builder.wire(op, &[input])
}

fn load_global_average(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
) -> TractResult<Value> {
    let input: OutletId = invocation.named_arg_as(builder, "input")?;
    let op = GlobalAverage { fraction_bits: integer(builder, invocation, "fraction_bits")? };
    builder.wire(op, &[input])
}

fn load_linear(builder: &mut ModelBuilder<'_>, invocation: &ResolvedInvocation<'_>) -> TractResult<Value> {
    let input: OutletId = invocation.named_arg_as(builder, "input")?;
    let op = Linear {
        weights: tensor(builder, invocation, "weights", DatumType::I8)?,
        bias: tensor(builder, invocation, "bias", DatumType::I32)?,
        scale: tensor(builder, invocation, "scale", DatumType::F32)?,
        input_limit: integer(builder, invocation, "input_limit")?,
    };
    builder.wire(op, &[input])
}
