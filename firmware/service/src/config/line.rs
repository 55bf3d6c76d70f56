//! `[[line]]`: output lines.

use toml::de::DeValue;

use super::reader::{Reader, Section, integer, text};

/// An output line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineConfig {
    pub(crate) name: String,
    pub(crate) back_end: BackEnd,
    pub(crate) active_low: bool,
    /// Whether the line is active at its safe level.
    pub(crate) safe: bool,
}

/// What drives a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BackEnd {
    Virtual,
    Gpio { chip: Option<String>, position: Position },
}

/// How a line of a chip is found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Position {
    Name(String),
    Offset(u32),
}

impl<'i> Reader<'i> {
    pub(super) fn line(&mut self, mut section: Section<'_, 'i>) -> Option<LineConfig> {
        let name = self.required(&mut section, "name", "a name", text);
        let back_end = self.required(&mut section, "backend", "\"virtual\" or \"gpio\"", |value| {
            ["virtual", "gpio"].into_iter().find(|known| Some(*known) == value.as_str())
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
                let chip = self.optional(&mut section, "chip", "the label of a GPIO chip", text);
                let position =
                    self.required(&mut section, "line", "the name of a GPIO line, or its offset", |value| {
                        let offset = integer(value).and_then(|offset| u32::try_from(offset).ok());
                        text(value).map(Position::Name).or(offset.map(Position::Offset))
                    });
                if chip.is_none() && matches!(position, Some(Position::Offset(_))) {
                    let cause = "missing; expected the label of the chip that the offset belongs to";
                    self.mistake(&section.span.clone(), &section.key("chip"), cause);
                }
                position.map(|position| BackEnd::Gpio { chip, position })
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
