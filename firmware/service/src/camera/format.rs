//! V4L2's pixel formats and what they are here.

use resight_imaging::{BayerDepth, BayerOrder, Colours, Fields, Matrix, PixelFormat, Range};
use v4l::FourCC;

/// How the bytes of a buffer make an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Jpeg,
    Pixels(PixelFormat),
}

/// A pixel format of V4L2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) code: [u8; 4],
    pub(super) content: Content,
    /// Planes that lie in memory of their own; 1 when all are in one buffer.
    pub(super) buffers: usize,
}

const fn raw(code: [u8; 4], format: PixelFormat, buffers: usize) -> Known {
    Known { code, content: Content::Pixels(format), buffers }
}

const fn bayer(code: [u8; 4], order: BayerOrder, depth: BayerDepth) -> Known {
    raw(code, PixelFormat::Bayer(order, depth), 1)
}

use BayerDepth::{Eight, Sixteen, Ten, TenPacked, Twelve, TwelvePacked};
use BayerOrder::{Bggr, Gbrg, Grbg, Rggb};

/// Every format that can be used, by its code in `linux/videodev2.h`.
pub(super) const KNOWN: [Known; 56] = [
    raw(*b"YUYV", PixelFormat::Yuyv, 1),
    raw(*b"YVYU", PixelFormat::Yvyu, 1),
    raw(*b"UYVY", PixelFormat::Uyvy, 1),
    raw(*b"NV12", PixelFormat::Nv12, 1),
    raw(*b"NM12", PixelFormat::Nv12, 2),
    raw(*b"NV21", PixelFormat::Nv21, 1),
    raw(*b"NM21", PixelFormat::Nv21, 2),
    raw(*b"NV16", PixelFormat::Nv16, 1),
    raw(*b"NM16", PixelFormat::Nv16, 2),
    raw(*b"NV61", PixelFormat::Nv61, 1),
    raw(*b"NM61", PixelFormat::Nv61, 2),
    raw(*b"NV24", PixelFormat::Nv24, 1),
    raw(*b"YU12", PixelFormat::I420, 1),
    raw(*b"YM12", PixelFormat::I420, 3),
    raw(*b"YV12", PixelFormat::Yv12, 1),
    raw(*b"YM21", PixelFormat::Yv12, 3),
    raw(*b"422P", PixelFormat::I422, 1),
    raw(*b"YM16", PixelFormat::I422, 3),
    raw(*b"YM24", PixelFormat::I444, 3),
    raw(*b"RGB3", PixelFormat::Rgb24, 1),
    raw(*b"BGR3", PixelFormat::Bgr24, 1),
    // With alpha instead of the byte of no meaning, too.
    raw(*b"XR24", PixelFormat::Bgrx32, 1),
    raw(*b"AR24", PixelFormat::Bgrx32, 1),
    raw(*b"BX24", PixelFormat::Xrgb32, 1),
    raw(*b"BA24", PixelFormat::Xrgb32, 1),
    raw(*b"RGBP", PixelFormat::Rgb565, 1),
    raw(*b"GREY", PixelFormat::Grey, 1),
    raw(*b"Y10 ", PixelFormat::Grey10, 1),
    raw(*b"Y12 ", PixelFormat::Grey12, 1),
    raw(*b"Y16 ", PixelFormat::Grey16, 1),
    Known { code: *b"MJPG", content: Content::Jpeg, buffers: 1 },
    Known { code: *b"JPEG", content: Content::Jpeg, buffers: 1 },
    bayer(*b"RGGB", Rggb, Eight),
    bayer(*b"GRBG", Grbg, Eight),
    bayer(*b"GBRG", Gbrg, Eight),
    bayer(*b"BA81", Bggr, Eight),
    bayer(*b"RG10", Rggb, Ten),
    bayer(*b"BA10", Grbg, Ten),
    bayer(*b"GB10", Gbrg, Ten),
    bayer(*b"BG10", Bggr, Ten),
    bayer(*b"pRAA", Rggb, TenPacked),
    bayer(*b"pgAA", Grbg, TenPacked),
    bayer(*b"pGAA", Gbrg, TenPacked),
    bayer(*b"pBAA", Bggr, TenPacked),
    bayer(*b"RG12", Rggb, Twelve),
    bayer(*b"BA12", Grbg, Twelve),
    bayer(*b"GB12", Gbrg, Twelve),
    bayer(*b"BG12", Bggr, Twelve),
    bayer(*b"pRCC", Rggb, TwelvePacked),
    bayer(*b"pgCC", Grbg, TwelvePacked),
    bayer(*b"pGCC", Gbrg, TwelvePacked),
    bayer(*b"pBCC", Bggr, TwelvePacked),
    bayer(*b"RG16", Rggb, Sixteen),
    bayer(*b"GR16", Grbg, Sixteen),
    bayer(*b"GB16", Gbrg, Sixteen),
    bayer(*b"BYR2", Bggr, Sixteen),
];

impl Known {
    pub(super) fn of(code: FourCC) -> Option<Self> {
        KNOWN.into_iter().find(|known| known.code == code.repr)
    }

    /// The formats that a configuration calls `name`: a code as in the kernel's headers, or one
    /// of the service's own names such as `yuyv`, `nv12` or `mjpeg`.
    pub(super) fn named(name: &str) -> Vec<Self> {
        let fits = |known: &Known| {
            known.code == name.as_bytes()
                || known.code.eq_ignore_ascii_case(name.as_bytes()) && !known.is_bayer()
                || match known.content {
                    Content::Jpeg => matches!(name, "mjpeg" | "mjpg" | "jpeg"),
                    Content::Pixels(format) => PixelFormat::from_name(name) == Some(format),
                }
        };
        KNOWN.into_iter().filter(fits).collect()
    }

    pub(super) fn is_bayer(&self) -> bool {
        matches!(self.content, Content::Pixels(PixelFormat::Bayer(..)))
    }

    /// How dear a pixel is: the bits that it brings through memory. A pixel that must be decoded
    /// from JPEG counts as 20 bytes, one of a mosaic as 30: estimates that put the kinds in
    /// this order among frames of like sizes.
    pub(super) fn cost(&self) -> u64 {
        let Content::Pixels(format) = self.content else { return 160 };
        match format {
            PixelFormat::I420 | PixelFormat::Yv12 | PixelFormat::Nv12 | PixelFormat::Nv21 => 12,
            PixelFormat::Yuyv
            | PixelFormat::Yvyu
            | PixelFormat::Uyvy
            | PixelFormat::I422
            | PixelFormat::Nv16
            | PixelFormat::Nv61
            | PixelFormat::Rgb565
            | PixelFormat::Grey10
            | PixelFormat::Grey12
            | PixelFormat::Grey16 => 16,
            PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::I444 | PixelFormat::Nv24 => 24,
            PixelFormat::Bgrx32 | PixelFormat::Xrgb32 => 32,
            PixelFormat::Bayer(..) => 240 + u64::from(format.row_bytes(64)) / 8,
            PixelFormat::Grey => 8,
        }
    }

    /// Rows and bytes of a row of each buffer's part, when the first plane's rows have `stride`
    /// bytes. Empty for JPEG.
    pub(super) fn parts(&self, height: u32, stride: u32) -> Vec<Part> {
        let Content::Pixels(format) = self.content else { return vec![] };
        let (rows, row) = (height as usize, stride as usize);
        if self.buffers == 1 {
            return vec![Part { rows: 1, row: format.frame_bytes(height, stride) }];
        }
        let luma = Part { rows, row };
        let chroma = match format {
            PixelFormat::I420 | PixelFormat::Yv12 => Part { rows: rows.div_ceil(2), row: row.div_ceil(2) },
            PixelFormat::I422 => Part { rows, row: row.div_ceil(2) },
            PixelFormat::I444 => luma,
            PixelFormat::Nv16 | PixelFormat::Nv61 => Part { rows, row: row.div_ceil(2) * 2 },
            // Interleaved.
            _ => Part { rows: rows.div_ceil(2), row: row.div_ceil(2) * 2 },
        };
        let mut parts = vec![chroma; self.buffers];
        parts[0] = luma;
        parts
    }
}

/// What a buffer contributes to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) rows: usize,
    /// Bytes of a row.
    pub(super) row: usize,
}

/// How half pictures lie in a frame, from V4L2's `enum v4l2_field`; `None` for whole frames. Which of
/// the two is older does not matter: one is used.
pub(super) fn fields(field: u32) -> Option<Fields> {
    match field {
        // TOP, BOTTOM, ALTERNATE: each buffer holds one.
        2 | 3 | 7 => Some(Fields::Alone),
        // INTERLACED, INTERLACED_TB.
        4 | 8 => Some(Fields::EvenFirst),
        // INTERLACED_BT.
        9 => Some(Fields::OddFirst),
        // SEQ_TB, SEQ_BT.
        5 | 6 => Some(Fields::OneAboveOther),
        _ => None,
    }
}

/// What Y, U and V mean, from V4L2's numbers; zeros are resolved as the kernel's
/// `V4L2_MAP_YCBCR_ENC_DEFAULT` and `V4L2_MAP_QUANTIZATION_DEFAULT` do. BT.2020 and SMPTE 240M
/// are taken for BT.709, which is nearest.
pub(super) fn colours(colorspace: u32, ycbcr_enc: u32, quantization: u32) -> Colours {
    const SMPTE240M: u32 = 2;
    const REC709: u32 = 3;
    const JPEG: u32 = 7;
    const BT2020: u32 = 10;
    const DCI_P3: u32 = 12;
    let matrix = match (ycbcr_enc, colorspace) {
        // 709, extended gamut 709, BT.2020, its constant luminance, SMPTE 240M.
        (2 | 4 | 6 | 7 | 8, _) | (0, SMPTE240M | REC709 | BT2020 | DCI_P3) => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let range = match (quantization, colorspace) {
        (1, _) | (0, JPEG) => Range::Full,
        _ => Range::Limited,
    };
    Colours { matrix, range }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_by_both_names() {
        for (position, known) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..position].iter().all(|other| other.code != known.code));
            let name = std::str::from_utf8(&known.code).unwrap();
            assert!(Known::named(name).contains(known), "{name}");
            assert_eq!(Known::of(FourCC::new(&known.code)), Some(*known));
        }
        let codes = |name| Known::named(name).iter().map(|known| known.code).collect::<Vec<_>>();
        assert_eq!(codes("nv12"), [*b"NV12", *b"NM12"]);
        assert_eq!(codes("mjpeg"), [*b"MJPG", *b"JPEG"]);
        assert_eq!(codes("rggb10p"), [*b"pRAA"]);
        // These differ by case alone.
        assert_eq!(codes("pGAA"), [*b"pGAA"]);
        assert!(codes("h264").is_empty());
    }

    #[test]
    fn half_pictures_are_told_from_whole_frames() {
        let all: Vec<_> = (0..10).map(fields).collect();
        let (even, alone) = (Some(Fields::EvenFirst), Some(Fields::Alone));
        let above = Some(Fields::OneAboveOther);
        let odd = Some(Fields::OddFirst);
        assert_eq!(all, [None, None, alone, alone, even, above, above, alone, even, odd]);
    }

    #[test]
    fn raw_comes_before_jpeg_before_bayer() {
        let cost = |code: &[u8; 4]| Known::of(FourCC::new(code)).unwrap().cost();
        let order = [b"NV12", b"YUYV", b"RGB3", b"MJPG", b"RGGB", b"pRAA", b"pRCC", b"RG16"];
        assert!(order.windows(2).all(|pair| cost(pair[0]) < cost(pair[1])));
    }

    #[test]
    fn parts_add_up_to_a_frame() {
        for known in KNOWN {
            let Content::Pixels(format) = known.content else { continue };
            for (height, stride) in [(2, 8), (5, 24), (480, 640)] {
                let bytes: usize = known.parts(height, stride).iter().map(|part| part.rows * part.row).sum();
                assert_eq!(bytes, format.frame_bytes(height, stride), "{known:?}");
                assert_eq!(known.parts(height, stride).len(), known.buffers);
            }
        }
    }

    #[test]
    fn colours_follow_the_kernels_defaults() {
        let expect = |numbers: (u32, u32, u32), matrix, range| {
            assert_eq!(colours(numbers.0, numbers.1, numbers.2), Colours { matrix, range }, "{numbers:?}");
        };
        expect((0, 0, 0), Matrix::Bt601, Range::Limited);
        expect((8, 0, 0), Matrix::Bt601, Range::Limited);
        expect((7, 0, 0), Matrix::Bt601, Range::Full);
        expect((3, 0, 0), Matrix::Bt709, Range::Limited);
        expect((3, 1, 1), Matrix::Bt601, Range::Full);
        expect((7, 2, 2), Matrix::Bt709, Range::Limited);
    }
}
