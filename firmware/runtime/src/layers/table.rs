//! A function of one number, by a table.

use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Loop, Loops, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, quantisation, slice, tensor, variable, with_quantisation, with_quantisation_of};
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
        Ok(Box::new(Packed { tables, loops: target.loops()? }))
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

#[derive(Debug)]
struct Packed {
    /// One, or one for each channel.
    tables: Vec<[i8; 256]>,
    loops: Loops,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "table"
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let output = output.slice::<i8>()?;
        let lookups = Lookups { tables: &self.tables, input: inputs.exactly(0, output.len())? };
        self.loops.run(parallel, output, scratch, &lookups)
    }
}

struct Lookups<'a> {
    tables: &'a [[i8; 256]],
    input: &'a [i8],
}

impl Loop<i8> for Lookups<'_> {
    fn unit(&self) -> usize {
        self.tables.len()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let of = |table: &[i8; 256], input: i8| table[usize::from(input.cast_unsigned() ^ 0x80)];
        let channels = self.tables.len();
        let input = &self.input[first * channels..];
        if let [table] = self.tables {
            for (output, &input) in output.iter_mut().zip(input) {
                *output = of(table, input);
            }
            return Ok(());
        }
        for (output, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
            for ((output, &input), table) in output.iter_mut().zip(input).zip(self.tables) {
                *output = of(table, input);
            }
        }
        Ok(())
    }
}
