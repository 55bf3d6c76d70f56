//! `[[input]]`: input lines.

use std::path::Path;

use toml::de::DeValue;

use super::reader::{Reader, Section, text};
use crate::lines::{Bias, InputBackEnd, InputConfig};

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
        let name = self.required(&mut section, "name", "a name", text);
        let kind = self.required(&mut section, "backend", "\"gpio\" or \"file\"", |value| {
            ["gpio", "file"].into_iter().find(|known| Some(*known) == value.as_str())
        });
        let yes_or_no = "true or false";
        let active_low =
            self.optional(&mut section, "active_low", yes_or_no, DeValue::as_bool).unwrap_or(false);
        let trigger = self.optional(&mut section, "trigger", yes_or_no, DeValue::as_bool).unwrap_or(false);
        let back_end = if kind? == "gpio" {
            let place = self.chip_and_position(&mut section);
            let expected = "\"none\", \"pull-up\" or \"pull-down\"";
            let bias = self.optional(&mut section, "bias", expected, |value| match value.as_str()? {
                "none" => Some(Bias::None),
                "pull-up" => Some(Bias::PullUp),
                "pull-down" => Some(Bias::PullDown),
                _ => None,
            });
            let debounce = self.duration(&mut section, "debounce_ms", 0).unwrap_or_default();
            place.map(|(chip, position)| InputBackEnd::Gpio { chip, position, bias, debounce })
        } else {
            let path = self.required(&mut section, "path", "a file that holds 0 or 1", text);
            path.map(|path| InputBackEnd::File(folder.join(path)))
        };
        self.finish(&section);
        Some(InputConfig { name: name?, back_end: back_end?, active_low, trigger })
    }
}
