//! `[image]`: which part of a frame the network sees, and how it is turned.

use resight_imaging::{Orientation, Region, Rotation};
use toml::de::DeValue;

use super::reader::{Reader, Section, integer};
use super::region::{AREA, area};

/// Which part of a frame the network sees, and how it is turned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageConfig {
    pub(crate) region: Region,
    pub(crate) orientation: Orientation,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self { region: Region::WHOLE, orientation: Orientation::default() }
    }
}

impl<'i> Reader<'i> {
    pub(super) fn image(&mut self, mut section: Section<'_, 'i>) -> ImageConfig {
        let region = self.optional(&mut section, "region", AREA, area);
        let rotation =
            self.optional(&mut section, "rotate", "degrees clockwise: 0, 90, 180 or 270", |value| {
                match integer(value)? {
                    0 => Some(Rotation::Upright),
                    90 => Some(Rotation::Clockwise),
                    180 => Some(Rotation::Half),
                    270 => Some(Rotation::Counterclockwise),
                    _ => None,
                }
            });
        let mirror = self.optional(&mut section, "mirror", "true or false", DeValue::as_bool);
        self.finish(&section);
        ImageConfig {
            region: region.unwrap_or(Region::WHOLE),
            orientation: Orientation {
                rotation: rotation.unwrap_or_default(),
                mirror: mirror.unwrap_or(false),
            },
        }
    }
}
