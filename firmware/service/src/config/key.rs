//! What a key of the configuration is, once: the check, the commented default, the reference and the
//! schema for editors are made of it.

use std::fmt;

/// Longest time that can be configured, in milliseconds: a day.
pub(super) const MAX_MS: i64 = 86_400_000;

/// What a value has to be, for people.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// In words.
    Words(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// True or false.
    Boolean,
    /// A time of at least so many milliseconds.
    Milliseconds(i64),
    /// In words with `{}` for what other keys say, and that where they say nothing.
    Depends(&'static str, &'static str),
    /// In words that are put together.
    Made(fn() -> String),
}

impl Expected {
    /// The texts of which it is one.
    pub(super) fn texts(self) -> &'static [&'static str] {
        if let Self::OneOf(texts) = self { texts } else { &[] }
    }

    /// The fewest milliseconds; a time of none is no time.
    pub(super) fn least_milliseconds(self) -> i64 {
        if let Self::Milliseconds(least) = self { least } else { 1 }
    }

    /// The words where other keys say `bound`.
    pub(super) fn within(self, bound: &str) -> String {
        match self {
            Self::Depends(words, _) => words.replace("{}", bound),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::OneOf(texts) => {
                for (index, text) in texts.iter().enumerate() {
                    let between = match index {
                        0 => "",
                        _ if index + 1 == texts.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{between}\"{text}\"")?;
                }
                Ok(())
            }
            Self::Boolean => f.write_str("true or false"),
            Self::Milliseconds(least) => write!(f, "milliseconds, a whole number from {least} to {MAX_MS}"),
            Self::Depends(words, usual) => f.write_str(&words.replace("{}", usual)),
            Self::Made(words) => f.write_str(&words()),
        }
    }
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// A value for it, as TOML.
    pub(super) example: &'static str,
    pub(super) expected: Expected,
    /// What it is for, in one line.
    pub(super) help: &'static str,
    /// Whether the default has it, or shows it in a comment.
    pub(super) is_set: bool,
}

impl Key {
    /// One that the default has.
    pub(super) const fn set(
        name: &'static str,
        example: &'static str,
        expected: Expected,
        help: &'static str,
    ) -> Self {
        Self { name, example, expected, help, is_set: true }
    }

    /// One that the default shows in a comment.
    pub(super) const fn shown(
        name: &'static str,
        example: &'static str,
        expected: Expected,
        help: &'static str,
    ) -> Self {
        Self { is_set: false, ..Self::set(name, example, expected, help) }
    }
}

/// A table of the configuration.
#[derive(Debug)]
pub(super) struct Table {
    /// Its first line, such as `[pace]` or `[[rule]]`.
    pub(super) header: &'static str,
    /// Whether the default has it, or shows it in comments.
    pub(super) is_set: bool,
    /// What it is for; may be empty.
    pub(super) help: &'static str,
    /// Of several that are called the same, which have other uses, the first is told of.
    pub(super) keys: &'static [Key],
    /// What all values are, where the keys are the user's own: a JSON type, or nothing for any.
    pub(super) free: Option<&'static str>,
}

impl Table {
    /// One that the default has.
    pub(super) const fn set(header: &'static str, help: &'static str, keys: &'static [Key]) -> Self {
        Self { header, is_set: true, help, keys, free: None }
    }

    /// One that the default shows in comments.
    pub(super) const fn shown(header: &'static str, help: &'static str, keys: &'static [Key]) -> Self {
        Self { is_set: false, ..Self::set(header, help, keys) }
    }

    /// What messages call it: `pace`, `output.mqtt`.
    pub(super) fn name(&self) -> &'static str {
        self.header.trim_matches(['[', ']'])
    }

    /// Whether there may be several.
    pub(super) fn is_several(&self) -> bool {
        self.header.starts_with("[[")
    }
}

/// What several keys expect.
pub(super) const NAME: Expected = Expected::Words("a name");
pub(super) const FILE: Expected = Expected::Words("the path of a file");
pub(super) const PEM: Expected = Expected::Words("the path of a PEM file");
pub(super) const FRAME_RATE: Expected = Expected::Words("frames per second, 0.01 to 1000");
