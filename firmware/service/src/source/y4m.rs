//! Y4M: a line that describes the frames, then frames, each behind a line of its own.

use memchr::memmem;
use resight_imaging::{Colours, Fields, PixelFormat, Range};

use super::piece::Piece;
use super::settings::MAX_FRAME;
use super::y4m_error::Y4mError;

/// Longest line, in bytes.
const LONGEST_LINE: usize = 4096;

/// What a stream begins with.
const STREAM: &[u8] = b"YUV4MPEG2 ";

/// What a frame begins with, then a line break or a space.
const FRAME: &[u8] = b"FRAME";

/// What a Y4M stream begins with; `header` is that of its frames once it was seen.
///
/// A header that is damaged, and a frame that lacks bytes, cost what lies before the next header: the
/// stream goes on there, for a pipe cannot be opened again. So it does where a writer begins anew.
///
/// # Errors
/// A stream that begins as no Y4M stream does, unless that may be the rest of another (`is_pipe`).
pub(super) fn y4m_piece(
    bytes: &[u8],
    header: &mut Option<Y4mHeader>,
    is_pipe: bool,
) -> Result<Piece, Y4mError> {
    let line_end = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
    let is_incomplete = line_end.is_none() && bytes.len() < LONGEST_LINE;
    let begins_stream = bytes.starts_with(STREAM);
    if begins_stream || header.is_none() {
        if is_incomplete {
            return Ok(Piece::More);
        }
        let parsed = match line_end {
            Some(end) => Y4mHeader::parse(&bytes[..end]).map(|parsed| (parsed, end)),
            None => Err(Y4mError::LongHeader(LONGEST_LINE)),
        };
        return match parsed {
            Ok((parsed, end)) => {
                *header = Some(parsed);
                Ok(Piece::Between(end + 1))
            }
            Err(_) if is_pipe || header.is_some() => {
                *header = None;
                Ok(next_header(&bytes[1..]).map_or(Piece::More, |at| Piece::Rubbish(at + 1)))
            }
            Err(cause) => Err(cause),
        };
    }
    let Some(known) = header else { return Ok(Piece::More) };
    if is_incomplete && (bytes.starts_with(FRAME) || FRAME.starts_with(bytes) || STREAM.starts_with(bytes)) {
        return Ok(Piece::More);
    }
    let Some(end) = line_end.filter(|_| is_frame(bytes)) else {
        return Ok(next_header(&bytes[1..]).map_or(Piece::More, |at| Piece::Rubbish(at + 1)));
    };
    let begin = end + 1;
    let whole = begin + known.bytes();
    let Some(frame) = bytes.get(begin..whole) else { return Ok(Piece::More) };
    if known.mixed {
        let line = String::from_utf8_lossy(&bytes[..end]);
        known.fields = line.split(' ').find_map(|word| word.strip_prefix('I')).and_then(fields);
    }
    // Bytes that are missing would be taken from the next frame, whose header may begin at the end.
    let searched = &bytes[begin..bytes.len().min(whole + STREAM.len() - 1)];
    let header = next_header(searched).filter(|at| *at < frame.len());
    Ok(header.map_or(Piece::Frame(begin..whole, whole), |at| Piece::Rubbish(begin + at)))
}

fn is_frame(bytes: &[u8]) -> bool {
    bytes.strip_prefix(FRAME).is_some_and(|rest| rest.starts_with(b"\n") || rest.starts_with(b" "))
}

/// Where the next header begins, of a frame or of a stream.
fn next_header(bytes: &[u8]) -> Option<usize> {
    let frame = memmem::find_iter(bytes, FRAME).find(|at| is_frame(&bytes[*at..]));
    let stream = memmem::find(&bytes[..frame.unwrap_or(bytes.len())], STREAM);
    stream.or(frame)
}

/// The first line of a Y4M file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Y4mHeader {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: PixelFormat,
    pub(super) colours: Colours,
    /// How the half pictures of the latest frame lie in it, if it is interlaced.
    pub(super) fields: Option<Fields>,
    /// Whether each frame says that for itself.
    mixed: bool,
}

/// From the first letter of the parameter `I`, of a stream or of a frame.
fn fields(text: &str) -> Option<Fields> {
    match text.chars().next()? {
        't' | 'T' => Some(Fields::EvenFirst),
        'b' | 'B' => Some(Fields::OddFirst),
        _ => None,
    }
}

impl Y4mHeader {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Y4mError> {
        let line = std::str::from_utf8(line).map_err(|_| Y4mError::NoText)?;
        let mut words = line.split(' ');
        if words.next() != Some("YUV4MPEG2") {
            return Err(Y4mError::OtherBegin);
        }
        let (format, colours) = (PixelFormat::I420, Colours::default());
        let mut header = Self { width: 0, height: 0, format, colours, fields: None, mixed: false };
        for word in words {
            match word.split_at_checked(1).unwrap_or_default() {
                ("W", width) => header.width = width.parse().map_err(|_| Y4mError::Width(width.into()))?,
                ("H", height) => {
                    header.height = height.parse().map_err(|_| Y4mError::Height(height.into()))?;
                }
                ("C", "420" | "420jpeg" | "420mpeg2" | "420paldv") => header.format = PixelFormat::I420,
                ("C", "422") => header.format = PixelFormat::I422,
                ("C", "444") => header.format = PixelFormat::I444,
                ("C", "mono") => header.format = PixelFormat::Grey,
                ("C", other) => return Err(Y4mError::Colours(other.into())),
                ("I", "m") => header.mixed = true,
                ("I", interlacing) => header.fields = fields(interlacing),
                ("X", "COLORRANGE=FULL") => header.colours.range = Range::Full,
                _ => {}
            }
        }
        if ![header.width, header.height].iter().all(|side| (1..=16384).contains(side)) {
            return Err(Y4mError::Size { width: header.width, height: header.height });
        }
        if header.bytes() > MAX_FRAME {
            return Err(Y4mError::FrameSize { found: header.bytes(), most: MAX_FRAME });
        }
        Ok(header)
    }

    pub(super) fn bytes(&self) -> usize {
        self.format.frame_bytes(self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"YUV4MPEG2 W4 H2 F25:1 Cmono\n";

    fn frame(grey: u8) -> Vec<u8> {
        [&b"FRAME\n"[..], &[grey; 8]].concat()
    }

    /// The first bytes of the frames, `None` for rubbish, of a stream that is read all at once.
    fn pieces(mut bytes: &[u8]) -> Vec<Option<u8>> {
        let (mut header, mut found) = (None, vec![]);
        loop {
            match y4m_piece(bytes, &mut header, true).unwrap() {
                Piece::Frame(range, whole) => {
                    found.push(Some(bytes[range][0]));
                    bytes = &bytes[whole..];
                }
                Piece::Between(length) => bytes = &bytes[length..],
                Piece::Rubbish(length) => {
                    found.push(None);
                    bytes = &bytes[length..];
                }
                Piece::More => return found,
            }
        }
    }

    #[test]
    fn a_damaged_header_costs_its_frame_and_no_other() {
        let damaged = [&b"FRAXE\n"[..], &[3; 8]].concat();
        let stream = [HEADER, &frame(1), &frame(2), &damaged, &frame(4), &frame(5)].concat();
        assert_eq!(pieces(&stream), [Some(1), Some(2), None, Some(4), Some(5)]);
        let without_end = [&b"FRAME"[..], &[3; 9]].concat();
        let stream = [HEADER, &frame(1), &without_end, &frame(4)].concat();
        assert_eq!(pieces(&stream), [Some(1), None, Some(4)]);
    }

    #[test]
    fn a_frame_that_lacks_bytes_is_none_and_the_next_is_whole() {
        let stream = [HEADER, &frame(1), &frame(2)[..10], &frame(3), &frame(4)].concat();
        assert_eq!(pieces(&stream), [Some(1), None, Some(3), Some(4)]);
        let long = [&frame(2)[..], &[2; 3]].concat();
        let stream = [HEADER, &long, &frame(3)].concat();
        assert_eq!(pieces(&stream), [Some(2), None, Some(3)]);
    }

    #[test]
    fn a_writer_may_begin_anew_and_a_reader_in_the_middle() {
        let other = b"YUV4MPEG2 W2 H2 Cmono\n";
        let small = b"FRAME\n\x09\x09\x09\x09";
        let stream = [HEADER, &frame(1), &frame(2)[..9], &other[..], &small[..], &small[..]].concat();
        assert_eq!(pieces(&stream), [Some(1), None, Some(9), Some(9)]);
        // Frames of unknown size are of no use until a stream begins.
        let stream = [&[7; 5][..], &frame(1), &frame(2), HEADER, &frame(3)].concat();
        let found = pieces(&stream);
        assert!(found.ends_with(&[None, Some(3)]) && found.iter().flatten().count() == 1, "{found:?}");
    }

    #[test]
    fn interlacing_is_that_of_the_stream_or_of_each_frame() {
        let of = |text: &str| Y4mHeader::parse(text.as_bytes()).unwrap().fields;
        assert_eq!(of("YUV4MPEG2 W4 H2 It"), Some(Fields::EvenFirst));
        assert_eq!(of("YUV4MPEG2 W4 H2 Ib"), Some(Fields::OddFirst));
        assert_eq!(
            (of("YUV4MPEG2 W4 H2 Ip"), of("YUV4MPEG2 W4 H2 I?"), of("YUV4MPEG2 W4 H2")),
            (None, None, None)
        );
        let mut header = None;
        let mut found = vec![];
        let frames =
            [&b"FRAME Itt\n"[..], &[1; 8], b"FRAME I1p\n", &[2; 8], b"FRAME Ibt\n", &[3; 8]].concat();
        let stream = [&b"YUV4MPEG2 W4 H2 Cmono Im\n"[..], &frames].concat();
        let mut rest = stream.as_slice();
        loop {
            match y4m_piece(rest, &mut header, false).unwrap() {
                Piece::Frame(_, whole) => {
                    found.push(header.as_ref().unwrap().fields);
                    rest = &rest[whole..];
                }
                Piece::Between(length) => rest = &rest[length..],
                Piece::More => break,
                Piece::Rubbish(length) => panic!("{length} bytes of rubbish"),
            }
        }
        assert_eq!(found, [Some(Fields::EvenFirst), None, Some(Fields::OddFirst)]);
    }

    #[test]
    fn a_file_that_is_no_y4m_is_refused() {
        let refused = |bytes: &[u8]| y4m_piece(bytes, &mut None, false).unwrap_err();
        assert_eq!(refused(b"RIFF\n"), Y4mError::OtherBegin);
        assert_eq!(refused(&[b'a'; 5000]), Y4mError::LongHeader(4096));
        assert_eq!(y4m_piece(b"YUV4", &mut None, false), Ok(Piece::More));
    }
}
