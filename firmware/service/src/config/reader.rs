//! Reading a table key by key, with places for messages.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, MAX_MS};
use super::surroundings::Surroundings;

/// Most mistakes that are reported, and most tables of one kind.
pub(super) const MOST: usize = 1000;

/// Characters of a wrong value that a message repeats.
const LONGEST_FOUND: usize = 200;

/// Keys that are unknown where their section's kind has another one for the same.
const MEANT: [(&str, &str, &str); 7] = [
    ("line", "pin", "line"),
    ("line", "line", "pin"),
    ("input", "pin", "line"),
    ("input", "file", "path"),
    ("source", "device", "path"),
    ("source", "path", "device"),
    ("source", "file", "path"),
];

/// A place in a file, for messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(super) line: usize,
    pub(super) key: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mistake {
    pub(super) place: Place,
    pub(super) cause: String,
}

/// Why a configuration is refused. One line for each mistake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{file}: cannot read the configuration: {cause}")]
    Read { file: String, cause: String },
    #[error("{}", join(.file, .mistakes))]
    Mistakes { file: String, mistakes: Vec<Mistake> },
}

fn join(file: &str, mistakes: &[Mistake]) -> String {
    let line = |mistake: &Mistake| format!("{file}:{mistake}");
    let mut lines: Vec<String> = mistakes.iter().map(line).collect();
    if mistakes.len() >= MOST {
        lines.push(format!("{file}: these are the first {MOST} mistakes; there may be more"));
    }
    lines.join("\n")
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place.line)?;
        if !self.place.key.is_empty() {
            write!(f, "{}: ", self.place.key)?;
        }
        f.write_str(&self.cause)
    }
}

/// A table that forgets each key as it is read: what remains is unknown.
pub(super) struct Section<'t, 'i> {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) entries: Vec<(&'t str, &'t Spanned<DeValue<'i>>, Range<usize>)>,
    pub(super) known: Vec<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    pub(super) fn of(table: &'t Spanned<DeTable<'i>>) -> Self {
        Self::new(table.get_ref(), table.span(), "")
    }

    pub(super) fn new(table: &'t DeTable<'i>, span: Range<usize>, name: &str) -> Self {
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), value, key.span())).collect();
        Self { name: name.to_owned(), span, entries, known: vec![] }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.known.push(key);
        let position = self.entries.iter().position(|(name, ..)| *name == key)?;
        Some(self.entries.swap_remove(position).1)
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

pub(super) struct Reader<'i> {
    pub(super) text: &'i str,
    /// What else the text's meaning depends on.
    pub(super) surroundings: Surroundings,
    /// All keys that were asked for, whether they are there or not.
    #[cfg(test)]
    pub(super) asked: Vec<String>,
    /// The first [`MOST`].
    pub(super) mistakes: Vec<Mistake>,
    /// Where each line but the first begins.
    lines: Vec<usize>,
}

impl<'i> Reader<'i> {
    pub(super) fn new(text: &'i str) -> Self {
        let lines = text.match_indices('\n').map(|(position, _)| position + 1).collect();
        Self {
            text,
            surroundings: Surroundings::default(),
            #[cfg(test)]
            asked: vec![],
            mistakes: vec![],
            lines,
        }
    }

    pub(super) fn place(&self, span: &Range<usize>, key: &str) -> Place {
        let before = self.lines.partition_point(|begin| *begin <= span.start);
        Place { line: 1 + before, key: key.to_owned() }
    }

    pub(super) fn mistake(&mut self, span: &Range<usize>, key: &str, cause: impl Into<String>) {
        if self.mistakes.len() < MOST {
            let place = self.place(span, key);
            self.mistakes.push(Mistake { place, cause: cause.into() });
        }
    }

    /// Reads a key with `read`; a value that it refuses is a mistake.
    pub(super) fn optional<T>(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &Key,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        self.read(section, key, &|| key.expected.to_string(), read)
    }

    /// The same where what is expected depends on `bound`.
    pub(super) fn optional_within<T>(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &Key,
        bound: &str,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        self.read(section, key, &|| key.expected.within(bound), read)
    }

    fn read<T>(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &Key,
        expected: &dyn Fn() -> String,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        #[cfg(test)]
        self.asked.push(section.key(key.name));
        let value = section.take(key.name)?;
        let result = read(value.get_ref());
        if result.is_none() {
            let found = self.text.get(value.span()).unwrap_or_default().lines().next().unwrap_or_default();
            let short: String = found.chars().take(LONGEST_FOUND).collect();
            let more = if short.len() < found.len() { "…" } else { "" };
            let cause = format!("expected {}, found `{short}{more}`", expected());
            self.mistake(&value.span(), &section.key(key.name), cause);
        }
        result
    }

    pub(super) fn required<T>(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &Key,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        let is_there = section.entries.iter().any(|(name, ..)| *name == key.name);
        if !is_there {
            let cause = format!("missing; expected {}", key.expected);
            self.mistake(&section.span.clone(), &section.key(key.name), cause);
        }
        self.optional(section, key, read)
    }

    /// One of the texts that a key may have.
    pub(super) fn one_of(&mut self, section: &mut Section<'_, 'i>, key: &Key) -> Option<&'static str> {
        let texts = key.expected.texts();
        self.optional(section, key, |value| texts.iter().copied().find(|text| Some(*text) == value.as_str()))
    }

    /// The same where there must be one.
    pub(super) fn required_one_of(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &Key,
    ) -> Option<&'static str> {
        let texts = key.expected.texts();
        self.required(section, key, |value| texts.iter().copied().find(|text| Some(*text) == value.as_str()))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, section: &mut Section<'_, 'i>, key: &Key) -> Option<bool> {
        self.optional(section, key, DeValue::as_bool)
    }

    /// A text that is not empty.
    pub(super) fn text_of(&mut self, section: &mut Section<'_, 'i>, key: &Key) -> Option<String> {
        self.optional(section, key, text)
    }

    pub(super) fn finish(&mut self, section: &Section<'_, 'i>) {
        let known = section.known.join(", ");
        let mut unknown: Vec<_> = section.entries.iter().collect();
        unknown.sort_by_key(|(_, _, span)| span.start);
        for (key, _, span) in unknown.into_iter().take(MOST) {
            let kind = section.name.strip_prefix("camera.").unwrap_or(&section.name);
            let fits = |(name, wrong, right): &&(&str, &str, &str)| {
                *name == kind && wrong == key && section.known.contains(right)
            };
            let cause = match MEANT.iter().find(fits) {
                Some((_, _, right)) => {
                    format!("unknown key here, `{right}` is meant; expected one of: {known}")
                }
                None => format!("unknown key; expected one of: {known}"),
            };
            self.mistake(span, &section.key(key), cause);
        }
    }

    /// A table at the top or in another table.
    pub(super) fn section<'t>(
        &mut self,
        top: &mut Section<'t, 'i>,
        key: &'static str,
        required: bool,
    ) -> Option<Section<'t, 'i>> {
        let name = top.key(key);
        let Some(value) = top.take(key) else {
            if required {
                // The whole file begins with its first line.
                let span = if top.name.is_empty() { 0..0 } else { top.span.clone() };
                self.mistake(&span, &name, format!("missing; expected a table [{name}]"));
            }
            return None;
        };
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(&value.span(), &name, format!("expected a table [{name}]"));
            return None;
        };
        Some(Section::new(table, value.span(), &name))
    }

    /// An array of tables at the top or in another table.
    pub(super) fn sections<'t>(
        &mut self,
        top: &mut Section<'t, 'i>,
        key: &'static str,
    ) -> Vec<Section<'t, 'i>> {
        let name = &top.key(key);
        let Some(value) = top.take(key) else { return vec![] };
        let tables = value.get_ref().as_array().map(|array| {
            let table = |item: &'t Spanned<DeValue<'i>>| {
                item.get_ref().as_table().map(|table| Section::new(table, item.span(), name))
            };
            array.iter().map(table).collect::<Option<Vec<_>>>()
        });
        let mut tables = tables.flatten().unwrap_or_else(|| {
            self.mistake(&value.span(), name, format!("expected tables [[{name}]]"));
            vec![]
        });
        if tables.len() > MOST {
            let cause = format!("expected up to {MOST} tables [[{name}]], found {}", tables.len());
            self.mistake(&tables[MOST].span.clone(), name, cause);
            tables.truncate(MOST);
        }
        tables
    }

    pub(super) fn duration(&mut self, section: &mut Section<'_, 'i>, key: &Key) -> Option<Duration> {
        self.optional(section, key, |value| milliseconds(value, key))
    }
}

/// Text that is not empty.
pub(super) fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    value
        .as_float()
        .and_then(|float| float.as_str().parse().ok())
        .or(integer(value).map(|integer| integer as f64))
}

/// A time of as many milliseconds as `key` wants at least.
pub(super) fn milliseconds(value: &DeValue<'_>, key: &Key) -> Option<Duration> {
    let least = key.expected.least_milliseconds();
    let milliseconds = integer(value).filter(|value| (least..=MAX_MS).contains(value))?;
    Some(Duration::from_millis(milliseconds as u64))
}

/// A list of different texts that are not empty, with their places.
pub(super) fn patterns(value: &DeValue<'_>) -> Option<Vec<(String, Range<usize>)>> {
    let read = |item: &Spanned<DeValue<'_>>| text(item.get_ref()).map(|text| (text, item.span()));
    let list = value.as_array()?.iter().map(read).collect::<Option<Vec<_>>>()?;
    let mut seen = HashSet::new();
    list.iter().all(|(text, _)| seen.insert(text.clone())).then_some(list)
}
