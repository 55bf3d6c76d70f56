use std::fs::{self, File};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use resight_imaging::{FrameDecoder, PixelFormat, Range};

use super::mjpeg::jpeg_piece;
use super::piece::Piece;
use super::y4m::Y4mHeader;
use super::*;
use crate::frame::{Frame, Next};

const PIXELS: StreamFormat = StreamFormat::Raw { format: PixelFormat::Rgb24, width: 1, height: 1, stride: 3 };

const WAIT: Duration = Duration::from_millis(50);

fn open(config: &SourceConfig) -> Result<(Box<dyn Source>, bool), SourceError> {
    super::open(config, Wanted { width: 256, height: 256 })
}

fn stream(format: StreamFormat) -> SourceKind {
    SourceKind::Stream(format)
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
    fs::write(&path, [&jpeg(60)[..], b"rubbish", &jpeg(120), cut_off, &jpeg(200), &cut_off[..40]].concat())
        .unwrap();
    let mut source = open(&config(stream(StreamFormat::Mjpeg), &path)).unwrap().0;
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
    let mut source = open(&config(stream(StreamFormat::Mjpeg), &path)).unwrap().0;
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
        let found = drain(&mut *open(&config(stream(StreamFormat::Mjpeg), &folder.join(name))).unwrap().0);
        (found.iter().flatten().count(), found.iter().filter(|frame| frame.is_none()).count())
    };
    assert_eq!(counts("noeoi.mjpeg"), (10, 0));
    assert_eq!(counts("multipart.mjpeg"), (10, 0));
    let (good, corrupt) = counts("lostmid.mjpeg");
    assert!(good + corrupt == 10 && corrupt > 0 && good > 0, "{good} {corrupt}");
    let (mut source, mut frame) =
        (open(&config(stream(StreamFormat::Y4m), &folder.join("interl.y4m"))).unwrap().0, Frame::new());
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
    let mut source = open(&config(stream(StreamFormat::Y4m), &path)).unwrap().0;
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
    let mut source = open(&config(stream(StreamFormat::Y4m), &path)).unwrap().0;
    assert_eq!(drain(&mut *source), [Some(0), Some(255), None]);
    // Two half pictures of which one is white are not one of stripes.
    fs::write(&path, b"YUV4MPEG2 W1 H4 Ib Cmono\nFRAME\n\xeb\x10\xeb\x10").unwrap();
    let mut source = open(&config(stream(StreamFormat::Y4m), &path)).unwrap().0;
    let mut frame = Frame::new();
    assert_eq!(source.next(&mut frame, WAIT).unwrap(), Next::Frame);
    assert_eq!((frame.bytes.as_slice(), frame.height), (&[16; 4][..], 4));
    for (wrong, cause) in [
        ("RIFF W5 H3", "not Y4M: it does not begin with YUV4MPEG2"),
        ("YUV4MPEG2 W0 H3", "Y4M frames of 0 x 3"),
        ("YUV4MPEG2 W16384 H16384", "Y4M frames of 402653184 bytes; up to 67108864 can be read"),
        ("YUV4MPEG2 W5 H3 C420p10", "Y4M colours `420p10`; expected 420, 422, 444 or mono with 8 bits"),
        ("YUV4MPEG2 Wx H3", "width `x`"),
    ] {
        assert_eq!(Y4mHeader::parse(wrong.as_bytes()).unwrap_err().to_string(), cause);
    }
    let header = Y4mHeader::parse(b"YUV4MPEG2 W4 H4 C422 XCOLORRANGE=FULL").unwrap();
    assert_eq!((header.bytes(), header.colours.range), (32, Range::Full));
}

#[test]
fn a_file_repeats_and_an_empty_one_does_not_spin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rgb");
    fs::write(&path, [1, 2, 3, 4, 5, 6]).unwrap();
    let kind = stream(PIXELS);
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
    let error = open(&repeated).unwrap().0.next(&mut frame, WAIT).unwrap_err().to_string();
    assert!(error.ends_with("a.rgb: there is no frame in it"), "{error}");
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
                    let (Piece::Frame(_, length) | Piece::Rubbish(length) | Piece::Between(length)) = piece
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
    let mut source = open(&config(stream(StreamFormat::Mjpeg), &path)).unwrap().0;
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
    let kind = stream(PIXELS);
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
    let missing = config(SourceKind::Images { watch: false }, &folder.path().join("*.gif"));
    let error = open(&missing).err().unwrap().to_string();
    assert!(error.contains("*.gif: no file fits this path"), "{error}");
    // Nothing but rubbish, again and again, is an error in the end.
    let only = SourceConfig {
        repeat: true,
        ..config(SourceKind::Images { watch: false }, &folder.path().join("15.png"))
    };
    let (mut source, mut frame) = (open(&only).unwrap().0, Frame::new());
    assert!(matches!(source.next(&mut frame, WAIT).unwrap(), Next::Corrupt(_)));
    let error = source.next(&mut frame, WAIT).unwrap_err().to_string();
    assert!(error.ends_with("15.png: none of the files is an image that can be decoded"), "{error}");
    // One good image among them is enough.
    let both = SourceConfig { repeat: true, ..config(SourceKind::Images { watch: false }, folder.path()) };
    let mut source = open(&both).unwrap().0;
    let good = (0..7).filter(|_| source.next(&mut frame, WAIT).unwrap() == Next::Frame).count();
    assert_eq!(good, 5);
}

#[test]
fn a_rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rgb");
    fs::write(&path, [0; 15]).unwrap();
    let kind = stream(PIXELS);
    let (mut source, live) = open(&SourceConfig { rate: Some(50.0), ..config(kind, &path) }).unwrap();
    let start = Instant::now();
    assert_eq!(drain(&mut *source).len(), 5);
    assert!(live && start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
}
