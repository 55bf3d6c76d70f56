//! Raw images of a sensor behind a mosaic of colour filters, to RGB of half the size.
//!
//! Each 2 x 2 block of a Bayer pattern becomes one pixel: nothing is interpolated. The white
//! balance is that of a grey world (red and blue are scaled until their means are green's; G.
//! Buchsbaum, "A spatial processor model for object colour perception", 1980), the tone curve
//! is sRGB's (IEC 61966-2-1). That is enough to classify, not to print.

use std::sync::Mutex;

use resight_base::sync::lock;
use resight_kernels::Parallel;

use crate::bands::{MAX_BANDS, Pieces};

/// Bits that values are brought to before they are scaled.
const BITS: u32 = 12;

/// Levels of a value.
const LEVELS: usize = 1 << BITS;

/// Fractional bits of a gain.
const GAIN_BITS: u32 = 12;

/// Which colours a block has: first row, then second row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BayerOrder {
    /// Red, green; green, blue.
    Rggb,
    /// Green, red; blue, green.
    Grbg,
    /// Green, blue; red, green.
    Gbrg,
    /// Blue, green; green, red.
    Bggr,
}

impl BayerOrder {
    const NAMED: [(&'static str, Self); 4] =
        [("rggb", Self::Rggb), ("grbg", Self::Grbg), ("gbrg", Self::Gbrg), ("bggr", Self::Bggr)];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(other, _)| *other == name).map(|(_, order)| *order)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMED[self as usize].0
    }

    /// Places of red, the two greens and blue in a block, row by row.
    fn places(self) -> [usize; 4] {
        match self {
            Self::Rggb => [0, 1, 2, 3],
            Self::Grbg => [1, 0, 3, 2],
            Self::Gbrg => [2, 0, 3, 1],
            Self::Bggr => [3, 1, 2, 0],
        }
    }
}

/// How the values of a Bayer image are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BayerDepth {
    /// A byte each.
    Eight,
    /// 10 bits in 16, little endian.
    Ten,
    /// Four values in five bytes, as MIPI has it: the upper eight bits of each, then the lower
    /// two of all.
    TenPacked,
    /// 12 bits in 16, little endian.
    Twelve,
    /// Two values in three bytes, as MIPI has it: the upper eight bits of each, then the lower
    /// four of both.
    TwelvePacked,
    /// 16 bits, little endian.
    Sixteen,
}

impl BayerDepth {
    const NAMED: [(&'static str, Self); 6] = [
        ("8", Self::Eight),
        ("10", Self::Ten),
        ("10p", Self::TenPacked),
        ("12", Self::Twelve),
        ("12p", Self::TwelvePacked),
        ("16", Self::Sixteen),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(other, _)| *other == name).map(|(_, depth)| *depth)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMED[self as usize].0
    }

    pub(crate) fn row_bytes(self, width: u32) -> u32 {
        match self {
            Self::Eight => width,
            Self::Ten | Self::Twelve | Self::Sixteen => width * 2,
            Self::TenPacked => width.div_ceil(4) * 5,
            Self::TwelvePacked => width.div_ceil(2) * 3,
        }
    }

    /// Values of 12 bits, from column `left` on.
    fn unpack(self, row: &[u8], left: usize, output: &mut [u16]) {
        let words = |shift: fn(u16) -> u16, output: &mut [u16]| {
            for (output, word) in output.iter_mut().zip(row[2 * left..].chunks_exact(2)) {
                *output = shift(u16::from_le_bytes([word[0], word[1]])).min(LEVELS as u16 - 1);
            }
        };
        match self {
            Self::Eight => {
                for (output, &value) in output.iter_mut().zip(&row[left..]) {
                    // The upper bits again, so that white stays white.
                    *output = u16::from(value) << 4 | u16::from(value) >> 4;
                }
            }
            Self::Ten => words(|word| word.min(1023) << 2 | word.min(1023) >> 8, output),
            Self::Twelve => words(|word| word, output),
            Self::Sixteen => words(|word| word >> 4, output),
            Self::TenPacked => {
                for (column, output) in (left..).zip(output) {
                    let group = &row[column / 4 * 5..][..5];
                    let lower = group[4] >> (column % 4 * 2) & 3;
                    let value = u16::from(group[column % 4]) << 2 | u16::from(lower);
                    *output = value << 2 | value >> 8;
                }
            }
            Self::TwelvePacked => {
                for (column, output) in (left..).zip(output) {
                    let group = &row[column / 2 * 3..][..3];
                    let lower = group[2] >> (column % 2 * 4) & 15;
                    *output = u16::from(group[column % 2]) << 4 | u16::from(lower);
                }
            }
        }
    }
}

/// A Bayer image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mosaic<'a> {
    /// From the first row on.
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
    /// First column, even.
    pub(crate) left: usize,
    /// Height and width in blocks.
    pub(crate) blocks: [u32; 2],
    pub(crate) order: BayerOrder,
    pub(crate) depth: BayerDepth,
}

/// What one band of rows needs, kept from call to call.
#[derive(Debug, Default)]
struct Band {
    /// Two rows of values.
    rows: [Vec<u16>; 2],
    /// Of red, green and blue.
    sums: [u64; 3],
}

/// Demosaics, and keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Demosaic {
    bands: Vec<Mutex<Band>>,
    /// Linear pixels, `[height][width][3]`.
    linear: Vec<u16>,
    /// The tone curve.
    curve: Vec<u8>,
}

impl Clone for Demosaic {
    /// Buffers only: a copy makes its own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Demosaic {
    /// Writes `[height][width][3]`, each side as many pixels as there are blocks, in bands of rows that
    /// `parallel` runs. The bytes do not depend on how many there are.
    pub(crate) fn rgb(&mut self, parallel: &dyn Parallel, mosaic: &Mosaic<'_>, rgb: &mut Vec<u8>) {
        if self.curve.is_empty() {
            self.curve = curve();
        }
        let [height, width] = mosaic.blocks.map(|side| side as usize);
        self.linear.resize(height * width * 3, 0);
        rgb.resize(self.linear.len(), 0);
        let rows = height.div_ceil(parallel.threads().clamp(1, MAX_BANDS)).max(1);
        let parts = height.div_ceil(rows);
        if self.bands.len() < parts {
            self.bands.resize_with(parts, Mutex::default);
        }
        let Self { bands, linear, curve } = self;
        let pieces = Pieces::new(linear.chunks_mut(rows * width * 3));
        parallel.run(parts, &|part| {
            let Some(linear) = pieces.take(part) else { return };
            lock(&bands[part]).unpack(mosaic, part * rows, linear);
        });
        let mut sums = [0; 3];
        for band in &bands[..parts] {
            sums.iter_mut().zip(lock(band).sums).for_each(|(sum, part)| *sum += part);
        }
        let gains = sums.map(|sum| gain(sums[1], sum));
        let pieces = Pieces::new(rgb.chunks_mut(rows * width * 3));
        parallel.run(parts, &|part| {
            let Some(rgb) = pieces.take(part) else { return };
            develop(&linear[part * rows * width * 3..], gains, curve, rgb);
        });
    }
}

impl Band {
    /// Makes linear pixels of the rows from `first` on, and their sums.
    fn unpack(&mut self, mosaic: &Mosaic<'_>, first: usize, linear: &mut [u16]) {
        let width = mosaic.blocks[1] as usize;
        let [red, green, other_green, blue] = mosaic.order.places();
        let [upper, lower] = &mut self.rows;
        upper.resize(2 * width, 0);
        lower.resize(2 * width, 0);
        let mut sums = [0u64; 3];
        for (row, output) in linear.chunks_exact_mut(width * 3).enumerate() {
            let row = first + row;
            mosaic.depth.unpack(&mosaic.bytes[2 * row * mosaic.stride..], mosaic.left, upper);
            mosaic.depth.unpack(&mosaic.bytes[(2 * row + 1) * mosaic.stride..], mosaic.left, lower);
            let blocks = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for (pixel, (upper, lower)) in output.chunks_exact_mut(3).zip(blocks) {
                let block = [upper[0], upper[1], lower[0], lower[1]];
                let values = [block[red], (block[green] + block[other_green]).div_ceil(2), block[blue]];
                for ((pixel, sum), value) in pixel.iter_mut().zip(&mut sums).zip(values) {
                    *pixel = value;
                    *sum += u64::from(value);
                }
            }
        }
        self.sums = sums;
    }
}

/// Balances linear pixels and bends them by the curve.
fn develop(linear: &[u16], gains: [u32; 3], curve: &[u8], rgb: &mut [u8]) {
    for (output, pixel) in rgb.chunks_exact_mut(3).zip(linear.chunks_exact(3)) {
        for ((output, &value), gain) in output.iter_mut().zip(pixel).zip(gains) {
            let balanced = (u32::from(value) * gain) >> GAIN_BITS;
            *output = curve[(balanced as usize).min(LEVELS - 1)];
        }
    }
}

/// What makes `sum` the sum of green: a fourth to four times, because a scene of one colour is
/// not grey.
fn gain(green: u64, sum: u64) -> u32 {
    let one = 1u64 << GAIN_BITS;
    if green == 0 || sum == 0 {
        return one as u32;
    }
    ((green * one + sum / 2) / sum).clamp(one / 4, one * 4) as u32
}

/// sRGB's tone curve, from linear values of 12 bits to bytes.
fn curve() -> Vec<u8> {
    let level = |value: usize| {
        let linear = value as f64 / (LEVELS - 1) as f64;
        let encoded =
            if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * libm::pow(linear, 1.0 / 2.4) - 0.055 };
        libm::round(255.0 * encoded) as u8
    };
    (0..LEVELS).map(level).collect()
}

#[cfg(test)]
mod tests {
    use resight_kernels::Sequential;

    use super::*;
    use crate::bands::tests::Backwards;

    #[test]
    fn the_bytes_do_not_depend_on_the_threads() {
        let bytes: Vec<u8> = (0..26 * 14).map(|index: usize| (index * index / 3 % 251) as u8).collect();
        let depth = BayerDepth::from_name("8").unwrap();
        let mosaic =
            Mosaic { bytes: &bytes, stride: 14, left: 0, blocks: [13, 7], order: BayerOrder::Grbg, depth };
        let (mut whole, mut found) = (vec![], vec![]);
        Demosaic::default().rgb(&Sequential, &mosaic, &mut whole);
        assert_eq!(whole.len(), 13 * 7 * 3);
        for threads in [2, 3, 8, 64] {
            Demosaic::default().rgb(&Backwards(threads), &mosaic, &mut found);
            assert_eq!(found, whole, "{threads} threads");
        }
    }
}
