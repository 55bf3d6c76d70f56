//! What the numbers of a YUV image mean, and their red, green and blue.

/// The weights of red, green and blue in Y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matrix {
    /// ITU-R BT.601: standard definition, JPEG, most USB cameras.
    #[default]
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// Which values of Y, U and V are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// Y 16 to 235, U and V 16 to 240.
    #[default]
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
}

/// What Y, U and V mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Colours {
    /// The weights of red, green and blue in Y.
    pub matrix: Matrix,
    /// Which values are used.
    pub range: Range,
}

/// What [`Colours`] amount to, with 16 fractional bits.
#[derive(Debug, Clone, Copy)]
struct Factors {
    black: i32,
    grey: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Colours {
    /// From the weights of red and blue, Kr and Kb, of the standards:
    /// R = Y + 2 (1 - Kr) V, B = Y + 2 (1 - Kb) U, G = (Y - Kr R - Kb B) / (1 - Kr - Kb);
    /// in the limited range Y is stretched by 255 / 219, U and V by 255 / 224.
    fn factors(self) -> Factors {
        match (self.matrix, self.range) {
            (Matrix::Bt601, Range::Limited) => Factors {
                black: 16,
                grey: 76309,
                red_v: 104_597,
                green_u: 25675,
                green_v: 53279,
                blue_u: 132_201,
            },
            (Matrix::Bt601, Range::Full) => Factors {
                black: 0,
                grey: 65536,
                red_v: 91881,
                green_u: 22554,
                green_v: 46802,
                blue_u: 116_130,
            },
            (Matrix::Bt709, Range::Limited) => Factors {
                black: 16,
                grey: 76309,
                red_v: 117_489,
                green_u: 13975,
                green_v: 34925,
                blue_u: 138_438,
            },
            (Matrix::Bt709, Range::Full) => Factors {
                black: 0,
                grey: 65536,
                red_v: 103_206,
                green_u: 12276,
                green_v: 30679,
                blue_u: 121_609,
            },
        }
    }

    /// Converts pixels to red, green, blue and a byte of no meaning; all slices have one length.
    pub(crate) fn convert(self, y: &[u8], u: &[u8], v: &[u8], rgbx: &mut [u8]) {
        let Factors { black, grey, red_v, green_u, green_v, blue_u } = self.factors();
        let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
        for (((pixel, &y), &u), &v) in rgbx.chunks_exact_mut(4).zip(y).zip(u).zip(v) {
            let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
            let grey = (i32::from(y) - black) * grey + (1 << 15);
            pixel[0] = byte(grey + red_v * v);
            pixel[1] = byte(grey - green_u * u - green_v * v);
            pixel[2] = byte(grey + blue_u * u);
            pixel[3] = 0;
        }
    }
}
