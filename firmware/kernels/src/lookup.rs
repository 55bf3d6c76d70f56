//! Tables of 256 results, one value after another.

/// The result for a value.
#[inline(always)]
pub(crate) fn of(table: &[i8; 256], value: i8) -> i8 {
    table[usize::from(value.cast_unsigned() ^ 0x80)]
}

/// Looks values up one by one.
#[inline(always)]
pub(crate) fn look_up(table: &[i8; 256], input: &[i8], output: &mut [i8]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = of(table, input);
    }
}
