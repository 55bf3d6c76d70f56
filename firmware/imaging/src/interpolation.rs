//! How the pixels of a resized picture come from those of the picture.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnknownName;

/// What a pixel of a resized picture is made of.
///
/// All but the last widen their kernel by the factor that a picture shrinks by (antialias), so that no
/// pixel of it is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// A triangle: Pillow's `BILINEAR`, torchvision's default.
    #[default]
    Bilinear,
    /// Cubic pieces with a = -1/2 (Keys, 1981): Pillow's `BICUBIC`, the default of timm and CLIP.
    Bicubic,
    /// The mean of the pixels that are covered: Pillow's `BOX`, and `INTER_AREA` of OpenCV where a picture
    /// shrinks by whole factors.
    Area,
    /// A triangle of the neighbours alone, however much a picture shrinks: OpenCV's `INTER_LINEAR`, the
    /// default of `cv2.resize`, and PyTorch's `interpolate` without `antialias`; within a grey level of
    /// OpenCV's, whose weights have 11 bits.
    BilinearWithoutAntialias,
}

impl Interpolation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bilinear, Self::Bicubic, Self::Area, Self::BilinearWithoutAntialias];

    /// Whether it is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What it is called in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Area => "area",
            Self::BilinearWithoutAntialias => "bilinear-without-antialias",
        }
    }

    /// Half the width of the kernel, in its own unit.
    pub(crate) fn support(self) -> f64 {
        match self {
            Self::Area => 0.5,
            Self::Bilinear | Self::BilinearWithoutAntialias => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// How many input pixels the unit of the kernel is, where an output pixel is `scale` of them.
    pub(crate) fn unit(self, scale: f64) -> f64 {
        if self == Self::BilinearWithoutAntialias { 1.0 } else { scale.max(1.0) }
    }

    /// The kernel at `distance` of its units from its centre, before the sum of all is made one.
    pub(crate) fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            // Of two pixels at the same distance the one before the centre's end, as Pillow has it.
            Self::Area => f64::from(u8::from(distance > -0.5 && distance <= 0.5)),
            Self::Bilinear | Self::BilinearWithoutAntialias => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC,
            Self::Bicubic => 0.0,
        }
    }
}

/// The slope of the cubic pieces at the first pixel beside the centre.
const CUBIC: f64 = -0.5;

impl FromStr for Interpolation {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| UnknownName::Interpolation {
            found: name.to_owned(),
            expected: Self::ALL.map(Self::name).to_vec(),
        })
    }
}
