//! `[[camera]]`, or the one camera that the tables at the top describe.

use std::path::Path;
use std::time::Duration;

use super::image::ImageConfig;
use super::key::{Expected, Key, Table};
use super::reader::{Reader, Section, text};
use super::region::RegionConfig;
use crate::pace::PaceConfig;
use crate::source::{SourceConfig, SourceKind};

/// Most cameras: each has threads and frames of its own.
const MOST_CAMERAS: usize = 16;

/// Longest name of a camera, in bytes.
const LONGEST_NAME: usize = 64;

const NAME_OF_CAMERA: Key = Key::set(
    "name",
    "\"porch\"",
    Expected::Words("a name of up to 64 letters, digits, - and _"),
    "Letters, digits, - and _. Events, metrics and the page show it.",
);
const STALE_MS: Key = Key::shown(
    "stale_ms",
    "2000",
    Expected::Milliseconds(1),
    "What `stale_ms` in [safety] is, for this camera.",
);

pub(super) const CAMERA: Table = Table::shown(
    "[[camera]]",
    "Several cameras in one service, instead of [source], [image] and [[region]]: they share the network and its \
     threads, each gets as many inferences as the others, and none waits for another. In each, [camera.source], \
     [camera.image] and [[camera.region]] are what these tables are without it; [camera.pace] is what [pace] is, \
     which counts for those that have none.",
    &[NAME_OF_CAMERA, STALE_MS],
);

/// A camera that shares the network with the others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ViewpointConfig {
    /// `None` for the only one, which the tables at the top describe.
    pub(crate) name: Option<String>,
    pub(crate) source: SourceConfig,
    pub(crate) image: ImageConfig,
    /// Without any, the network sees one part of each frame: that of `image`.
    pub(crate) regions: Vec<RegionConfig>,
    pub(crate) pace: PaceConfig,
    /// Without a frame for so long, the lines of its rules go to their safe levels.
    pub(crate) stale: Duration,
}

/// What rules must know of a camera, whatever is wrong with the rest of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KnownCamera {
    pub(super) name: Option<String>,
    pub(super) regions: Vec<RegionConfig>,
}

/// All cameras: what is known of each, and those that are right.
pub(super) type Cameras = (Vec<KnownCamera>, Vec<ViewpointConfig>);

/// A name that fits into addresses, topics and labels as it is.
fn name(value: &toml::de::DeValue<'_>) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text(value).filter(|name| name.len() <= LONGEST_NAME && name.chars().all(plain))
}

impl<'i> Reader<'i> {
    /// All cameras. `stale` and the pace at the top are for those that have none of their own.
    pub(super) fn cameras(&mut self, top: &mut Section<'_, 'i>, folder: &Path, stale: Duration) -> Cameras {
        let tables = self.sections(top, "camera");
        if tables.is_empty() {
            return self.only_camera(top, folder, stale);
        }
        let pace = match self.section(top, "pace", false) {
            Some(section) => self.pace(section, stale),
            None => PaceConfig::default(),
        };
        for key in ["source", "image", "region"] {
            if let Some(value) = top.take(key) {
                let cause = format!("expected it in each [[camera]], as camera.{key}, or no [[camera]]");
                self.mistake(&value.span(), key, cause);
            }
        }
        let (mut known, mut cameras): Cameras = (vec![], vec![]);
        for section in tables {
            let span = section.span.clone();
            if known.len() == MOST_CAMERAS {
                self.mistake(&span, "camera", format!("expected up to {MOST_CAMERAS} cameras"));
                break;
            }
            let (name, regions, camera) = self.camera_of_several(section, folder, &pace, stale);
            let Some(name) = name else { continue };
            if known.iter().any(|other: &KnownCamera| other.name.as_ref() == Some(&name)) {
                self.mistake(&span, "camera.name", format!("there are two cameras `{name}`"));
                continue;
            }
            if let Some(other) = camera.as_ref().and_then(|camera| same_device(&cameras, camera)) {
                let cause = format!(
                    "`{other}` has the same source, which can be read once; several [[camera.region]] of one camera \
                     look at several parts of its frames"
                );
                self.mistake(&span, "camera.source", cause);
            }
            known.push(KnownCamera { name: Some(name), regions });
            cameras.extend(camera);
        }
        (known, cameras)
    }

    /// The camera that the tables at the top describe.
    fn only_camera(&mut self, top: &mut Section<'_, 'i>, folder: &Path, stale: Duration) -> Cameras {
        let source = self.section(top, "source", true).and_then(|section| self.source(section, folder));
        let image = match self.section(top, "image", false) {
            Some(section) => self.image(section),
            None => ImageConfig::default(),
        };
        let pace = match self.section(top, "pace", false) {
            Some(section) => self.pace(section, stale),
            None => PaceConfig::default(),
        };
        let regions = self.regions(top, image.region);
        let known = KnownCamera { name: None, regions: regions.clone() };
        let camera = source.map(|source| ViewpointConfig { name: None, source, image, regions, pace, stale });
        (vec![known], camera.into_iter().collect())
    }

    /// One of several: its name and regions, and all of it if that is right.
    fn camera_of_several(
        &mut self,
        mut section: Section<'_, 'i>,
        folder: &Path,
        pace: &PaceConfig,
        stale: Duration,
    ) -> (Option<String>, Vec<RegionConfig>, Option<ViewpointConfig>) {
        let name = self.required(&mut section, &NAME_OF_CAMERA, name);
        let source =
            self.section(&mut section, "source", true).and_then(|section| self.source(section, folder));
        let image = match self.section(&mut section, "image", false) {
            Some(section) => self.image(section),
            None => ImageConfig::default(),
        };
        let regions = self.regions(&mut section, image.region);
        let stale = self.duration(&mut section, &STALE_MS).unwrap_or(stale);
        let pace = match self.section(&mut section, "pace", false) {
            Some(section) => self.pace(section, stale),
            None => pace.clone(),
        };
        self.finish(&section);
        let camera = name.clone().zip(source).map(|(name, source)| ViewpointConfig {
            name: Some(name),
            source,
            image,
            regions: regions.clone(),
            pace,
            stale,
        });
        (name, regions, camera)
    }
}

/// The camera that has the same source already, where that can be read once only.
fn same_device<'c>(cameras: &'c [ViewpointConfig], camera: &ViewpointConfig) -> Option<&'c str> {
    let only_once =
        |source: &SourceConfig| matches!(source.kind, SourceKind::Camera(_)) || source.path == "-";
    let same = |other: &&ViewpointConfig| {
        only_once(&other.source) && only_once(&camera.source) && other.source.path == camera.source.path
    };
    cameras.iter().find(same)?.name.as_deref()
}

#[cfg(test)]
mod tests {
    use resight_model_file::Labels;

    use crate::config::Config;
    use crate::config::reader::Mistake;

    use super::*;

    const MODEL: &str = "[model]\nfile = \"m\"\n";
    const TWO: &str = "[[camera]]\nname = \"porch\"\nstale_ms = 500\n[camera.source]\nkind = \"mjpeg\"\npath = \"a\"\n\
        [camera.image]\nrotate = 90\n[camera.pace]\nrate = 9.0\n\
        [[camera]]\nname = \"yard\"\n[camera.source]\nkind = \"camera\"\ndevice = \"auto\"\n\
        [[camera.region]]\nname = \"bay 1\"\narea = [0, 0, 0.5, 1]\n\
        [[camera.region]]\nname = \"bay 2\"\narea = [0.5, 0, 0.5, 1]\n";
    const SHARED: &str = "[safety]\nstale_ms = 3000\n[pace]\non_change = true\n";

    fn parse(rest: &str) -> Result<Config, Vec<Mistake>> {
        Config::parse(&format!("{MODEL}{rest}"), Path::new(""))
    }

    #[test]
    fn each_camera_has_what_is_its_own_and_shares_the_rest() {
        let config = parse(&format!("{TWO}{SHARED}")).unwrap();
        let [porch, yard] = &config.cameras[..] else { panic!("{:?}", config.cameras) };
        assert_eq!((porch.name.as_deref(), yard.name.as_deref()), (Some("porch"), Some("yard")));
        let ms = Duration::from_millis;
        assert_eq!((porch.stale, yard.stale), (ms(500), ms(3000)));
        assert_eq!((porch.pace.rate, porch.pace.on_change), (Some(9.0), None));
        assert_eq!((yard.pace.rate, yard.pace.on_change), (None, Some(ms(5000))));
        assert_eq!((porch.regions.len(), yard.regions.len()), (0, 2));
        assert_ne!(porch.image, yard.image);
    }

    #[test]
    fn a_rule_is_one_for_each_camera_unless_it_names_one() {
        let line = "[[line]]\nname = \"lamp\"\nbackend = \"virtual\"\n";
        let rules = "[[rule]]\nname = \"any\"\nclasses = [\"b\"]\nlines = [\"lamp\"]\n\
            [[rule]]\nname = \"mine\"\ncamera = \"yard\"\nregion = \"bay 2\"\nclasses = [\"a\"]\n\
            [[rule]]\nname = \"door\"\ncamera = \"porch\"\nclasses = [\"c\"]\n";
        let config = parse(&format!("{TWO}{line}{rules}")).unwrap();
        let labels = Labels::parse("l", b"a\nb\nc\n").unwrap();
        let rules = config.rules(Path::new("f"), &labels).unwrap();
        let found: Vec<Vec<(&str, &[usize])>> = rules
            .iter()
            .map(|rules| rules.iter().map(|rule| (rule.name.as_str(), &rule.classes[..])).collect())
            .collect();
        let porch: Vec<(&str, &[usize])> = vec![("any/porch", &[1]), ("door", &[2])];
        let yard: Vec<(&str, &[usize])> =
            vec![("any/yard/bay 1", &[1]), ("any/yard/bay 2", &[4]), ("mine", &[3])];
        assert_eq!(found, [porch, yard]);
        assert!(
            rules.iter().flatten().filter(|rule| rule.name.starts_with("any")).all(|rule| rule.lines == [0])
        );
    }

    #[test]
    fn mistakes_are_named() {
        let clip = "[camera.source]\nkind = \"mjpeg\"\npath = \"a\"\n";
        let camera = |name: &str, source: &str| format!("[[camera]]\nname = \"{name}\"\n{source}");
        let device = "[camera.source]\nkind = \"camera\"\ndevice = \"/dev/video0\"\n";
        let rule = |rest: &str| format!("{TWO}[[rule]]\nname = \"r\"\nclasses = [\"b\"]\n{rest}");
        let table = [
            (camera("a b", clip), "4: camera.name: expected a name of up to 64 letters"),
            (
                "[[camera]]\nname = \"a\"\n".to_owned(),
                "3: camera.source: missing; expected a table [camera.source]",
            ),
            (
                format!("{}{}", camera("a", clip), camera("a", clip)),
                "8: camera.name: there are two cameras `a`",
            ),
            (
                format!("{}[source]\nkind = \"mjpeg\"\npath = \"a\"\n", camera("a", clip)),
                "8: source: expected it in each [[camera]], as camera.source, or no [[camera]]",
            ),
            (
                format!("{}{}", camera("a", device), camera("b", device)),
                "8: camera.source: `a` has the same source, which can be read once",
            ),
            (
                camera("a", "[camera.source]\nkind = \"mjpeg\"\ndevice = \"a\"\n"),
                "5: camera.source.path: missing; expected a file",
            ),
            (
                camera("a", &format!("colour = 1\n{clip}")),
                "5: camera.colour: unknown key; expected one of: name",
            ),
            (
                rule("camera = \"gate\"\n"),
                "27: rule.camera: expected the name of a valid [[camera]], found `\"gate\"`",
            ),
            (
                rule("region = \"bay 1\"\n"),
                "27: rule.region: expected `camera` beside it, whose region it is",
            ),
            (
                rule("camera = \"porch\"\nregion = \"bay 1\"\n"),
                "28: rule.region: expected the name of a valid [[region]], found",
            ),
            (
                rule("[[rule]]\nname = \"r/porch\"\ncamera = \"porch\"\nclasses = [\"b\"]\n"),
                "27: rule.name: there are two rules `r/porch`",
            ),
            (
                (0..17).map(|number| camera(&number.to_string(), clip)).collect(),
                "83: camera: expected up to 16 cameras",
            ),
        ];
        for (text, expected) in table {
            let found = parse(&text).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "`{found}`, not `{expected}`");
        }
    }

    #[test]
    fn two_clips_may_be_the_same() {
        let camera = |name: &str| {
            format!("[[camera]]\nname = \"{name}\"\n[camera.source]\nkind = \"mjpeg\"\npath = \"a\"\n")
        };
        assert_eq!(parse(&format!("{}{}", camera("a"), camera("b"))).unwrap().cameras.len(), 2);
    }
}
