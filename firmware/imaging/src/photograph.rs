//! Image files as viewers show them: turned as EXIF says, in sRGB.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation as ExifOrientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use resight_base::files::FileError;
use resight_base::text::printable;

use crate::error::{ImageCause, ImagingError};
use crate::jpeg::decode_rgb;
use crate::limits::MAX_IMAGE_SIDE;
use crate::orientation::{Orientation, Rotation};
use crate::profile::{self, Profile};

/// Most bytes that decoding one image may take.
const MAX_IMAGE_MEMORY: u64 = 512 << 20;

/// Largest image file, in bytes.
const MAX_IMAGE_FILE: u64 = 256 << 20;

/// An image as a viewer shows it.
#[derive(Debug)]
pub struct Photograph {
    /// Its pixels, turned as its EXIF orientation says, in sRGB.
    pub image: RgbImage,
    /// What was done to them.
    pub treatment: Treatment,
}

/// What was done to the pixels of an image file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Treatment {
    /// How they were turned.
    pub orientation: Orientation,
    /// What became of a colour profile that is not sRGB.
    pub profile: Option<ColourProfile>,
}

/// A colour profile of an image that is not sRGB.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ColourProfile {
    /// As it calls itself.
    pub name: String,
    /// Whether the image was converted to sRGB. Profiles made of tables are not.
    pub converted: bool,
}

impl fmt::Display for Treatment {
    /// Empty when nothing was done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Orientation { rotation, mirror } = self.orientation;
        let rotation = match rotation {
            Rotation::Upright => None,
            Rotation::Clockwise => Some("turned clockwise by 90 degrees"),
            Rotation::Half => Some("turned by 180 degrees"),
            Rotation::Counterclockwise => Some("turned counterclockwise by 90 degrees"),
        };
        let mut parts: Vec<String> =
            rotation.into_iter().chain(mirror.then_some("mirrored")).map(str::to_owned).collect();
        if !parts.is_empty() {
            parts = vec![format!("{}, as its EXIF orientation says", parts.join(" and "))];
        }
        parts.extend(self.profile.as_ref().map(|profile| {
            let name = &profile.name;
            if profile.converted {
                format!("converted from the colour profile {name} to sRGB")
            } else {
                format!("its colour profile {name} is not known and was taken for sRGB")
            }
        }));
        f.write_str(&parts.join("; "))
    }
}

/// What was done to many images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreatmentCounts {
    images: usize,
    turned: usize,
    profiles: BTreeMap<ColourProfile, usize>,
}

impl TreatmentCounts {
    /// Counts one more.
    pub fn add(&mut self, treatment: &Treatment) {
        self.images += 1;
        self.turned += usize::from(treatment.orientation != Orientation::default());
        if let Some(profile) = &treatment.profile {
            *self.profiles.entry(profile.clone()).or_default() += 1;
        }
    }

    /// Counts those of another.
    pub fn merge(&mut self, other: &Self) {
        self.images += other.images;
        self.turned += other.turned;
        for (profile, count) in &other.profiles {
            *self.profiles.entry(profile.clone()).or_default() += count;
        }
    }

    /// A sentence for each kind of treatment; none when nothing was done.
    pub fn sentences(&self) -> Vec<String> {
        let of = |count: usize| format!("{count} of {} pictures", self.images);
        let turned =
            (self.turned > 0).then(|| format!("{} turned as their EXIF orientation says", of(self.turned)));
        let profile = |(profile, count): (&ColourProfile, &usize)| {
            let (of, name) = (of(*count), &profile.name);
            if profile.converted {
                format!("{of} converted from the colour profile {name} to sRGB")
            } else {
                format!("{of} have the colour profile {name}, taken for sRGB")
            }
        };
        turned.into_iter().chain(self.profiles.iter().map(profile)).collect()
    }
}

/// Reads a PNG, JPEG or WebP file as a viewer shows it: turned as its EXIF orientation says, converted
/// from another colour profile to sRGB.
///
/// Grey is spread to three channels, palettes are looked up, alpha is dropped (not blended), of 16
/// bits the upper 8 are kept: what Pillow's `convert("RGB")` does after `ImageOps.exif_transpose`,
/// except that Pillow saturates 16-bit grey instead and leaves profiles alone.
///
/// # Errors
/// A file that cannot be read or is over 256 MiB, any other format, damaged or truncated data, an
/// image with a side over [`MAX_IMAGE_SIDE`] or that takes over 512 MiB.
pub fn read_photograph(path: &Path) -> Result<Photograph, ImagingError> {
    read_photograph_up_to(path, MAX_IMAGE_MEMORY / 3)
}

/// [`read_photograph`] of an image of up to `most_pixels`, such as [`MAX_FRAME_PIXELS`] for what a
/// service is sent: before any is decoded.
///
/// [`MAX_FRAME_PIXELS`]: crate::MAX_FRAME_PIXELS
///
/// # Errors
/// As [`read_photograph`], and more pixels than that.
pub fn read_photograph_up_to(path: &Path, most_pixels: u64) -> Result<Photograph, ImagingError> {
    let name = path.display().to_string();
    let refuse = |cause| ImagingError::Image { file: name.clone(), cause };
    let metadata = fs::metadata(path).map_err(|error| FileError::system(path, "read", error))?;
    if metadata.is_dir() {
        return Err(refuse(ImageCause::Folder));
    }
    if !metadata.is_file() {
        return Err(refuse(ImageCause::NotRegular));
    }
    let file = fs::File::open(path).map_err(|error| FileError::system(path, "read", error))?;
    let mut bytes = Vec::new();
    file.take(MAX_IMAGE_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::system(path, "read", error))?;
    if bytes.len() as u64 > MAX_IMAGE_FILE {
        return Err(refuse(ImageCause::FileSize { limit: MAX_IMAGE_FILE }));
    }
    decode_up_to(&name, &bytes, most_pixels)
}

/// Decodes PNG, JPEG or WebP data as [`read_photograph`] does; `file` is for the message.
///
/// # Errors
/// As [`read_photograph`].
pub fn decode_photograph(file: &str, bytes: &[u8]) -> Result<Photograph, ImagingError> {
    decode_up_to(file, bytes, MAX_IMAGE_MEMORY / 3)
}

fn decode_up_to(file: &str, bytes: &[u8], most_pixels: u64) -> Result<Photograph, ImagingError> {
    let refuse = |cause| ImagingError::Image { file: file.to_string(), cause };
    let Raw { mut image, exif, profile } = decode_raw(bytes, most_pixels).map_err(refuse)?;
    if image.width() == 0 || image.height() == 0 {
        return Err(refuse(ImageCause::NoPixels));
    }
    let profile = profile.and_then(|bytes| {
        let (profile, name) = profile::read(&bytes);
        let converted = match profile {
            Profile::Srgb => return None,
            Profile::Converted(conversion) => {
                conversion.apply(&mut image);
                true
            }
            Profile::Unknown => false,
        };
        Some(ColourProfile { name, converted })
    });
    let orientation = orientation(exif);
    if orientation != Orientation::default() {
        image = turn(&image, orientation);
    }
    Ok(Photograph { image, treatment: Treatment { orientation, profile } })
}

/// [`read_photograph`] without what was done.
///
/// # Errors
/// As [`read_photograph`].
pub fn decode(path: &Path) -> Result<RgbImage, ImagingError> {
    read_photograph(path).map(|photograph| photograph.image)
}

/// [`decode_photograph`] without what was done.
///
/// # Errors
/// As [`read_photograph`].
pub fn decode_bytes(file: &str, bytes: &[u8]) -> Result<RgbImage, ImagingError> {
    decode_photograph(file, bytes).map(|photograph| photograph.image)
}

/// An image as it is stored.
struct Raw {
    image: RgbImage,
    exif: ExifOrientation,
    profile: Option<Vec<u8>>,
}

fn decode_raw(bytes: &[u8], most_pixels: u64) -> Result<Raw, ImageCause> {
    let format = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => return decode_jpeg(bytes, most_pixels),
        Ok(format @ (ImageFormat::Png | ImageFormat::WebP)) => format,
        _ => return Err(ImageCause::Format { found: kind_of(bytes) }),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_IMAGE_SIDE);
    limits.max_image_height = Some(MAX_IMAGE_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_MEMORY);
    reader.limits(limits);
    let refused = |error: ImageError| ImageCause::Decoder(printable(&error.to_string()));
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (u64::from(width), u64::from(height));
    if width * height > most_pixels {
        return Err(ImageCause::TooLarge { width, height, most: most_pixels });
    }
    // What is damaged besides the pixels does not matter.
    let exif = decoder.orientation().unwrap_or(ExifOrientation::NoTransforms);
    let profile = decoder.icc_profile().unwrap_or(None);
    let image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    Ok(Raw { image: to_rgb(image), exif, profile })
}

fn decode_jpeg(bytes: &[u8], most_pixels: u64) -> Result<Raw, ImageCause> {
    let (mut prepared, mut rgb) = (vec![], vec![]);
    let decoded = decode_rgb(bytes, most_pixels, &mut prepared, &mut rgb)?;
    let [height, width] = decoded.size;
    let image = RgbImage::from_raw(width, height, rgb).ok_or(ImageCause::NoSize)?;
    let exif = decoded.exif.and_then(|exif| ExifOrientation::from_exif_chunk(&exif));
    Ok(Raw { image, exif: exif.unwrap_or(ExifOrientation::NoTransforms), profile: decoded.profile })
}

/// What well-known data is that cannot be decoded here, and what to do about it.
pub(crate) fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    const HEIC: &str = "HEIC; telephones send JPEG with the setting \"most compatible\", and \
        `magick IMAGE.heic IMAGE.jpg` converts it";
    const AVIF: &str = "AVIF; `magick IMAGE.avif IMAGE.png` converts it";
    let brand = bytes.get(4..8).filter(|kind| *kind == b"ftyp").and_then(|_| bytes.get(8..12));
    match (brand, bytes) {
        (Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1"), _) => Some(HEIC),
        (Some(b"avif" | b"avis"), _) => Some(AVIF),
        (Some(_), _) => Some("a film; `ffmpeg -i FILM %05d.png` makes pictures of it"),
        (_, [0, 5, 0x16, 7, ..]) => Some("what macOS keeps beside a file on a foreign disk; remove it"),
        (_, [b'G', b'I', b'F', b'8', ..]) => Some("GIF; convert it to PNG"),
        (_, [b'B', b'M', ..]) => Some("BMP; convert it to PNG"),
        (_, [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..]) => {
            Some("TIFF or a camera's raw format; convert it to PNG")
        }
        (_, [b'<', ..]) => Some("a web page or other text"),
        (_, []) => Some("empty"),
        _ => None,
    }
}

/// What EXIF's eight orientations are here.
fn orientation(exif: ExifOrientation) -> Orientation {
    let (rotation, mirror) = match exif {
        ExifOrientation::NoTransforms => (Rotation::Upright, false),
        ExifOrientation::FlipHorizontal => (Rotation::Upright, true),
        ExifOrientation::Rotate180 => (Rotation::Half, false),
        ExifOrientation::FlipVertical => (Rotation::Half, true),
        ExifOrientation::Rotate90FlipH => (Rotation::Clockwise, true),
        ExifOrientation::Rotate90 => (Rotation::Clockwise, false),
        ExifOrientation::Rotate270FlipH => (Rotation::Counterclockwise, true),
        ExifOrientation::Rotate270 => (Rotation::Counterclockwise, false),
    };
    Orientation { rotation, mirror }
}

fn turn(image: &RgbImage, orientation: Orientation) -> RgbImage {
    let sideways = matches!(orientation.rotation, Rotation::Clockwise | Rotation::Counterclockwise);
    let (width, height) = image.dimensions();
    let (across, down) = if sideways { (height, width) } else { (width, height) };
    let mut turned = RgbImage::new(across, down);
    orientation.turn(image, [height as usize, width as usize], &mut turned);
    turned
}

fn to_rgb(image: DynamicImage) -> RgbImage {
    let upper = |value: u16| (value >> 8) as u8;
    let (width, height) = (image.width(), image.height());
    let pixels = |bytes: Vec<u8>| {
        RgbImage::from_raw(width, height, bytes).expect("three bytes for each pixel of the source")
    };
    match image {
        DynamicImage::ImageLuma16(image) => {
            pixels(image.into_raw().iter().flat_map(|&grey| [upper(grey); 3]).collect())
        }
        DynamicImage::ImageLumaA16(image) => {
            pixels(image.into_raw().chunks_exact(2).flat_map(|pixel| [upper(pixel[0]); 3]).collect())
        }
        DynamicImage::ImageRgb16(image) => pixels(image.into_raw().into_iter().map(upper).collect()),
        DynamicImage::ImageRgba16(image) => pixels(
            image
                .into_raw()
                .chunks_exact(4)
                .flat_map(|pixel| [upper(pixel[0]), upper(pixel[1]), upper(pixel[2])])
                .collect(),
        ),
        eight_bits => eight_bits.into_rgb8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{DISPLAY_P3, SRGB, gamma, profile, srgb_curve};

    /// A JPEG image of one colour with a profile.
    fn with_profile(colour: [u8; 3], profile: &[u8]) -> Vec<u8> {
        let mut jpeg = Cursor::new(vec![]);
        RgbImage::from_pixel(16, 16, image::Rgb(colour)).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        let content = [b"ICC_PROFILE\0\x01\x01", profile].concat();
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe2], &length, &content, &jpeg[2..]].concat()
    }

    #[test]
    fn images_of_more_pixels_than_are_taken_are_refused_before_they_are_decoded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.jpg", "a.webp"] {
            let file = folder.path().join(name);
            RgbImage::from_fn(64, 32, |x, y| image::Rgb([x as u8 * 4, y as u8 * 8, 7])).save(&file).unwrap();
            assert_eq!(read_photograph_up_to(&file, 64 * 32).unwrap().image.dimensions(), (64, 32));
            let error = read_photograph_up_to(&file, 64 * 32 - 1).unwrap_err().to_string();
            assert!(error.ends_with("its header claims 64 x 32 pixels, 2047 are possible"), "{error}");
        }
    }

    #[test]
    fn other_profiles_are_converted_or_named() {
        let mut counts = TreatmentCounts::default();
        let mut decoded = |profile: &[u8]| {
            let photograph = decode_photograph("a.jpg", &with_profile([200, 100, 50], profile)).unwrap();
            counts.add(&photograph.treatment);
            (photograph.image.get_pixel(8, 8).0, photograph.treatment.to_string())
        };
        let near = |found: [u8; 3], expected: [i32; 3]| {
            found.iter().zip(expected).all(|(a, b)| (i32::from(*a) - b).abs() <= 4)
        };
        let (colour, words) = decoded(&profile("Display P3", DISPLAY_P3, &srgb_curve()));
        assert!(near(colour, [215, 93, 31]), "{colour:?}");
        assert_eq!(words, "converted from the colour profile Display P3 to sRGB");
        let (colour, words) = decoded(&profile("sRGB", SRGB, &srgb_curve()));
        assert!(near(colour, [200, 100, 50]) && words.is_empty(), "{colour:?}");
        let mut tables = profile("Printer", DISPLAY_P3, &gamma(2.0));
        tables[16..20].copy_from_slice(b"CMYK");
        let (colour, words) = decoded(&tables);
        assert!(near(colour, [200, 100, 50]), "{colour:?}");
        assert_eq!(words, "its colour profile Printer is not known and was taken for sRGB");
        assert_eq!(
            counts.sentences(),
            [
                "1 of 3 pictures converted from the colour profile Display P3 to sRGB",
                "1 of 3 pictures have the colour profile Printer, taken for sRGB",
            ]
        );
    }
}
