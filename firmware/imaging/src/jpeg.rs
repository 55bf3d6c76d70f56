//! JPEG images: frames of cameras and photographs.

use std::borrow::Cow;

use resight_base::text::printable;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::{ImageCause, ImagingError};
use crate::limits::{MAX_FRAME_PIXELS, MAX_IMAGE_SIDE};
use crate::markers;
use crate::pixels::ImageView;
use crate::scan::{self, HUFFMAN_TABLES};

/// Most pixels that a byte of data can hold: a block of 64 takes a bit at least. A header that
/// promises more is damaged, and would only cost memory.
const PIXELS_PER_BYTE: u64 = 512;

/// After so many frames that need less than a quarter of it, memory is given back.
const FRAMES_TO_SHRINK: u32 = 64;

/// Decodes frames, and keeps its memory from frame to frame.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The frame as the decoder gets it.
    prepared: KeptBuffer,
    rgb: KeptBuffer,
}

/// Memory that is kept while it is needed.
#[derive(Debug, Default)]
struct KeptBuffer {
    bytes: Vec<u8>,
    /// Frames in a row that needed less than a quarter.
    small: u32,
}

impl KeptBuffer {
    /// Gives memory back that has long been too much.
    fn shrink(&mut self) {
        let is_small = self.bytes.len() < self.bytes.capacity() / 4;
        self.small = if is_small { self.small + 1 } else { 0 };
        if self.small >= FRAMES_TO_SHRINK {
            self.bytes.shrink_to_fit();
            self.small = 0;
        }
    }
}

impl FrameDecoder {
    /// Decodes a JPEG image of up to `most_pixels` and up to [`MAX_FRAME_PIXELS`]; one without Huffman
    /// tables gets the standard's, and one without an end of image is good if its scan is whole. `name`
    /// is for the message.
    ///
    /// # Errors
    /// Data that is damaged or not all there, more pixels than that or than the data can hold, or a
    /// side above [`MAX_IMAGE_SIDE`].
    pub fn decode(
        &mut self,
        name: &str,
        jpeg: &[u8],
        most_pixels: u64,
    ) -> Result<ImageView<'_>, ImagingError> {
        let refuse = |cause| ImagingError::Image { file: name.to_owned(), cause };
        let most = most_pixels.min(MAX_FRAME_PIXELS);
        let result = decode_rgb(jpeg, most, &mut self.prepared.bytes, &mut self.rgb.bytes);
        self.prepared.shrink();
        self.rgb.shrink();
        let Decoded { size, .. } = result.map_err(refuse)?;
        ImageView::rgb(&self.rgb.bytes, size)
    }
}

/// What was decoded besides the pixels.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Height and width, in pixels.
    pub(crate) size: [u32; 2],
    /// The TIFF structure of EXIF, without what stands before it.
    pub(crate) exif: Option<Vec<u8>>,
    /// The ICC profile.
    pub(crate) profile: Option<Vec<u8>>,
}

/// Decodes a JPEG image to RGB in `rgb`; `prepared` is memory for its data. `most_pixels` as for
/// [`FrameDecoder::decode`].
///
/// # Errors
/// What is wrong with the image, for a message that names it.
pub(crate) fn decode_rgb(
    jpeg: &[u8],
    most_pixels: u64,
    prepared: &mut Vec<u8>,
    rgb: &mut Vec<u8>,
) -> Result<Decoded, ImageCause> {
    if !jpeg.starts_with(&[markers::PREFIX, markers::START]) {
        return Err(ImageCause::NotJpeg);
    }
    scan::prepare(jpeg, prepared)?;
    let options = DecoderOptions::default()
        .set_max_width(MAX_IMAGE_SIDE as usize)
        .set_max_height(MAX_IMAGE_SIDE as usize)
        // Anything less reports nothing when data is missing.
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&prepared[..]), options);
    decoder.decode_headers().map_err(|error| ImageCause::Decoder(printable(&error.to_string())))?;
    let size = decoder.dimensions().zip(decoder.output_buffer_size());
    let Some(((width, height), length)) = size else { return Err(ImageCause::NoSize) };
    let (width, height) = (width as u64, height as u64);
    let most = most_pixels.min(jpeg.len() as u64 * PIXELS_PER_BYTE);
    if width * height > most {
        return Err(ImageCause::TooLarge { width, height, most });
    }
    rgb.clear();
    rgb.resize(length, 0);
    decoder.decode_into(rgb).map_err(|error| ImageCause::Damaged(printable(&error.to_string())))?;
    Ok(Decoded {
        size: [height as u32, width as u32],
        exif: decoder.exif().cloned(),
        profile: decoder.icc_profile(),
    })
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
    while let Some(&[markers::PREFIX, kind]) = jpeg.get(position..position + 2) {
        match kind {
            markers::HUFFMAN | markers::ARITHMETIC => return None,
            markers::SCAN => return Some(position),
            markers::PREFIX => position += 1,
            _ => position = markers::segment_end(jpeg, position)?,
        }
    }
    None
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

    /// Something with many bits in each block.
    fn busy(width: u32, height: u32) -> Vec<u8> {
        let pixel = |x: u32, y: u32| {
            let noise = (x * 7919 + y * 104_729) ^ (x * y * 31);
            image::Rgb([noise as u8, (noise >> 3) as u8, (x * 5 + y) as u8])
        };
        let mut bytes = std::io::Cursor::new(vec![]);
        image::RgbImage::from_fn(width, height, pixel)
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .unwrap();
        bytes.into_inner()
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, ImagingError> {
        let mut decoder = FrameDecoder::default();
        decoder.decode("camera", bytes, u64::MAX).map(|image| image.to_rgb().into_raw())
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
        let before = (decoder.rgb.bytes.as_ptr(), decoder.prepared.bytes.as_ptr());
        decoder.decode("a", &jpeg(200, 8), u64::MAX).unwrap();
        decoder.decode("a", &bare, u64::MAX).unwrap();
        assert_eq!((decoder.rgb.bytes.as_ptr(), decoder.prepared.bytes.as_ptr()), before);
    }

    /// One huge frame in a stream of small ones.
    #[test]
    fn memory_that_is_no_longer_needed_is_given_back() {
        let mut decoder = FrameDecoder::default();
        decoder.decode("a", &jpeg(77, 16000), u64::MAX).unwrap();
        let huge = decoder.rgb.bytes.capacity();
        for _ in 0..FRAMES_TO_SHRINK {
            decoder.decode("a", &jpeg(77, 16), u64::MAX).unwrap();
        }
        assert!(huge >= 16000 * 8 * 3 && decoder.rgb.bytes.capacity() < huge / 100);
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
        // Data enough for it, so the limit of streams decides.
        let at = claims.len() - 2;
        claims.splice(at..at, std::iter::repeat_n(0x55, 1 << 20));
        let error = decoder.decode("camera", &claims, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("16384 x 16384 pixels, 25165824 are possible"), "{error}");
        let error = decoder.decode("camera", &jpeg(77, 16), 127).unwrap_err().to_string();
        assert!(error.contains("16 x 8 pixels, 127 are possible"), "{error}");
        assert_eq!(decoder.rgb.bytes.capacity(), 0);
        decoder.decode("camera", &jpeg(77, 16), 128).unwrap();
    }

    #[test]
    fn rubbish_and_half_a_frame_are_refused_with_the_name() {
        let whole = jpeg(77, 16);
        for bytes in [&b"nothing"[..], &[], &[0xff, 0xd8], &whole[..whole.len() / 2]] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains("camera"), "{error}");
        }
    }

    /// Found by fuzzing: the restart interval was divided by what the header would have said.
    #[test]
    fn a_scan_before_the_frame_header_is_refused() {
        let whole = jpeg(77, 16);
        let scan =
            [&[0xff, 0xdd, 0, 4, 0, 1][..], &[0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0], &[0x55; 8]].concat();
        for rest in [&whole[2..], &[0xff, 0xd9]] {
            let bytes = [&whole[..2], &scan, rest].concat();
            for error in [decode(&bytes).unwrap_err(), crate::decode_bytes("camera", &bytes).unwrap_err()] {
                let error = error.to_string();
                assert!(error.contains("camera") && error.contains("no frame header before it"), "{error}");
            }
        }
    }

    fn scan_of(jpeg: &[u8]) -> usize {
        let at = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]))
    }

    /// Packets of a USB camera that are lost: data is missing in the middle, the end is there.
    #[test]
    fn a_scan_with_a_gap_is_damaged() {
        let whole = busy(160, 120);
        let expected = decode(&whole).unwrap();
        let scan = scan_of(&whole);
        let length = whole.len() - 2 - scan;
        for (from, lost) in [(length / 4, length / 8), (length / 2, length / 2), (length / 3, 700), (0, 2000)]
        {
            let mut gap = whole.clone();
            gap.drain(scan + from..scan + from + lost);
            let error = decode(&gap).unwrap_err().to_string();
            assert!(error.contains("damaged or not all there"), "{from} {lost}: {error}");
        }
        // What follows the end does not matter.
        assert_eq!(decode(&[&whole[..], b"\r\n--frame\r\n"].concat()).unwrap(), expected);
    }

    /// Cameras such as the ESP32's leave the end of image out.
    #[test]
    fn a_whole_scan_without_an_end_is_good() {
        for whole in [busy(160, 120), jpeg(77, 16), jpeg(0, 640)] {
            let expected = decode(&whole).unwrap();
            let bare = &whole[..whole.len() - 2];
            assert_eq!(decode(bare).unwrap(), expected);
            assert_eq!(decode(&[bare, b"\r\n--frame\r\n"].concat()).unwrap(), expected);
        }
        let whole = busy(160, 120);
        for missing in [40, 400, 4000] {
            assert!(
                decode(&whole[..whole.len() - missing])
                    .is_err_and(|error| error.to_string().contains("not all there"))
            );
        }
    }

    /// A grey image of 8 x `8 * blocks` pixels with a restart marker behind each block: every block is
    /// coded as the only one of an image of its own.
    fn with_restarts(blocks: u8) -> Vec<u8> {
        let block = |seed: u8| {
            let image = image::GrayImage::from_fn(8, 8, |x, y| {
                image::Luma([(x * 37 + y * 91 + u32::from(seed) * 53) as u8 ^ (x * y * 29) as u8])
            });
            let mut bytes = std::io::Cursor::new(vec![]);
            image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
            bytes.into_inner()
        };
        let first = block(0);
        let mut whole = first[..scan_of(&first)].to_vec();
        let frame = whole.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        whole[frame + 5..frame + 7].copy_from_slice(&(8 * u16::from(blocks)).to_be_bytes());
        let at = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        whole.splice(at..at, [0xff, 0xdd, 0, 4, 0, 1]);
        for seed in 0..blocks {
            let one = block(seed);
            whole.extend_from_slice(&one[scan_of(&one)..one.len() - 2]);
            whole.extend_from_slice(&[0xff, if seed + 1 < blocks { 0xd0 + seed % 8 } else { 0xd9 }]);
        }
        whole
    }

    /// With restart markers whole intervals can be missing, and nothing else shows it.
    #[test]
    fn missing_restart_intervals_are_noticed() {
        let whole = with_restarts(20);
        assert_eq!(decode(&whole).unwrap().len(), 8 * 160 * 3);
        let scan = scan_of(&whole);
        let marks: Vec<usize> = (scan..whole.len() - 1)
            .filter(|at| whole[*at] == 0xff && (0xd0..=0xd7).contains(&whole[*at + 1]))
            .collect();
        assert!(marks.len() >= 9, "{}", marks.len());
        let without = |from: usize, to: usize| [&whole[..from], &whole[to..]].concat();
        let error = decode(&without(marks[2], marks[3])).unwrap_err().to_string();
        assert!(error.contains("restart markers are missing"), "{error}");
        // Eight in a row: the numbers fit.
        let error = decode(&without(marks[0], marks[8])).unwrap_err().to_string();
        assert!(error.contains("restart intervals"), "{error}");
        // Half of one.
        let error =
            decode(&without(marks[1] + 2, usize::midpoint(marks[1], marks[2]))).unwrap_err().to_string();
        assert!(error.contains("damaged or not all there"), "{error}");
    }
}
