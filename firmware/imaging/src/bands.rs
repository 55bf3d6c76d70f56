//! Rows that threads share.

use std::array;
use std::slice::ChunksMut;
use std::sync::Mutex;

use resight_base::sync::lock;

/// More bands than this are not made.
pub(crate) const MAX_BANDS: usize = 8;

/// Pieces of a buffer, of which each is taken once, by whoever runs its part.
pub(crate) struct Pieces<'a, T>([Mutex<Option<&'a mut [T]>>; MAX_BANDS]);

impl<'a, T> Pieces<'a, T> {
    /// The first [`MAX_BANDS`] chunks.
    pub(crate) fn new(mut chunks: ChunksMut<'a, T>) -> Self {
        Self(array::from_fn(|_| Mutex::new(chunks.next())))
    }

    /// The piece of this number, if it is still there.
    pub(crate) fn take(&self, part: usize) -> Option<&'a mut [T]> {
        lock(self.0.get(part)?).take()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use resight_kernels::Parallel;

    use super::*;

    /// So many threads, of which the last one is first, and does everything twice.
    pub(crate) struct Backwards(pub(crate) usize);

    impl Parallel for Backwards {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
            for part in (0..parts).rev() {
                task(part);
                task(part);
            }
        }
    }

    #[test]
    fn each_piece_is_taken_once() {
        let mut values = [1, 2, 3, 4, 5];
        let pieces = Pieces::new(values.chunks_mut(2));
        assert_eq!(pieces.take(2), Some(&mut [5][..]));
        assert_eq!(pieces.take(0), Some(&mut [1, 2][..]));
        assert_eq!([0, 3, MAX_BANDS].map(|part| pieces.take(part).is_none()), [true; 3]);
    }
}
