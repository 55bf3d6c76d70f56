//! `[image]`: which part of a frame the network sees, and how it is turned.

use resight_imaging::{Orientation, Region, Rotation};

use super::key::{Expected, Key, Table};
use super::reader::{Reader, Section, integer};
use super::region::{SHARES, area};

const REGION: Key = Key::shown(
    "region",
    "[0.25, 0.0, 0.5, 1.0]",
    SHARES,
    "The part that the network sees: [left, top, width, height] as shares of the frame.",
);
const ROTATE: Key = Key::shown(
    "rotate",
    "90",
    Expected::Words("degrees clockwise: 0, 90, 180 or 270"),
    "Turns it by so many degrees clockwise: 0, 90, 180 or 270.",
);
const MIRROR: Key =
    Key::shown("mirror", "true", Expected::Boolean, "Exchanges left and right, after the rotation.");

pub(super) const IMAGE: Table = Table::set(
    "[image]",
    "Which part of each frame the network sees, and how it is turned.",
    &[REGION, ROTATE, MIRROR],
);

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
        let region = self.optional(&mut section, &REGION, area);
        let rotation = self.optional(&mut section, &ROTATE, |value| match integer(value)? {
            0 => Some(Rotation::Upright),
            90 => Some(Rotation::Clockwise),
            180 => Some(Rotation::Half),
            270 => Some(Rotation::Counterclockwise),
            _ => None,
        });
        let mirror = self.flag(&mut section, &MIRROR);
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
