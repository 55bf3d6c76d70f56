//! Where the values of a program lie: those that do not live together share memory.

use std::ops::Range;

/// Bytes of a cache line: values start at multiples of it.
pub(crate) const CACHE_LINE: usize = 64;

/// A value that needs memory while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Its size, at least 1.
    pub(crate) bytes: usize,
    /// The step that writes it.
    pub(crate) defined: usize,
    /// The last step that reads it, at least `defined`.
    pub(crate) last_use: usize,
}

/// Places every value. They are in the order of their definition: each takes the lowest gap
/// that is free over its whole lifetime. Returns the ranges and the size of all.
pub(crate) fn place(values: &[Lifetime]) -> (Vec<Range<usize>>, usize) {
    let mut placed: Vec<Range<usize>> = vec![];
    let mut size = 0;
    for value in values {
        let others = placed.iter().zip(values);
        let alive = others.filter(|(_, other)| other.last_use >= value.defined);
        let mut alive: Vec<&Range<usize>> = alive.map(|(range, _)| range).collect();
        alive.sort_by_key(|range| range.start);
        let mut start = 0;
        for range in alive {
            if range.start >= start + value.bytes {
                break;
            }
            start = start.max(range.end.next_multiple_of(CACHE_LINE));
        }
        let range = start..start + value.bytes;
        size = size.max(range.end);
        placed.push(range);
    }
    (placed, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: usize, defined: usize, last_use: usize) -> Lifetime {
        Lifetime { bytes, defined, last_use }
    }

    #[test]
    fn memory_is_used_again_after_the_last_use() {
        let chain = [value(100, 0, 1), value(100, 1, 2), value(100, 2, 3)];
        assert_eq!(place(&chain), (vec![0..100, 128..228, 0..100], 228));
    }

    #[test]
    fn what_lives_on_is_not_overwritten() {
        let skip =
            [value(10, 0, 3), value(10, 1, 2), value(10, 2, 3), value(10, 3, usize::MAX), value(10, 4, 4)];
        let (ranges, size) = place(&skip);
        assert_eq!(ranges, [0..10, 64..74, 128..138, 64..74, 0..10]);
        assert_eq!(size, 138);
    }

    #[test]
    fn a_gap_is_taken_only_when_the_whole_value_fits() {
        let values = [value(64, 0, 1), value(64, 0, 5), value(65, 2, 5), value(64, 2, 5)];
        assert_eq!(place(&values).0, [0..64, 64..128, 128..193, 0..64]);
    }
}
