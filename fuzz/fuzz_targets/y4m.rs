//! Pieces of a Y4M stream lie within it, every step goes on, and a frame has its header's size.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../firmware/service/src/source/piece.rs"]
mod piece;
/// The one number that the reader takes of the configuration.
mod settings {
    pub(crate) const MAX_FRAME: usize = 128 << 20;
}
#[path = "../../firmware/service/src/source/y4m.rs"]
#[allow(dead_code)]
mod y4m;
#[path = "../../firmware/service/src/source/y4m_error.rs"]
mod y4m_error;

use piece::Piece;

fuzz_target!(|bytes: &[u8]| {
    for is_pipe in [false, true] {
        for read in [1, 64, bytes.len().max(1)] {
            let (mut begin, mut end, mut header) = (0, read.min(bytes.len()), None);
            loop {
                match y4m::y4m_piece(&bytes[begin..end], &mut header, is_pipe) {
                    Ok(Piece::Frame(range, whole)) => {
                        assert!(range.end <= whole && whole <= end - begin && whole > 0);
                        assert_eq!(Some(range.len()), header.as_ref().map(y4m::Y4mHeader::bytes));
                        begin += whole;
                    }
                    Ok(Piece::Between(length) | Piece::Rubbish(length)) => {
                        assert!(length > 0 && length <= end - begin);
                        begin += length;
                    }
                    Ok(Piece::More) if end == bytes.len() => break,
                    Ok(Piece::More) => end = (end + read).min(bytes.len()),
                    Err(error) => {
                        assert!(!is_pipe && !error.to_string().contains('\n'));
                        break;
                    }
                }
            }
        }
    }
});
