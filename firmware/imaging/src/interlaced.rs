//! Interlaced frames: two half pictures, taken one after the other.

use crate::pixels::PixelFormat;

/// How the rows of half pictures lie in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Alternately; the first field in time is that of the even rows, counted from 0.
    EvenFirst,
    /// Alternately; the first field in time is that of the odd rows.
    OddFirst,
    /// One field above the other.
    OneAboveOther,
    /// One field alone, of half the rows.
    Alone,
}

impl Fields {
    /// Rows of the whole picture of which a frame of `height` rows is.
    pub fn height(self, height: u32) -> u32 {
        if self == Self::Alone { height * 2 } else { height }
    }

    /// The row in the frame for a row of the picture, of planes of `rows` rows in the picture.
    fn row(self, row: usize, rows: usize) -> usize {
        match self {
            Self::EvenFirst => row & !1,
            // The last of an odd number has no partner.
            Self::OddFirst if row | 1 < rows => row | 1,
            Self::OddFirst => row,
            Self::OneAboveOther | Self::Alone => row / 2,
        }
    }

    /// Writes the picture of the first field to `picture`: each of its rows twice, for what moved in
    /// between would otherwise be a comb. `frame` has rows of `stride` bytes in its first plane and
    /// `height` rows; what is written has [`height`](Self::height) rows.
    ///
    /// Bytes that `frame` lacks are left out.
    pub fn first(self, frame: &[u8], format: PixelFormat, height: u32, stride: u32, picture: &mut Vec<u8>) {
        picture.clear();
        let mut begin = 0;
        let planes = format.planes(height, stride);
        let whole = format.planes(self.height(height), stride);
        for ((there, length), (rows, _)) in planes.into_iter().zip(whole) {
            let plane = frame.get(begin..).unwrap_or_default();
            for row in 0..rows {
                let from = self.row(row, rows).min(there.saturating_sub(1)) * length;
                picture.extend_from_slice(plane.get(from..from + length).unwrap_or_default());
            }
            begin += there * length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(fields: Fields, frame: &[u8], format: PixelFormat, height: u32, stride: u32) -> Vec<u8> {
        let mut picture = vec![];
        fields.first(frame, format, height, stride, &mut picture);
        assert_eq!(picture.len(), format.frame_bytes(fields.height(height), stride));
        picture
    }

    #[test]
    fn rows_of_the_first_field_are_there_twice() {
        let rows = [10, 11, 20, 21, 30, 31];
        assert_eq!(first(Fields::EvenFirst, &rows, PixelFormat::Grey, 6, 1), [10, 10, 20, 20, 30, 30]);
        assert_eq!(first(Fields::OddFirst, &rows, PixelFormat::Grey, 6, 1), [11, 11, 21, 21, 31, 31]);
        assert_eq!(first(Fields::OddFirst, &rows[..5], PixelFormat::Grey, 5, 1), [11, 11, 21, 21, 30]);
        assert_eq!(first(Fields::OneAboveOther, &rows, PixelFormat::Grey, 6, 1), [10, 10, 11, 11, 20, 20]);
        assert_eq!(first(Fields::Alone, &rows[..3], PixelFormat::Grey, 3, 1), [10, 10, 11, 11, 20, 20]);
    }

    /// The chroma rows of interlaced 4:2:0 belong to the fields alternately, too.
    #[test]
    fn every_plane_is_treated_alike() {
        let luma = [1, 2, 3, 4].map(|row| [row; 4]).concat();
        let frame = [&luma[..], &[5, 5, 6, 6], &[7, 7, 8, 8]].concat();
        let picture = first(Fields::EvenFirst, &frame, PixelFormat::I420, 4, 4);
        let expected = [&[1, 1, 3, 3].map(|row| [row; 4]).concat()[..], &[5; 4], &[7; 4]].concat();
        assert_eq!(picture, expected);
        let packed: Vec<u8> = (0..16).collect();
        let picture = first(Fields::OddFirst, &packed, PixelFormat::Yuyv, 2, 8);
        assert_eq!(picture, [&packed[8..], &packed[8..]].concat());
    }
}
