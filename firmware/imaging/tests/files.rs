//! Folders of image files.

use std::fs;

use resight_imaging::{TreatmentCounts, decode, decode_photograph, image_files};

#[test]
fn image_files_are_listed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.png", "a b.JPG", "notes.md", "labels.txt"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    fs::create_dir(folder.path().join("folder.png")).unwrap();
    let files = image_files(folder.path()).unwrap();
    assert_eq!(files, [folder.path().join("a b.JPG"), folder.path().join("b.png")]);
    let empty = tempfile::tempdir().unwrap();
    assert!(
        image_files(empty.path()).unwrap_err().to_string().contains("no .png, .jpg, .jpeg or .webp files")
    );
    assert!(image_files(&files[0]).unwrap_err().to_string().contains("not a folder"));
    assert!(image_files(&empty.path().join("none")).unwrap_err().to_string().contains("cannot read"));
}

/// A photograph of three colours in a row, 24 x 8 pixels.
fn photograph() -> image::RgbImage {
    image::RgbImage::from_fn(24, 8, |x, _| {
        image::Rgb([[200, 30, 30], [30, 200, 30], [30, 30, 200]][x as usize / 8])
    })
}

fn jpeg(image: &image::RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(vec![]);
    image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// The same JPEG data with a segment behind its beginning.
fn with_segment(jpeg: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, kind], &length, content, &jpeg[2..]].concat()
}

/// EXIF with nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    [&b"Exif\0\0MM\0*\0\0\0\x08\0\x01"[..], &entry, &[0; 4]].concat()
}

type Turn = fn(&image::RgbImage) -> image::RgbImage;

/// What all eight orientations make of it is what a viewer shows.
#[test]
fn photographs_are_turned_as_exif_says() {
    let stored = jpeg(&photograph());
    let plain = decode_photograph("a.jpg", &stored).unwrap();
    assert_eq!(plain.treatment.to_string(), "");
    let image = &plain.image;
    let turns: [(u8, Turn, &str); 8] = [
        (1, image::RgbImage::clone, ""),
        (2, |image| image::imageops::flip_horizontal(image), "mirrored, as its EXIF orientation says"),
        (3, |image| image::imageops::rotate180(image), "turned by 180 degrees, as its EXIF orientation says"),
        (
            4,
            |image| image::imageops::flip_vertical(image),
            "turned by 180 degrees and mirrored, as its EXIF orientation says",
        ),
        (
            5,
            |image| image::imageops::flip_horizontal(&image::imageops::rotate90(image)),
            "turned clockwise by 90 degrees and mirrored, as its EXIF orientation says",
        ),
        (
            6,
            |image| image::imageops::rotate90(image),
            "turned clockwise by 90 degrees, as its EXIF orientation says",
        ),
        (
            7,
            |image| image::imageops::flip_horizontal(&image::imageops::rotate270(image)),
            "turned counterclockwise by 90 degrees and mirrored, as its EXIF orientation says",
        ),
        (
            8,
            |image| image::imageops::rotate270(image),
            "turned counterclockwise by 90 degrees, as its EXIF orientation says",
        ),
    ];
    let mut counts = TreatmentCounts::default();
    for (orientation, turn, words) in turns {
        let tagged = with_segment(&stored, 0xe1, &exif(orientation));
        let found = decode_photograph("a.jpg", &tagged).unwrap();
        assert_eq!(found.image, turn(image), "{orientation}");
        assert_eq!(found.treatment.to_string(), words);
        counts.add(&found.treatment);
    }
    assert_eq!(counts.sentences(), ["7 of 8 pictures turned as their EXIF orientation says"]);
    // Damaged EXIF is none.
    for length in 6..exif(6).len() {
        let tagged = with_segment(&stored, 0xe1, &exif(6)[..length]);
        decode_photograph("a.jpg", &tagged).unwrap();
    }
}

#[test]
fn webp_is_read_whatever_its_name_and_others_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zz.jpg");
    photograph().save_with_format(&path, image::ImageFormat::WebP).unwrap();
    assert_eq!(decode(&path).unwrap(), photograph());
    for (bytes, words) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "neither PNG, JPEG nor WebP but HEIC; telephones send JPEG"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF; `magick"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "what macOS keeps beside a file"),
        (b"<html>", "a web page"),
        (b"", "but empty"),
    ] {
        let error = decode_photograph("a.jpg", bytes).unwrap_err().to_string();
        assert!(error.starts_with("a.jpg: cannot decode the image: ") && error.contains(words), "{error}");
    }
}
