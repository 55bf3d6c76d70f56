//! Images of which a layer reads or writes some of the channels.

use alloc::format;

use crate::parts::{Shared, split};
use crate::{KernelError, Parallel};

/// Some channels of an image that is read.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// From the first channel of the first pixel on, so that each pixel has `channels` elements.
    values: &'a [i8],
    pixels: usize,
    channels: usize,
    /// Elements from one pixel to the next.
    stride: usize,
}

/// Some channels of an image that is written; the others stay as they are.
#[derive(Debug)]
pub struct StridedMut<'a> {
    /// Whole pixels.
    values: &'a mut [i8],
    first: usize,
    channels: usize,
    stride: usize,
}

/// Whether an image of `len` elements has whole pixels of `stride` elements, each with these channels.
fn check(len: usize, first: usize, channels: usize, stride: usize) -> Result<(), KernelError> {
    let is_within = channels > 0 && first.checked_add(channels).is_some_and(|end| end <= stride);
    if is_within && len.is_multiple_of(stride) {
        return Ok(());
    }
    Err(KernelError::Invalid(format!(
        "{len} elements have no pixels of {stride} channels of which {channels} begin at {first}"
    )))
}

impl<'a> Strided<'a> {
    /// Channels `first..first + channels` of `values`, `[pixel][stride]`.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] when a pixel does not have them, or when the last pixel is not whole.
    pub fn new(values: &'a [i8], first: usize, channels: usize, stride: usize) -> Result<Self, KernelError> {
        check(values.len(), first, channels, stride)?;
        let pixels = values.len() / stride;
        Ok(Self { values: values.get(first..).unwrap_or_default(), pixels, channels, stride })
    }

    /// Elements that are read.
    pub fn len(&self) -> usize {
        self.pixels * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels == 0
    }

    /// Elements of a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Elements from one pixel to the next.
    #[inline(always)]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The channels of a pixel.
    ///
    /// # Panics
    /// There is no such pixel.
    #[inline(always)]
    pub fn pixel(&self, index: usize) -> &'a [i8] {
        &self.values[index * self.stride..][..self.channels]
    }

    /// The pixels from `first` on.
    #[inline(always)]
    pub fn pixels(&self, first: usize) -> impl Iterator<Item = &'a [i8]> + use<'a> {
        let Self { values, channels, stride, .. } = *self;
        values
            .get(first * stride..)
            .unwrap_or_default()
            .chunks(stride)
            .map_while(move |it| it.get(..channels))
    }

    /// The first channel of the first pixel.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *const i8 {
        self.values.as_ptr()
    }
}

impl<'a> StridedMut<'a> {
    /// Channels `first..first + channels` of `values`, `[pixel][stride]`.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] when a pixel does not have them, or when the last pixel is not whole.
    pub fn new(
        values: &'a mut [i8],
        first: usize,
        channels: usize,
        stride: usize,
    ) -> Result<Self, KernelError> {
        check(values.len(), first, channels, stride)?;
        Ok(Self { values, first, channels, stride })
    }

    /// Elements that are written.
    pub fn len(&self) -> usize {
        self.values.len() / self.stride * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Elements of a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Elements from one pixel to the next.
    #[inline(always)]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The image that the channels are part of, and the first of them.
    pub fn into_whole(self) -> (&'a mut [i8], usize) {
        (self.values, self.first)
    }

    /// The first channel of the first pixel, for parts that write disjoint elements.
    pub(crate) fn shared(self) -> Shared<'a, i8> {
        Shared::new(self.values.get_mut(self.first..).unwrap_or_default())
    }

    /// Calls `task` in parts of whole rows of `width` pixels, with the number of the first pixel and all
    /// pixels of a part.
    pub(crate) fn split_rows(
        self,
        parallel: &dyn Parallel,
        width: usize,
        task: &(dyn Fn(usize, StridedMut<'_>) + Sync),
    ) {
        let Self { values, first, channels, stride } = self;
        split(parallel, parallel.threads(), values, width * stride, &|row, values| {
            task(row * width, StridedMut { values, first, channels, stride });
        });
    }

    /// The pixels, one after the other.
    #[inline(always)]
    pub(crate) fn pixels_mut(&mut self) -> impl Iterator<Item = &mut [i8]> {
        let (first, channels) = (self.first, self.channels);
        self.values.chunks_exact_mut(self.stride).map(move |pixel| &mut pixel[first..first + channels])
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Says that it has three threads.
    struct Three;

    impl Parallel for Three {
        fn threads(&self) -> usize {
            3
        }

        fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
            (0..parts).for_each(task);
        }
    }

    #[test]
    fn channels_of_pixels_are_read_and_written_where_they_are() {
        let mut values: Vec<i8> = (0..12).collect();
        let read = Strided::new(&values, 1, 2, 4).unwrap();
        assert_eq!((read.len(), read.pixel(2)), (6, [9, 10].as_slice()));
        assert_eq!(read.pixels(1).collect::<Vec<_>>(), [[5, 6], [9, 10]]);
        let last = Strided::new(&values, 3, 1, 4).unwrap();
        assert_eq!(last.pixels(0).collect::<Vec<_>>(), [[3], [7], [11]]);
        let written = StridedMut::new(&mut values, 2, 2, 4).unwrap();
        assert_eq!(written.len(), 6);
        written.split_rows(&Three, 1, &|first, mut part| {
            part.pixels_mut().for_each(|pixel| pixel.fill(-(first as i8) - 1));
        });
        assert_eq!(values, [0, 1, -1, -1, 4, 5, -2, -2, 8, 9, -3, -3]);
    }

    #[test]
    fn channels_that_pixels_do_not_have_are_refused() {
        for (len, first, channels, stride) in
            [(12, 3, 2, 4), (11, 0, 2, 4), (12, 0, 0, 4), (0, 0, 0, 0), (12, usize::MAX, 2, 4)]
        {
            let mut values = alloc::vec![0; len];
            assert!(matches!(Strided::new(&values, first, channels, stride), Err(KernelError::Invalid(_))));
            assert!(matches!(
                StridedMut::new(&mut values, first, channels, stride),
                Err(KernelError::Invalid(_))
            ));
        }
    }
}
