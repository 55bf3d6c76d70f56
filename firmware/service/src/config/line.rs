//! `[[line]]`: output lines.

use toml::de::DeValue;

use super::reader::{Reader, Section, integer, text};
use crate::lines::{BackEnd, LineConfig, Position, registers_are_built_in};

/// The Raspberry Pi with the most lines has so many.
const MAX_PIN: i64 = 57;

impl<'i> Reader<'i> {
    /// All lines; what is wrong with one does not hide the others.
    pub(super) fn lines(&mut self, top: &mut Section<'_, 'i>) -> Vec<LineConfig> {
        let mut lines: Vec<LineConfig> = vec![];
        for section in self.sections(top, "line") {
            let span = section.span.clone();
            let Some(line) = self.line(section) else { continue };
            if lines.iter().any(|other| other.name == line.name) {
                self.mistake(&span, "line.name", format!("there are two lines `{}`", line.name));
            }
            let same = lines.iter().find(|other| other.back_end == line.back_end);
            if let Some(other) = same.filter(|other| other.back_end != BackEnd::Virtual) {
                let cause = format!("the lines `{}` and `{}` are the same wire", other.name, line.name);
                self.mistake(&span, "line", cause);
            }
            lines.push(line);
        }
        lines
    }

    /// Where a line of a chip is.
    pub(super) fn chip_and_position(
        &mut self,
        section: &mut Section<'_, 'i>,
    ) -> Option<(Option<String>, Position)> {
        let chip = self.optional(section, "chip", "the label of a GPIO chip, or its path", text);
        let expected = "the name of a GPIO line, or its offset";
        let position = self.required(section, "line", expected, |value| {
            let offset = integer(value).and_then(|offset| u32::try_from(offset).ok());
            text(value).map(Position::Name).or(offset.map(Position::Offset))
        });
        if chip.is_none() && matches!(position, Some(Position::Offset(_))) {
            let cause = "missing; expected the label of the chip that the offset belongs to";
            self.mistake(&section.span.clone(), &section.key("chip"), cause);
        }
        position.map(|position| (chip, position))
    }

    pub(super) fn line(&mut self, mut section: Section<'_, 'i>) -> Option<LineConfig> {
        let name = self.required(&mut section, "name", "a name", text);
        let back_end =
            self.required(&mut section, "backend", "\"virtual\", \"gpio\" or \"rppal\"", |value| {
                ["virtual", "gpio", "rppal"].into_iter().find(|known| Some(*known) == value.as_str())
            });
        let active_low =
            self.optional(&mut section, "active_low", "true or false", DeValue::as_bool).unwrap_or(false);
        let safe = self.optional(&mut section, "safe", "\"active\" or \"inactive\"", |value| {
            match value.as_str()? {
                "active" => Some(true),
                "inactive" => Some(false),
                _ => None,
            }
        });
        let back_end = match back_end {
            Some("gpio") => {
                self.chip_and_position(&mut section).map(|(chip, position)| BackEnd::Gpio { chip, position })
            }
            Some("rppal") => {
                if let Err(cause) = registers_are_built_in() {
                    let cause = format!("{cause}; expected \"gpio\" instead of \"rppal\"");
                    self.mistake(&section.span.clone(), &section.key("backend"), cause);
                }
                let expected = "the BCM number of a pin, 0 to 57";
                let pin = self.required(&mut section, "pin", expected, |value| {
                    integer(value).filter(|pin| (0..=MAX_PIN).contains(pin)).map(|pin| pin as u8)
                });
                pin.map(|pin| BackEnd::Registers { pin })
            }
            Some(_) => Some(BackEnd::Virtual),
            None => None,
        };
        if back_end.is_some() {
            self.finish(&section);
        }
        Some(LineConfig { name: name?, back_end: back_end?, active_low, safe: safe.unwrap_or(false) })
    }
}
