//! Image files and folders of them.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, ImageReader, Limits, RgbImage};
use resight_base::files::FileError;
use resight_base::text::printable;

use crate::error::ImagingError;
use crate::jpeg::is_complete;
use crate::limits::MAX_IMAGE_SIDE;

/// Most bytes that decoding one image may take.
const MAX_IMAGE_MEMORY: u64 = 512 << 20;

/// Largest image file, in bytes.
const MAX_IMAGE_FILE: u64 = 256 << 20;

/// The PNG and JPEG files of a folder, by their extension, in the order of their names.
///
/// # Errors
/// No folder, one that cannot be read, or one without images.
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, ImagingError> {
    check_folder(folder)?;
    let cannot_read = |error| FileError::system(folder, "read", error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        if is_image_name(&path) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        let cause = "no .png, .jpg or .jpeg files in this folder; folders in it are not searched";
        return Err(FileError::content(&folder.display().to_string(), cause).into());
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name is that of a picture, and not of what macOS leaves beside one (`._a.jpg`).
pub fn is_image_name(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let is_known = |extension: &std::ffi::OsStr| {
        ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    };
    !is_hidden && path.extension().is_some_and(is_known)
}

/// Checks that `folder` is one, as a folder of images must be.
///
/// # Errors
/// It is not there, or it is something else.
pub fn check_folder(folder: &Path) -> Result<(), ImagingError> {
    let metadata = fs::metadata(folder).map_err(|error| FileError::system(folder, "read", error))?;
    if metadata.is_dir() {
        return Ok(());
    }
    let cause = "not a folder; a folder of images is expected";
    Err(FileError::content(&folder.display().to_string(), cause).into())
}

/// Reads a PNG or JPEG file as RGB.
///
/// Grey is spread to three channels, palettes are looked up, alpha is dropped (not blended),
/// of 16 bits the upper 8 are kept: what Pillow's `convert("RGB")` does, except that Pillow
/// saturates 16-bit grey instead. Orientation tags and colour profiles are not applied, as
/// there.
///
/// # Errors
/// A file that cannot be read or is over 256 MiB, any other format, damaged or truncated
/// data, an image with a side over [`MAX_IMAGE_SIDE`] or that takes over 512 MiB.
pub fn decode(path: &Path) -> Result<RgbImage, ImagingError> {
    let name = path.display().to_string();
    let refuse = |cause: String| ImagingError::Image { file: name.clone(), cause };
    let metadata = fs::metadata(path).map_err(|error| FileError::system(path, "read", error))?;
    if metadata.is_dir() {
        return Err(refuse("it is a folder, not a regular file; name the images in it".to_string()));
    }
    if !metadata.is_file() {
        return Err(refuse("not a regular file".to_string()));
    }
    let file = fs::File::open(path).map_err(|error| FileError::system(path, "read", error))?;
    let mut bytes = Vec::new();
    file.take(MAX_IMAGE_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::system(path, "read", error))?;
    if bytes.len() as u64 > MAX_IMAGE_FILE {
        return Err(refuse(format!("the file is over {} MiB", MAX_IMAGE_FILE >> 20)));
    }
    decode_bytes(&name, &bytes)
}

/// Decodes PNG or JPEG data as [`decode`] does; `file` is for the message.
///
/// # Errors
/// See [`decode`].
pub fn decode_bytes(file: &str, bytes: &[u8]) -> Result<RgbImage, ImagingError> {
    let refuse = |cause: &str| ImagingError::Image { file: file.to_string(), cause: printable(cause) };
    if bytes.is_empty() {
        return Err(refuse("the file is empty"));
    }
    let format = image::guess_format(bytes).ok();
    let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = format else {
        return Err(refuse("neither PNG nor JPEG"));
    };
    // The decoder fills what is missing with grey and reports nothing.
    if format == ImageFormat::Jpeg && !is_complete(bytes) {
        return Err(refuse("the JPEG data is truncated"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_IMAGE_SIDE);
    limits.max_image_height = Some(MAX_IMAGE_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_MEMORY);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| refuse(&error.to_string()))?;
    let image = to_rgb(image);
    if image.width() == 0 || image.height() == 0 {
        return Err(refuse("the image has no pixels"));
    }
    Ok(image)
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
