//! Resizing byte for byte as Pillow does it.
//!
//! Pillow resizes in two passes, columns first, and rounds to bytes after each. A pass is a
//! convolution with weights of 22 fractional bits: for the default, a triangle as wide as two output
//! pixels (never narrower than two input pixels), evaluated in f64 at the input pixels' centres,
//! normalised to a sum of one, rounded to integers; other kernels alike
//! ([`Interpolation`](crate::interpolation::Interpolation)). Libraries that keep 16-bit weights are
//! faster but differ from it by a grey level here and there, and torchvision's evaluation
//! transform, which every published accuracy rests on, is Pillow's.
//!
//! Only the columns and rows that the crop needs are computed. Everything is integer but the
//! weights, which use nothing but exactly specified f64 operations: the result is the same on
//! every machine.
//!
//! Threads share the rows of the crop in bands. Each resizes the columns of the rows that its own
//! band needs; those between two bands, one to a few, are done twice.

use std::ops::Range;
use std::sync::Mutex;

use resight_base::sync::lock;
use resight_kernels::Parallel;

use crate::bands::{MAX_BANDS, Pieces};
use crate::interpolation::Interpolation;
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

/// Bytes of a row that are worked on at a time, so that their sums stay in vector registers:
/// loops over arrays of such a length are what the compiler makes good vector code of.
const LANES: usize = 32;

/// Taps of a row that are multiplied at a time.
const TAPS: usize = 4;

/// Output pixels of a row that are made at a time.
const PIXELS: usize = 4;

/// The weights of one axis.
#[derive(Debug, Clone, Default)]
struct Axis {
    interpolation: Interpolation,
    part: Part,
    /// Per output pixel: the first input pixel.
    firsts: Vec<usize>,
    /// Per output pixel, `stride` of them, the last ones zero where there are fewer.
    weights: Vec<i32>,
    /// A multiple of what [`prepare`](Self::prepare) was told.
    stride: usize,
    /// One output pixel's weights before rounding.
    unrounded: Vec<f64>,
}

impl Axis {
    /// Computes the weights, their number per pixel rounded up to a multiple of `multiple`.
    /// `false` if they are there already.
    fn prepare(&mut self, part: Part, multiple: usize) -> bool {
        if self.part == part {
            return false;
        }
        self.part = part;
        self.firsts.clear();
        self.weights.clear();
        let scale = f64::from(part.input) / f64::from(part.output);
        let kernel = self.interpolation;
        let unit = kernel.unit(scale);
        let reach = kernel.support() * unit;
        let taps = |output: u32| {
            let centre = (f64::from(output) + 0.5) * scale;
            // A cast from float saturates at zero, so this is the clamp of the left edge too.
            let first = (centre - reach + 0.5) as u32;
            (centre, first, ((centre + reach + 0.5) as u32).min(part.input))
        };
        let outputs = part.start..part.start + part.length;
        let most = outputs.clone().map(taps).map(|(_, first, end)| end - first).max();
        self.stride = most.map_or(0, |most| (most as usize).next_multiple_of(multiple));
        for output in outputs {
            let (centre, first, end) = taps(output);
            self.unrounded.clear();
            self.unrounded.extend(
                (first..end).map(|input| kernel.weight((f64::from(input) - centre + 0.5) * (1.0 / unit))),
            );
            let sum: f64 = self.unrounded.iter().sum();
            self.weights.extend(self.unrounded.iter().map(|weight| {
                let weight = weight / sum;
                (0.5f64.copysign(weight) + weight * f64::from(1u32 << WEIGHT_BITS)) as i32
            }));
            self.firsts.push(first as usize);
            self.weights.resize(self.firsts.len() * self.stride, 0);
        }
        true
    }

    /// The first input pixel and the weights of each output pixel of a range.
    fn pixels(&self, outputs: Range<usize>) -> impl Iterator<Item = (usize, &[i32])> {
        let stride = self.stride.max(1);
        let weights = self.weights[outputs.start * stride..outputs.end * stride].chunks_exact(stride);
        self.firsts[outputs].iter().copied().zip(weights)
    }

    /// The range of input pixels that a range of output pixels needs.
    fn needed(&self, outputs: Range<usize>) -> (usize, usize) {
        let first = self.firsts[outputs.clone()].first().map_or(0, |first| *first);
        let length =
            |weights: &[i32]| weights.iter().rposition(|weight| *weight != 0).map_or(0, |last| last + 1);
        let end = self.pixels(outputs).map(|(first, weights)| first + length(weights)).max().unwrap_or(0);
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

/// What one band of rows needs, kept from call to call.
#[derive(Debug, Default)]
struct Band {
    /// A row of the source as far as it is needed: `[columns][4]`.
    row: Vec<u8>,
    scratch: Scratch,
    /// The input rows that are needed, resized to the crop's columns: `[rows][columns][4]`,
    /// each row filled up to a multiple of [`LANES`].
    narrowed: Vec<u8>,
    /// A row of the crop, filled up alike.
    flat: Vec<u8>,
}

/// Buffers only: a copy makes its own.
#[derive(Debug, Default)]
struct Bands(Vec<Mutex<Band>>);

impl Clone for Bands {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The weights of both axes.
#[derive(Debug, Clone, Default)]
struct Axes {
    rows: Axis,
    columns: Axis,
    /// Of `columns`, each weight four times: once for each byte of a pixel.
    spread: Vec<i32>,
}

/// Resizes images, and keeps weights and buffers from call to call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resizer {
    axes: Axes,
    bands: Bands,
}

impl Resizer {
    /// One that makes pixels by `interpolation`.
    pub(crate) fn new(interpolation: Interpolation) -> Self {
        let mut resizer = Self::default();
        resizer.axes.rows.interpolation = interpolation;
        resizer.axes.columns.interpolation = interpolation;
        resizer
    }

    /// Writes `crop` of the resized `source`, which is no Bayer image, to `output`, in bands of rows
    /// that `parallel` runs. The bytes do not depend on how many there are.
    ///
    /// `output` is `[crop.size[0], crop.size[1], 3]`, RGB bytes without gaps; no side is zero.
    /// Panics where it has another length.
    pub(crate) fn resize(
        &mut self,
        parallel: &dyn Parallel,
        source: &ImageView<'_>,
        crop: Crop,
        output: &mut [u8],
    ) {
        let [height, width] = crop.size.map(|side| side as usize);
        assert_eq!(output.len(), height * width * 3);
        self.axes.prepare(source.size(), crop);
        let rows = height.div_ceil(parallel.threads().clamp(1, MAX_BANDS));
        let parts = height.div_ceil(rows);
        if self.bands.0.len() < parts {
            self.bands.0.resize_with(parts, Mutex::default);
        }
        let pieces = Pieces::new(output.chunks_mut(rows * width * 3));
        parallel.run(parts, &|part| {
            let Some(output) = pieces.take(part) else { return };
            let rows = part * rows..part * rows + output.len() / (width * 3);
            lock(&self.bands.0[part]).resize(&self.axes, source, rows, output);
        });
    }
}

impl Axes {
    fn prepare(&mut self, size: [u32; 2], crop: Crop) {
        let part = |axis: usize| Part {
            input: size[axis],
            output: crop.resized[axis],
            start: crop.origin[axis],
            length: crop.size[axis],
        };
        self.rows.prepare(part(0), 1);
        if self.columns.prepare(part(1), TAPS) {
            // The last few output pixels are of no meaning, and cost less than an exception.
            let filled = self.columns.firsts.len().next_multiple_of(PIXELS);
            let last = self.columns.firsts.last().copied().unwrap_or(0);
            self.columns.firsts.resize(filled, last);
            self.columns.weights.resize(filled * self.columns.stride, 0);
            self.spread.clear();
            self.spread.extend(self.columns.weights.iter().flat_map(|&weight| [weight; 4]));
        }
    }
}

impl Band {
    /// Writes `rows` of the crop, RGB bytes without gaps, to `output`.
    fn resize(&mut self, axes: &Axes, source: &ImageView<'_>, rows: Range<usize>, output: &mut [u8]) {
        let width = output.len() / rows.len() / 3;
        let (first_row, end_row) = axes.rows.needed(rows.clone());
        let (first_column, end_column) = axes.columns.needed(0..axes.columns.firsts.len());
        let columns = (end_column - first_column) * 4;
        // Taps of weight zero may lie beyond the pixels that count.
        self.row.resize(columns + axes.columns.stride * 4, 0);
        let stride = (width * 4).next_multiple_of(LANES);
        self.narrowed.resize((end_row - first_row) * stride, 0);
        self.flat.resize(stride, 0);
        for (row, narrowed) in (first_row..end_row).zip(self.narrowed.chunks_exact_mut(stride)) {
            source.rgbx(row, first_column..end_column, &mut self.scratch, &mut self.row[..columns]);
            let weights = axes.spread.chunks_exact(axes.columns.stride * 4 * PIXELS);
            let firsts = axes.columns.firsts.chunks_exact(PIXELS);
            for ((firsts, weights), output) in firsts.zip(weights).zip(narrowed.chunks_exact_mut(4 * PIXELS))
            {
                narrow(&self.row, first_column, firsts, weights, output);
            }
        }
        for ((first, weights), output) in axes.rows.pixels(rows).zip(output.chunks_exact_mut(width * 3)) {
            flatten(&self.narrowed[(first - first_row) * stride..], stride, weights, &mut self.flat);
            for (output, pixel) in output.chunks_exact_mut(3).zip(self.flat.chunks_exact(4)) {
                output.copy_from_slice(&pixel[..3]);
            }
        }
    }
}

/// [`PIXELS`] output pixels out of a row, which begins at column `start` of the source. Each
/// has its first column in `firsts` and its share of `weights`.
fn narrow(row: &[u8], start: usize, firsts: &[usize], weights: &[i32], output: &mut [u8]) {
    let mut sums = [[0; 4]; PIXELS];
    let weights = weights.chunks_exact(weights.len() / PIXELS);
    for ((sums, first), weights) in sums.iter_mut().zip(firsts).zip(weights) {
        // The last of four sums is of no meaning, but four make a vector.
        let mut pixel = [HALF; 4];
        let (groups, _) = weights.as_chunks::<{ 4 * TAPS }>();
        let (taps, _) = row[(first - start) * 4..].as_chunks::<{ 4 * TAPS }>();
        for (taps, weights) in taps.iter().zip(groups) {
            for lane in 0..4 * TAPS {
                pixel[lane % 4] += i32::from(taps[lane]) * weights[lane];
            }
        }
        *sums = pixel;
    }
    for (output, sum) in output.iter_mut().zip(sums.as_flattened()) {
        *output = to_byte(*sum);
    }
}

/// One row out of several, which begin `stride` bytes after each other.
fn flatten(rows: &[u8], stride: usize, weights: &[i32], output: &mut [u8]) {
    let (pieces, _) = output.as_chunks_mut::<LANES>();
    for (piece, output) in pieces.iter_mut().enumerate() {
        let mut sums = [HALF; LANES];
        for (tap, &weight) in weights.iter().enumerate() {
            // Taps of weight zero may lie below the last row.
            let Some(row) = rows.get(tap * stride + piece * LANES..).and_then(<[u8]>::first_chunk::<LANES>)
            else {
                break;
            };
            for lane in 0..LANES {
                sums[lane] += i32::from(row[lane]) * weight;
            }
        }
        *output = sums.map(to_byte);
    }
}

fn to_byte(accumulator: i32) -> u8 {
    (accumulator >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use resight_kernels::Sequential;

    use super::*;
    use crate::bands::tests::Backwards;

    #[test]
    fn the_bytes_do_not_depend_on_the_threads() {
        let source: Vec<u8> = (0..97 * 61 * 3).map(|index| (index * index / 7 % 251) as u8).collect();
        let view = ImageView::rgb(&source, [97, 61]).unwrap();
        for (resized, origin, size) in [
            ([40, 53], [4, 10], [32, 32]),
            ([200, 120], [0, 0], [200, 120]),
            ([9, 9], [1, 2], [5, 7]),
            ([97, 61], [96, 0], [1, 61]),
        ] {
            let crop = Crop { resized, origin, size };
            let mut whole = vec![0; size[0] as usize * size[1] as usize * 3];
            Resizer::default().resize(&Sequential, &view, crop, &mut whole);
            for threads in [2, 3, 4, 5, 8, 64] {
                let (mut resizer, mut output) = (Resizer::default(), vec![0; whole.len()]);
                resizer.resize(&Backwards(threads), &view, crop, &mut output);
                assert!(output == whole, "{crop:?}, {threads} threads");
            }
        }
    }

    /// Where the buffers lie and how large they are: a new allocation changes it.
    fn buffers(resizer: &Resizer) -> impl PartialEq + std::fmt::Debug + use<> {
        let axis = |axis: &Axis| {
            let taps = (axis.firsts.as_ptr(), axis.firsts.capacity());
            let weights = (axis.weights.as_ptr(), axis.weights.capacity());
            (taps, weights, axis.unrounded.as_ptr(), axis.unrounded.capacity())
        };
        let band = |band: &Mutex<Band>| {
            let Band { row, narrowed, flat, .. } = &*lock(band);
            (row.as_ptr(), row.capacity(), narrowed.as_ptr(), flat.as_ptr())
        };
        let bands: Vec<_> = resizer.bands.0.iter().map(band).collect();
        let Axes { rows, columns, spread } = &resizer.axes;
        (axis(rows), axis(columns), spread.as_ptr(), bands)
    }

    #[test]
    fn once_warm_nothing_is_allocated() {
        let crop = Crop { resized: [40, 53], origin: [4, 10], size: [32, 32] };
        let (source, mut output) = (vec![7; 60 * 80 * 3], vec![0; 32 * 32 * 3]);
        let mut resizer = Resizer::default();
        let view = |[height, width]: [u32; 2]| ImageView::rgb(&source, [height, width]).unwrap();
        resizer.resize(&Backwards(3), &view([60, 80]), crop, &mut output);
        let warm = buffers(&resizer);
        resizer.resize(&Backwards(3), &view([60, 80]), crop, &mut output);
        assert_eq!(buffers(&resizer), warm);
        // Nor for a smaller image, whose weights are other ones.
        let smaller = Crop { resized: [40, 40], origin: [4, 4], size: [32, 32] };
        resizer.resize(&Backwards(3), &view([50, 50]), smaller, &mut output);
        resizer.resize(&Backwards(3), &view([60, 80]), crop, &mut output);
        assert_eq!(buffers(&resizer), warm);
    }

    #[test]
    fn the_weights_of_a_pixel_sum_to_one() {
        for interpolation in Interpolation::ALL {
            for (input, output) in [(300, 224), (224, 300), (1, 9), (9, 1), (1080, 256), (7, 7)] {
                let mut axis = Axis { interpolation, ..Axis::default() };
                axis.prepare(Part { input, output, start: 0, length: output }, TAPS);
                let all = 0..axis.firsts.len();
                assert!(axis.needed(all.clone()).1 <= input as usize);
                for (_, weights) in axis.pixels(all) {
                    let error = weights.iter().sum::<i32>() - (1 << WEIGHT_BITS);
                    let most = weights.len();
                    assert!(error.unsigned_abs() as usize <= most, "{interpolation:?}, {input} to {output}");
                    // A grey level times these, added up in any order, must fit an i32.
                    let sum: i64 = weights.iter().map(|weight| i64::from(weight.abs())).sum();
                    assert!(sum * 255 + i64::from(HALF) < i64::from(i32::MAX), "{interpolation:?}");
                }
            }
        }
    }
}
