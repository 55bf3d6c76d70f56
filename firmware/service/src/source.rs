//! Where frames come from.

mod images;
mod mjpeg;
mod pace;
mod piece;
mod settings;
mod watched;
mod y4m;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use resight_imaging::{Colours, PixelFormat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::images::{Images, NewImages};
use self::mjpeg::{is_between, jpeg_piece};
use self::pace::Pace;
use self::piece::Piece;
pub(crate) use self::settings::{MAX_FRAME, SourceConfig, SourceKind};
use self::y4m::{Y4mHeader, y4m_piece};
use crate::camera::{Camera, Wanted};
use crate::frame::{Frame, FrameFormat, Next, Source, SourceError};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// Opens a source. A camera is asked for frames that hold what is wanted. `live` is set when frames come on their own and must not be waited for.
///
/// # Errors
/// A file or camera that is missing or not what the configuration says.
pub(crate) fn open(config: &SourceConfig, wanted: Wanted) -> Result<(Box<dyn Source>, bool), SourceError> {
    if let SourceKind::Camera(camera) = &config.kind {
        return Ok((Box::new(Camera::open(camera, wanted)?), true));
    }
    if config.kind == (SourceKind::Images { watch: true }) {
        // Each picture is waited for: they come seldom, and none may be missed.
        return Ok((Box::new(NewImages::open(config)?), false));
    }
    if config.kind == (SourceKind::Images { watch: false }) {
        return Ok((Box::new(Images::open(config)?), config.rate.is_some()));
    }
    let stream = Stream::open(config)?;
    let live = stream.kind != StreamKind::File || config.rate.is_some();
    let content = |cause: String| SourceError::Content { path: config.path.clone(), cause };
    let layout = match config.kind {
        SourceKind::Mjpeg => Layout::Mjpeg(0),
        SourceKind::Y4m => Layout::Y4m(None),
        SourceKind::Raw { format, width, height, stride } => {
            Layout::Raw { format, width, height, stride, bytes: format.frame_bytes(height, stride) }
        }
        SourceKind::Images { .. } | SourceKind::Camera(_) => {
            return Err(content("images and cameras are no stream".into()));
        }
    };
    if config.rate.is_some() && stream.kind != StreamKind::File {
        return Err(content("a rate is for files and folders; this comes at its own".into()));
    }
    Ok((Box::new(Video { stream, layout, pace: Pace::new(config.rate), seen: false, told: false }), live))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamKind {
    File,
    Fifo,
    Standard,
}

enum Handle {
    File(File),
    Standard(io::Stdin),
}

/// Bytes with a deadline.
struct Stream {
    path: String,
    kind: StreamKind,
    repeat: bool,
    handle: Handle,
    /// Read, not yet taken.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were taken.
    taken: usize,
    chunk: Vec<u8>,
}

impl Stream {
    fn open(config: &SourceConfig) -> Result<Self, SourceError> {
        let path = config.path.clone();
        let (kind, handle) = if path == "-" {
            (StreamKind::Standard, Handle::Standard(io::stdin()))
        } else {
            let failed = |cause| SourceError::File { path: path.clone(), action: "open", cause };
            let file_type = fs::metadata(&path).map_err(failed)?.file_type();
            let kind = if file_type.is_fifo() { StreamKind::Fifo } else { StreamKind::File };
            if kind == StreamKind::File && !file_type.is_file() {
                return Err(failed(io::Error::other("neither a file nor a FIFO")));
            }
            (kind, Handle::File(open_without_waiting(&path).map_err(failed)?))
        };
        Ok(Self {
            path,
            kind,
            repeat: config.repeat,
            handle,
            buffer: vec![],
            taken: 0,
            chunk: vec![0; CHUNK],
        })
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// Reads something more. `None` at the end of the bytes, `false` when nothing came in time.
    fn more(&mut self, deadline: Instant) -> Result<Option<bool>, SourceError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let failed = |cause| SourceError::File { path: self.path.clone(), action: "read", cause };
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let standard = io::stdin();
        let handle: BorrowedFd<'_> = match &self.handle {
            Handle::File(file) => file.as_fd(),
            Handle::Standard(_) => standard.as_fd(),
        };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Some(false)),
            Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let read = match &mut self.handle {
            Handle::File(file) => file.read(&mut self.chunk),
            Handle::Standard(input) => input.lock().read(&mut self.chunk),
        };
        match read {
            Ok(0) => Ok(None),
            Ok(bytes) => {
                self.buffer.extend_from_slice(&self.chunk[..bytes]);
                Ok(Some(true))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Some(false))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// After the end of the bytes: whether others will follow.
    fn restart(&mut self) -> Result<bool, SourceError> {
        let path = &self.path;
        let failed = |cause| SourceError::File { path: path.clone(), action: "reopen", cause };
        self.buffer.clear();
        self.taken = 0;
        match (self.kind, &mut self.handle) {
            (StreamKind::File, Handle::File(file)) if self.repeat => {
                file.rewind().map_err(failed)?;
                Ok(true)
            }
            (StreamKind::Fifo, handle) => {
                // A new handle waits for the next writer; the old one would report the end for ever.
                *handle = Handle::File(open_without_waiting(path).map_err(failed)?);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Opening a FIFO that nobody writes to would wait for ever.
fn open_without_waiting(path: &str) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}

enum Layout {
    /// How far the bytes of the next image were looked at.
    Mjpeg(usize),
    Y4m(Option<Y4mHeader>),
    Raw {
        format: PixelFormat,
        width: u32,
        height: u32,
        stride: u32,
        bytes: usize,
    },
}

/// Frames out of a stream of bytes.
struct Video {
    stream: Stream,
    layout: Layout,
    pace: Pace,
    /// Whether any frame was seen since the last start: an empty file must not spin.
    seen: bool,
    /// Whether it was said that frames are interlaced.
    told: bool,
}

impl Source for Video {
    fn next(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError> {
        let deadline = Instant::now() + wait;
        let mut has_read = false;
        loop {
            match self.piece()? {
                Piece::Between(bytes) => self.stream.take(bytes),
                Piece::Frame(range, whole) => {
                    if !self.pace.reached(deadline.saturating_duration_since(Instant::now())) {
                        return Ok(Next::Nothing);
                    }
                    frame.arrival = Instant::now();
                    self.copy(range, frame);
                    self.stream.take(whole);
                    self.seen = true;
                    return Ok(Next::Frame);
                }
                Piece::Rubbish(bytes) => {
                    self.stream.take(bytes);
                    if self.stream.bytes().is_empty() {
                        // It may have grown far beyond what frames need.
                        (self.stream.buffer, self.stream.taken) = (vec![], 0);
                    }
                    return Ok(Next::Corrupt(format!(
                        "{}: {bytes} bytes belong to no frame",
                        self.stream.path
                    )));
                }
                // Even while bytes come: a frame that never ends must not keep us here.
                Piece::More if has_read && Instant::now() >= deadline => return Ok(Next::Nothing),
                Piece::More => match self.stream.more(deadline)? {
                    Some(true) => has_read = true,
                    Some(false) if Instant::now() < deadline => {}
                    Some(false) => return Ok(Next::Nothing),
                    None => {
                        // What is left is taken next, or the end is seen again.
                        if let Some(rest) = self.last_image() {
                            frame.arrival = Instant::now();
                            self.copy(0..rest, frame);
                            self.stream.take(rest);
                            self.seen = true;
                            return Ok(Next::Frame);
                        }
                        let rest = if self.ends_well() { 0 } else { self.stream.bytes().len() };
                        if !self.stream.restart()? {
                            return Ok(if rest > 0 { self.cut_off(rest) } else { Next::End });
                        }
                        match &mut self.layout {
                            Layout::Mjpeg(seen) => *seen = 0,
                            Layout::Y4m(header) => *header = None,
                            Layout::Raw { .. } => {}
                        }
                        if self.stream.kind == StreamKind::File && !std::mem::take(&mut self.seen) {
                            let cause = "there is no frame in it".to_owned();
                            return Err(SourceError::Content { path: self.stream.path.clone(), cause });
                        }
                        if rest > 0 {
                            return Ok(self.cut_off(rest));
                        }
                        if self.stream.kind == StreamKind::Fifo {
                            // Some kernels report the end again at once until there is a writer.
                            let left = deadline.saturating_duration_since(Instant::now());
                            std::thread::sleep(left.min(Duration::from_millis(10)));
                            return Ok(Next::Nothing);
                        }
                    }
                },
            }
        }
    }
}

impl Video {
    /// The length of an image at the end that lacks its end: whether its scan is whole, the decoder
    /// sees. Some cameras never write an end of image.
    fn last_image(&self) -> Option<usize> {
        let bytes = self.stream.bytes();
        let is_image = matches!(self.layout, Layout::Mjpeg(_)) && bytes.starts_with(&[0xff, 0xd8, 0xff]);
        is_image.then_some(bytes.len())
    }

    /// Whether what is left at the end is no part of a frame.
    fn ends_well(&self) -> bool {
        matches!(self.layout, Layout::Mjpeg(_)) && is_between(self.stream.bytes())
    }

    fn cut_off(&self, bytes: usize) -> Next {
        Next::Corrupt(format!("{}: the last frame is cut off after {bytes} bytes", self.stream.path))
    }

    fn piece(&mut self) -> Result<Piece, SourceError> {
        let refuse = |cause: String| SourceError::Content { path: self.stream.path.clone(), cause };
        let bytes = self.stream.bytes();
        let piece = match &mut self.layout {
            Layout::Mjpeg(seen) => {
                let piece = jpeg_piece(bytes, seen);
                if piece != Piece::More || bytes.len() > MAX_FRAME {
                    *seen = 0;
                }
                piece
            }
            Layout::Raw { bytes: needed, .. } if bytes.len() >= *needed => Piece::Frame(0..*needed, *needed),
            Layout::Raw { .. } => return Ok(Piece::More),
            Layout::Y4m(header) => {
                let is_pipe = self.stream.kind != StreamKind::File;
                y4m_piece(bytes, header, is_pipe).map_err(refuse)?
            }
        };
        if piece == Piece::More && self.stream.bytes().len() > MAX_FRAME {
            return Ok(Piece::Rubbish(self.stream.bytes().len()));
        }
        Ok(piece)
    }

    fn copy(&mut self, range: std::ops::Range<usize>, frame: &mut Frame) {
        let bytes = &self.stream.bytes()[range];
        match &self.layout {
            // There is no piece before the header.
            Layout::Mjpeg(_) | Layout::Y4m(None) => {
                frame.bytes.clear();
                frame.bytes.extend_from_slice(bytes);
                frame.format = FrameFormat::Jpeg;
                (frame.width, frame.height, frame.stride) = (0, 0, 0);
            }
            Layout::Y4m(Some(header)) => {
                let (width, height) = (header.width, header.height);
                let Some(fields) = header.fields else {
                    frame.fill(bytes, (header.format, header.colours), (width, height, width));
                    return;
                };
                frame.fill(&[], (header.format, header.colours), (width, fields.height(height), width));
                fields.first(bytes, header.format, height, width, &mut frame.bytes);
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!(
                        "{}: interlaced: of each frame one of the two half pictures is used",
                        self.stream.path
                    );
                }
            }
            &Layout::Raw { format, width, height, stride, .. } => {
                frame.fill(bytes, (format, Colours::default()), (width, height, stride));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use resight_imaging::{FrameDecoder, Range};

    use super::*;

    const WAIT: Duration = Duration::from_millis(50);

    fn open(config: &SourceConfig) -> Result<(Box<dyn Source>, bool), SourceError> {
        super::open(config, Wanted { width: 256, height: 256 })
    }

    fn config(kind: SourceKind, path: &std::path::Path) -> SourceConfig {
        SourceConfig { kind, path: path.display().to_string(), repeat: false, rate: None }
    }

    fn jpeg(grey: u8) -> Vec<u8> {
        let mut bytes = io::Cursor::new(vec![]);
        let image = image::RgbImage::from_pixel(16, 8, image::Rgb([grey; 3]));
        image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    /// What comes until the end: the first value of each frame, or `None` for a corrupt one.
    fn drain(source: &mut dyn Source) -> Vec<Option<u8>> {
        let (mut frame, mut decoder, mut found) = (Frame::new(), FrameDecoder::default(), vec![]);
        loop {
            match source.next(&mut frame, WAIT).unwrap() {
                Next::Frame => {
                    let image = frame.image(&mut decoder);
                    found.push(image.ok().map(|image| image.to_rgb().as_raw()[0]));
                }
                Next::Corrupt(_) => found.push(None),
                Next::Nothing => {}
                Next::End => return found,
            }
        }
    }

    #[test]
    fn rubbish_and_cut_off_jpegs_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mjpeg");
        let cut_off = &jpeg(90)[..300];
        fs::write(
            &path,
            [&jpeg(60)[..], b"rubbish", &jpeg(120), cut_off, &jpeg(200), &cut_off[..40]].concat(),
        )
        .unwrap();
        let mut source = open(&config(SourceKind::Mjpeg, &path)).unwrap().0;
        assert_eq!(drain(&mut *source), [Some(60), None, Some(120), None, Some(200), None]);
    }

    /// As a camera sends them over HTTP.
    #[test]
    fn headers_of_parts_are_no_corrupt_frames() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mjpeg");
        let part = |grey: u8| {
            let jpeg = jpeg(grey);
            let head =
                format!("\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
            [head.as_bytes(), &jpeg].concat()
        };
        fs::write(&path, [&part(60)[..], &part(120), &part(200), b"\r\n--frame--\r\n"].concat()).unwrap();
        let mut source = open(&config(SourceKind::Mjpeg, &path)).unwrap().0;
        assert_eq!(drain(&mut *source), [Some(60), Some(120), Some(200)]);
    }

    /// The streams of `cases` in `RESIGHT_SHARED`, which people stumbled over.
    #[test]
    fn streams_of_real_cameras_give_their_frames() {
        let Some(folder) = resight_fixtures::shared().map(|folder| folder.join("cases/streams")) else {
            return;
        };
        if !folder.is_dir() {
            return resight_fixtures::skipped("RESIGHT_SHARED holds no cases/streams");
        }
        let counts = |name: &str| {
            let found = drain(&mut *open(&config(SourceKind::Mjpeg, &folder.join(name))).unwrap().0);
            (found.iter().flatten().count(), found.iter().filter(|frame| frame.is_none()).count())
        };
        assert_eq!(counts("noeoi.mjpeg"), (10, 0));
        assert_eq!(counts("multipart.mjpeg"), (10, 0));
        let (good, corrupt) = counts("lostmid.mjpeg");
        assert!(good + corrupt == 10 && corrupt > 0 && good > 0, "{good} {corrupt}");
        let (mut source, mut frame) =
            (open(&config(SourceKind::Y4m, &folder.join("interl.y4m"))).unwrap().0, Frame::new());
        assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Frame);
        let rows = frame.bytes.chunks(frame.stride as usize).take(frame.height as usize);
        let rows: Vec<&[u8]> = rows.collect();
        assert!(rows.chunks(2).all(|pair| pair[0] == pair[1]), "one field, each row twice");
    }

    /// A pipe cannot be opened again where it began.
    #[test]
    fn a_y4m_pipe_goes_on_after_a_damaged_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut source = open(&config(SourceKind::Y4m, &path)).unwrap().0;
        let mut frame = Frame::new();
        assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Nothing);
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(b"YUV4MPEG2 W1 H1 Cmono\nFRAME\n\x0aFRAXE\n\x0bFRAME\n\x0cFRAME\n\x0d").unwrap();
        let mut found = vec![];
        while found.len() < 4 {
            match source.next(&mut frame, WAIT).unwrap() {
                Next::Frame => found.push(Some(frame.bytes[0])),
                Next::Corrupt(_) => found.push(None),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(found, [Some(10), None, Some(12), Some(13)]);
    }

    #[test]
    fn y4m_frames_come_and_a_short_one_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        let frame = |y: u8| [&b"FRAME\n"[..], &[y; 15], &[128; 12]].concat();
        fs::write(
            &path,
            [&b"YUV4MPEG2 W5 H3 F25:1 C420jpeg\n"[..], &frame(16), &frame(235), &frame(80)[..20]].concat(),
        )
        .unwrap();
        let mut source = open(&config(SourceKind::Y4m, &path)).unwrap().0;
        assert_eq!(drain(&mut *source), [Some(0), Some(255), None]);
        // Two half pictures of which one is white are not one of stripes.
        fs::write(&path, b"YUV4MPEG2 W1 H4 Ib Cmono\nFRAME\n\xeb\x10\xeb\x10").unwrap();
        let mut source = open(&config(SourceKind::Y4m, &path)).unwrap().0;
        let mut frame = Frame::new();
        assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Frame);
        assert_eq!((frame.bytes.as_slice(), frame.height), (&[16; 4][..], 4));
        for wrong in [
            "RIFF W5 H3",
            "YUV4MPEG2 W0 H3",
            "YUV4MPEG2 W16384 H16384",
            "YUV4MPEG2 W5 H3 C420p10",
            "YUV4MPEG2 Wx H3",
        ] {
            assert!(Y4mHeader::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let header = Y4mHeader::parse(b"YUV4MPEG2 W4 H4 C422 XCOLORRANGE=FULL").unwrap();
        assert_eq!((header.bytes(), header.colours.range), (32, Range::Full));
    }

    #[test]
    fn a_file_repeats_and_an_empty_one_does_not_spin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rgb");
        fs::write(&path, [1, 2, 3, 4, 5, 6]).unwrap();
        let kind = SourceKind::Raw { format: PixelFormat::Rgb24, width: 1, height: 1, stride: 3 };
        let repeated = SourceConfig { repeat: true, ..config(kind, &path) };
        let mut source = open(&repeated).unwrap().0;
        let mut frame = Frame::new();
        let values: Vec<u8> = (0..5)
            .map(|_| {
                assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Frame);
                frame.bytes[0]
            })
            .collect();
        assert_eq!(values, [1, 4, 1, 4, 1]);
        fs::write(&path, []).unwrap();
        assert!(open(&repeated).unwrap().0.next(&mut frame, WAIT).is_err());
    }

    /// Whatever the pieces in which the bytes come.
    #[test]
    fn images_are_found_byte_by_byte_as_all_at_once() {
        let stream =
            [&jpeg(60)[..], b"rubbish", &jpeg(90)[..300], &jpeg(120), &[0xff, 0xd8, 0xff], &jpeg(9)].concat();
        let pieces = |step: usize| {
            let (mut found, mut taken, mut seen, mut end) = (vec![], 0, 0, 0);
            while taken < stream.len() {
                match jpeg_piece(&stream[taken..end], &mut seen) {
                    Piece::More if end == stream.len() => break,
                    Piece::More => end = (end + step).min(stream.len()),
                    piece => {
                        let (Piece::Frame(_, length) | Piece::Rubbish(length) | Piece::Between(length)) =
                            piece
                        else {
                            unreachable!()
                        };
                        taken += length;
                        seen = 0;
                        // Rubbish comes in as many pieces as it is read in.
                        if matches!(piece, Piece::Frame(..)) {
                            found.push((taken, length));
                        }
                    }
                }
            }
            found
        };
        let whole = pieces(stream.len());
        assert_eq!(whole.len(), 5, "{whole:?}");
        for step in [1, 2, 3, 7, 100] {
            assert_eq!(pieces(step), whole, "{step}");
        }
    }

    /// Bytes that come as fast as they are read and never make a frame.
    #[test]
    fn a_frame_that_never_ends_keeps_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mjpeg");
        // A sparse file costs nothing.
        let file = File::create(&path).unwrap();
        (&file).write_all(&jpeg(60)[..200]).unwrap();
        file.set_len(3 * MAX_FRAME as u64).unwrap();
        let mut source = open(&config(SourceKind::Mjpeg, &path)).unwrap().0;
        let (mut frame, mut calls) = (Frame::new(), 0);
        loop {
            match source.next(&mut frame, Duration::from_millis(1)).unwrap() {
                Next::Nothing => calls += 1,
                Next::Corrupt(cause) => {
                    assert!(cause.contains("belong to no frame"), "{cause}");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(calls >= 10, "{calls}");
    }

    #[test]
    fn a_fifo_is_never_waited_for_and_outlives_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let kind = SourceKind::Raw { format: PixelFormat::Rgb24, width: 1, height: 1, stride: 3 };
        let (mut source, live) = open(&config(kind, &path)).unwrap();
        assert!(live);
        let mut frame = Frame::new();
        assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Nothing);
        for value in [10, 20] {
            let mut writer = File::options().write(true).open(&path).unwrap();
            // A frame and a part of one, which the next writer must not complete.
            writer.write_all(&[value, 0, 0, 9]).unwrap();
            drop(writer);
            assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Frame);
            assert_eq!(frame.bytes[0], value);
            assert!(matches!(source.next(&mut frame, WAIT).unwrap(), Next::Corrupt(_)));
        }
        assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Nothing);
    }

    #[test]
    fn a_folder_and_a_glob_give_images_and_skip_broken_ones() {
        let folder = tempfile::tempdir().unwrap();
        for grey in [10u8, 20] {
            let image = image::RgbImage::from_pixel(3, 2, image::Rgb([grey; 3]));
            image.save(folder.path().join(format!("{grey}.png"))).unwrap();
        }
        fs::write(folder.path().join("15.png"), b"nothing").unwrap();
        let mut source = open(&config(SourceKind::Images { watch: false }, folder.path())).unwrap().0;
        assert_eq!(drain(&mut *source), [Some(10), None, Some(20)]);
        let mut source =
            open(&config(SourceKind::Images { watch: false }, &folder.path().join("2*.png"))).unwrap().0;
        assert_eq!(drain(&mut *source), [Some(20)]);
        assert!(open(&config(SourceKind::Images { watch: false }, &folder.path().join("*.gif"))).is_err());
        // Nothing but rubbish, again and again, is an error in the end.
        let only = SourceConfig {
            repeat: true,
            ..config(SourceKind::Images { watch: false }, &folder.path().join("15.png"))
        };
        let (mut source, mut frame) = (open(&only).unwrap().0, Frame::new());
        assert!(matches!(source.next(&mut frame, WAIT).unwrap(), Next::Corrupt(_)));
        assert!(source.next(&mut frame, WAIT).is_err());
        // One good image among them is enough.
        let both =
            SourceConfig { repeat: true, ..config(SourceKind::Images { watch: false }, folder.path()) };
        let mut source = open(&both).unwrap().0;
        let good = (0..7).filter(|_| source.next(&mut frame, WAIT).unwrap() == Next::Frame).count();
        assert_eq!(good, 5);
    }

    #[test]
    fn a_rate_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rgb");
        fs::write(&path, [0; 15]).unwrap();
        let kind = SourceKind::Raw { format: PixelFormat::Rgb24, width: 1, height: 1, stride: 3 };
        let (mut source, live) = open(&SourceConfig { rate: Some(50.0), ..config(kind, &path) }).unwrap();
        let start = Instant::now();
        assert_eq!(drain(&mut *source).len(), 5);
        assert!(live && start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
    }
}
