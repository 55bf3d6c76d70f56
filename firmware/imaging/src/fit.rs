//! How a picture meets the rectangle that a network takes.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnknownName;
use crate::resize::Crop;

/// How a picture becomes as large as the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The shorter side is resized, then the centre is cut out: what is at the ends of the longer
    /// side is not seen.
    #[default]
    Crop,
    /// The whole picture is resized to the input, each side by a factor of its own.
    Squash,
    /// The whole picture is resized by one factor, and what is left of the input at both sides is
    /// filled with the mean, which normalises to zero.
    Letterbox,
}

impl Fit {
    /// Whether it is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What it is called in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crop => "crop",
            Self::Squash => "squash",
            Self::Letterbox => "letterbox",
        }
    }

    /// What of a picture of `size` (height and width) is resized how for an input of `input`;
    /// `shorter` is what the shorter side is resized to before a crop.
    pub(crate) fn crop(self, size: [u32; 2], input: [u32; 2], shorter: u32) -> Crop {
        match self {
            Self::Crop => {
                let resized = resized(size, shorter);
                let margin = |axis: usize| {
                    // Half the difference, a half rounded to the even number as Python does.
                    let difference = resized[axis] - input[axis];
                    let half = difference / 2;
                    half + (difference & half & 1)
                };
                Crop { resized, origin: [margin(0), margin(1)], size: input }
            }
            Self::Squash => Crop { resized: input, origin: [0, 0], size: input },
            Self::Letterbox => {
                let inner = inscribed(size, input);
                Crop { resized: inner, origin: [0, 0], size: inner }
            }
        }
    }
}

impl FromStr for Fit {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Crop, Self::Squash, Self::Letterbox]
            .into_iter()
            .find(|fit| fit.name() == name)
            .ok_or_else(|| UnknownName::Fit(name.to_owned()))
    }
}

/// Height and width of a picture of `size` when its shorter side is `target` pixels.
fn resized(size: [u32; 2], target: u32) -> [u32; 2] {
    let (shorter, longer) = (size[0].min(size[1]), size[0].max(size[1]));
    let other = (u64::from(target) * u64::from(longer) / u64::from(shorter)) as u32;
    if size[0] <= size[1] { [target, other] } else { [other, target] }
}

/// The largest height and width within `input` in the proportion of `size`, rounded to the
/// nearest pixel, none of them zero.
fn inscribed(size: [u32; 2], input: [u32; 2]) -> [u32; 2] {
    let [height, width] = size.map(u64::from);
    let [input_height, input_width] = input.map(u64::from);
    // `a / b` to the nearest whole number.
    let rounded = |a: u64, b: u64| ((2 * a + b) / (2 * b)).max(1);
    if height * input_width >= width * input_height {
        [input[0], rounded(width * input_height, height).min(input_width) as u32]
    } else {
        [rounded(height * input_width, width).min(input_height) as u32, input[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letterbox_touches_two_sides_of_the_input() {
        assert_eq!(inscribed([480, 640], [224, 224]), [168, 224]);
        assert_eq!(inscribed([640, 480], [224, 224]), [224, 168]);
        assert_eq!(inscribed([100, 100], [224, 224]), [224, 224]);
        assert_eq!(inscribed([16384, 1], [224, 224]), [224, 1]);
        assert_eq!(inscribed([480, 640], [96, 320]), [96, 128]);
        assert_eq!(inscribed([3, 3], [2, 5]), [2, 2]);
    }

    #[test]
    fn squashing_takes_everything() {
        let crop = Fit::Squash.crop([480, 640], [96, 320], 320);
        assert_eq!(crop, Crop { resized: [96, 320], origin: [0, 0], size: [96, 320] });
    }
}
