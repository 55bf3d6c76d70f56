//! Layers without a micro-kernel of their own, on all threads.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::parts::{Axis, CACHE_LINE, MAX_PARTS, Shared, run_parts_with_scratch, scratch_len, whole_lines};
use crate::plain::Loop;
use crate::vectors::Vectors;
use crate::{Isa, KernelError, Parallel};

/// Steps that take about as long as a thread takes to hear of them: with fewer, one more is no gain.
const LEAST_STEPS: usize = 1 << 13;

/// Runs a [`Loop`] on all threads, compiled for the vectors of an instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Loops {
    vectors: Vectors,
}

impl Loops {
    /// Loops for the vectors of `isa`.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`].
    pub fn new(isa: Isa) -> Result<Self, KernelError> {
        isa.check()?;
        Ok(Self { vectors: isa.vectors() })
    }

    /// Bytes of scratch memory for so many threads, each of which needs `bytes`.
    pub fn scratch_len(threads: usize, bytes: usize) -> usize {
        scratch_len(threads.min(MAX_PARTS), bytes.next_multiple_of(CACHE_LINE))
    }

    /// Computes the output in as many parts as there are threads that have enough to do. No two of them
    /// write to a cache line, if the output starts at one.
    ///
    /// # Errors
    /// [`KernelError::Length`] when the output is no whole number of units, or when there is less scratch
    /// memory than [`scratch_len`](Self::scratch_len); that of a part that fails.
    pub fn run<T: Send>(
        self,
        parallel: &dyn Parallel,
        output: &mut [T],
        scratch: &mut [u8],
        body: &impl Loop<T>,
    ) -> Result<(), KernelError> {
        let unit = body.unit().max(1);
        KernelError::check("output", output.len() / unit * unit, output.len())?;
        let worth = output.len().saturating_mul(body.steps()) / LEAST_STEPS;
        let threads = parallel.threads().min(worth).clamp(1, MAX_PARTS);
        let units = Axis { len: output.len() / unit, unit: 1, parts: 1 }
            .cut(whole_lines((unit * size_of::<T>()).max(1)), threads);
        let bytes = body.scratch();
        let output = Shared::new(output);
        let (mut error, failed) = ([None], AtomicBool::new(false));
        let first_error = Shared::new(&mut error);
        run_parts_with_scratch(
            parallel,
            units.parts,
            bytes.next_multiple_of(CACHE_LINE),
            scratch,
            &|part, scratch| {
                let Range { start, end } = units.part(part);
                // SAFETY: the ranges of different parts do not overlap, each part runs once, and `scratch`
                // points to as many bytes that are this part's alone.
                let (output, scratch) = unsafe {
                    (
                        core::slice::from_raw_parts_mut(output.get().add(start * unit), (end - start) * unit),
                        core::slice::from_raw_parts_mut(scratch, bytes),
                    )
                };
                if let Err(error) = self.vectors.run_loop(body, start, output, scratch)
                    && !failed.swap(true, Ordering::Relaxed)
                {
                    // SAFETY: only the first part that fails comes here, and it is read after all of them.
                    unsafe { *first_error.get() = Some(error) };
                }
            },
        )?;
        let [error] = error;
        error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;
    use std::sync::Mutex;
    use std::thread;

    use super::*;
    use crate::Sequential;

    /// Runs every part twice, each on a thread of its own.
    struct Twice(usize);

    impl Parallel for Twice {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
            thread::scope(|scope| {
                for part in (0..parts).rev().chain(0..parts) {
                    scope.spawn(move || task(part));
                }
            });
        }
    }

    /// Numbers the units, and notes what it was asked for.
    struct Numbers {
        unit: usize,
        steps: usize,
        scratch: usize,
        /// The part that begins with this unit.
        fails_at: usize,
        calls: Mutex<Vec<Range<usize>>>,
    }

    impl Numbers {
        fn new(unit: usize, steps: usize, scratch: usize) -> Self {
            Self { unit, steps, scratch, fails_at: usize::MAX, calls: Mutex::default() }
        }
    }

    impl Loop<i16> for Numbers {
        fn unit(&self) -> usize {
            self.unit
        }

        fn steps(&self) -> usize {
            self.steps
        }

        fn scratch(&self) -> usize {
            self.scratch
        }

        #[inline(always)]
        fn run(&self, first: usize, output: &mut [i16], scratch: &mut [u8]) -> Result<(), KernelError> {
            assert_eq!(scratch.len(), self.scratch);
            if !scratch.is_empty() {
                assert!(scratch.as_ptr().addr().is_multiple_of(CACHE_LINE));
            }
            scratch.fill(first as u8);
            for (index, unit) in output.chunks_exact_mut(self.unit).enumerate() {
                unit.fill((first + index) as i16);
            }
            assert!(
                scratch.iter().all(|&byte| byte == first as u8),
                "another part writes to the scratch memory"
            );
            let units = output.len() / self.unit;
            self.calls.lock().unwrap().push(first..first + units);
            if first == self.fails_at { Err(KernelError::Invalid("as asked".into())) } else { Ok(()) }
        }
    }

    fn run(numbers: &Numbers, isa: Isa, threads: usize, units: usize) -> Result<Vec<i16>, KernelError> {
        let mut output = vec![-1; units * numbers.unit];
        let mut scratch = vec![0; Loops::scratch_len(threads, numbers.scratch)];
        let loops = Loops::new(isa)?;
        loops.run(&Twice(threads), &mut output, &mut scratch, numbers)?;
        Ok(output)
    }

    #[test]
    fn every_unit_is_computed_once() {
        for isa in Isa::available() {
            for (unit, units) in [(1, 0), (1, 1), (1, 300), (7, 100), (32, 9), (100, 3), (3, 500)] {
                for threads in [1, 2, 3, 70] {
                    for scratch in [0, 200] {
                        let numbers = Numbers::new(unit, LEAST_STEPS, scratch);
                        let output = run(&numbers, isa, threads, units).unwrap();
                        let expected = (0..units).flat_map(|index| vec![index as i16; unit]);
                        assert!(output.iter().copied().eq(expected), "{unit} {units} {threads}");
                        let mut calls = numbers.calls.into_inner().unwrap();
                        calls.sort_by_key(|call| call.start);
                        assert!(calls.len() <= threads.min(MAX_PARTS));
                        assert!(calls.windows(2).all(|pair| pair[0].end == pair[1].start));
                        let lines = |call: &Range<usize>| call.start * unit * size_of::<i16>() % CACHE_LINE;
                        assert!(calls.iter().all(|call| lines(call) == 0), "{calls:?} share a cache line");
                    }
                }
            }
        }
    }

    #[test]
    fn little_work_stays_on_one_thread() {
        let parts = |steps, units| {
            let numbers = Numbers::new(32, steps, 0);
            run(&numbers, Isa::Generic, 4, units).unwrap();
            numbers.calls.into_inner().unwrap().len()
        };
        let enough = LEAST_STEPS / 32;
        assert_eq!([parts(1, enough), parts(1, 2 * enough - 1), parts(1, 2 * enough)], [1, 1, 2]);
        assert_eq!([parts(1, 400 * enough), parts(LEAST_STEPS, 3)], [4, 3]);
    }

    #[test]
    fn the_error_of_a_part_is_that_of_the_layer() {
        for fails_at in [0, 100] {
            let numbers = Numbers { fails_at, ..Numbers::new(1, LEAST_STEPS, 0) };
            let error = run(&numbers, Isa::Generic, 1, 10).err();
            assert_eq!(error.is_some(), fails_at == 0, "{error:?}");
        }
        let numbers = Numbers { fails_at: 64, ..Numbers::new(1, LEAST_STEPS, 0) };
        let error = run(&numbers, Isa::Generic, 3, 200).unwrap_err();
        assert_eq!(error, KernelError::Invalid("as asked".into()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let loops = Loops::new(Isa::Generic).unwrap();
        let numbers = Numbers::new(3, 1, 0);
        let error = loops.run(&Sequential, &mut [0; 7], &mut [], &numbers).unwrap_err();
        assert_eq!(error, KernelError::Length { what: "output", expected: 6, found: 7 });
        let numbers = Numbers::new(1, 1, 65);
        let error = loops.run(&Sequential, &mut [0; 7], &mut [0; 190], &numbers).unwrap_err();
        assert_eq!(error, KernelError::Length { what: "scratch", expected: 191, found: 190 });
    }
}
