//! `[[line]]`: output lines.

use super::key::{Expected, Key, NAME, Table};
use super::reader::{Reader, Section, integer, text};
use crate::lines::{BackEnd, LineConfig, Position, registers_are_built_in};

/// The Raspberry Pi with the most lines has so many.
const MAX_PIN: i64 = 57;

const NAME_OF_LINE: Key = Key::set("name", "\"lamp\"", NAME, "What rules, events and the page call it.");
const BACKEND: Key = Key::set(
    "backend",
    "\"virtual\"",
    Expected::OneOf(&["virtual", "gpio", "rppal"]),
    "\"virtual\" shows its changes in the log. \"gpio\" is a line of a GPIO chip, on any board: the kernel keeps others \
     from using it, and whether it keeps its level after the service has ended depends on the kernel's driver. \
     \"rppal\" is a pin of a Raspberry Pi by its registers: no system call for a write, and the pin keeps its level \
     whatever happens to the service, so let `resightd safe FILE` run after it. There is no automatic choice, \
     because the two leave a wire differently; see docs/lines.md.",
);
/// The chip of a line or of an input.
pub(super) const CHIP: Key = Key::shown(
    "chip",
    "\"pinctrl-rp1\"",
    Expected::Words("the label of a GPIO chip, or its path"),
    "Only for \"gpio\": the chip's label; where two chips have one label, its path in /sys/devices, which `resightd \
     lines` shows. Not needed with a line's name that there is once.",
);
/// The line of a chip.
pub(super) const POSITION: Key = Key::shown(
    "line",
    "\"GPIO17\"",
    Expected::Words("the name of a GPIO line, or its offset"),
    "Only for \"gpio\": the line's name, or its offset in the chip; see `resightd lines`.",
);
const PIN: Key = Key::shown(
    "pin",
    "17",
    Expected::Words("the BCM number of a pin, 0 to 57"),
    "Only for \"rppal\": the BCM number.",
);
const ACTIVE_LOW: Key =
    Key::set("active_low", "false", Expected::Boolean, "Whether a low voltage means active.");
const SAFE: Key = Key::set(
    "safe",
    "\"inactive\"",
    Expected::OneOf(&["active", "inactive"]),
    "Level at start, at stop, after an error and without frames: \"inactive\" or \"active\".",
);

pub(super) const LINE: Table =
    Table::set("[[line]]", "", &[NAME_OF_LINE, BACKEND, CHIP, POSITION, PIN, ACTIVE_LOW, SAFE]);

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
        let chip = self.text_of(section, &CHIP);
        let position = self.required(section, &POSITION, |value| {
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
        let name = self.required(&mut section, &NAME_OF_LINE, text);
        let back_end = self.required_one_of(&mut section, &BACKEND);
        let active_low = self.flag(&mut section, &ACTIVE_LOW).unwrap_or(false);
        let safe = self.one_of(&mut section, &SAFE) == Some("active");
        let back_end = match back_end {
            Some("gpio") => {
                self.chip_and_position(&mut section).map(|(chip, position)| BackEnd::Gpio { chip, position })
            }
            Some("rppal") => {
                if let Err(cause) = registers_are_built_in() {
                    let cause = format!("{cause}; expected \"gpio\" instead of \"rppal\"");
                    self.mistake(&section.span.clone(), &section.key("backend"), cause);
                }
                let pin = self.required(&mut section, &PIN, |value| {
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
        Some(LineConfig { name: name?, back_end: back_end?, active_low, safe })
    }
}
