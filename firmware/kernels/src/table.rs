use alloc::string::ToString;
use alloc::vec::Vec;

use crate::lookup::of;
use crate::loops::Loops;
use crate::plain::Loop;
use crate::vectors::Vectors;
use crate::{Isa, KernelError, Parallel};

/// A function of an int8 value, by the list of its results: `out = table[in + 128]`.
#[derive(Debug)]
pub struct Table {
    /// One, or one for each channel.
    tables: Vec<[i8; 256]>,
    loops: Loops,
    vectors: Vectors,
}

impl Table {
    /// The same function for all channels, or one for each.
    ///
    /// # Errors
    /// No function at all, or [`KernelError::Unavailable`].
    pub fn new(isa: Isa, tables: Vec<[i8; 256]>) -> Result<Self, KernelError> {
        if tables.is_empty() {
            return Err(KernelError::Invalid("a table has no function".to_string()));
        }
        Ok(Self { tables, loops: Loops::new(isa)?, vectors: isa.vectors() })
    }

    /// Computes the output from the input, both NHWC.
    ///
    /// # Errors
    /// [`KernelError::Length`] when the input is not as long as the output, or when they are no whole number
    /// of pixels.
    pub fn run(&self, parallel: &dyn Parallel, input: &[i8], output: &mut [i8]) -> Result<(), KernelError> {
        KernelError::check("input", output.len(), input.len())?;
        self.loops.run(parallel, output, &mut [], &Lookups { table: self, input })
    }
}

struct Lookups<'a> {
    table: &'a Table,
    input: &'a [i8],
}

impl Loop<i8> for Lookups<'_> {
    fn unit(&self) -> usize {
        self.table.tables.len()
    }

    #[inline(always)]
    fn run(&self, first: usize, output: &mut [i8], _: &mut [u8]) -> Result<(), KernelError> {
        let Table { tables, vectors, .. } = self.table;
        let channels = tables.len();
        let input = &self.input[first * channels..][..output.len()];
        if let [table] = tables.as_slice() {
            vectors.look_up(table, input, output);
            return Ok(());
        }
        for (output, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
            for ((output, &input), table) in output.iter_mut().zip(input).zip(tables) {
                *output = of(table, input);
            }
        }
        Ok(())
    }
}
