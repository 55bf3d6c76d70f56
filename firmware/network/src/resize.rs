//! Bilinear resizing with antialias, byte for byte as Pillow does it.
//!
//! Pillow resizes in two passes, columns first, and rounds to bytes after each. A pass is a
//! convolution with weights of 22 fractional bits: a triangle as wide as two output pixels
//! (never narrower than two input pixels), evaluated in f64 at the input pixels' centres,
//! normalised to a sum of one, rounded to integers. Libraries that keep 16-bit weights are
//! faster but differ from it by a grey level here and there, and torchvision's evaluation
//! transform, which every published accuracy rests on, is Pillow's.
//!
//! Only the columns and rows that the crop needs are computed. Everything is integer but the
//! weights, which use nothing but exactly specified f64 operations: the result is the same on
//! every machine.

use crate::pixels::{ImageView, Scratch};

/// Fractional bits of a weight.
const WEIGHT_BITS: u32 = 22;

/// Half a grey level.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// A part of one axis of an output image: `length` pixels from `start` on, of an image of
/// `output` pixels made from one of `input` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Part {
    input: u32,
    output: u32,
    start: u32,
    length: u32,
}

/// The weights of one axis.
#[derive(Debug, Clone, Default)]
struct Axis {
    part: Part,
    /// Per output pixel: the first input pixel and the end of its weights in `weights`.
    taps: Vec<(usize, usize)>,
    weights: Vec<i32>,
    /// One output pixel's weights before rounding.
    unrounded: Vec<f64>,
}

impl Axis {
    fn prepare(&mut self, part: Part) {
        if self.part == part {
            return;
        }
        self.part = part;
        self.taps.clear();
        self.weights.clear();
        let scale = f64::from(part.input) / f64::from(part.output);
        let stretch = scale.max(1.0);
        for output in part.start..part.start + part.length {
            let centre = (f64::from(output) + 0.5) * scale;
            // A cast from float saturates at zero, so this is the clamp of the left edge too.
            let first = (centre - stretch + 0.5) as u32;
            let end = ((centre + stretch + 0.5) as u32).min(part.input);
            self.unrounded.clear();
            self.unrounded.extend((first..end).map(|input| {
                let distance = (f64::from(input) - centre + 0.5) * (1.0 / stretch);
                (1.0 - distance.abs()).max(0.0)
            }));
            let sum: f64 = self.unrounded.iter().sum();
            self.weights.extend(
                self.unrounded
                    .iter()
                    .map(|weight| (0.5 + weight / sum * f64::from(1u32 << WEIGHT_BITS)) as i32),
            );
            self.taps.push((first as usize, self.weights.len()));
        }
    }

    /// The first input pixel and the weights of each output pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut start = 0;
        self.taps.iter().map(move |&(first, end)| {
            let weights = &self.weights[start..end];
            start = end;
            (first, weights)
        })
    }

    /// The range of input pixels that any output pixel needs.
    fn input_range(&self) -> (usize, usize) {
        let first = self.taps.first().map_or(0, |tap| tap.0);
        let end = self.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(0);
        (first, end)
    }
}

/// A crop of a resized image: where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crop {
    /// Height and width of the whole resized image.
    pub(crate) resized: [u32; 2],
    /// Top and left edge of the crop in it.
    pub(crate) origin: [u32; 2],
    /// Height and width of the crop.
    pub(crate) size: [u32; 2],
}

/// Resizes images, and keeps weights and buffers from call to call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resizer {
    rows: Axis,
    columns: Axis,
    /// A row of the source as far as it is needed: `[columns][4]`.
    row: Vec<u8>,
    scratch: Scratch,
    /// The input rows that are needed, resized to the crop's columns: `[rows][columns][4]`.
    narrowed: Vec<u8>,
    accumulators: Vec<i32>,
}

impl Resizer {
    /// Writes `crop` of the resized `source`, which is no Bayer image, to `output`.
    ///
    /// `output` is `[crop.size[0], crop.size[1], 3]`, RGB bytes without gaps; no side is zero.
    /// Panics where it has another length.
    pub(crate) fn resize(&mut self, source: &ImageView<'_>, crop: Crop, output: &mut [u8]) {
        let size = source.size();
        let part = |axis: usize| Part {
            input: size[axis],
            output: crop.resized[axis],
            start: crop.origin[axis],
            length: crop.size[axis],
        };
        self.rows.prepare(part(0));
        self.columns.prepare(part(1));
        let width = crop.size[1] as usize;
        assert_eq!(output.len(), crop.size[0] as usize * width * 3);

        let (first_row, end_row) = self.rows.input_range();
        let (first_column, end_column) = self.columns.input_range();
        self.row.resize((end_column - first_column) * 4, 0);
        self.narrowed.resize((end_row - first_row) * width * 4, 0);
        for (row, narrowed) in (first_row..end_row).zip(self.narrowed.chunks_exact_mut(width * 4)) {
            source.rgbx(row, first_column..end_column, &mut self.scratch, &mut self.row);
            narrow(&self.columns, &self.row, first_column, narrowed);
        }

        self.accumulators.resize(width * 4, 0);
        for ((first, weights), output) in self.rows.iter().zip(output.chunks_exact_mut(width * 3)) {
            let rows = self.narrowed[(first - first_row) * width * 4..].chunks_exact(width * 4);
            self.accumulators.fill(HALF);
            for (row, &weight) in rows.zip(weights) {
                for (accumulator, &value) in self.accumulators.iter_mut().zip(row) {
                    *accumulator += i32::from(value) * weight;
                }
            }
            for (pixel, sums) in output.chunks_exact_mut(3).zip(self.accumulators.chunks_exact(4)) {
                pixel.copy_from_slice(&[to_byte(sums[0]), to_byte(sums[1]), to_byte(sums[2])]);
            }
        }
    }
}

/// Resizes a row of pixels, `[columns][4]` from column `start` of the source on.
fn narrow(columns: &Axis, row: &[u8], start: usize, output: &mut [u8]) {
    for ((first, weights), output) in columns.iter().zip(output.chunks_exact_mut(4)) {
        // Four sums, the last of no meaning: one vector.
        let mut sums = [HALF; 4];
        for (pixel, &weight) in row[(first - start) * 4..].chunks_exact(4).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        output.copy_from_slice(&sums.map(to_byte));
    }
}

fn to_byte(accumulator: i32) -> u8 {
    (accumulator >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the buffers lie and how large they are: a new allocation changes it.
    fn buffers(resizer: &Resizer) -> impl PartialEq + std::fmt::Debug + use<> {
        let axis = |axis: &Axis| {
            let taps = (axis.taps.as_ptr(), axis.taps.capacity());
            let weights = (axis.weights.as_ptr(), axis.weights.capacity());
            (taps, weights, axis.unrounded.as_ptr(), axis.unrounded.capacity())
        };
        let narrowed = (resizer.narrowed.as_ptr(), resizer.narrowed.capacity());
        let accumulators = (resizer.accumulators.as_ptr(), resizer.accumulators.capacity());
        let row = (resizer.row.as_ptr(), resizer.row.capacity());
        (axis(&resizer.rows), axis(&resizer.columns), row, narrowed, accumulators)
    }

    #[test]
    fn once_warm_nothing_is_allocated() {
        let crop = Crop { resized: [40, 53], origin: [4, 10], size: [32, 32] };
        let (source, mut output) = (vec![7; 60 * 80 * 3], vec![0; 32 * 32 * 3]);
        let mut resizer = Resizer::default();
        let view = |[height, width]: [u32; 2]| ImageView::rgb(&source, [height, width]).unwrap();
        resizer.resize(&view([60, 80]), crop, &mut output);
        let warm = buffers(&resizer);
        resizer.resize(&view([60, 80]), crop, &mut output);
        assert_eq!(buffers(&resizer), warm);
        // Nor for a smaller image, whose weights are other ones.
        let smaller = Crop { resized: [40, 40], origin: [4, 4], size: [32, 32] };
        resizer.resize(&view([50, 50]), smaller, &mut output);
        resizer.resize(&view([60, 80]), crop, &mut output);
        assert_eq!(buffers(&resizer), warm);
    }

    #[test]
    fn the_weights_of_a_pixel_sum_to_one() {
        for (input, output) in [(300, 224), (224, 300), (1, 9), (9, 1), (1080, 256), (7, 7)] {
            let mut axis = Axis::default();
            axis.prepare(Part { input, output, start: 0, length: output });
            for (first, weights) in axis.iter() {
                assert!(first + weights.len() <= input as usize);
                let error = weights.iter().sum::<i32>() - (1 << WEIGHT_BITS);
                assert!(error.unsigned_abs() as usize <= weights.len(), "{input} to {output}");
            }
        }
    }
}
