//! The channels that a network takes of a picture.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnknownName;

/// Which values of a pixel a network takes, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as networks from Caffe and `OpenCV` take them.
    Bgr,
    /// One: the luma of ITU-R BT.601, `0.299 R + 0.587 G + 0.114 B`.
    Gray,
}

impl Channels {
    /// Values of a pixel.
    pub fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }

    /// Whether they are red, green and blue, the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What they are called in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        }
    }

    /// Value `channel` of an RGB pixel.
    #[inline]
    pub(crate) fn of(self, pixel: [u8; 3], channel: usize) -> u8 {
        match self {
            Self::Rgb => pixel[channel],
            Self::Bgr => pixel[2 - channel],
            Self::Gray => luma(pixel),
        }
    }
}

impl FromStr for Channels {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Rgb, Self::Bgr, Self::Gray]
            .into_iter()
            .find(|channels| channels.name() == name)
            .ok_or_else(|| UnknownName::Channels(name.to_owned()))
    }
}

/// The luma of a pixel in 16 fractional bits, the byte that Pillow's `convert("L")` gives.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_pixels_keep_their_level_and_colours_have_pillows_luma() {
        for level in 0..=255 {
            assert_eq!(luma([level; 3]), level);
        }
        assert_eq!([luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])], [76, 150, 29]);
        assert_eq!(luma([12, 200, 99]), 132);
    }

    #[test]
    fn channels_come_in_their_order() {
        let values = |channels: Channels| -> Vec<u8> {
            (0..channels.count()).map(|channel| channels.of([1, 2, 3], channel)).collect()
        };
        assert_eq!(values(Channels::Rgb), [1, 2, 3]);
        assert_eq!(values(Channels::Bgr), [3, 2, 1]);
        assert_eq!(values(Channels::Gray), [2]);
    }
}
