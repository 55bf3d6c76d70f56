//! Frames that leave the inference thread as pictures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use image::ImageError;
use image::codecs::jpeg::JpegEncoder;
use resight_imaging::{FrameDecoder, ImagingError, with_huffman_tables};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::frame::{Frame, FrameFormat};
use crate::judge::Change;
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
        self.encoded().map_err(|cause| PictureError { number: self.0.number, cause })
    }

    fn encoded(&self) -> Result<Vec<u8>, PictureCause> {
        let image = self.0.image(&mut FrameDecoder::default())?.to_rgb();
        let mut bytes = vec![];
        JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&image)?;
        Ok(bytes)
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
