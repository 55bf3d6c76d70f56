//! Where the values of a program lie: what does not live together shares memory.

use std::ops::Range;

/// Bytes of a cache line: values start at multiples of it.
pub(crate) const CACHE_LINE: usize = 64;

/// Some bytes of a value that live together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where in the value, not empty.
    pub(crate) bytes: Range<usize>,
    /// The run that writes it.
    pub(crate) defined: usize,
    /// The last run that reads it, at least `defined`.
    pub(crate) last_use: usize,
}

impl Piece {
    fn lives_with(&self, other: &Self) -> bool {
        self.last_use >= other.defined && other.last_use >= self.defined
    }
}

/// A value that needs memory, a piece at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Its size, at least 1.
    pub(crate) bytes: usize,
    /// All of its bytes, in their order.
    pub(crate) pieces: Vec<Piece>,
    /// An earlier value of the same size in whose place it may be written: what reads a piece of that for the
    /// last time may write the same bytes of this.
    pub(crate) replaces: Option<usize>,
}

/// Values that lie in one place, each but the first written over another of them.
struct Chain<'a> {
    bytes: usize,
    pieces: Vec<&'a Piece>,
    members: Vec<usize>,
}

impl Chain<'_> {
    fn lives_with(&self, other: &Self) -> bool {
        self.pieces.iter().any(|own| other.pieces.iter().any(|theirs| own.lives_with(theirs)))
    }
}

/// Places every value: in the place of the one that it replaces where that is free, otherwise in the lowest gap,
/// where pieces may follow those of other values that are no longer needed. Large ones choose first. Returns
/// the ranges and the size of all.
pub(crate) fn place(values: &[Lifetime]) -> (Vec<Range<usize>>, usize) {
    let mut chains = chains(values);
    // Those of equal size in the order of their definition.
    chains.sort_by_key(|chain| std::cmp::Reverse(chain.bytes));
    let mut starts = vec![0; chains.len()];
    let mut ranges = vec![0..0; values.len()];
    // Chains that are placed, the lowest first.
    let mut placed: Vec<usize> = vec![];
    for (index, chain) in chains.iter().enumerate() {
        let alive: Vec<(usize, &Chain<'_>)> = placed
            .iter()
            .map(|&other| (starts[other], &chains[other]))
            .filter(|it| it.1.lives_with(chain))
            .collect();
        let mut start = 0;
        loop {
            let next =
                alive.iter().fold(start, |start, &(place, other)| free_start(place, other, chain, start));
            if next == start {
                break;
            }
            start = next;
        }
        starts[index] = start;
        let at = placed.partition_point(|&other| starts[other] <= start);
        placed.insert(at, index);
        for &member in &chain.members {
            ranges[member] = start..start + chain.bytes;
        }
    }
    let size = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    (ranges, size)
}

fn chains(values: &[Lifetime]) -> Vec<Chain<'_>> {
    let mut chains: Vec<Chain<'_>> = vec![];
    for (index, value) in values.iter().enumerate() {
        let follows = |member: usize| {
            let other = &values[member];
            let replaced = value.replaces == Some(member);
            value.bytes == other.bytes
                && value.pieces.iter().all(|own| {
                    other.pieces.iter().all(|theirs| {
                        let apart =
                            own.bytes.end <= theirs.bytes.start || theirs.bytes.end <= own.bytes.start;
                        apart || !own.lives_with(theirs) || replaced && theirs.last_use <= own.defined
                    })
                })
        };
        let replaced = value.replaces.and_then(|other| {
            let chain = chains.iter_mut().find(|chain| chain.members.contains(&other))?;
            chain.members.iter().all(|&member| follows(member)).then_some(chain)
        });
        match replaced {
            Some(chain) => {
                chain.members.push(index);
                chain.pieces.extend(&value.pieces);
            }
            None => chains.push(Chain {
                bytes: value.bytes,
                pieces: value.pieces.iter().collect(),
                members: vec![index],
            }),
        }
    }
    chains
}

/// Where a chain can start beside another one that is placed: here, or a place before which it cannot.
fn free_start(place: usize, other: &Chain<'_>, chain: &Chain<'_>, mut start: usize) -> usize {
    for theirs in &other.pieces {
        let taken = place + theirs.bytes.start..place + theirs.bytes.end;
        for own in &chain.pieces {
            let overlap = start + own.bytes.start < taken.end && taken.start < start + own.bytes.end;
            if overlap && own.lives_with(theirs) {
                start = (taken.end - own.bytes.start).next_multiple_of(CACHE_LINE);
            }
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: usize, defined: usize, last_use: usize) -> Lifetime {
        Lifetime { bytes, pieces: vec![Piece { bytes: 0..bytes, defined, last_use }], replaces: None }
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
    fn large_values_choose_first() {
        let values = [value(64, 0, 1), value(64, 0, 5), value(65, 2, 5), value(64, 2, 5)];
        assert_eq!(place(&values).0, [0..64, 128..192, 0..65, 192..256]);
    }

    #[test]
    fn a_value_takes_the_place_of_one_that_ends_with_it_and_no_other() {
        let replaces = |value: Lifetime| Lifetime { replaces: Some(1), ..value };
        let values = [value(64, 0, 1), value(64, 0, 2), replaces(value(64, 2, 3))];
        assert_eq!(place(&values).0, [0..64, 64..128, 64..128]);
        let values = [value(64, 0, 1), value(64, 0, 3), replaces(value(64, 2, 3))];
        assert_eq!(place(&values).0, [0..64, 64..128, 0..64]);
    }

    /// Four rows of a line each, computed one by one, each from the row above and its own.
    #[test]
    fn rows_follow_those_that_are_no_longer_needed() {
        let rows = |first: usize, lasts: usize| Lifetime {
            bytes: 256,
            pieces: (0..4)
                .map(|row| Piece {
                    bytes: row * 64..(row + 1) * 64,
                    defined: first + 2 * row,
                    last_use: first + 2 * row + lasts,
                })
                .collect(),
            replaces: None,
        };
        // Row r of the second lies where row r + 2 of the first will be written when nobody needs it.
        assert_eq!(place(&[rows(0, 3), rows(1, 1)]), (vec![0..256, 128..384], 384));
        assert_eq!(place(&[rows(0, 3), rows(1, 20)]), (vec![0..256, 256..512], 512));
    }
}
