//! Camera formats against the standards' formulas.

use proptest::prelude::*;
use resight_imaging::{
    BayerDepth, BayerOrder, Colours, ImageView, MAX_IMAGE_SIDE, Matrix, Orientation, PixelFormat,
    Preprocessing, Preprocessor, Range, Region, RgbImage, Rotation,
};

/// A pixel by the formulas of BT.601 and BT.709, in floating point.
fn standard(y: u8, u: u8, v: u8, colours: Colours) -> [f64; 3] {
    let (kr, kb) = match colours.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let (luma, gain) = match colours.range {
        Range::Limited => ((f64::from(y) - 16.0) * 255.0 / 219.0, 255.0 / 224.0),
        Range::Full => (f64::from(y), 1.0),
    };
    let red = luma + 2.0 * (1.0 - kr) * (f64::from(v) - 128.0) * gain;
    let blue = luma + 2.0 * (1.0 - kb) * (f64::from(u) - 128.0) * gain;
    [red, (luma - kr * red - kb * blue) / (1.0 - kr - kb), blue]
}

#[test]
fn colours_are_those_of_the_standards() {
    for matrix in [Matrix::Bt601, Matrix::Bt709] {
        for range in [Range::Limited, Range::Full] {
            let colours = Colours { matrix, range };
            for y in (0..=255u8).step_by(5) {
                for u in (0..=255u8).step_by(15) {
                    for v in (0..=255u8).step_by(15) {
                        let yuv = [y, u, v];
                        let view = ImageView::new(&yuv, PixelFormat::I444, colours, [1, 1], 1).unwrap();
                        let found = view.to_rgb().into_raw();
                        for (found, expected) in found.into_iter().zip(standard(y, u, v, colours)) {
                            let error = f64::from(found) - expected.clamp(0.0, 255.0);
                            assert!(error.abs() <= 0.51, "{y} {u} {v} {colours:?}");
                        }
                    }
                }
            }
        }
    }
}

/// One byte for each position of a plane of `width` x `height` in rows of `stride`, from a
/// function of column and row; padding is 99.
fn plane([width, height]: [usize; 2], stride: usize, value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    let byte = |x: usize, y: usize| if x < width { value(x, y) } else { 99 };
    (0..height).flat_map(|y| (0..stride).map(move |x| (x, y))).map(|(x, y)| byte(x, y)).collect()
}

/// A picture that can be stored in any format: chroma is the same within blocks of 2 x 2.
struct Picture {
    width: usize,
    height: usize,
    seed: u32,
}

impl Picture {
    fn value(&self, x: usize, y: usize, plane: u32) -> u8 {
        let hash = (x as u32 + 1)
            .wrapping_mul(0x9e37_79b1)
            .wrapping_add((y as u32 + 1).wrapping_mul(0x85eb_ca77))
            .wrapping_add((plane + self.seed).wrapping_mul(0xc2b2_ae3d));
        ((hash ^ hash >> 15).wrapping_mul(0x2c1b_3ce5) >> 24) as u8
    }

    fn yuv(&self, x: usize, y: usize) -> [u8; 3] {
        [self.value(x, y, 0), self.value(x / 2, y / 2, 1), self.value(x / 2, y / 2, 2)]
    }

    /// The frame in a format, with rows of `stride` bytes.
    fn frame(&self, format: PixelFormat, stride: usize) -> Vec<u8> {
        let (width, height) = (self.width, self.height);
        let (half_width, half_height, half) = (width.div_ceil(2), height.div_ceil(2), stride.div_ceil(2));
        let luma = || plane([width, height], stride, |x, y| self.yuv(x, y)[0]);
        let chroma = |which: usize, lower: usize| {
            let rows = height.div_ceil(lower);
            plane([half_width, rows], half, move |x, y| self.yuv(2 * x, lower * y)[which])
        };
        let pairs = |first: usize, lower: usize| {
            let rows = if lower == 2 { half_height } else { height };
            plane([2 * half_width, rows], 2 * half, move |x, y| {
                self.yuv(x, lower * y)[if x % 2 == 0 { first } else { 3 - first }]
            })
        };
        // Two bytes for each pixel, the lower first.
        let words = |value: &dyn Fn(usize, usize) -> u16| {
            plane([2 * width, height], stride, |x, y| value(x / 2, y).to_le_bytes()[x % 2])
        };
        let grey = |most: u32| words(&|x, y| ((u32::from(self.yuv(x, y)[0]) * most + 127) / 255) as u16);
        let quads = |order: [usize; 4]| {
            let places = [(0, 0), (0, 1), (1, 0), (0, 2)];
            plane([4 * half_width, height], stride, move |x, y| {
                let (right, plane) = places[order[x % 4]];
                self.yuv((x / 4 * 2 + right).min(width - 1), y)[plane]
            })
        };
        match format {
            PixelFormat::I420 => [luma(), chroma(1, 2), chroma(2, 2)].concat(),
            PixelFormat::Yv12 => [luma(), chroma(2, 2), chroma(1, 2)].concat(),
            PixelFormat::I422 => [luma(), chroma(1, 1), chroma(2, 1)].concat(),
            PixelFormat::I444 => (0..3)
                .flat_map(|which| plane([width, height], stride, move |x, y| self.yuv(x, y)[which]))
                .collect(),
            PixelFormat::Nv12 => [luma(), pairs(1, 2)].concat(),
            PixelFormat::Nv21 => [luma(), pairs(2, 2)].concat(),
            PixelFormat::Nv16 => [luma(), pairs(1, 1)].concat(),
            PixelFormat::Nv61 => [luma(), pairs(2, 1)].concat(),
            PixelFormat::Nv24 => {
                let chroma = plane([2 * width, height], 2 * stride, |x, y| self.yuv(x / 2, y)[1 + x % 2]);
                [luma(), chroma].concat()
            }
            PixelFormat::Yuyv => quads([0, 1, 2, 3]),
            PixelFormat::Yvyu => quads([0, 3, 2, 1]),
            PixelFormat::Uyvy => quads([1, 0, 3, 2]),
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
                let rgb = self.rgb(Colours::default());
                let order = if format == PixelFormat::Rgb24 { [0, 1, 2] } else { [2, 1, 0] };
                plane([3 * width, height], stride, |x, y| rgb.get_pixel(x as u32 / 3, y as u32)[order[x % 3]])
            }
            PixelFormat::Bgrx32 | PixelFormat::Xrgb32 => {
                let rgb = self.rgb(Colours::default());
                let order = if format == PixelFormat::Bgrx32 { [2, 1, 0, 3] } else { [3, 0, 1, 2] };
                plane([4 * width, height], stride, |x, y| {
                    let pixel = rgb.get_pixel(x as u32 / 4, y as u32).0;
                    pixel.get(order[x % 4]).copied().unwrap_or(99)
                })
            }
            PixelFormat::Rgb565 => {
                let rgb = self.rgb(Colours::default());
                words(&|x, y| {
                    let [red, green, blue] = rgb.get_pixel(x as u32, y as u32).0.map(u16::from);
                    red >> 3 << 11 | green >> 2 << 5 | blue >> 3
                })
            }
            PixelFormat::Grey => luma(),
            PixelFormat::Grey10 => grey(1023),
            PixelFormat::Grey12 => grey(4095),
            PixelFormat::Grey16 => words(&|x, y| 7000 + 4 * u16::from(self.yuv(x, y)[0])),
            PixelFormat::Bayer(..) => unreachable!(),
        }
    }

    /// What every format but grey must show.
    fn rgb(&self, colours: Colours) -> RgbImage {
        RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let yuv = self.yuv(x as usize, y as usize);
            let view = ImageView::new(&yuv, PixelFormat::I444, colours, [1, 1], 1).unwrap();
            *view.to_rgb().get_pixel(0, 0)
        })
    }
}

proptest! {
    /// Any size, padding and region, with nothing but the frame in memory.
    #[test]
    fn all_formats_show_the_same_picture(
        width in 1usize..40,
        height in 1usize..12,
        padding in 0usize..9,
        seed: u32,
        region in (0.0f32..0.9, 0.0f32..0.9, 0.01f32..1.0, 0.01f32..1.0),
    ) {
        let picture = Picture { width, height, seed };
        let expected = picture.rgb(Colours::default());
        let (left, top, wide, high) = region;
        let region = Region::new(left, top, wide.min(1.0 - left), high.min(1.0 - top)).unwrap();
        for (name, format) in PixelFormat::NAMED {
            let stride = format.row_bytes(width as u32) as usize + padding;
            let frame = picture.frame(format, stride);
            let size = [height as u32, width as u32];
            prop_assert_eq!(frame.len(), format.frame_bytes(size[0], stride as u32), "{}", name);
            let view = |bytes| ImageView::new(bytes, format, Colours::default(), size, stride as u32);
            let error = view(&frame[1..]).err().map(|error| error.to_string()).unwrap_or_default();
            prop_assert!(error.contains(&format!("{} bytes for an image of ", frame.len() - 1)), "{}", error);
            let view = view(&frame).unwrap();
            let found = view.to_rgb();
            if format == PixelFormat::Grey {
                prop_assert!(found.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
                continue;
            }
            let luma = |x: u32, y: u32| picture.yuv(x as usize, y as usize)[0];
            if matches!(format, PixelFormat::Grey10 | PixelFormat::Grey12) {
                prop_assert!(found.enumerate_pixels().all(|(x, y, pixel)| pixel.0 == [luma(x, y); 3]), "{}", name);
                continue;
            }
            if format == PixelFormat::Grey16 {
                let all = || (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| luma(x, y)));
                let (low, high) = (all().min().unwrap(), all().max().unwrap());
                let range = u32::from(high - low).max(1);
                let stretched = |value: u8| ((u32::from(value - low) * 255 + range / 2) / range) as u8;
                prop_assert!(
                    found.enumerate_pixels().all(|(x, y, pixel)| pixel[0].abs_diff(stretched(luma(x, y))) <= 1)
                );
                continue;
            }
            if format == PixelFormat::Rgb565 {
                let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 8;
                prop_assert!(found.as_raw().iter().zip(expected.as_raw()).all(near), "{}", name);
                continue;
            }
            prop_assert!(found == expected, "{}", name);
            let part = view.region(region);
            let [high, wide] = part.size();
            let first_column = (f64::from(left) * width as f64).round().min(width as f64 - 1.0) as u32;
            let first_row = (f64::from(top) * height as f64).round().min(height as f64 - 1.0) as u32;
            let found = part.to_rgb();
            for (x, y, pixel) in found.enumerate_pixels() {
                prop_assert_eq!(pixel, expected.get_pixel(first_column + x, first_row + y));
            }
            prop_assert!(wide >= 1 && high >= 1);
        }
    }

    /// Every region of every Bayer size is whole blocks within the frame.
    #[test]
    fn bayer_regions_stay_within_the_frame(
        width in 2u32..40,
        height in 2u32..12,
        region in (0.0f32..0.99, 0.0f32..0.99, 0.01f32..1.0, 0.01f32..1.0),
    ) {
        let (left, top, wide, high) = region;
        let region = Region::new(left, top, wide.min(1.0 - left), high.min(1.0 - top)).unwrap();
        for depth in ["8", "10", "10p", "12", "12p", "16"] {
            let format = PixelFormat::from_name(&format!("gbrg{depth}")).unwrap();
            let stride = format.row_bytes(width);
            let frame = vec![0x55; format.frame_bytes(height, stride)];
            let view = ImageView::new(&frame, format, Colours::default(), [height, width], stride).unwrap();
            let part = view.region(region);
            let [blocks_high, blocks_wide] = part.size();
            prop_assert!(blocks_high >= 1 && blocks_wide >= 1);
            prop_assert!(blocks_high <= height / 2 && blocks_wide <= width / 2);
            prop_assert_eq!(part.to_rgb().dimensions(), (blocks_wide, blocks_high));
        }
    }
}

#[test]
fn names_lead_back_to_their_formats() {
    for (name, format) in PixelFormat::NAMED {
        assert_eq!((PixelFormat::from_name(name), format.name().as_str()), (Some(format), name));
    }
    for name in ["rggb8", "grbg10", "gbrg10p", "bggr12", "rggb12p", "bggr16"] {
        assert_eq!(PixelFormat::from_name(name).unwrap().name(), name);
    }
    for name in ["", "yuy", "rggb", "rggb9", "ggrb8", "i4200", "é420"] {
        assert_eq!(PixelFormat::from_name(name), None, "{name}");
    }
}

#[test]
fn impossible_frames_are_refused() {
    let view = |format, size, stride| ImageView::new(&[0; 64], format, Colours::default(), size, stride);
    assert!(view(PixelFormat::Grey, [8, 8], 8).is_ok());
    let bayer = PixelFormat::from_name("rggb8").unwrap();
    for (format, size, stride, cause) in [
        (PixelFormat::Grey, [8, 8], 7, "rows of 7 bytes; 8 pixels of grey need 8 to"),
        (PixelFormat::Grey, [0, 8], 8, "8 x 0 pixels; each side must be 1 to"),
        (
            PixelFormat::Grey,
            [1, MAX_IMAGE_SIDE + 1],
            MAX_IMAGE_SIDE + 1,
            " x 1 pixels; each side must be 1 to",
        ),
        (PixelFormat::Grey, [1, 1], u32::MAX, "rows of 4294967295 bytes; 1 pixels of grey need 1 to"),
        (bayer, [1, 8], 8, "8 x 1 pixels; each side must be 2 to"),
    ] {
        let error = view(format, size, stride).err().unwrap().to_string();
        assert!(error.contains(cause), "{error}");
    }
    for [left, top, width, height] in
        [[0.0, 0.0, 0.0, 1.0], [-0.1, 0.0, 1.0, 1.0], [0.5, 0.0, 0.6, 1.0], [f32::NAN, 0.0, 1.0, 1.0]]
    {
        assert_eq!(Region::new(left, top, width, height), None);
    }
}

/// Values of 12 bits as every depth stores them, for a scene of grey 0.25 under reddish light.
fn mosaic(order: BayerOrder, depth: BayerDepth, width: usize, height: usize) -> Vec<u8> {
    let colours = match order {
        BayerOrder::Rggb => [0, 1, 1, 2],
        BayerOrder::Grbg => [1, 0, 2, 1],
        BayerOrder::Gbrg => [1, 2, 0, 1],
        BayerOrder::Bggr => [2, 1, 1, 0],
    };
    let value = |x: usize, y: usize| [1536u16, 1024, 768][colours[y % 2 * 2 + x % 2]];
    let mut bytes = vec![];
    for y in 0..height {
        let row: Vec<u16> = (0..width).map(|x| value(x, y)).collect();
        match depth {
            BayerDepth::Eight => bytes.extend(row.iter().map(|value| (value >> 4) as u8)),
            BayerDepth::Ten => bytes.extend(row.iter().flat_map(|value| (value >> 2).to_le_bytes())),
            BayerDepth::Twelve => bytes.extend(row.iter().flat_map(|value| value.to_le_bytes())),
            BayerDepth::Sixteen => bytes.extend(row.iter().flat_map(|value| (value << 4).to_le_bytes())),
            BayerDepth::TenPacked => {
                for four in row.chunks(4) {
                    bytes.extend(four.iter().map(|value| (value >> 4) as u8));
                    bytes.push(four.iter().rev().fold(0, |low, value| (low << 2) | (value >> 2 & 3) as u8));
                }
            }
            BayerDepth::TwelvePacked => {
                for two in row.chunks(2) {
                    bytes.extend(two.iter().map(|value| (value >> 4) as u8));
                    bytes.push((two[0] & 15) as u8 | ((two[1] & 15) as u8 * 16));
                }
            }
        }
    }
    bytes
}

#[test]
fn bayer_images_of_grey_become_grey() {
    let orders = [BayerOrder::Rggb, BayerOrder::Grbg, BayerOrder::Gbrg, BayerOrder::Bggr];
    let depths = [
        BayerDepth::Eight,
        BayerDepth::Ten,
        BayerDepth::TenPacked,
        BayerDepth::Twelve,
        BayerDepth::TwelvePacked,
        BayerDepth::Sixteen,
    ];
    for order in orders {
        for depth in depths {
            let format = PixelFormat::Bayer(order, depth);
            let frame = mosaic(order, depth, 8, 6);
            let stride = format.row_bytes(8);
            let view = ImageView::new(&frame, format, Colours::default(), [6, 8], stride).unwrap();
            assert_eq!(view.size(), [3, 4]);
            // sRGB of 0.25 is 137.
            assert!(view.to_rgb().as_raw().iter().all(|value| value.abs_diff(137) <= 1), "{format:?}");
        }
    }
}

fn preprocessing(shorter: u32, crop: [u32; 2]) -> Preprocessing {
    Preprocessing { resize_shorter: shorter, crop, ..Preprocessing::default() }
}

#[test]
fn formats_resize_as_their_rgb_does() {
    let picture = Picture { width: 61, height: 47, seed: 3 };
    let mut preprocessor = Preprocessor::new(&preprocessing(36, [32, 30])).unwrap();
    for (name, format) in PixelFormat::NAMED {
        let stride = format.row_bytes(61) + 3;
        let frame = picture.frame(format, stride as usize);
        let view = ImageView::new(&frame, format, Colours::default(), [47, 61], stride).unwrap();
        let expected = preprocessor.crop(&ImageView::of(&view.to_rgb()).unwrap()).to_vec();
        assert_eq!(preprocessor.crop(&view), expected, "{name}");
    }
}

/// The crop's pixels, turned by hand.
#[test]
fn orientations_turn_what_the_network_sees() {
    // Even margins, so that the middle is the middle from every side.
    let picture = Picture { width: 48, height: 40, seed: 1 };
    let rgb = picture.rgb(Colours::default());
    let mut preprocessor = Preprocessor::new(&preprocessing(40, [20, 30])).unwrap();
    let pixel = |image: &[u8], row: usize, column: usize, width: usize| -> [u8; 3] {
        image[(row * width + column) * 3..][..3].try_into().unwrap()
    };
    for (rotation, clockwise_turns) in [
        (Rotation::Upright, 0),
        (Rotation::Clockwise, 1),
        (Rotation::Half, 2),
        (Rotation::Counterclockwise, 3),
    ] {
        for mirror in [false, true] {
            preprocessor.set_orientation(Orientation { rotation, mirror });
            let found = preprocessor.crop(&ImageView::of(&rgb).unwrap()).to_vec();
            // The same by turning the photograph first; nothing is resized, so nothing is rounded.
            let mut turned = rgb.clone();
            for _ in 0..clockwise_turns {
                let (width, height) = turned.dimensions();
                turned = RgbImage::from_fn(height, width, |x, y| *turned.get_pixel(y, height - 1 - x));
            }
            if mirror {
                let (width, height) = turned.dimensions();
                turned = RgbImage::from_fn(width, height, |x, y| *turned.get_pixel(width - 1 - x, y));
            }
            preprocessor.set_orientation(Orientation::default());
            let expected = preprocessor.crop(&ImageView::of(&turned).unwrap()).to_vec();
            assert_eq!(pixel(&found, 3, 7, 30), pixel(&expected, 3, 7, 30), "{rotation:?} {mirror}");
            assert!(found == expected, "{rotation:?} {mirror}");
        }
    }
}
