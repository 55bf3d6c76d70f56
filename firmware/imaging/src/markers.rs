//! The markers of JPEG data: 0xff and a kind (ITU-T T.81, table B.1), most of them with a segment
//! behind them.

/// First byte of every marker; before one it fills.
pub const PREFIX: u8 = 0xff;
/// Not a marker: this byte behind 0xff makes it data of a scan.
pub const STUFFED: u8 = 0x00;
/// For temporary use; it stands alone.
pub const TEMPORARY: u8 = 0x01;
/// Frame header of a progressive image.
pub const PROGRESSIVE: u8 = 0xc2;
/// Huffman tables: who has these needs no others.
pub const HUFFMAN: u8 = 0xc4;
/// Conditioning of arithmetic coding.
pub const ARITHMETIC: u8 = 0xcc;
/// Start of image; it stands alone.
pub const START: u8 = 0xd8;
/// End of image; it stands alone.
pub const END: u8 = 0xd9;
/// Start of scan; entropy-coded data follows its segment.
pub const SCAN: u8 = 0xda;
/// Restart interval.
pub const INTERVAL: u8 = 0xdd;
/// A comment.
pub const COMMENT: u8 = 0xfe;

/// The number of a restart marker, 0 to 7; it stands alone, within a scan.
pub fn restart(kind: u8) -> Option<u8> {
    (0xd0..=0xd7).contains(&kind).then(|| kind - 0xd0)
}

/// Whether it begins a frame header, of any coding.
pub fn is_frame(kind: u8) -> bool {
    (0xc0..=0xcf).contains(&kind) && !matches!(kind, HUFFMAN | ARITHMETIC | 0xc8)
}

/// Whether it begins a segment of an application, such as EXIF.
pub fn is_application(kind: u8) -> bool {
    (0xe0..=0xef).contains(&kind)
}

/// Where the segment of the marker at `position` ends, by its own length; that may lie behind the
/// end of `bytes`. `None` if its length is not there.
pub fn segment_end(bytes: &[u8], position: usize) -> Option<usize> {
    let length = bytes.get(position + 2..position + 4)?;
    Some(position + 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_where_its_length_says_and_never_within_its_length() {
        assert_eq!(segment_end(&[0, PREFIX, SCAN, 1, 4], 1), Some(1 + 2 + 260));
        assert_eq!(segment_end(&[PREFIX, SCAN, 0, 0], 0), Some(4));
        assert_eq!(segment_end(&[PREFIX, SCAN, 0], 0), None);
        assert_eq!(segment_end(&[], 7), None);
    }

    #[test]
    fn restart_markers_have_numbers() {
        assert_eq!([0xcf, 0xd0, 0xd7, 0xd8].map(restart), [None, Some(0), Some(7), None]);
    }
}
