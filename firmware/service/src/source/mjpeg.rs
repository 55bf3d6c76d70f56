//! JPEG images one after another, as cameras send them: bare, with padding between them, or as parts
//! of a multipart message over HTTP.

use resight_imaging::markers;

use super::piece::Piece;

/// Bytes in which a start of image must be found, or they are rubbish.
const WINDOW: usize = 256 << 10;

/// Longest header of a part, in bytes.
const LONGEST_HEADER: usize = 8192;

/// The JPEG at the beginning of `bytes`: from the start of image to the end of image, or to
/// the next start of image when it was cut off. `seen` is 0 for a new image; when there is
/// too little to tell, the next look begins there.
pub(super) fn jpeg_piece(bytes: &[u8], seen: &mut usize) -> Piece {
    const START: [u8; 3] = [markers::PREFIX, markers::START, markers::PREFIX];
    let start = bytes.windows(3).position(|window| window == START);
    match start {
        Some(0) => {}
        Some(start) if is_between(&bytes[..start]) => return Piece::Between(start),
        Some(start) => return Piece::Rubbish(start),
        // The start may be cut in two.
        None if bytes.len() > WINDOW => return Piece::Rubbish(bytes.len() - 2),
        None => return Piece::More,
    }
    let mut position = (*seen).max(2);
    let cut_off = |at: usize| Piece::Frame(0..at, at);
    loop {
        *seen = position;
        let Some(&[marker, kind]) = bytes.get(position..position + 2) else { return Piece::More };
        match (marker, kind) {
            (markers::PREFIX, markers::END) => return Piece::Frame(0..position + 2, position + 2),
            (markers::PREFIX, markers::START) => return cut_off(position),
            (markers::PREFIX, markers::PREFIX) => position += 1,
            (markers::PREFIX, _) if ends_scan(kind) => {
                let Some(end) = markers::segment_end(bytes, position) else { return Piece::More };
                // A thumbnail may lie in an application's segment or in a comment, nowhere else.
                let plain = !markers::is_application(kind) && kind != markers::COMMENT;
                let inside = &bytes[position..end.min(bytes.len())];
                let start = inside.windows(3).position(|window| plain && window == START);
                if let Some(start) = start {
                    return cut_off(position + start);
                }
                if end > bytes.len() {
                    return Piece::More;
                }
                position = end;
            }
            // Within a scan, or after rubbish: on to the next marker that is none of a scan's own.
            _ => {
                let from = position + 1;
                let mut pairs = bytes.get(from..).unwrap_or_default().windows(2);
                let next = pairs.position(|pair| pair[0] == markers::PREFIX && ends_scan(pair[1]));
                let Some(next) = next else {
                    // The last byte may be the first of a marker.
                    *seen = position.max(bytes.len() - 2);
                    return Piece::More;
                };
                position = from + next;
            }
        }
    }
}

/// Whether a marker of this kind ends the data of a scan.
fn ends_scan(kind: u8) -> bool {
    (0xc0..markers::PREFIX).contains(&kind) && markers::restart(kind).is_none()
}

/// Whether bytes before or behind an image are what stands there without a fault: the boundary and
/// the header of a part, the head of an answer over HTTP, or padding.
pub(super) fn is_between(bytes: &[u8]) -> bool {
    if bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff) {
        return true;
    }
    let is_line = |line: &[u8]| {
        let line = line.trim_ascii();
        let is_name = |name: &[u8]| {
            !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        };
        let is_text = line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        let is_header =
            line.splitn(2, |byte| *byte == b':').next().is_some_and(is_name) && line.contains(&b':');
        is_text && (line.is_empty() || line.starts_with(b"--") || line.starts_with(b"HTTP/") || is_header)
    };
    bytes.len() <= LONGEST_HEADER && bytes.split(|byte| *byte == b'\n').all(is_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_parts_and_padding_are_told_from_rubbish() {
        let part = "\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 8613\r\n\r\n";
        let answer = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n--frame\r\n\r\n";
        for good in [part, answer, "\r\n--frame--\r\n", "", "\n"] {
            assert!(is_between(good.as_bytes()), "{good:?}");
        }
        assert!(is_between(&[0; 4096]) && is_between(&[0xff; 7]));
        let long = format!("--{}", "a".repeat(LONGEST_HEADER));
        for bad in ["rubbish", "a b: c", ": c", "--frame\r\n\u{1}", long.as_str()] {
            assert!(!is_between(bad.as_bytes()), "{bad:?}");
        }
    }
}
