//! `[[input]]`: input lines.

use std::path::Path;

use super::key::{Expected, Key, NAME, Table};
use super::line::{CHIP, POSITION};
use super::reader::{Reader, Section, text};
use crate::lines::{Bias, InputBackEnd, InputConfig};

const NAME_OF_INPUT: Key = Key::set("name", "\"key\"", NAME, "What rules, events and the page call it.");
const BACKEND: Key = Key::set(
    "backend",
    "\"gpio\"",
    Expected::OneOf(&["gpio", "file"]),
    "\"gpio\" is a line of a GPIO chip; \"file\" holds 0 or 1 (an attribute in sysfs, or a file that another program \
     replaces by renaming).",
);
const PATH: Key = Key::shown(
    "path",
    "\"/run/resight/key\"",
    Expected::Words("a file that holds 0 or 1"),
    "Only for \"file\".",
);
const BIAS: Key = Key::shown(
    "bias",
    "\"pull-up\"",
    Expected::OneOf(&["none", "pull-up", "pull-down"]),
    "Only for \"gpio\": \"none\", \"pull-up\" or \"pull-down\"; without it the chip's is left as it is.",
);
const DEBOUNCE_MS: Key = Key::shown(
    "debounce_ms",
    "20",
    Expected::Milliseconds(0),
    "Only for \"gpio\": shorter changes are ignored.",
);
const ACTIVE_LOW: Key =
    Key::shown("active_low", "true", Expected::Boolean, "Whether a low voltage, or a 0, means active.");
const TRIGGER: Key = Key::shown(
    "trigger",
    "false",
    Expected::Boolean,
    "With one such input or more, frames are classified only when one becomes active: the first frame after each \
     time.",
);

pub(super) const INPUT: Table = Table::shown(
    "[[input]]",
    "Input lines, for `armed_by` of rules or as triggers.",
    &[NAME_OF_INPUT, BACKEND, CHIP, POSITION, PATH, BIAS, DEBOUNCE_MS, ACTIVE_LOW, TRIGGER],
);

impl<'i> Reader<'i> {
    pub(super) fn inputs(&mut self, top: &mut Section<'_, 'i>, folder: &Path) -> Vec<InputConfig> {
        let mut inputs: Vec<InputConfig> = vec![];
        for section in self.sections(top, "input") {
            let span = section.span.clone();
            let Some(input) = self.input(section, folder) else { continue };
            if inputs.iter().any(|other| other.name == input.name) {
                self.mistake(&span, "input.name", format!("there are two inputs `{}`", input.name));
            }
            inputs.push(input);
        }
        inputs
    }

    fn input(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<InputConfig> {
        let name = self.required(&mut section, &NAME_OF_INPUT, text);
        let kind = self.required_one_of(&mut section, &BACKEND);
        let active_low = self.flag(&mut section, &ACTIVE_LOW).unwrap_or(false);
        let trigger = self.flag(&mut section, &TRIGGER).unwrap_or(false);
        let back_end = if kind? == "gpio" {
            let place = self.chip_and_position(&mut section);
            let bias = match self.one_of(&mut section, &BIAS) {
                Some("none") => Some(Bias::None),
                Some("pull-up") => Some(Bias::PullUp),
                Some(_) => Some(Bias::PullDown),
                None => None,
            };
            let debounce = self.duration(&mut section, &DEBOUNCE_MS).unwrap_or_default();
            place.map(|(chip, position)| InputBackEnd::Gpio { chip, position, bias, debounce })
        } else {
            let path = self.required(&mut section, &PATH, text);
            path.map(|path| InputBackEnd::File(folder.join(path)))
        };
        self.finish(&section);
        Some(InputConfig { name: name?, back_end: back_end?, active_low, trigger })
    }
}
