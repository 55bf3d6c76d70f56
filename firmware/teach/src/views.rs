//! Several views of a photograph, as the camera might have seen the thing on another day.

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use resight_imaging::decode_bytes;

use crate::random::Random;

/// How a photograph is varied. The first view is the photograph itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Views {
    /// Views of each photograph, at least 1.
    pub count: usize,
    /// Whether some are mirrored: not where left and right mean something, as in letters.
    pub mirror: bool,
    /// What the variations follow from, together with the photograph's own key.
    pub seed: u64,
}

impl Default for Views {
    fn default() -> Self {
        Self { count: 8, mirror: true, seed: 1 }
    }
}

/// A photograph whose views are larger than the network's input by this much, so that parts of them
/// still have as many pixels.
const MARGIN: f64 = 1.15;

/// What one view does to a photograph.
#[derive(Debug, Clone, PartialEq)]
struct Variation {
    mirror: bool,
    /// Radians.
    angle: f64,
    /// The part of the photograph's sides that is seen.
    zoom: f64,
    /// Of the centre, in parts of the sides.
    shift: [f64; 2],
    /// Factor of each channel: brightness and white balance.
    gain: [f64; 3],
    contrast: f64,
    blur: bool,
    jpeg_quality: Option<u8>,
}

impl Variation {
    fn new(views: &Views, key: u64, index: usize) -> Self {
        let mut random = Random::new(views.seed, &[key, index as u64]);
        let mirror = random.unit() < 0.5 && views.mirror;
        let angle = random.between(-10.0, 10.0).to_radians();
        let zoom = random.between(0.75, 1.0);
        let free = 1.0 - zoom;
        let shift = [(); 2].map(|()| random.between(-0.5, 0.5) * free);
        let brightness = random.between(0.75, 1.25);
        let gain = [(); 3].map(|()| brightness * random.between(0.94, 1.06));
        let contrast = random.between(0.8, 1.25);
        let blur = random.unit() < 0.2;
        let quality = random.between(40.0, 90.0) as u8;
        let jpeg_quality = (random.unit() < 0.3).then_some(quality);
        Self { mirror, angle, zoom, shift, gain, contrast, blur, jpeg_quality }
    }
}

impl Views {
    /// Calls `take` with each view of a photograph, in order. `key` is the photograph's own, for
    /// example the beginning of its digest, so that its views do not depend on any other.
    /// `shorter` is what its shorter side becomes before the network's crop, in pixels.
    ///
    /// # Errors
    /// That of `take`, at once.
    pub fn each<E>(
        &self,
        photograph: &RgbImage,
        key: u64,
        shorter: u32,
        mut take: impl FnMut(usize, &RgbImage) -> Result<(), E>,
    ) -> Result<(), E> {
        take(0, photograph)?;
        if self.count < 2 {
            return Ok(());
        }
        let small = shrunk(photograph, (f64::from(shorter) * MARGIN) as u32);
        let base = small.as_ref().unwrap_or(photograph);
        for index in 1..self.count {
            take(index, &varied(base, &Variation::new(self, key, index)))?;
        }
        Ok(())
    }
}

/// The picture with its shorter side as long as that, if it is longer.
fn shrunk(image: &RgbImage, shorter: u32) -> Option<RgbImage> {
    let (width, height) = image.dimensions();
    let factor = f64::from(shorter.max(1)) / f64::from(width.min(height).max(1));
    let side = |length: u32| ((f64::from(length) * factor).round() as u32).max(1);
    (factor < 1.0).then(|| resize(image, side(width), side(height), FilterType::Triangle))
}

fn varied(base: &RgbImage, variation: &Variation) -> RgbImage {
    let mut image = turned(base, variation);
    if variation.blur {
        blur(&mut image);
    }
    colour(&mut image, variation);
    match variation.jpeg_quality {
        Some(quality) => compressed(&image, quality).unwrap_or(image),
        None => image,
    }
}

/// A part of the picture, turned and perhaps mirrored, of the same size. What lies outside repeats
/// the border's pixels.
fn turned(base: &RgbImage, variation: &Variation) -> RgbImage {
    let (width, height) = base.dimensions();
    let [columns, rows] = [width, height].map(f64::from);
    let (sine, cosine) = (libm::sin(variation.angle), libm::cos(variation.angle));
    let centre = [columns * (0.5 + variation.shift[0]), rows * (0.5 + variation.shift[1])];
    let pixels = base.as_raw();
    let pitch = width as usize * 3;
    // Bilinear in 1/256 of a pixel.
    let place = |position: f64, length: u32| {
        let fixed = ((position - 0.5) * 256.0) as i64;
        let fixed = fixed.clamp(0, (i64::from(length) - 1) * 256);
        let first = (fixed >> 8) as usize;
        (first, (first + 1).min(length as usize - 1), (fixed & 255) as u32)
    };
    let mut output = RgbImage::new(width, height);
    for (x, y, pixel) in output.enumerate_pixels_mut() {
        let mut along = (f64::from(x) + 0.5 - columns / 2.0) * variation.zoom;
        if variation.mirror {
            along = -along;
        }
        let across = (f64::from(y) + 0.5 - rows / 2.0) * variation.zoom;
        let (left, right, column) = place(centre[0] + cosine * along - sine * across, width);
        let (top, bottom, row) = place(centre[1] + sine * along + cosine * across, height);
        for channel in 0..3 {
            let at = |y: usize, x: usize| u32::from(pixels[y * pitch + x * 3 + channel]);
            let upper = at(top, left) * (256 - column) + at(top, right) * column;
            let lower = at(bottom, left) * (256 - column) + at(bottom, right) * column;
            pixel.0[channel] = ((upper * (256 - row) + lower * row + (1 << 15)) >> 16) as u8;
        }
    }
    output
}

/// The mean of three pixels with weights 1, 2, 1, along both axes.
fn blur(image: &mut RgbImage) {
    let (width, height) = image.dimensions();
    let (columns, rows, pitch) = (width as usize, height as usize, width as usize * 3);
    let source = image.as_raw().clone();
    let mut middle = source.clone();
    for row in 0..rows {
        for column in 0..columns {
            let [before, after] = [column.saturating_sub(1), (column + 1).min(columns - 1)];
            for channel in 0..3 {
                let at = |x: usize| u32::from(source[row * pitch + x * 3 + channel]);
                middle[row * pitch + column * 3 + channel] =
                    ((at(before) + 2 * at(column) + at(after) + 2) / 4) as u8;
            }
        }
    }
    for (row, line) in image.chunks_exact_mut(pitch).enumerate() {
        let [before, after] = [row.saturating_sub(1), (row + 1).min(rows - 1)];
        for (index, value) in line.iter_mut().enumerate() {
            let at = |y: usize| u32::from(middle[y * pitch + index]);
            *value = ((at(before) + 2 * at(row) + at(after) + 2) / 4) as u8;
        }
    }
}

/// Brightness, white balance and contrast, by a table for each channel.
fn colour(image: &mut RgbImage, variation: &Variation) {
    let table = variation.gain.map(|gain| {
        let mut table = [0_u8; 256];
        for (level, value) in table.iter_mut().enumerate() {
            let bright = level as f64 * gain;
            *value = (128.0 + (bright - 128.0) * variation.contrast + 0.5) as u8;
        }
        table
    });
    for pixel in image.pixels_mut() {
        for (value, table) in pixel.0.iter_mut().zip(&table) {
            *value = table[usize::from(*value)];
        }
    }
}

/// What a camera's compression leaves of it; nothing that cannot be coded.
fn compressed(image: &RgbImage, quality: u8) -> Option<RgbImage> {
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).ok()?;
    decode_bytes("a view", &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, ((x + y) * 3) as u8]))
    }

    fn views(views: Views, key: u64) -> Vec<RgbImage> {
        let mut seen = vec![];
        let taken: Result<(), ()> = views.each(&picture(), key, 20, |_, view| {
            seen.push(view.clone());
            Ok(())
        });
        assert_eq!(taken, Ok(()));
        seen
    }

    #[test]
    fn views_follow_from_seed_and_picture_alone_and_the_first_is_the_picture() {
        let default = Views::default();
        let first = views(default, 7);
        assert_eq!(first.len(), 8);
        assert_eq!(first[0], picture());
        assert_eq!(first, views(default, 7));
        assert_ne!(first[1], views(default, 8)[1]);
        assert_ne!(first[1], views(Views { seed: 2, ..default }, 7)[1]);
        // More views leave those that are there as they are.
        assert_eq!(views(Views { count: 3, ..default }, 7), first[..3]);
    }

    #[test]
    fn a_picture_of_one_pixel_has_views_too() {
        let image = RgbImage::from_pixel(1, 1, image::Rgb([9, 200, 30]));
        let mut count = 0;
        let taken: Result<(), ()> = Views::default().each(&image, 1, 256, |_, view| {
            assert_eq!(view.dimensions(), (1, 1));
            count += 1;
            Ok(())
        });
        assert_eq!((taken, count), (Ok(()), 8));
    }

    #[test]
    fn nothing_varied_is_the_picture_itself() {
        let still = Variation {
            mirror: false,
            angle: 0.0,
            zoom: 1.0,
            shift: [0.0; 2],
            gain: [1.0; 3],
            contrast: 1.0,
            blur: false,
            jpeg_quality: None,
        };
        assert_eq!(varied(&picture(), &still), picture());
        let mirrored = varied(&picture(), &Variation { mirror: true, ..still });
        assert_eq!(mirrored, image::imageops::flip_horizontal(&picture()));
    }
}
