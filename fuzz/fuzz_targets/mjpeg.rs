//! Pieces of an MJPEG stream lie within it, every step goes on, and what is whole is never asked for
//! more: however the bytes are cut into reads, the frames are the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../firmware/service/src/source/mjpeg.rs"]
#[allow(dead_code)]
mod mjpeg;
#[path = "../../firmware/service/src/source/piece.rs"]
mod piece;

use piece::Piece;

/// The frames of a stream that comes in reads of so many bytes.
fn frames(stream: &[u8], read: usize) -> Vec<Vec<u8>> {
    let (mut begin, mut end, mut seen, mut found) = (0, read.min(stream.len()), 0, vec![]);
    loop {
        match mjpeg::jpeg_piece(&stream[begin..end], &mut seen) {
            Piece::Frame(range, whole) => {
                assert!(range.end <= whole && whole <= end - begin && whole > 0);
                found.push(stream[begin..end][range].to_vec());
                begin += whole;
                seen = 0;
            }
            Piece::Between(length) | Piece::Rubbish(length) => {
                assert!(length > 0 && length <= end - begin);
                begin += length;
                seen = 0;
            }
            Piece::More if end == stream.len() => return found,
            Piece::More => end = (end + read).min(stream.len()),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = frames(bytes, bytes.len().max(1));
    for read in [1, 7] {
        // Of what is cut anywhere, a boundary may look like rubbish and rubbish like a boundary, but
        // frames stay frames.
        assert_eq!(frames(bytes, read), whole);
    }
    mjpeg::is_between(bytes);
});
