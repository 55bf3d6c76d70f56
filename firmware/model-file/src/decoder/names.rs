//! Which outputs a decoder takes for one purpose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One output, or one for each level of a pyramid. An output that puts the maps of several levels one
/// behind the other, as detectors are exported, stands for all of them: the maps are outputs of their
/// own in the model file, `NAME[0]`, `NAME[1]` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct OutputNames(pub Vec<String>);

/// As it is written down.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for OutputNames {
    fn from(names: OneOrMany) -> Self {
        match names {
            OneOrMany::One(name) => Self(vec![name]),
            OneOrMany::Many(names) => Self(names),
        }
    }
}

impl From<OutputNames> for OneOrMany {
    fn from(OutputNames(names): OutputNames) -> Self {
        match <[String; 1]>::try_from(names) {
            Ok([name]) => Self::One(name),
            Err(names) => Self::Many(names),
        }
    }
}

impl From<&str> for OutputNames {
    fn from(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl fmt::Display for OutputNames {
    /// Such as `` `p3`, `p4` ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl OutputNames {
    /// Whether the output `name` of a model file is one of these, or one of the maps that one of these
    /// stands for.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|own| level(own, name).is_some())
    }

    /// Which of these the output `name` belongs to, and which of its maps it is; their order is that of
    /// the levels.
    pub fn place(&self, name: &str) -> Option<(usize, usize)> {
        self.0.iter().enumerate().find_map(|(index, own)| Some((index, level(own, name)?)))
    }
}

/// The level that the output `name` is of those that `own` stands for.
fn level(own: &str, name: &str) -> Option<usize> {
    match name.strip_prefix(own)? {
        "" => Some(0),
        rest => rest.strip_prefix('[')?.strip_suffix(']')?.parse().ok(),
    }
}

/// The name of a map of an output that stands for several.
pub fn level_name(output: &str, level: usize) -> String {
    format!("{output}[{level}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_many_are_read_and_written() {
        for (text, names) in [("\"a\"", vec!["a"]), ("[\"a\",\"b\"]", vec!["a", "b"])] {
            let read: OutputNames = serde_json::from_str(text).unwrap();
            assert_eq!(read.0, names);
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn levels_belong_to_their_output() {
        let names = OutputNames(vec!["box".into(), "other".into()]);
        assert_eq!(names.place("box"), Some((0, 0)));
        assert_eq!(names.place(&level_name("box", 12)), Some((0, 12)));
        assert_eq!(names.place("other[3]"), Some((1, 3)));
        for unknown in ["boxes", "box[", "box[a]", "bo", "box[1]x"] {
            assert!(!names.has(unknown), "{unknown}");
        }
        assert_eq!(names.to_string(), "`box`, `other`");
    }
}
