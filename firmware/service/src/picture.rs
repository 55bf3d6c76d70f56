//! Frames that leave the inference thread as pictures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, Rgb, imageops};
use resight_imaging::{FrameDecoder, ImagingError, RgbImage, with_huffman_tables};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::frame::{Frame, FrameFormat};
use crate::judge::{Change, Place};
use crate::live::{Top, top};
use crate::names::Names;
use crate::sync::lock;

/// Quality of encoded pictures, of 100.
const QUALITY: u8 = 85;

/// A copy of a frame.
pub(crate) struct Picture(Frame);

impl Picture {
    pub(crate) fn of(frame: &Frame) -> Self {
        Self(Frame { bytes: frame.bytes.clone(), ..*frame })
    }

    /// The frame's number.
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// The picture as JPEG: as it came if it is one, or else encoded.
    ///
    /// # Errors
    /// Bytes that make no image.
    pub(crate) fn jpeg(&self) -> Result<Vec<u8>, PictureError> {
        if self.0.format == FrameFormat::Jpeg {
            return Ok(with_huffman_tables(&self.0.bytes).into_owned());
        }
        self.pixels().and_then(|image| encoded(&image)).map_err(|cause| self.refusal(cause))
    }

    /// As [`jpeg`](Self::jpeg), of a frame with a thing at `place`, `[left, top, right, bottom]` as shares
    /// of it.
    ///
    /// # Errors
    /// As [`jpeg`](Self::jpeg).
    pub(crate) fn jpeg_of(&self, place: Option<[f32; 4]>, shows: Shows) -> Result<Vec<u8>, PictureError> {
        let (Some(place), Shows::Thing | Shows::Marked) = (place, shows) else { return self.jpeg() };
        let shown = |mut image: RgbImage| {
            if shows == Shows::Thing {
                return encoded(&cut(&image, place));
            }
            mark(&mut image, place);
            encoded(&image)
        };
        self.pixels().and_then(shown).map_err(|cause| self.refusal(cause))
    }

    fn pixels(&self) -> Result<RgbImage, PictureCause> {
        let mut decoder = FrameDecoder::default();
        Ok(self.0.image(&mut decoder)?.to_rgb())
    }

    fn refusal(&self, cause: PictureCause) -> PictureError {
        PictureError { number: self.0.number, cause }
    }
}

fn encoded(image: &RgbImage) -> Result<Vec<u8>, PictureCause> {
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(image)?;
    Ok(bytes)
}

/// What a picture shows of a frame in which something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shows {
    /// All of it.
    #[default]
    Frame,
    /// The thing, with a little of what is round it.
    Thing,
    /// All of it, with a frame round the thing.
    Marked,
}

/// What is shown round a thing, as a share of its larger side.
const MARGIN: f32 = 0.1;

/// The colour of a frame round a thing, and of its edge, which shows on bright things.
const MARK: [Rgb<u8>; 2] = [Rgb([255, 90, 0]), Rgb([0, 0, 0])];

/// The columns and rows of a box, `[left, top, right, bottom]` as shares of a picture of `[width, height]`
/// with so many pixels round it: first and behind the last; one of each at least.
fn pixels(place: [f32; 4], [width, height]: [u32; 2], margin: f32) -> [u32; 4] {
    let [left, top, right, bottom] = place;
    let ends = |start: f32, end: f32, side: u32| {
        let at = |share: f32, more: f32| (share * side as f32 + more).clamp(0.0, side as f32);
        let first = (at(start, -margin).round() as u32).min(side.saturating_sub(1));
        (first, (at(end, margin).round() as u32).clamp(first + 1, side.max(first + 1)))
    };
    let ((x0, x1), (y0, y1)) = (ends(left, right, width), ends(top, bottom, height));
    [x0, y0, x1, y1]
}

/// The part of a picture that a thing is in.
fn cut(image: &RgbImage, place: [f32; 4]) -> RgbImage {
    let [left, top, right, bottom] = place;
    let (width, height) = image.dimensions();
    let larger = ((right - left) * width as f32).max((bottom - top) * height as f32);
    let [x0, y0, x1, y1] = pixels(place, [width, height], MARGIN * larger);
    imageops::crop_imm(image, x0, y0, x1 - x0, y1 - y0).to_image()
}

/// Draws a frame round a thing.
fn mark(image: &mut RgbImage, place: [f32; 4]) {
    let (width, height) = image.dimensions();
    let thickness = (width.min(height) / 160).max(2);
    let edge = 1 + thickness / 4;
    let [x0, y0, x1, y1] = pixels(place, [width, height], 0.0);
    for y in y0..y1 {
        for x in x0..x1 {
            let inside = (x - x0).min(x1 - 1 - x).min(y - y0).min(y1 - 1 - y);
            if inside < thickness + edge {
                image.put_pixel(x, y, MARK[usize::from(inside >= thickness)]);
            }
        }
    }
}

/// Why a frame makes no picture.
#[derive(Debug, thiserror::Error)]
#[error("frame {number} cannot be encoded as JPEG: {cause}")]
pub(crate) struct PictureError {
    number: u64,
    cause: PictureCause,
}

#[derive(Debug, thiserror::Error)]
enum PictureCause {
    #[error(transparent)]
    Imaging(#[from] ImagingError),
    #[error(transparent)]
    Encoder(#[from] ImageError),
}

/// A picture, and why it was taken.
pub(crate) struct Snapshot {
    pub(crate) picture: Arc<Picture>,
    /// Where the thing is, `[left, top, right, bottom]` as shares of the frame, where the network says.
    pub(crate) place: Option<[f32; 4]>,
    pub(crate) rule: String,
    pub(crate) class: String,
    pub(crate) score: f32,
    pub(crate) wall: SystemTime,
}

/// Who takes snapshots.
pub(crate) trait Pictures: Send + Sync {
    /// Whether a rule's frames are wanted.
    fn wants(&self, rule: &str) -> bool;

    /// Takes a snapshot, or drops and counts it.
    fn take(&self, snapshot: Snapshot);
}

/// Where inference finds who takes snapshots, if there is somebody.
#[derive(Default)]
pub(crate) struct SnapshotTap(Mutex<Option<Weak<dyn Pictures>>>);

impl SnapshotTap {
    pub(crate) fn give_to(&self, pictures: Weak<dyn Pictures>) {
        *lock(&self.0) = Some(pictures);
    }

    /// Takes a snapshot of `frame` for each rule that became active by it. Copies the frame only if
    /// there are any.
    pub(crate) fn take(&self, active: &[Change], frame: &Frame, names: &Names) {
        let Some(pictures) = lock(&self.0).as_ref().and_then(Weak::upgrade) else { return };
        let mut picture = None;
        for change in active {
            let Some(rule) = names.rule(change.rule).filter(|rule| pictures.wants(rule)) else {
                continue;
            };
            pictures.take(Snapshot {
                picture: picture.get_or_insert_with(|| Arc::new(Picture::of(frame))).clone(),
                place: change.place.map(Place::surroundings),
                rule: rule.to_owned(),
                class: names.label(change.class).unwrap_or_default().to_owned(),
                score: change.score,
                wall: SystemTime::now(),
            });
        }
    }
}

/// A frame with what the network saw in it.
pub(crate) struct Seen {
    picture: Picture,
    pub(crate) top: Top,
    /// Encoded once, however many want it.
    jpeg: OnceLock<Result<Vec<u8>, PictureError>>,
}

impl Seen {
    /// The frame's number.
    pub(crate) fn number(&self) -> u64 {
        self.picture.number()
    }

    /// The picture as JPEG.
    ///
    /// # Errors
    /// Bytes that make no image.
    pub(crate) fn jpeg(&self) -> Result<&[u8], &PictureError> {
        self.jpeg.get_or_init(|| self.picture.jpeg()).as_deref()
    }
}

#[derive(Default)]
struct Latest {
    /// Grows with each picture.
    count: u64,
    /// There only while somebody waits for it.
    seen: Option<Arc<Seen>>,
    waiting: usize,
}

/// Gives copies of frames to those who ask. Nobody asks: a frame costs the look at a flag.
#[derive(Default)]
pub(crate) struct FrameTap {
    wanted: AtomicBool,
    latest: Mutex<Latest>,
    filled: Notify,
}

/// Somebody who waits for a frame.
struct Waiting<'a>(&'a FrameTap);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut latest = lock(&self.0.latest);
        latest.waiting -= 1;
        if latest.waiting == 0 {
            latest.seen = None;
        }
    }
}

impl FrameTap {
    /// Copies `frame` if somebody waits for one. `probabilities` is one per class.
    pub(crate) fn pass(&self, frame: &Frame, probabilities: &[f32]) {
        if !self.wanted.swap(false, Ordering::SeqCst) {
            return;
        }
        let (picture, top) = (Picture::of(frame), top(probabilities));
        let seen = Arc::new(Seen { picture, top, jpeg: OnceLock::new() });
        let mut latest = lock(&self.latest);
        latest.count += 1;
        latest.seen = Some(seen);
        self.filled.notify_waiters();
    }

    /// Waits for the next frame.
    pub(crate) async fn next(&self, wait: Duration) -> Option<Arc<Seen>> {
        let (before, filled, _waiting) = {
            let mut latest = lock(&self.latest);
            latest.waiting += 1;
            // It counts from here, and not from when it is first waited for.
            (latest.count, self.filled.notified(), Waiting(self))
        };
        self.wanted.store(true, Ordering::SeqCst);
        // In time or not, the count tells.
        let _ = timeout(wait, filled).await;
        let latest = lock(&self.latest);
        latest.seen.clone().filter(|_| latest.count != before)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn frame(number: u64) -> Frame {
        Frame { bytes: vec![200; 16 * 8 * 3], width: 16, height: 8, stride: 48, number, ..Frame::new() }
    }

    #[test]
    fn a_picture_is_a_jpeg_of_the_frame() {
        let jpeg = Picture::of(&frame(1)).jpeg().unwrap();
        let image = image::load_from_memory(&jpeg).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (16, 8));
        assert!(image.pixels().all(|pixel| pixel.0.iter().all(|value| value.abs_diff(200) <= 2)));
        let error = Picture::of(&Frame { bytes: vec![], ..frame(1) }).jpeg().unwrap_err();
        let cause = "frame 1 cannot be encoded as JPEG: ";
        assert!(error.to_string().starts_with(cause), "{error}");
        assert!(error.to_string().contains("0 bytes for an image of 16 x 8 pixels"), "{error}");
        let captured = Frame { bytes: jpeg.clone(), format: FrameFormat::Jpeg, ..Frame::new() };
        assert_eq!(Picture::of(&captured).jpeg().unwrap(), jpeg);
    }

    #[test]
    fn a_thing_is_cut_out_or_marked() {
        // Grey, with a white thing of 20 x 10 pixels.
        let is_thing = |x: usize, y: usize| (40..60).contains(&x) && (30..40).contains(&y);
        let bytes =
            (0..100 * 80).flat_map(|at| [if is_thing(at % 100, at / 100) { 250 } else { 90 }; 3]).collect();
        let picture = Picture::of(&Frame { bytes, width: 100, height: 80, stride: 300, ..Frame::new() });
        let place = Some([0.4, 0.375, 0.6, 0.5]);
        let image = |shows, place| {
            image::load_from_memory(&picture.jpeg_of(place, shows).unwrap()).unwrap().into_rgb8()
        };
        let thing = image(Shows::Thing, place);
        // A tenth of 20 pixels round it.
        assert_eq!(thing.dimensions(), (24, 14));
        assert!(thing.get_pixel(12, 7).0[0] > 220 && thing.get_pixel(0, 0).0[0] < 130);
        let marked = image(Shows::Marked, place);
        assert_eq!(marked.dimensions(), (100, 80));
        let [edge, middle, outside] = [[40, 35], [50, 35], [20, 20]].map(|[x, y]| marked.get_pixel(x, y).0);
        assert!(edge[0] > 180 && edge[2] < 120, "{edge:?}");
        assert!(
            middle[2] > 200 && outside.iter().all(|value| value.abs_diff(90) < 20),
            "{middle:?} {outside:?}"
        );
        for (shows, place) in [(Shows::Frame, place), (Shows::Thing, None), (Shows::Marked, None)] {
            assert_eq!(picture.jpeg_of(place, shows).unwrap(), picture.jpeg().unwrap());
        }
        // Beyond the edges, and of no size at all.
        assert_eq!(image(Shows::Thing, Some([-0.5, 0.9, 0.1, 2.0])).dimensions(), (19, 17));
        assert_eq!(image(Shows::Thing, Some([1.0, 1.0, 1.0, 1.0])).dimensions(), (1, 1));
        assert_eq!(image(Shows::Marked, Some([1.0, 1.0, 1.0, 1.0])).dimensions(), (100, 80));
    }

    #[test]
    fn all_who_wait_get_the_next_frame_and_nothing_is_kept() {
        let tap = Arc::new(FrameTap::default());
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tap.pass(&frame(1), &[]);
        assert!(runtime().block_on(tap.next(Duration::from_millis(1))).is_none(), "an old frame");
        // What was asked for in vain is not passed to a later one as if it were new.
        tap.pass(&frame(2), &[]);
        let wait = |tap: Arc<FrameTap>| {
            thread::spawn(move || runtime().block_on(tap.next(Duration::from_mins(1))).unwrap())
        };
        let waiting = [wait(tap.clone()), wait(tap.clone())];
        while lock(&tap.latest).waiting < 2 {
            thread::yield_now();
        }
        tap.pass(&frame(3), &[0.25, 0.75]);
        let [first, second] = waiting.map(|thread| thread.join().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((first.number(), first.top.as_slice()), (3, &[(1, 0.75), (0, 0.25)][..]));
        assert!(std::ptr::eq(first.jpeg().unwrap(), second.jpeg().unwrap()), "encoded twice");
        assert!(lock(&tap.latest).seen.is_none());
    }
}
