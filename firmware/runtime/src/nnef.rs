//! What layers need to be written as NNEF, read from it, and packed.

use std::sync::Arc;

use resight_kernels::KernelError;
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::quantisation::Quantisation;

/// Writes a constant as a `.dat` member named after its node, whatever its size.
///
/// # Errors
/// A tensor that cannot be written.
pub fn variable(
    ast: &mut IntoAst<'_>,
    node: &TypedNode,
    name: &str,
    tensor: &Arc<Tensor>,
) -> TractResult<RValue> {
    Ok((*ast.konst_variable(format!("{}_{name}", node.name), tensor)?).clone())
}

/// An input of a node.
pub fn input(ast: &IntoAst<'_>, node: &TypedNode, index: usize) -> RValue {
    (*ast.mapping[&node.inputs[index]]).clone()
}

/// A constant of the expected type.
///
/// # Errors
/// No constant, or one of another type.
pub fn tensor(
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

/// An integer that fits its field.
///
/// # Errors
/// One that does not.
pub fn integer<T: TryFrom<i64>>(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
    name: &str,
) -> TractResult<T> {
    let value: i64 = invocation.named_arg_as(builder, name)?;
    T::try_from(value).map_err(|_| format_err!("`{name}` is {value}, out of range"))
}

/// These parameters, then `scale` and `zero_point`: what the steps of a tensor are worth.
pub fn with_quantisation(mut parameters: Vec<Parameter>) -> Vec<Parameter> {
    parameters.extend([TypeName::Scalar.named("scale"), TypeName::Integer.named("zero_point")]);
    parameters
}

/// The arguments for [`with_quantisation`].
pub fn with_quantisation_of(
    mut arguments: Vec<(&'static str, RValue)>,
    quantisation: Quantisation,
) -> Vec<(&'static str, RValue)> {
    let Quantisation { scale, zero_point } = quantisation;
    arguments.extend([("scale", numeric(scale)), ("zero_point", numeric(zero_point))]);
    arguments
}

/// What the steps of a layer's tensor are worth: its arguments `scale` and `zero_point`.
///
/// # Errors
/// Other types.
pub fn quantisation(
    builder: &mut ModelBuilder<'_>,
    invocation: &ResolvedInvocation<'_>,
) -> TractResult<Quantisation> {
    Ok(Quantisation {
        scale: invocation.named_arg_as(builder, "scale")?,
        zero_point: integer(builder, invocation, "zero_point")?,
    })
}

/// `N` numbers that are not negative.
///
/// # Errors
/// Other numbers.
pub fn integers<const N: usize>(
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

/// The elements of a constant.
///
/// # Errors
/// A tensor of another type.
pub fn slice<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

/// A kernel's refusal as tract wants it.
#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub fn kernel_error(error: KernelError) -> TractError {
    format_err!("{error}")
}
