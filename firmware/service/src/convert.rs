//! Camera formats to RGB.

/// How raw frames are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixelFormat {
    /// Planes Y, U, V; chroma of half the width and height.
    I420,
    /// A plane Y and one of interleaved U and V of half the width and height.
    Nv12,
    /// Red, green, blue.
    Rgb24,
    /// Y0, U, Y1, V: chroma of half the width.
    Yuyv,
}

impl PixelFormat {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "i420" => Some(Self::I420),
            "nv12" => Some(Self::Nv12),
            "rgb24" => Some(Self::Rgb24),
            "yuyv" => Some(Self::Yuyv),
            _ => None,
        }
    }

    /// Bytes of a row of the first plane without padding.
    pub(crate) fn row_bytes(self, width: u32) -> u32 {
        match self {
            Self::I420 | Self::Nv12 => width,
            Self::Rgb24 => width * 3,
            Self::Yuyv => width.div_ceil(2) * 4,
        }
    }

    /// Bytes of a frame whose first plane has rows of `stride` bytes.
    pub(crate) fn frame_bytes(self, height: u32, stride: u32) -> usize {
        let (height, stride) = (height as usize, stride as usize);
        match self {
            Self::I420 | Self::Nv12 => stride * height + 2 * stride.div_ceil(2) * height.div_ceil(2),
            Self::Rgb24 | Self::Yuyv => stride * height,
        }
    }

    /// Converts a frame of [`frame_bytes`](Self::frame_bytes) to `rgb`, `[height][width][3]`.
    pub(crate) fn to_rgb(self, frame: &[u8], width: u32, height: u32, stride: u32, rgb: &mut Vec<u8>) {
        let (width, height, stride) = (width as usize, height as usize, stride as usize);
        rgb.resize(width * height * 3, 0);
        let (luma, chroma) = frame.split_at((stride * height).min(frame.len()));
        let half = stride.div_ceil(2);
        for (row, output) in rgb.chunks_exact_mut(width * 3).enumerate() {
            let line = &luma[row * stride..][..stride];
            let pixels = output.chunks_exact_mut(3).enumerate();
            match self {
                Self::I420 => {
                    let (blue, red) = chroma.split_at(half * height.div_ceil(2));
                    let (blue, red) = (&blue[row / 2 * half..][..half], &red[row / 2 * half..][..half]);
                    for (x, pixel) in pixels {
                        pixel.copy_from_slice(&Range::Limited.rgb(line[x], blue[x / 2], red[x / 2]));
                    }
                }
                Self::Nv12 => {
                    let chroma = &chroma[row / 2 * 2 * half..][..2 * half];
                    for (x, pixel) in pixels {
                        let at = x / 2 * 2;
                        pixel.copy_from_slice(&Range::Limited.rgb(line[x], chroma[at], chroma[at + 1]));
                    }
                }
                Self::Rgb24 => output.copy_from_slice(&line[..width * 3]),
                Self::Yuyv => {
                    for (x, pixel) in pixels {
                        let at = x / 2 * 4;
                        pixel.copy_from_slice(&Range::Limited.rgb(line[x * 2], line[at + 1], line[at + 3]));
                    }
                }
            }
        }
    }
}

/// Which values of Y, U and V are used, by ITU-R BT.601.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// Y 16 to 235, U and V 16 to 240, as cameras give them.
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
}

impl Range {
    /// One pixel. The factors are BT.601's with 16 fractional bits.
    pub(crate) fn rgb(self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let (grey, red_v, green_u, green_v, blue_u) = match self {
            Self::Limited => ((i32::from(y) - 16) * 76309, 104_597, 25675, 53279, 132_201),
            Self::Full => (i32::from(y) << 16, 91881, 22554, 46802, 116_130),
        };
        let byte = |value: i32| ((value + (1 << 15)) >> 16).clamp(0, 255) as u8;
        [byte(grey + red_v * v), byte(grey - green_u * u - green_v * v), byte(grey + blue_u * u)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_those_of_the_standard() {
        // From BT.601: R = y + 1.402 v', G = y - 0.344136 u' - 0.714136 v', B = y + 1.772 u'.
        for y in (0..=255u8).step_by(5) {
            for u in (0..=255u8).step_by(15) {
                for v in (0..=255u8).step_by(15) {
                    for range in [Range::Limited, Range::Full] {
                        let (grey, gain) = match range {
                            Range::Limited => ((f64::from(y) - 16.0) * 255.0 / 219.0, 255.0 / 224.0),
                            Range::Full => (f64::from(y), 1.0),
                        };
                        let (u_, v_) = ((f64::from(u) - 128.0) * gain, (f64::from(v) - 128.0) * gain);
                        let expected =
                            [grey + 1.402 * v_, grey - 0.344136 * u_ - 0.714136 * v_, grey + 1.772 * u_];
                        for (found, expected) in range.rgb(y, u, v).into_iter().zip(expected) {
                            let expected = expected.clamp(0.0, 255.0);
                            assert!((f64::from(found) - expected).abs() <= 0.51, "{y} {u} {v} {range:?}");
                        }
                    }
                }
            }
        }
    }

    /// The same picture, odd-sized and padded, in each layout.
    #[test]
    fn layouts_agree() {
        let (width, height, stride) = (5usize, 3usize, 8usize);
        let y = |x: usize, row: usize| (30 + 20 * x + 11 * row) as u8;
        let u = |x: usize, row: usize| (90 + 30 * x + 7 * row) as u8;
        let v = |x: usize, row: usize| (160 - 25 * x + 5 * row) as u8;
        let mut expected = vec![];
        for row in 0..height {
            for x in 0..width {
                expected.extend(Range::Limited.rgb(y(x, row), u(x / 2, row / 2), v(x / 2, row / 2)));
            }
        }
        let luma: Vec<u8> = (0..height).flat_map(|row| (0..stride).map(move |x| y(x, row))).collect();
        let plane = |value: &dyn Fn(usize, usize) -> u8| -> Vec<u8> {
            (0..2)
                .flat_map(|row| (0..4).map(move |x| (x, row)))
                .map(|(x, row)| value(x.min(2), row))
                .collect()
        };
        let (us, vs) = (plane(&u), plane(&v));
        let i420 = [luma.clone(), us.clone(), vs.clone()].concat();
        let pairs: Vec<u8> = us.iter().zip(&vs).flat_map(|(u, v)| [*u, *v]).collect();
        let nv12 = [luma, pairs].concat();
        let yuyv: Vec<u8> = (0..height)
            .flat_map(|row| (0..3).map(move |x| (x, row)))
            .flat_map(|(x, row)| [y(2 * x, row), u(x, row / 2), y(2 * x + 1, row), v(x, row / 2)])
            .collect();
        let rgb24 = expected.clone();
        let cases = [
            (PixelFormat::I420, i420, stride),
            (PixelFormat::Nv12, nv12, stride),
            (PixelFormat::Yuyv, yuyv, 12),
            (PixelFormat::Rgb24, rgb24, 15),
        ];
        for (format, frame, stride) in cases {
            assert_eq!(frame.len(), format.frame_bytes(height as u32, stride as u32), "{format:?}");
            let mut rgb = vec![];
            format.to_rgb(&frame, width as u32, height as u32, stride as u32, &mut rgb);
            assert_eq!(rgb, expected, "{format:?}");
        }
    }
}
