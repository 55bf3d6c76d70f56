//! `[[region]]`: parts of a frame that are classified each by itself.

use std::collections::HashSet;

use resight_imaging::Region;
use toml::de::DeValue;

use super::key::{Expected, Key, NAME, Table};
use super::reader::{Reader, Section, number, text};

/// Most regions: each costs an inference.
const MOST_REGIONS: usize = 64;

/// What an area is.
pub(super) const SHARES: Expected =
    Expected::Words("[left, top, width, height] as shares of the frame, 0 to 1, within it");

const NAME_OF_REGION: Key = Key::set("name", "\"bay 1\"", NAME, "What events, metrics and the page call it.");
const AREA: Key =
    Key::set("area", "[0.0, 0.25, 0.5, 0.75]", SHARES, "Where it is: [left, top, width, height].");

pub(super) const REGION: Table = Table::shown(
    "[[region]]",
    "Several parts of each frame instead of the one of [image]: parking bays, valves, shelves. The frame is decoded \
     once, each part is classified by itself, and each costs an inference. A rule without `region` is one for each, \
     RULE/REGION.",
    &[NAME_OF_REGION, AREA],
);

/// The region that a rule names.
pub(super) const REGION_OF_RULE: Key = Key::shown(
    "region",
    "\"bay 1\"",
    Expected::Words("the name of a valid [[region]]"),
    "Which [[region]] it is about, where there are some; without it, the rule is one for each of them.",
);

/// A part of each frame that is classified by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RegionConfig {
    pub(crate) name: String,
    pub(crate) area: Region,
}

/// A part of a frame.
pub(super) fn area(value: &DeValue<'_>) -> Option<Region> {
    let share = |item: &toml::Spanned<DeValue<'_>>| number(item.get_ref()).map(|share| share as f32);
    let shares = value.as_array()?.iter().map(share).collect::<Option<Vec<_>>>()?;
    let &[left, top, width, height] = shares.as_slice() else { return None };
    Region::new(left, top, width, height)
}

impl<'i> Reader<'i> {
    /// The region that a rule names.
    pub(super) fn region(
        &mut self,
        section: &mut Section<'_, 'i>,
        regions: &[RegionConfig],
    ) -> Option<usize> {
        self.optional(section, &REGION_OF_RULE, |value| {
            let name = text(value)?;
            regions.iter().position(|region| region.name == name)
        })
    }

    /// All regions. `whole` is the one of [image], which must be the whole frame beside them.
    pub(super) fn regions(&mut self, top: &mut Section<'_, 'i>, whole: Region) -> Vec<RegionConfig> {
        let (mut regions, mut names): (Vec<RegionConfig>, _) = (vec![], HashSet::new());
        for mut section in self.sections(top, "region") {
            let span = section.span.clone();
            let name = self.required(&mut section, &NAME_OF_REGION, text);
            let area = self.required(&mut section, &AREA, area);
            self.finish(&section);
            let (Some(name), Some(area)) = (name, area) else { continue };
            if !names.insert(name.clone()) {
                self.mistake(&span, &section.key("name"), format!("there are two regions `{name}`"));
            }
            if regions.is_empty() && whole != Region::WHOLE {
                self.mistake(&span, &section.name, "expected either these or `region` in [image]");
            }
            if regions.len() == MOST_REGIONS {
                self.mistake(&span, &section.name, format!("expected up to {MOST_REGIONS} regions"));
                break;
            }
            regions.push(RegionConfig { name, area });
        }
        regions
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use resight_model_file::Labels;

    use crate::config::Config;
    use crate::config::reader::Mistake;

    const LEAST: &str = "[model]\nfile = \"m\"\n[source]\nkind = \"mjpeg\"\npath = \"a\"\n";
    const TWO: &str = "[[region]]\nname = \"bay 1\"\narea = [0, 0, 0.5, 1]\n\
        [[region]]\nname = \"bay 2\"\narea = [0.5, 0, 0.5, 1]\n";

    fn parse(rest: &str) -> Result<Config, Vec<Mistake>> {
        Config::parse(&format!("{LEAST}{rest}"), Path::new(""))
    }

    #[test]
    fn a_rule_is_one_for_each_region_unless_it_names_one() {
        let rules = "[[rule]]\nname = \"free\"\nclasses = [\"b\"]\n\
            [[rule]]\nname = \"mine\"\nregion = \"bay 2\"\nclasses = [\"a\", \"b\"]\n";
        let config = parse(&format!("{TWO}{rules}")).unwrap();
        let labels = Labels::parse("l", b"a\nb\nc\n").unwrap();
        let rules = config.rules(Path::new("f"), &labels).unwrap().remove(0);
        let found: Vec<(&str, &[usize])> =
            rules.iter().map(|rule| (rule.name.as_str(), rule.classes.as_slice())).collect();
        assert_eq!(found, [("free/bay 1", &[1][..]), ("free/bay 2", &[4]), ("mine", &[3, 4])]);
    }

    #[test]
    fn mistakes_are_named() {
        let rule = "[[rule]]\nname = \"r\"\nclasses = [\"b\"]\nregion = \"bay 9\"\n";
        for (text, expected) in [
            (
                "[[region]]\nname = \"a\"\narea = [0.6, 0, 0.5, 1]\n".to_owned(),
                "8: region.area: expected [left",
            ),
            (TWO.replace("bay 2", "bay 1"), "9: region.name: there are two regions `bay 1`"),
            (format!("{TWO}{rule}"), "15: rule.region: expected the name of a valid [[region]], found"),
            (rule.to_owned(), "9: rule.region: expected the name of a valid [[region]], found"),
            (
                format!("[image]\nregion = [0, 0, 0.5, 1]\n{TWO}"),
                "8: region: expected either these or `region` in [image]",
            ),
            (
                TWO.repeat(33).replace("bay", "b").lines().enumerate().fold(
                    String::new(),
                    |all, (line, text)| {
                        let text = if text.starts_with("name") {
                            format!("name = \"{line}\"")
                        } else {
                            text.to_owned()
                        };
                        all + &text + "\n"
                    },
                ),
                "198: region: expected up to 64 regions",
            ),
        ] {
            let found = parse(&text).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
