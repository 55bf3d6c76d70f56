//! The names of classes: the member `labels.txt`.

use std::collections::HashMap;
use std::path::Path;

use resight_base::files::{FileError, read_bounded};
use resight_base::text::{lines, printable};

use crate::error::ModelFileError;

/// Largest text file of labels, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// The classes of a network, in the order of its outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(Vec<Label>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    wordnet_id: Option<String>,
    name: String,
}

impl Labels {
    /// Reads a file of labels, see [`parse`](Self::parse).
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or is over 16 MiB.
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let text = read_bounded(path, MAX_TEXT, "over 16 MiB: this is no list of labels")?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses one class per line: either `n01440764 tench` (a `WordNet` id, then names) on all
    /// lines or plain names. Underscores become spaces. Line ends of Windows, a byte order
    /// mark and blank lines at the end are tolerated; `file` is for messages.
    ///
    /// # Errors
    /// No class at all, text that is not UTF-8 or has control characters, a blank line
    /// between others (the classes after it would shift), ids on some lines only, an id that
    /// occurs twice, an id without a name.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, ModelFileError> {
        let mut lines = lines(file, text)?;
        for line in &mut lines {
            *line = line.replace(['_', '\t'], " ").trim().to_string();
        }
        if lines.is_empty() {
            return Err(FileError::content(file, "no labels in it: one class per line is expected").into());
        }
        let with_ids = split_id(&lines[0]).is_some();
        let mut labels = Vec::with_capacity(lines.len());
        let mut seen = HashMap::new();
        for (index, line) in lines.iter().enumerate() {
            let wrong = |cause: String| ModelFileError::from(FileError::line(file, index + 1, cause));
            if line.is_empty() {
                return Err(wrong("a blank line would shift the classes after it".to_string()));
            }
            let (wordnet_id, name) = match split_id(line) {
                Some((id, name)) => (Some(id), name),
                None => (None, line.as_str()),
            };
            if wordnet_id.is_some() != with_ids {
                let first = if with_ids { "begins with one" } else { "does not" };
                return Err(wrong(format!(
                    "`{}`: either every line begins with a WordNet id or none does; line 1 {first}",
                    printable(line)
                )));
            }
            if let Some(id) = wordnet_id
                && let Some(other) = seen.insert(id, index + 1)
            {
                return Err(wrong(format!("{id} stands in line {other} already")));
            }
            let name = name.trim().to_string();
            if name.is_empty() {
                return Err(wrong("a class without a name".to_string()));
            }
            labels.push(Label { wordnet_id: wordnet_id.map(str::to_string), name });
        }
        Ok(Labels(labels))
    }

    /// No labels, for a network whose outputs are not classes.
    pub fn none() -> Self {
        Self(vec![])
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no class; never so for parsed labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of a class, all synonyms included.
    pub fn name(&self, class: usize) -> Option<&str> {
        self.0.get(class).map(|label| label.name.as_str())
    }

    /// The `WordNet` id of a class, if the labels have ids.
    pub fn wordnet_id(&self, class: usize) -> Option<&str> {
        self.0.get(class).and_then(|label| label.wordnet_id.as_deref())
    }

    /// The classes that `pattern` names, in order; none if it fits nothing.
    ///
    /// A pattern is compared with the `WordNet` id, the name and each of its synonyms (they are
    /// separated by commas). Upper and lower case, underscore and space are equal; `*` stands
    /// for any text.
    pub fn find(&self, pattern: &str) -> Vec<usize> {
        let fold = |text: &str| text.trim().replace('_', " ").to_lowercase();
        let pattern: Vec<char> = fold(pattern).chars().collect();
        if pattern.is_empty() {
            return Vec::new();
        }
        let fits = |text: &str| matches(&pattern, &fold(text).chars().collect::<Vec<_>>());
        let classes = self.0.iter().enumerate().filter(|(_, label)| {
            label.wordnet_id.as_deref().is_some_and(fits)
                || fits(&label.name)
                || label.name.split(',').any(fits)
        });
        classes.map(|(class, _)| class).collect()
    }

    /// The text that [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        let line = |label: &Label| match &label.wordnet_id {
            Some(id) => format!("{id} {}\n", label.name),
            None => format!("{}\n", label.name),
        };
        self.0.iter().map(line).collect()
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut in_pattern, mut in_text) = (0, 0);
    // Where to go on after the latest star, and what it has swallowed so far.
    let mut retry: Option<(usize, usize)> = None;
    while in_text < text.len() {
        if pattern.get(in_pattern) == Some(&'*') {
            in_pattern += 1;
            retry = Some((in_pattern, in_text));
        } else if pattern.get(in_pattern) == Some(&text[in_text]) {
            in_pattern += 1;
            in_text += 1;
        } else if let Some((after_star, swallowed)) = retry {
            retry = Some((after_star, swallowed + 1));
            (in_pattern, in_text) = (after_star, swallowed + 1);
        } else {
            return false;
        }
    }
    pattern[in_pattern..].iter().all(|character| *character == '*')
}

/// Splits `n01440764 tench`.
fn split_id(line: &str) -> Option<(&str, &str)> {
    let (id, name) = line.split_once(' ').unwrap_or((line, ""));
    let digits = id.strip_prefix('n')?;
    (digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some((id, name))
}
