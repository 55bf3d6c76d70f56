//! Preprocessing against Pillow, whose results lie in `data` (made by
//! `tests/preprocessing_golden.py` in the root of the repository).

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use resight_imaging::{
    Channels, Fit, ImageView, ImagingError, InputTable, Interpolation, MAX_IMAGE_SIDE, Preprocessing,
    Preprocessor, RgbImage, decode, decode_bytes,
};
use sha2::{Digest, Sha256};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The test image: noise, the same as in the Python script.
fn generated(width: u32, height: u32) -> RgbImage {
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3u32 {
                let mut h = x
                    .wrapping_mul(0x9E3779B1)
                    .wrapping_add(y.wrapping_mul(0x85EBCA77))
                    .wrapping_add(channel.wrapping_mul(0xC2B2AE3D));
                h = (h ^ (h >> 15)).wrapping_mul(0x2C1B3CE5);
                h = (h ^ (h >> 12)).wrapping_mul(0x297A2D39);
                pixels.push((h >> 24) as u8);
            }
        }
    }
    RgbImage::from_raw(width, height, pixels).unwrap()
}

fn preprocessing(resize_shorter: u32, crop: [u32; 2]) -> Preprocessing {
    Preprocessing { resize_shorter, crop, ..Preprocessing::default() }
}

fn lines(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(data(name)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(' ').map(str::to_string).collect()).collect()
}

#[test]
fn crops_are_the_bytes_of_pillow_and_inputs_those_of_torchvision() {
    let cases = lines("crops.txt");
    assert!(cases.len() >= 20);
    for case in cases {
        let numbers: Vec<u32> = case[..5].iter().map(|number| number.parse().unwrap()).collect();
        let image = generated(numbers[0], numbers[1]);
        let view = ImageView::of(&image).unwrap();
        let mut preprocessor =
            Preprocessor::new(&preprocessing(numbers[2], [numbers[3], numbers[4]])).unwrap();

        let crop = preprocessor.crop(&view).to_vec();
        assert_eq!(crop.len() as u32, numbers[3] * numbers[4] * 3);
        assert_eq!(sha256(&crop), case[5], "crop of {case:?}");

        let mut normalised = vec![0f32; preprocessor.input_len()];
        preprocessor.normalise(&view, &mut normalised).unwrap();
        let bytes: Vec<u8> = normalised.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), case[6], "normalised crop of {case:?}");

        let mut quantised = vec![0i8; preprocessor.input_len()];
        preprocessor.quantise(&view, &mut quantised).unwrap();
        let expected: Vec<i8> = crop.iter().map(|value| (i16::from(*value) - 128) as i8).collect();
        assert!(quantised == expected, "quantised crop of {case:?}");
    }
}

#[test]
fn other_kernels_give_the_bytes_of_pillow_and_the_grey_levels_of_opencv() {
    let cases = lines("interpolations.txt");
    assert_eq!(cases.len(), 18);
    for case in cases {
        let interpolation: Interpolation = case[0].parse().unwrap();
        let [width, height, new_width, new_height] =
            [1, 2, 3, 4].map(|column: usize| case[column].parse().unwrap());
        let image = generated(width, height);
        let preprocessing = Preprocessing {
            fit: Fit::Squash,
            interpolation,
            ..preprocessing(new_width.max(new_height), [new_height, new_width])
        };
        let mut preprocessor = Preprocessor::new(&preprocessing).unwrap();
        let found = preprocessor.crop(&ImageView::of(&image).unwrap());
        if interpolation == Interpolation::BilinearWithoutAntialias {
            let expected = bytes(&case[5]);
            assert_eq!(found.len(), expected.len());
            let most = found.iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected)).max();
            assert!(most <= Some(1), "{:?}: {most:?}", &case[..5]);
        } else {
            assert_eq!(sha256(found), case[5], "{case:?}");
        }
    }
}

#[test]
fn images_decode_to_the_pixels_of_pillow() {
    let cases = lines("images.txt");
    assert_eq!(cases.len(), 14);
    for case in cases {
        let image = decode(&data(&case[0])).unwrap();
        assert_eq!([image.width().to_string(), image.height().to_string()], case[1..3], "{}", case[0]);
        assert_eq!(hex(image.as_raw()), case[3], "{}", case[0]);
    }
}

/// The decoder has code of its own for each instruction set: the digests hold on all.
#[test]
fn jpeg_files_decode_to_the_same_bytes_on_every_machine() {
    for (name, size, expected) in [
        ("photograph.jpg", (96, 80), "5eec1e117e3a223146c6216e57f95889fa5fa632e8a1ee2e02c1c31d61d01831"),
        ("grey.jpg", (24, 20), "294e5e9794a1477ae4025e910bfd217360ee1a3e337cb662bcc0817366ccf083"),
    ] {
        let image = decode(&data(name)).unwrap();
        assert_eq!(image.dimensions(), size);
        assert_eq!(sha256(image.as_raw()), expected, "{name}");
    }
}

#[test]
fn a_preprocessor_gives_the_same_whatever_it_saw_before() {
    let mut used = Preprocessor::new(&preprocessing(40, [32, 36])).unwrap();
    for (width, height) in [(64, 48), (300, 5), (5, 300), (64, 48), (40, 40), (1, 1), (64, 48)] {
        let image = generated(width, height);
        let view = ImageView::of(&image).unwrap();
        let mut fresh = Preprocessor::new(&preprocessing(40, [32, 36])).unwrap();
        assert!(used.crop(&view) == fresh.crop(&view), "{width} x {height}");
    }
}

#[test]
fn an_image_of_the_right_size_is_untouched() {
    let image = generated(32, 32);
    let mut preprocessor = Preprocessor::new(&Preprocessing::for_input(32, 32)).unwrap();
    assert!(preprocessor.crop(&ImageView::of(&image).unwrap()) == image.as_raw().as_slice());
}

#[test]
fn the_longest_thinnest_images_are_preprocessed() {
    for (width, height) in [(1, MAX_IMAGE_SIDE), (MAX_IMAGE_SIDE, 1)] {
        let image = generated(width, height);
        let mut preprocessor = Preprocessor::new(&preprocessing(4096, [4096, 4096])).unwrap();
        let crop = preprocessor.crop(&ImageView::of(&image).unwrap());
        assert_eq!(crop.len(), 4096 * 4096 * 3);
    }
}

#[test]
fn a_uniform_image_stays_uniform() {
    for value in [0, 1, 127, 254, 255] {
        let image = RgbImage::from_pixel(317, 211, image::Rgb([value; 3]));
        let mut preprocessor = Preprocessor::new(&Preprocessing::default()).unwrap();
        assert!(preprocessor.crop(&ImageView::of(&image).unwrap()).iter().all(|pixel| *pixel == value));
    }
}

#[test]
fn a_table_of_its_own_is_used_per_channel() {
    let image = generated(9, 7);
    let mut table = [[0i8; 256]; 3];
    for (channel, entries) in table.iter_mut().enumerate() {
        for (value, entry) in entries.iter_mut().enumerate() {
            *entry = (value as i32 / (channel as i32 + 2)) as i8;
        }
    }
    let mut preprocessor =
        Preprocessor::with_table(&preprocessing(7, [7, 7]), InputTable::new(table)).unwrap();
    let mut output = vec![0; preprocessor.input_len()];
    let crop = preprocessor.crop(&ImageView::of(&image).unwrap()).to_vec();
    preprocessor.quantise(&ImageView::of(&image).unwrap(), &mut output).unwrap();
    for (index, (output, value)) in output.iter().zip(crop).enumerate() {
        assert_eq!(*output, table[index % 3][usize::from(value)]);
    }
}

#[test]
fn a_quantising_table_is_quantize_linear() {
    let preprocessing = Preprocessing::default();
    let table = InputTable::quantising(&preprocessing, 0.018658, -14).unwrap();
    let entries = table.entries();
    // (0 / 255 - 0.485) / 0.229 = -2.117904, / 0.018658 = -113.51, - 14 = -127.51.
    assert_eq!(entries[0][0], -128);
    // (255 / 255 - 0.406) / 0.225 = 2.64, / 0.018658 = 141.49, - 14 = 127.49.
    assert_eq!(entries[2][255], 127);
    assert_eq!(InputTable::quantising(&preprocessing, 0.01, 0).unwrap().entries()[2][255], 127);
    assert_eq!(InputTable::quantising(&preprocessing, 0.01, 0).unwrap().entries()[0][0], -128);
    // Halves go to the even number: 1 - mean is 1.5, 2.5 and 0.5.
    let halves =
        Preprocessing { mean: [-0.5, -1.5, 0.5], standard_deviation: [1.0; 3], ..preprocessing.clone() };
    let halves = InputTable::quantising(&halves, 1.0, 10).unwrap();
    assert_eq!(halves.entries().map(|entries| entries[255]), [12, 12, 10]);
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = InputTable::quantising(&preprocessing, scale, 0).unwrap_err().to_string();
        assert_eq!(error, format!("preprocessing: the input's scale {scale} is not finite and positive"));
    }
}

#[test]
fn impossible_preprocessing_is_refused() {
    let good = Preprocessing::default();
    good.validate().unwrap();
    let deviation = "standard deviation";
    for (bad, cause) in [
        (Preprocessing { resize_shorter: 0, ..good.clone() }, "resize_shorter is 0, not 1 to 4096"),
        (Preprocessing { resize_shorter: 4097, ..good.clone() }, "resize_shorter is 4097, not 1 to 4096"),
        (Preprocessing { crop: [0, 224], ..good.clone() }, "a crop of 0 x 224 does not lie within"),
        (Preprocessing { crop: [224, 257], ..good.clone() }, "a crop of 224 x 257 does not lie within"),
        (Preprocessing { mean: [0.0, f32::NAN, 0.0], ..good.clone() }, "the mean [0.0, NaN, 0.0] is not"),
        (
            Preprocessing { mean: [f32::INFINITY, 0.0, 0.0], ..good.clone() },
            "the mean [inf, 0.0, 0.0] is not",
        ),
        (Preprocessing { standard_deviation: [1.0, 0.0, 1.0], ..good.clone() }, deviation),
        (Preprocessing { standard_deviation: [1.0, 1.0, -1.0], ..good.clone() }, deviation),
        (Preprocessing { standard_deviation: [f32::NAN, 1.0, 1.0], ..good.clone() }, deviation),
    ] {
        for error in [bad.validate().unwrap_err(), Preprocessor::new(&bad).err().unwrap()] {
            assert!(matches!(error, ImagingError::Preprocessing(_)), "{bad:?}");
            assert!(error.to_string().contains(cause), "{bad:?}: {error}");
        }
    }
}

#[test]
fn the_shorter_side_keeps_the_ratio_of_imagenet() {
    let sides = [(288, 320, 365), (224, 224, 256), (64, 64, 64), (32, 20, 32)];
    for (height, width, expected) in sides {
        assert_eq!(Preprocessing::for_input(height, width).resize_shorter, expected);
    }
}

#[test]
fn views_and_outputs_of_another_length_are_refused() {
    let image = generated(4, 4);
    let refusal = |bytes, size| ImageView::rgb(bytes, size).err().unwrap().to_string();
    let error = refusal(image.as_raw(), [4, 5]);
    assert!(error.contains("48 bytes for an image of 5 x 4 pixels of rgb24, which has 60"), "{error}");
    for size in [[0, 4], [MAX_IMAGE_SIDE + 1, 1]] {
        let error = refusal(&[], size);
        assert!(
            error.contains(&format!("{} x {} pixels; each side must be 1 to", size[1], size[0])),
            "{error}"
        );
    }
    let view = ImageView::of(&image).unwrap();
    let mut preprocessor = Preprocessor::new(&preprocessing(8, [8, 8])).unwrap();
    let error = preprocessor.normalise(&view, &mut [0.0; 8 * 8 * 3 + 1]).unwrap_err().to_string();
    assert!(error.contains("193") && error.contains("192"), "{error}");
    let error = preprocessor.quantise(&view, &mut []).unwrap_err().to_string();
    assert!(error.contains("192"), "{error}");
}

fn message(name: &str, bytes: &[u8]) -> String {
    let error = decode_bytes(name, bytes).unwrap_err().to_string();
    assert!(error.starts_with(name) && !error.contains('\n'), "{error}");
    error
}

#[test]
fn undecodable_images_are_errors_that_name_the_file() {
    assert!(message("a.png", b"").contains("empty"));
    assert!(message("a.png", b"hello").contains("neither PNG, JPEG nor WebP"));
    assert!(message("a.gif", b"GIF89a\x01\0\x01\0\0\0\0;").contains("neither PNG, JPEG nor WebP but GIF"));
    for name in ["rgb8.png", "photograph.jpg", "grey.jpg"] {
        let bytes = fs::read(data(name)).unwrap();
        for length in [3, 9, 20, bytes.len() / 3, bytes.len() / 2, bytes.len() - 13] {
            message(name, &bytes[..length]);
        }
    }
    let mut bytes = fs::read(data("rgb8.png")).unwrap();
    bytes[50] ^= 0x55;
    message("altered.png", &bytes);

    let missing = decode(Path::new("no/such/file.png")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file.png: cannot read: "), "{missing}");
    let folder = decode(&data("")).unwrap_err().to_string();
    assert!(folder.contains("not a regular file"), "{folder}");
}

#[test]
fn a_truncated_jpeg_with_a_whole_thumbnail_is_refused() {
    let whole = fs::read(data("photograph.jpg")).unwrap();
    // An application segment that holds an end-of-image marker, as a thumbnail does.
    let mut bytes = whole[..2].to_vec();
    bytes.extend([0xff, 0xe1, 0, 6, 0xff, 0xd9, 0, 0]);
    bytes.extend(&whole[2..]);
    decode_bytes("thumbnail.jpg", &bytes).unwrap();
    assert!(message("thumbnail.jpg", &bytes[..bytes.len() - 100]).contains("not all there"));
}

/// A PNG file that claims a size.
fn claimed(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fs::read(data("rgb8.png")).unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = u32::MAX;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB88320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[test]
fn huge_images_are_refused_before_memory_is_taken() {
    decode_bytes("same.png", &claimed(10, 3)).unwrap();
    for (width, height) in [(MAX_IMAGE_SIDE + 1, 1), (1, MAX_IMAGE_SIDE + 1), (u32::MAX >> 1, u32::MAX >> 1)]
    {
        message("huge.png", &claimed(width, height));
    }
    // Within the sides, but 805 MB.
    message("huge.png", &claimed(MAX_IMAGE_SIDE, MAX_IMAGE_SIDE));
}

proptest! {
    #[test]
    fn altered_images_never_panic(
        name in prop::sample::select(vec!["photograph.jpg", "palette4.png", "rgba16.png", "grey.jpg"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = fs::read(data(name)).unwrap();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Err(error) = decode_bytes(name, &bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    /// Every pixel of a result lies between the smallest and the largest of the source.
    #[test]
    fn resizing_stays_within_the_range_of_the_source(
        width in 1u32..80,
        height in 1u32..80,
        shorter in 1u32..60,
        low in 0u8..120,
        high in 120u8..=255,
    ) {
        let mut image = generated(width, height);
        for value in image.iter_mut() {
            *value = (*value).clamp(low, high);
        }
        let mut preprocessor = Preprocessor::new(&preprocessing(shorter, [shorter, shorter])).unwrap();
        let crop = preprocessor.crop(&ImageView::of(&image).unwrap());
        prop_assert!(crop.iter().all(|value| (low..=high).contains(value)));
    }
}

#[test]
fn channels_come_in_the_networks_order_with_their_own_mean() {
    let image = generated(12, 10);
    let rgb = Preprocessing { mean: [0.1, 0.2, 0.3], ..preprocessing(8, [8, 8]) };
    let inputs = |preprocessing: &Preprocessing| {
        let mut preprocessor = Preprocessor::new(preprocessing).unwrap();
        let mut float = vec![0.0; preprocessor.input_len()];
        let mut quantised = vec![0; preprocessor.input_len()];
        let view = ImageView::of(&image).unwrap();
        preprocessor.normalise(&view, &mut float).unwrap();
        preprocessor.quantise(&view, &mut quantised).unwrap();
        (float, quantised)
    };
    let (float, quantised) = inputs(&rgb);
    let mut exchanged = Preprocessing { channels: Channels::Bgr, ..rgb.clone() };
    exchanged.mean.reverse();
    exchanged.standard_deviation.reverse();
    let (other_float, other_quantised) = inputs(&exchanged);
    for channel in 0..3 {
        assert_eq!(float[channel * 64..][..64], other_float[(2 - channel) * 64..][..64]);
        for pixel in 0..64 {
            assert_eq!(quantised[pixel * 3 + channel], other_quantised[pixel * 3 + 2 - channel]);
        }
    }
    let gray = Preprocessing {
        channels: Channels::Gray,
        mean: [0.5; 3],
        standard_deviation: [0.25; 3],
        ..rgb.clone()
    };
    let (one_float, one) = inputs(&gray);
    assert_eq!((one_float.len(), one.len()), (64, 64));
    for (pixel, &value) in one.iter().enumerate() {
        let level = |channel: usize| f64::from(i32::from(quantised[pixel * 3 + channel]) + 128);
        let luma = 0.299 * level(0) + 0.587 * level(1) + 0.114 * level(2);
        let found = f64::from(i32::from(value) + 128);
        assert!((found - luma).abs() < 0.51, "{found} {luma}");
        assert!((f64::from(one_float[pixel]) - (found / 255.0 - 0.5) / 0.25).abs() < 1e-5);
    }
    let error =
        Preprocessor::new(&Preprocessing { channels: Channels::Gray, ..rgb }).unwrap_err().to_string();
    assert!(error.contains("one channel has one mean"), "{error}");
}

#[test]
fn pictures_are_squashed_or_fitted_within_margins_of_the_mean() {
    let image = generated(40, 20);
    let view = ImageView::of(&image).unwrap();
    let crop = |fit: Fit, input: [u32; 2]| {
        let preprocessing =
            Preprocessing { fit, mean: [0.2, 0.4, 0.6], ..preprocessing(input[0].max(input[1]), input) };
        Preprocessor::new(&preprocessing).unwrap().crop(&view).to_vec()
    };
    // Squashed: all of it. An input of the picture's own size is the picture.
    assert_eq!(crop(Fit::Squash, [20, 40]), image.as_raw()[..]);
    // The same as resizing the shorter side where the proportion is the same.
    assert_eq!(crop(Fit::Squash, [10, 20]), crop(Fit::Letterbox, [10, 20]));
    let boxed = crop(Fit::Letterbox, [40, 40]);
    let (rows, _) = boxed.as_chunks::<{ 40 * 3 }>();
    for (index, row) in rows.iter().enumerate() {
        if (10..30).contains(&index) {
            assert_eq!(row[..], image.as_raw()[(index - 10) * 120..][..120]);
        } else {
            assert!(row.as_chunks::<3>().0.iter().all(|pixel| *pixel == [51, 102, 153]), "row {index}");
        }
    }
    for row in crop(Fit::Letterbox, [20, 60]).as_chunks::<{ 60 * 3 }>().0 {
        let (pixels, _) = row.as_chunks::<3>();
        assert!(pixels[..10].iter().chain(&pixels[50..]).all(|pixel| *pixel == [51, 102, 153]));
    }
}
