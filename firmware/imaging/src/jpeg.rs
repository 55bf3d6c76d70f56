//! JPEG frames of cameras.

use std::borrow::Cow;

use resight_base::text::printable;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::ImagingError;
use crate::limits::MAX_IMAGE_SIDE;
use crate::pixels::ImageView;

/// The segment with the Huffman tables of ITU-T T.81, Annex K.3. Cameras that send MJPEG leave
/// it out.
const HUFFMAN_TABLES: &[u8] = include_bytes!("huffman.bin");

/// Most pixels that a byte of data can hold: a block of 64 takes a bit at least. A header that
/// promises more is damaged, and would only cost memory.
const PIXELS_PER_BYTE: u64 = 512;

/// Decodes frames, and keeps its memory from frame to frame.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// A frame with the tables that it came without.
    completed: Vec<u8>,
    rgb: Vec<u8>,
}

impl FrameDecoder {
    /// Decodes a JPEG image of up to `most_pixels`; one without Huffman tables gets the
    /// standard's. `name` is for the message.
    ///
    /// # Errors
    /// Damaged or truncated data, more pixels than that or than the data can hold, or a side
    /// above [`MAX_IMAGE_SIDE`].
    pub fn decode(
        &mut self,
        name: &str,
        jpeg: &[u8],
        most_pixels: u64,
    ) -> Result<ImageView<'_>, ImagingError> {
        let refuse = |cause: &str| ImagingError::Image { file: name.to_owned(), cause: printable(cause) };
        if !jpeg.starts_with(&[0xff, 0xd8]) {
            return Err(refuse("not a JPEG image"));
        }
        // The decoder fills what is missing with grey and reports nothing.
        if !is_complete(jpeg) {
            return Err(refuse("the JPEG data is truncated"));
        }
        let bytes = match missing_tables(jpeg) {
            None => jpeg,
            Some(at) => {
                self.completed.clear();
                for part in [&jpeg[..at], HUFFMAN_TABLES, &jpeg[at..]] {
                    self.completed.extend_from_slice(part);
                }
                &self.completed
            }
        };
        let options = DecoderOptions::default()
            .set_max_width(MAX_IMAGE_SIDE as usize)
            .set_max_height(MAX_IMAGE_SIDE as usize)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(|error| refuse(&error.to_string()))?;
        let size = decoder.dimensions().zip(decoder.output_buffer_size());
        let Some(((width, height), length)) = size else { return Err(refuse("the image has no size")) };
        let most = most_pixels.min(jpeg.len() as u64 * PIXELS_PER_BYTE);
        if width as u64 * height as u64 > most {
            return Err(refuse(&format!("its header claims {width} x {height} pixels, {most} are possible")));
        }
        self.rgb.resize(length, 0);
        decoder.decode_into(&mut self.rgb).map_err(|error| refuse(&error.to_string()))?;
        ImageView::rgb(&self.rgb, [height as u32, width as u32])
    }
}

/// A JPEG image with the standard's Huffman tables if it came without any, for everything that
/// does not know them by heart.
pub fn with_huffman_tables(jpeg: &[u8]) -> Cow<'_, [u8]> {
    match missing_tables(jpeg) {
        None => Cow::Borrowed(jpeg),
        Some(at) => Cow::Owned([&jpeg[..at], HUFFMAN_TABLES, &jpeg[at..]].concat()),
    }
}

/// Where Huffman tables belong that are not there.
fn missing_tables(jpeg: &[u8]) -> Option<usize> {
    let mut position = 2;
    while let Some(&[0xff, kind, high, low]) = jpeg.get(position..position + 4) {
        match kind {
            // Tables of its own, or arithmetic coding.
            0xc4 | 0xcc => return None,
            0xda => return Some(position),
            0xff => position += 1,
            _ => position += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    None
}

/// Whether an end-of-image marker follows the first scan. (One may lie before it, in an
/// embedded thumbnail; none can lie within a scan.)
pub(crate) fn is_complete(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let mut position = 2;
    while let Some(&[marker, kind, high, low]) = bytes.get(position..position + 4) {
        if marker != 0xff {
            // Not a segment: leave the judgement to the decoder.
            return true;
        }
        if kind == 0xff {
            // A fill byte before a marker.
            position += 1;
            continue;
        }
        position += 2 + usize::from(u16::from_be_bytes([high, low]));
        if kind == START_OF_SCAN {
            let scan = bytes.get(position..).unwrap_or_default();
            return scan.windows(2).any(|pair| pair == END_OF_IMAGE);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(grey: u8, width: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(vec![]);
        let image = image::RgbImage::from_pixel(width, 8, image::Rgb([grey; 3]));
        image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn frames_without_tables_are_decoded_and_memory_is_kept() {
        let mut decoder = FrameDecoder::default();
        let whole = jpeg(77, 16);
        let first = decoder.decode("a", &whole, u64::MAX).unwrap().to_rgb();
        let mut bare = whole.clone();
        while let Some(at) = bare.windows(2).position(|pair| pair == [0xff, 0xc4]) {
            let length = 2 + usize::from(u16::from_be_bytes([bare[at + 2], bare[at + 3]]));
            bare.drain(at..at + length);
        }
        assert!(bare.len() < whole.len());
        assert_eq!(decoder.decode("a", &bare, u64::MAX).unwrap().to_rgb(), first);
        let before = (decoder.rgb.as_ptr(), decoder.completed.as_ptr());
        decoder.decode("a", &jpeg(200, 8), u64::MAX).unwrap();
        decoder.decode("a", &bare, u64::MAX).unwrap();
        assert_eq!((decoder.rgb.as_ptr(), decoder.completed.as_ptr()), before);
    }

    /// A flipped bit in a header must not cost a gigabyte.
    #[test]
    fn a_header_that_claims_too_much_is_refused_before_memory_is_taken() {
        let mut decoder = FrameDecoder::default();
        let mut claims = jpeg(77, 16);
        let frame = claims.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        claims[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
        let error = decoder.decode("camera", &claims, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("16384 x 16384"), "{error}");
        assert!(decoder.decode("camera", &jpeg(77, 16), 127).is_err());
        assert_eq!(decoder.rgb.capacity(), 0);
        decoder.decode("camera", &jpeg(77, 16), 128).unwrap();
    }

    #[test]
    fn rubbish_and_half_a_frame_are_refused_with_the_name() {
        let mut decoder = FrameDecoder::default();
        let whole = jpeg(77, 16);
        for bytes in [&b"nothing"[..], &[], &[0xff, 0xd8], &whole[..whole.len() - 30]] {
            let error = decoder.decode("camera", bytes, u64::MAX).unwrap_err().to_string();
            assert!(error.contains("camera"), "{error}");
        }
    }
}
