//! A function of one number, by a table.

use std::sync::Arc;

use resight_kernels::{self as kernels, CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{
    input, kernel_error, quantisation, slice, tensor, variable, with_quantisation, with_quantisation_of,
};
use crate::quantisation::Quantisation;
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Any function of one int8 value: `out = table[q + 128]`, element by element, or a function for
/// each channel: `out = table[c][q + 128]`. Scale and zero point of the input are in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `i8` `[256]`: the results for -128 to 127; or `[channels][256]`.
    pub table: Arc<Tensor>,
    /// What the output's steps are worth.
    pub output: Quantisation,
}

layer!(Table, "ResightTable");

impl Table {
    /// A table for each of `channels`, or one for all.
    fn entries(&self, channels: usize) -> TractResult<Vec<[i8; 256]>> {
        let entries = slice::<i8>(&self.table)?;
        let fits = match *self.table.shape() {
            [256] => true,
            [tables, 256] => tables == channels,
            _ => bail!("a table has 256 entries, found {}", entries.len()),
        };
        ensure!(fits, "a table for each channel has {} of them, the input {channels}", entries.len() / 256);
        Ok(entries.as_chunks::<256>().0.to_vec())
    }

    fn channels(input: &TensorFact) -> usize {
        input.shape.last().copied().unwrap_or(1)
    }
}

impl Layer for Table {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("a table", inputs)?;
        input.expect(DatumType::I8)?;
        self.entries(Self::channels(input))?;
        Ok(input.clone())
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "table".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("table")
    }

    fn pack(&self, target: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        let tables = self.entries(Self::channels(&inputs[0]))?;
        Ok(Box::new(kernels::Table::new(target.isa, tables).map_err(kernel_error)?))
    }

    fn nnef_name() -> &'static str {
        "resight_table"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        with_quantisation(vec![
            TypeName::Scalar.tensor().named("input"),
            TypeName::Scalar.tensor().named("table"),
        ])
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        let arguments =
            vec![("input", input(ast, node, 0)), ("table", variable(ast, node, "table", &self.table)?)];
        Ok(with_quantisation_of(arguments, self.output))
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            table: tensor(builder, invocation, "table", DatumType::I8)?,
            output: quantisation(builder, invocation)?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

impl PackedLayer for kernels::Table {
    fn kernel(&self) -> &'static str {
        "table"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        self.run(parallel, inputs.slice(0)?, output.slice()?)
    }
}
