//! `[image]`: which part of a frame the network sees, and how it is turned.

use resight_imaging::{Orientation, Region, Rotation};
use resight_runtime::Tiling;
use toml::de::DeValue;

use super::key::{Expected, Key, Table};
use super::reader::{Reader, Section, integer, number};
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

const TILES: Key = Key::shown(
    "tiles",
    "[2, 2]",
    Expected::Words("[rows, columns], whole numbers from 1 to 8, two tiles at least"),
    "Looks at so many parts of it one by one, for small things in large frames; each costs an inference. For networks \
     that find boxes; a thing that several tiles see has one box.",
);
const TILE_OVERLAP: Key = Key::shown(
    "tile_overlap",
    "0.2",
    Expected::Words("a number from 0 to 0.5"),
    "The share of a tile that it has in common with the next: at least as large as the things that are looked for.",
);

pub(super) const IMAGE: Table = Table::set(
    "[image]",
    "Which part of each frame the network sees, and how it is turned.",
    &[REGION, ROTATE, MIRROR, TILES, TILE_OVERLAP],
);

/// Which part of a frame the network sees, and how it is turned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageConfig {
    pub(crate) region: Region,
    pub(crate) orientation: Orientation,
    /// How it is divided into parts that are looked at one by one.
    pub(crate) tiles: Option<Tiling>,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self { region: Region::WHOLE, orientation: Orientation::default(), tiles: None }
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
        let tiles = self.optional(&mut section, &TILES, |value| {
            let count = |item: &toml::Spanned<DeValue<'_>>| usize::try_from(integer(item.get_ref())?).ok();
            let counts = value.as_array()?.iter().map(count).collect::<Option<Vec<_>>>()?;
            let &[rows, columns] = counts.as_slice() else { return None };
            Tiling::new([rows, columns], Tiling::OVERLAP)
        });
        let overlap = self.optional(&mut section, &TILE_OVERLAP, |value| {
            // Whatever the tiles are: what is wrong with them is said of them.
            number(value).map(|share| share as f32).filter(|&share| Tiling::new([2, 2], share).is_some())
        });
        let tiles = tiles.and_then(|tiles| Tiling::new(tiles.size(), overlap.unwrap_or(Tiling::OVERLAP)));
        self.finish(&section);
        ImageConfig {
            region: region.unwrap_or(Region::WHOLE),
            orientation: Orientation {
                rotation: rotation.unwrap_or_default(),
                mirror: mirror.unwrap_or(false),
            },
            tiles,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use resight_runtime::Tiling;

    use crate::config::Config;

    fn parse(image: &str) -> Result<Config, String> {
        let text =
            format!("[model]\nfile = \"m\"\n[source]\nkind = \"mjpeg\"\npath = \"a\"\n[image]\n{image}\n");
        Config::parse(&text, Path::new(""))
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn tiles_have_a_fifth_in_common_unless_another_share_is_said() {
        let tiles = |image: &str| parse(image).unwrap().cameras[0].image.tiles;
        assert_eq!(tiles(""), None);
        assert_eq!(tiles("tiles = [2, 3]"), Tiling::new([2, 3], 0.2));
        assert_eq!(tiles("tiles = [1, 2]\ntile_overlap = 0"), Tiling::new([1, 2], 0.0));
        // Nothing to share.
        assert_eq!(tiles("tile_overlap = 0.3"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let counts =
            "7: image.tiles: expected [rows, columns], whole numbers from 1 to 8, two tiles at least, found";
        let share = "7: image.tile_overlap: expected a number from 0 to 0.5, found";
        for (text, expected) in [
            ("tiles = [1, 1]", counts),
            ("tiles = [2]", counts),
            ("tiles = [2, 9]", counts),
            ("tiles = [2, -1]", counts),
            ("tiles = 4", counts),
            ("tile_overlap = 0.6", share),
            ("tile_overlap = \"a\"", share),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }
}
