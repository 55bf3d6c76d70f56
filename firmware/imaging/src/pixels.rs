//! Images as cameras store them, and their rows as RGB.
//!
//! A row is converted only as far as the crop needs it, so a frame costs what the network
//! sees of it. The loops are plain ones over slices of equal length, because the compiler
//! turns exactly those into vector code.

use std::ops::Range as Columns;

use image::RgbImage;
use resight_kernels::Sequential;

use crate::bayer::{self, BayerDepth, BayerOrder};
use crate::colours::Colours;
use crate::error::ImagingError;
use crate::limits::{MAX_IMAGE_SIDE, MAX_STRIDE};
use crate::region::Region;

/// How the pixels of a frame are stored. Planes follow each other without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Planes Y, U, V; chroma of half the width and height.
    I420,
    /// Planes Y, U, V; chroma of half the width.
    I422,
    /// Planes Y, U, V of one size.
    I444,
    /// Planes Y, V, U; chroma of half the width and height.
    Yv12,
    /// A plane Y and one of interleaved U and V of half the width and height.
    Nv12,
    /// A plane Y and one of interleaved V and U of half the width and height.
    Nv21,
    /// A plane Y and one of interleaved U and V of half the width.
    Nv16,
    /// A plane Y and one of interleaved V and U of half the width.
    Nv61,
    /// A plane Y and one of interleaved U and V of the same size.
    Nv24,
    /// Y0, U, Y1, V: chroma of half the width.
    Yuyv,
    /// Y0, V, Y1, U: chroma of half the width.
    Yvyu,
    /// U, Y0, V, Y1: chroma of half the width.
    Uyvy,
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Blue, green, red and a byte of no meaning.
    Bgrx32,
    /// A byte of no meaning, red, green, blue.
    Xrgb32,
    /// Five bits of red, six of green and five of blue in two bytes, the lower first.
    Rgb565,
    /// Y alone.
    Grey,
    /// Y alone, ten bits in two bytes, the lower first.
    Grey10,
    /// Y alone, twelve bits in two bytes, the lower first.
    Grey12,
    /// Y alone, sixteen bits, the lower byte first, in whatever part of their range the frame has: from its
    /// darkest value to its brightest, as thermal cameras give it.
    Grey16,
    /// The sensor's own values, one colour per pixel.
    Bayer(BayerOrder, BayerDepth),
}

impl PixelFormat {
    /// Every format that has a name, with its name in configurations.
    pub const NAMED: [(&'static str, Self); 21] = [
        ("i420", Self::I420),
        ("i422", Self::I422),
        ("i444", Self::I444),
        ("yv12", Self::Yv12),
        ("nv12", Self::Nv12),
        ("nv21", Self::Nv21),
        ("nv16", Self::Nv16),
        ("nv61", Self::Nv61),
        ("nv24", Self::Nv24),
        ("yuyv", Self::Yuyv),
        ("yvyu", Self::Yvyu),
        ("uyvy", Self::Uyvy),
        ("rgb24", Self::Rgb24),
        ("bgr24", Self::Bgr24),
        ("bgrx32", Self::Bgrx32),
        ("xrgb32", Self::Xrgb32),
        ("rgb565", Self::Rgb565),
        ("grey", Self::Grey),
        ("grey10", Self::Grey10),
        ("grey12", Self::Grey12),
        ("grey16", Self::Grey16),
    ];

    /// The format that a configuration calls `name`: one of [`NAMED`](Self::NAMED), or a Bayer
    /// format such as `rggb8`, `grbg10`, `gbrg12p` (`p`: packed as MIPI does) or `bggr16`.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMED.iter().find(|(other, _)| *other == name).map(|(_, format)| *format);
        named.or_else(|| {
            let (order, depth) = name.split_at_checked(4)?;
            Some(Self::Bayer(BayerOrder::from_name(order)?, BayerDepth::from_name(depth)?))
        })
    }

    /// Its name in configurations.
    pub fn name(self) -> String {
        match self {
            Self::Bayer(order, depth) => format!("{}{}", order.name(), depth.name()),
            _ => Self::NAMED
                .iter()
                .find(|(_, format)| *format == self)
                .map_or_else(String::new, |(name, _)| (*name).to_owned()),
        }
    }

    /// Bytes of a row of the first plane without padding.
    pub fn row_bytes(self, width: u32) -> u32 {
        match self {
            Self::I420
            | Self::I422
            | Self::I444
            | Self::Yv12
            | Self::Nv12
            | Self::Nv21
            | Self::Nv16
            | Self::Nv61
            | Self::Nv24
            | Self::Grey => width,
            Self::Rgb565 | Self::Grey10 | Self::Grey12 | Self::Grey16 => width * 2,
            Self::Rgb24 | Self::Bgr24 => width * 3,
            Self::Bgrx32 | Self::Xrgb32 => width * 4,
            Self::Yuyv | Self::Yvyu | Self::Uyvy => width.div_ceil(2) * 4,
            Self::Bayer(_, depth) => depth.row_bytes(width),
        }
    }

    /// Bytes of a frame whose first plane has rows of `stride` bytes. Rows of the chroma planes
    /// have as many, or half (rounded up), as V4L2 has it.
    pub fn frame_bytes(self, height: u32, stride: u32) -> usize {
        self.planes(height, stride).into_iter().map(|(rows, row)| rows * row).sum()
    }

    /// Rows, and bytes of a row, of each plane; without any for planes that it does not have.
    pub(crate) fn planes(self, height: u32, stride: u32) -> [(usize, usize); 3] {
        let (rows, row) = (height as usize, stride as usize);
        let (fewer, half) = (rows.div_ceil(2), row.div_ceil(2));
        let [second, third] = match self {
            Self::I420 | Self::Yv12 => [(fewer, half); 2],
            Self::Nv12 | Self::Nv21 => [(fewer, 2 * half), (0, 0)],
            Self::I422 => [(rows, half); 2],
            Self::Nv16 | Self::Nv61 => [(rows, 2 * half), (0, 0)],
            Self::I444 => [(rows, row); 2],
            Self::Nv24 => [(rows, 2 * row), (0, 0)],
            _ => [(0, 0); 2],
        };
        [(rows, row), second, third]
    }

    /// Whether it holds Y, U and V, so that [`Colours`] matter.
    pub fn is_yuv(self) -> bool {
        !matches!(
            self,
            Self::Rgb24
                | Self::Bgr24
                | Self::Bgrx32
                | Self::Xrgb32
                | Self::Rgb565
                | Self::Grey10
                | Self::Grey12
                | Self::Grey16
                | Self::Bayer(..)
        )
    }
}

/// An image that somebody else owns.
#[derive(Debug, Clone, Copy)]
pub struct ImageView<'a> {
    bytes: &'a [u8],
    format: PixelFormat,
    colours: Colours,
    /// Height and bytes per row of the first plane.
    rows: usize,
    stride: usize,
    /// The part that is looked at.
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    /// Values of 16-bit grey that become black and white.
    levels: (u16, u16),
}

impl<'a> ImageView<'a> {
    /// A frame of `height` x `width` pixels; its first plane has rows of `stride` bytes.
    /// Bytes behind the frame are not looked at.
    ///
    /// # Errors
    /// A side of zero or above [`MAX_IMAGE_SIDE`], a stride shorter than a row or above
    /// [`MAX_STRIDE`], too few bytes, or a Bayer image without a whole block of colours.
    pub fn new(
        bytes: &'a [u8],
        format: PixelFormat,
        colours: Colours,
        [height, width]: [u32; 2],
        stride: u32,
    ) -> Result<Self, ImagingError> {
        let refuse = |cause: String| Err(ImagingError::Preprocessing(cause));
        let least = if matches!(format, PixelFormat::Bayer(..)) { 2 } else { 1 };
        if ![height, width].iter().all(|side| (least..=MAX_IMAGE_SIDE).contains(side)) {
            return refuse(format!(
                "an image of {width} x {height} pixels; each side must be {least} to {MAX_IMAGE_SIDE}"
            ));
        }
        let row = format.row_bytes(width);
        if !(row..=MAX_STRIDE).contains(&stride) {
            return refuse(format!(
                "rows of {stride} bytes; {width} pixels of {} need {row} to {MAX_STRIDE}",
                format.name()
            ));
        }
        let needed = format.frame_bytes(height, stride);
        if bytes.len() < needed {
            return refuse(format!(
                "{} bytes for an image of {width} x {height} pixels of {}, which has {needed}",
                bytes.len(),
                format.name()
            ));
        }
        let (rows, stride) = (height as usize, stride as usize);
        let levels = match format {
            PixelFormat::Grey10 => (0, 0x3ff),
            PixelFormat::Grey12 => (0, 0xfff),
            PixelFormat::Grey16 => levels(bytes, rows, stride, width as usize),
            _ => (0, 0),
        };
        Ok(Self { bytes, format, colours, rows, stride, levels, left: 0, top: 0, width, height })
    }

    /// An RGB image: `[height, width, 3]` bytes without gaps.
    ///
    /// # Errors
    /// A side of zero or above [`MAX_IMAGE_SIDE`], or too few bytes.
    pub fn rgb(bytes: &'a [u8], [height, width]: [u32; 2]) -> Result<Self, ImagingError> {
        let stride = width.saturating_mul(3);
        Self::new(bytes, PixelFormat::Rgb24, Colours::default(), [height, width], stride)
    }

    /// A decoded image.
    ///
    /// # Errors
    /// See [`rgb`](Self::rgb).
    pub fn of(image: &'a RgbImage) -> Result<Self, ImagingError> {
        Self::rgb(image.as_raw(), [image.height(), image.width()])
    }

    /// A part of what is looked at.
    #[must_use]
    pub fn region(self, region: Region) -> Self {
        let (left, width) = Region::pixels(region.left, region.width, self.width);
        let (top, height) = Region::pixels(region.top, region.height, self.height);
        let part = Self { left: self.left + left, top: self.top + top, width, height, ..self };
        match self.format {
            // Whole blocks of colours.
            PixelFormat::Bayer(..) => part.whole_blocks(self),
            _ => part,
        }
    }

    /// Where in the image what is looked at begins: row and column of its first pixel.
    pub fn origin(&self) -> [u32; 2] {
        [self.top, self.left]
    }

    fn whole_blocks(self, whole: Self) -> Self {
        let even = |start: u32, length: u32, limit: u32| {
            let start = start & !1;
            (start, (length.next_multiple_of(2)).max(2).min((limit - start) & !1))
        };
        // The last column or row of an odd frame belongs to no block.
        let (right, bottom) = ((whole.left + whole.width) & !1, (whole.top + whole.height) & !1);
        let (left, width) = even(self.left.min(right - 2), self.width, right);
        let (top, height) = even(self.top.min(bottom - 2), self.height, bottom);
        Self { left, top, width, height, ..self }
    }

    /// Height and width of what is looked at, in pixels as the network sees them: of a Bayer
    /// image, half as many as the sensor has.
    pub fn size(&self) -> [u32; 2] {
        match self.format {
            PixelFormat::Bayer(..) => [self.height / 2, self.width / 2],
            _ => [self.height, self.width],
        }
    }

    /// The Bayer pattern, if it is one.
    pub(crate) fn bayer(&self) -> Option<bayer::Mosaic<'a>> {
        let PixelFormat::Bayer(order, depth) = self.format else { return None };
        let start = self.top as usize * self.stride;
        Some(bayer::Mosaic {
            bytes: &self.bytes[start..],
            stride: self.stride,
            left: self.left as usize,
            blocks: self.size(),
            order,
            depth,
        })
    }

    /// Converts a part of a row that has red, green and blue, or grey alone of more than 8 bits.
    fn without_chroma(&self, line: &[u8], columns: Columns<usize>, rgbx: &mut [u8]) {
        match self.format {
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
                let pixels = line[columns.start * 3..columns.end * 3].chunks_exact(3);
                let (red, blue) = if self.format == PixelFormat::Rgb24 { (0, 2) } else { (2, 0) };
                for (output, pixel) in rgbx.chunks_exact_mut(4).zip(pixels) {
                    output.copy_from_slice(&[pixel[red], pixel[1], pixel[blue], 0]);
                }
            }
            PixelFormat::Bgrx32 | PixelFormat::Xrgb32 => {
                let pixels = line[columns.start * 4..columns.end * 4].chunks_exact(4);
                let (red, green, blue) =
                    if self.format == PixelFormat::Bgrx32 { (2, 1, 0) } else { (1, 2, 3) };
                for (output, pixel) in rgbx.chunks_exact_mut(4).zip(pixels) {
                    output.copy_from_slice(&[pixel[red], pixel[green], pixel[blue], 0]);
                }
            }
            PixelFormat::Rgb565 => {
                let pixels = line[columns.start * 2..columns.end * 2].chunks_exact(2);
                for (output, pixel) in rgbx.chunks_exact_mut(4).zip(pixels) {
                    let value = u16::from_le_bytes([pixel[0], pixel[1]]);
                    // The highest bits again below, so that the largest value is 255.
                    let wide = |value: u16, bits: u32| (value << (8 - bits) | value >> (2 * bits - 8)) as u8;
                    let (red, green, blue) = (value >> 11, value >> 5 & 63, value & 31);
                    output.copy_from_slice(&[wide(red, 5), wide(green, 6), wide(blue, 5), 0]);
                }
            }
            PixelFormat::Grey10 | PixelFormat::Grey12 | PixelFormat::Grey16 => {
                let (low, high) = self.levels;
                let range = u32::from(high - low).max(1);
                let pixels = line[columns.start * 2..columns.end * 2].chunks_exact(2);
                for (output, pixel) in rgbx.chunks_exact_mut(4).zip(pixels) {
                    let value = u16::from_le_bytes([pixel[0], pixel[1]]).clamp(low, high);
                    let grey = ((u32::from(value - low) * 255 + range / 2) / range) as u8;
                    output.copy_from_slice(&[grey, grey, grey, 0]);
                }
            }
            _ => {}
        }
    }

    /// Converts a part of a row to red, green, blue and a byte of no meaning.
    ///
    /// `rgbx` is `[columns.len()][4]`. Panics on a Bayer image (see [`bayer`](Self::bayer)) and
    /// outside of what is looked at.
    pub(crate) fn rgbx(&self, row: usize, columns: Columns<usize>, scratch: &mut Scratch, rgbx: &mut [u8]) {
        assert!(columns.end <= self.width as usize && row < self.height as usize);
        let row = row + self.top as usize;
        let columns = columns.start + self.left as usize..columns.end + self.left as usize;
        let line = &self.bytes[row * self.stride..][..self.stride];
        let chroma = &self.bytes[self.rows * self.stride..];
        let half = self.stride.div_ceil(2);
        // Chroma is shared by pairs of pixels that begin at even columns.
        let first = columns.start & !1;
        let pairs = first / 2..columns.end.div_ceil(2);
        scratch.resize(2 * pairs.len());
        let Scratch { luma, blue, red } = scratch;
        let y: &[u8] = match self.format {
            PixelFormat::Bayer(..) => unreachable!("a Bayer image is demosaiced as a whole"),
            PixelFormat::I444 => {
                let (u, v) = chroma.split_at(self.rows * self.stride);
                let part = |plane: &'a [u8]| &plane[row * self.stride..][columns.clone()];
                self.colours.convert(&line[columns.clone()], part(u), part(v), rgbx);
                return;
            }
            PixelFormat::I420 | PixelFormat::Yv12 | PixelFormat::I422 => {
                let lower = if self.format == PixelFormat::I422 { 1 } else { 2 };
                let (mut u, mut v) = chroma.split_at(half * self.rows.div_ceil(lower));
                if self.format == PixelFormat::Yv12 {
                    (u, v) = (v, u);
                }
                twice(&u[row / lower * half..][pairs.clone()], blue);
                twice(&v[row / lower * half..][pairs], red);
                &line[first..columns.end]
            }
            PixelFormat::Nv24 => {
                let values = chroma[row * 2 * self.stride..][2 * first..2 * columns.end].chunks_exact(2);
                for ((blue, red), value) in blue.iter_mut().zip(red.iter_mut()).zip(values) {
                    (*blue, *red) = (value[0], value[1]);
                }
                &line[first..columns.end]
            }
            PixelFormat::Nv12 | PixelFormat::Nv21 | PixelFormat::Nv16 | PixelFormat::Nv61 => {
                let lower = if matches!(self.format, PixelFormat::Nv12 | PixelFormat::Nv21) { 2 } else { 1 };
                let row = &chroma[row / lower * 2 * half..];
                let values = row[2 * pairs.start..2 * pairs.end].chunks_exact(2);
                let (u, v) = match self.format {
                    PixelFormat::Nv12 | PixelFormat::Nv16 => (0, 1),
                    _ => (1, 0),
                };
                for ((blue, red), value) in blue.chunks_exact_mut(2).zip(red.chunks_exact_mut(2)).zip(values)
                {
                    blue.copy_from_slice(&[value[u]; 2]);
                    red.copy_from_slice(&[value[v]; 2]);
                }
                &line[first..columns.end]
            }
            PixelFormat::Yuyv | PixelFormat::Yvyu | PixelFormat::Uyvy => {
                let quads = line[4 * pairs.start..4 * pairs.end].chunks_exact(4);
                let (y, u, v) = match self.format {
                    PixelFormat::Yuyv => (0, 1, 3),
                    PixelFormat::Yvyu => (0, 3, 1),
                    _ => (1, 0, 2),
                };
                let chroma = blue.chunks_exact_mut(2).zip(red.chunks_exact_mut(2));
                for ((luma, (blue, red)), quad) in luma.chunks_exact_mut(2).zip(chroma).zip(quads) {
                    luma.copy_from_slice(&[quad[y], quad[y + 2]]);
                    blue.copy_from_slice(&[quad[u]; 2]);
                    red.copy_from_slice(&[quad[v]; 2]);
                }
                luma
            }
            PixelFormat::Grey => {
                blue.fill(128);
                red.fill(128);
                &line[first..columns.end]
            }
            _ => return self.without_chroma(line, columns, rgbx),
        };
        let skip = columns.start - first;
        self.colours.convert(&y[skip..], &blue[skip..], &red[skip..], rgbx);
    }

    /// The whole of what is looked at, as an RGB image. Allocates; for people to look at.
    #[expect(clippy::missing_panics_doc, reason = "the buffers are made for their sizes")]
    pub fn to_rgb(&self) -> RgbImage {
        let [height, width] = self.size();
        let mut demosaiced = vec![];
        let image = match self.bayer() {
            Some(mosaic) => {
                bayer::Demosaic::default().rgb(&Sequential, &mosaic, &mut demosaiced);
                ImageView::rgb(&demosaiced, [height, width]).expect("a buffer made for this size")
            }
            None => *self,
        };
        let (mut scratch, mut row) = (Scratch::default(), vec![0; width as usize * 4]);
        let mut pixels = Vec::with_capacity((width * height) as usize * 3);
        for y in 0..height as usize {
            image.rgbx(y, 0..width as usize, &mut scratch, &mut row);
            pixels.extend(row.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]));
        }
        RgbImage::from_raw(width, height, pixels).expect("three bytes for each pixel")
    }
}

/// The smallest and the largest value of rows of 16-bit values.
fn levels(bytes: &[u8], rows: usize, stride: usize, width: usize) -> (u16, u16) {
    let rows = bytes.chunks(stride).take(rows);
    let values = rows.flat_map(|row| row.get(..2 * width).unwrap_or_default().chunks_exact(2));
    let (low, high) = values.fold((u16::MAX, 0), |(low, high), pair| {
        let value = u16::from_le_bytes([pair[0], pair[1]]);
        (low.min(value), high.max(value))
    });
    (low.min(high), high)
}

fn twice(half: &[u8], output: &mut [u8]) {
    for (pair, &value) in output.chunks_exact_mut(2).zip(half) {
        pair.copy_from_slice(&[value; 2]);
    }
}

/// Y, U and V of a part of a row, kept from row to row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    luma: Vec<u8>,
    blue: Vec<u8>,
    red: Vec<u8>,
}

impl Scratch {
    fn resize(&mut self, length: usize) {
        for plane in [&mut self.luma, &mut self.blue, &mut self.red] {
            plane.resize(length, 0);
        }
    }
}
