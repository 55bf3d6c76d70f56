//! How a layer is cut into parts that run side by side.

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{KernelError, Parallel};

/// Parts of a layer are claimed in one `u64`.
pub(crate) const MAX_PARTS: usize = 64;
/// Bytes of a cache line, which is also the largest vector: packed data and scratch memory start
/// at a multiple of it.
pub(crate) const CACHE_LINE: usize = 64;

/// The units of `part`, of `parts` shares of `all` that differ by one at most.
pub(crate) fn fair_share(part: usize, parts: usize, all: usize) -> Range<usize> {
    part * all / parts..(part + 1) * all / parts
}

/// The least number of so many bytes in a row that are whole cache lines.
pub(crate) fn whole_lines(bytes: usize) -> usize {
    // A power of two: what of a line is not in `bytes`.
    CACHE_LINE >> bytes.trailing_zeros().min(CACHE_LINE.trailing_zeros())
}

/// A dimension cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// The whole, at least 1.
    pub(crate) len: usize,
    /// Parts start at a multiple of this.
    pub(crate) unit: usize,
    /// At most as many as there are units.
    pub(crate) parts: usize,
}

impl Axis {
    /// The same dimension in other parts, as many as possible of `parts`.
    pub(crate) fn cut(self, unit: usize, parts: usize) -> Self {
        Self { unit, parts: parts.min(self.len.div_ceil(unit)), ..self }
    }

    /// What belongs to a part.
    pub(crate) fn part(&self, index: usize) -> Range<usize> {
        let share = fair_share(index, self.parts, self.len.div_ceil(self.unit));
        share.start * self.unit..(share.end * self.unit).min(self.len)
    }

    /// The most that a part has.
    pub(crate) fn most(&self) -> usize {
        (self.len.div_ceil(self.unit).div_ceil(self.parts) * self.unit).min(self.len)
    }
}

/// A layer cut along rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) rows: Axis,
    pub(crate) columns: Axis,
}

impl Grid {
    /// At most [`MAX_PARTS`].
    pub(crate) fn parts(&self) -> usize {
        self.rows.parts * self.columns.parts
    }

    /// The rows and the columns of a part.
    pub(crate) fn part(&self, index: usize) -> (Range<usize>, Range<usize>) {
        (self.rows.part(index / self.columns.parts), self.columns.part(index % self.columns.parts))
    }
}

/// What is added to the outputs of a layer: a pixel for each of theirs, or one that counts for all. It may lie
/// where the outputs are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Residual<'a> {
    values: &'a [i8],
    channels: usize,
    /// Elements from one pixel to the next: as many as there are channels, or none.
    pub(crate) stride: usize,
    /// Then there are no values: each is where its output will be.
    pub(crate) in_output: bool,
}

impl<'a> Residual<'a> {
    /// `values` are `channels`, or as many for each pixel.
    pub(crate) fn new(values: &'a [i8], channels: usize) -> Self {
        let stride = if values.len() == channels { 0 } else { channels };
        Self { values, channels, stride, in_output: false }
    }

    /// The values are where the outputs will be written; only for kernels that
    /// [add in place](crate::convolution::packed::PackedConvolution::adds_in_place).
    pub(crate) fn in_output(channels: usize, stride: usize) -> Self {
        Self { values: &[], channels, stride, in_output: true }
    }

    /// A pixel.
    #[inline(always)]
    pub(crate) fn pixel(&self, index: usize) -> &'a [i8] {
        &self.values[index * self.stride..][..self.channels]
    }

    /// Where a channel of a pixel is, null without a residual, and the elements to the next pixel.
    #[inline(always)]
    pub(crate) fn place(residual: Option<Self>, pixel: usize, channel: usize) -> (*const i8, usize) {
        residual.map_or((core::ptr::null(), 0), |Self { values, stride, .. }| {
            (values.as_ptr().wrapping_add(pixel * stride + channel), stride)
        })
    }
}

/// A borrowed slice that the parts of a layer share; they write to disjoint elements.
pub(crate) struct Shared<'a, T>(*mut T, PhantomData<&'a mut [T]>);

impl<'a, T> Shared<'a, T> {
    /// Shares `data`.
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self(data.as_mut_ptr(), PhantomData)
    }

    /// The first element.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: only a pointer; those who use it see to it that no element is written twice.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

/// Calls `task` with each of `0..parts` (at most [`MAX_PARTS`]) at most once, whatever `parallel` does.
pub(crate) fn run_parts(parallel: &dyn Parallel, parts: usize, task: &(dyn Fn(usize) + Sync)) {
    debug_assert!(parts <= MAX_PARTS);
    let claimed = AtomicU64::new(0);
    parallel.run(parts, &|part| {
        if part < parts && claimed.fetch_or(1 << part, Ordering::Relaxed) & (1 << part) == 0 {
            task(part);
        }
    });
}

/// Runs `parts` parts, each with `bytes` of scratch memory of its own that start at a cache line.
///
/// # Errors
/// Less scratch memory than [`scratch_len`].
pub(crate) fn run_parts_with_scratch(
    parallel: &dyn Parallel,
    parts: usize,
    bytes: usize,
    scratch: &mut [u8],
    task: &(dyn Fn(usize, *mut u8) + Sync),
) -> Result<(), KernelError> {
    let (expected, found) = (scratch_len(parts, bytes), scratch.len());
    // Wherever it starts, so that an error is not a matter of chance.
    if found < expected {
        return Err(KernelError::Length { what: "scratch", expected, found });
    }
    let skip = scratch.as_ptr().align_offset(CACHE_LINE).min(found);
    let scratch = Shared::new(&mut scratch[skip..]);
    run_parts(parallel, parts, &|part| task(part, scratch.get().wrapping_add(part * bytes)));
    Ok(())
}

/// Bytes of scratch memory, wherever it starts, for parts that have `bytes` each, whole cache lines.
pub(crate) fn scratch_len(parts: usize, bytes: usize) -> usize {
    debug_assert!(bytes.is_multiple_of(CACHE_LINE));
    if bytes == 0 { 0 } else { parts * bytes + CACHE_LINE - 1 }
}

/// Splits `output` into `parts` ranges of whole units and calls `task` with the index of the first unit
/// and the elements of each; `output` is a whole number of units long.
pub(crate) fn split<T: Send>(
    parallel: &dyn Parallel,
    parts: usize,
    output: &mut [T],
    unit: usize,
    task: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let units = output.len() / unit;
    let parts = parts.min(units).clamp(1, MAX_PARTS);
    let output = Shared::new(output);
    run_parts(parallel, parts, &|part| {
        let Range { start, end } = fair_share(part, parts, units);
        // SAFETY: the ranges of different parts do not overlap, and each part runs once.
        let range =
            unsafe { core::slice::from_raw_parts_mut(output.get().add(start * unit), (end - start) * unit) };
        task(start, range);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for all in 0..40 {
            for parts in 1..9 {
                let mut next = 0;
                for part in 0..parts {
                    let share = fair_share(part, parts, all);
                    assert_eq!(share.start, next, "{part} of {parts} of {all}");
                    assert!(share.len() == all / parts || share.len() == all.div_ceil(parts));
                    next = share.end;
                }
                assert_eq!(next, all);
            }
        }
    }

    #[test]
    fn whole_lines_are_the_fewest_that_are_whole() {
        for bytes in 1..200 {
            let fewest = (1..=CACHE_LINE).find(|count| (count * bytes) % CACHE_LINE == 0);
            assert_eq!(Some(whole_lines(bytes)), fewest, "{bytes}");
        }
    }

    #[test]
    fn parts_of_an_axis_start_at_its_unit_and_cover_it() {
        for len in 1..60 {
            for unit in [1, 4, 16] {
                for parts in 1..9 {
                    let axis = Axis { len, unit: 1, parts: 1 }.cut(unit, parts);
                    let mut next = 0;
                    for part in 0..axis.parts {
                        let range = axis.part(part);
                        assert!(range.start == next && range.start.is_multiple_of(unit) && !range.is_empty());
                        assert!(range.len() <= axis.most());
                        next = range.end;
                    }
                    assert_eq!(next, len);
                }
            }
        }
    }
}
