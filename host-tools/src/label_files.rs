//! The files that names of classes come in: one a line, and what other programs write.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use resight_base::files::{FileError, read_bounded};
use resight_base::text::printable;
use resight_model_file::{Labels, ModelFileError};
use serde_json::Value;

/// Largest text file of labels, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// Most classes.
const MOST: usize = 1 << 16;

/// How a file of labels was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelFormat {
    /// One name a line, with `WordNet` ids or without.
    Lines,
    /// A number before each name.
    NumberedLines,
    /// All names in one line, with this character between them.
    OneLine(char),
    /// A table with this character between its columns.
    Table(char),
    /// A JSON object of numbers and names, or a list.
    Json,
    /// A dictionary as Python prints it.
    Python,
    /// A list or numbered names in YAML.
    Yaml,
}

impl fmt::Display for LabelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lines => f.write_str("one name a line"),
            Self::NumberedLines => f.write_str("a number and a name a line"),
            Self::OneLine(separator) => write!(f, "names in one line, separated by `{separator}`"),
            Self::Table('\t') => f.write_str("a table with tabs"),
            Self::Table(separator) => write!(f, "a table with `{separator}`"),
            Self::Json => f.write_str("JSON"),
            Self::Python => f.write_str("a Python dictionary"),
            Self::Yaml => f.write_str("YAML"),
        }
    }
}

/// The names in a file, and how it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFile {
    file: String,
    /// The names.
    pub labels: Labels,
    /// How the file was understood.
    pub format: LabelFormat,
}

impl LabelFile {
    /// Reads a file of labels in any [`LabelFormat`].
    ///
    /// # Errors
    /// A file that cannot be read, is over 16 MiB or is none of them; names that are missing between
    /// others, empty or there twice by number.
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let text = read_bounded(path, MAX_TEXT, "over 16 MiB: this is no list of labels")?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses what [`read`](Self::read) reads; `file` is for messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, ModelFileError> {
        let text = std::str::from_utf8(bytes).unwrap_or_default().replace('\u{feff}', "");
        let refuse = |format: LabelFormat, cause: LabelCause| {
            let cause = format!(
                "understood as {format}, but {cause}; expected one class name a line, in the network's order"
            );
            ModelFileError::from(FileError::content(file, cause))
        };
        let Some((format, names)) = other_formats(&text) else {
            return Ok(Self {
                file: file.to_owned(),
                labels: Labels::parse(file, bytes)?,
                format: LabelFormat::Lines,
            });
        };
        let names = names.map_err(|cause| refuse(format, cause))?;
        let lines: Vec<String> = names.iter().map(|name| name.replace(['\n', '\r'], " ") + "\n").collect();
        if let Some(empty) = lines.iter().position(|line| line.trim().is_empty()) {
            return Err(refuse(format, LabelCause::Empty(empty)));
        }
        let labels = Labels::parse(file, lines.concat().as_bytes())?;
        Ok(Self { file: file.to_owned(), labels, format })
    }

    /// The names for a network of so many classes. A background class before all others, which
    /// `TensorFlow`'s files have and most networks have not, is left out; the second value says so.
    ///
    /// # Errors
    /// Another number of names, with what was understood.
    pub fn for_classes(
        self,
        classes: usize,
        network: &str,
    ) -> Result<(Labels, Option<String>), ModelFileError> {
        let Self { file, labels, format } = self;
        let count = labels.len();
        if count == classes {
            return Ok((labels, None));
        }
        let first = labels.name(0).unwrap_or_default().to_owned();
        let is_background = ["background", "dummy", "none of the above"]
            .iter()
            .any(|known| first.trim().eq_ignore_ascii_case(known));
        if count == classes + 1 && is_background {
            let note = format!("{file}: `{first}` was left out: {network} has {classes} classes without it");
            let others: String = labels.to_text().split_inclusive('\n').skip(1).collect();
            return Ok((Labels::parse(&file, others.as_bytes())?, Some(note)));
        }
        let remedy = if classes == count + 1 {
            "; networks of TensorFlow often have a class `background` before the others: if this one has, add it"
        } else {
            ""
        };
        let last = labels.name(count - 1).unwrap_or_default();
        let cause = format!(
            "{count} names (`{}` to `{}`, understood as {format}), but {network} has {classes} classes; one name \
             for each class is expected, in their order{remedy}",
            printable(&first),
            printable(last)
        );
        Err(FileError::content(&file, cause).into())
    }
}

/// Why a text in a [`LabelFormat`] gives no names.
#[derive(Debug, thiserror::Error)]
enum LabelCause {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("class {0} has no name")]
    Empty(usize),
    #[error("number {0} is there twice")]
    Twice(usize),
    #[error("there is no name in it")]
    NoName,
    #[error("its numbers begin with {0}")]
    First(usize),
    #[error("number {0} is missing")]
    Missing(usize),
    #[error("entry {0} of its list is no name")]
    Entry(usize),
    #[error("`{0}` is neither number nor name")]
    Key(String),
    #[error("it is neither list nor object")]
    Kind,
    #[error("there is nothing in `names`")]
    NothingInNames,
    #[error("`names` is neither a list nor numbers with names")]
    KindOfNames,
    #[error("not every row has a number")]
    Row,
}

type Names = Result<Vec<String>, LabelCause>;

/// The names of a text that is more than one name a line; `None` for that.
fn other_formats(text: &str) -> Option<(LabelFormat, Names)> {
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) {
        return Some(match serde_json::from_str(trimmed) {
            Ok(value) => (LabelFormat::Json, json(&value)),
            Err(error) => match python(trimmed) {
                Some(entries) => (LabelFormat::Python, in_order(entries)),
                None => (LabelFormat::Json, Err(error.into())),
            },
        });
    }
    let lines: Vec<&str> = trimmed.lines().map(str::trim_end).collect();
    if let Some(names) = yaml(&lines) {
        return Some((LabelFormat::Yaml, names));
    }
    if let [line] = lines[..] {
        let separator = [';', '\t', ','].into_iter().find(|separator| line.contains(*separator))?;
        let names: Vec<String> =
            line.split(separator).map(unquoted).filter(|name| !name.is_empty()).collect();
        return (names.len() > 1).then_some((LabelFormat::OneLine(separator), Ok(names)));
    }
    for separator in [',', ';', '\t'] {
        if let Some(names) = table(&lines, separator) {
            return Some((LabelFormat::Table(separator), names));
        }
    }
    numbered(&lines).map(|entries| (LabelFormat::NumberedLines, in_order(entries)))
}

/// A name without spaces and quotation marks around it.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|mark| text.strip_prefix(mark).and_then(|text| text.strip_suffix(mark)));
    inner.unwrap_or(text).trim().to_owned()
}

/// Names by their numbers, which begin at 0 or 1 and leave none out.
fn in_order(entries: Vec<(usize, String)>) -> Names {
    let count = entries.len();
    let mut names = BTreeMap::new();
    for (number, name) in entries {
        if names.insert(number, name).is_some() {
            return Err(LabelCause::Twice(number));
        }
    }
    let first = *names.keys().next().ok_or(LabelCause::NoName)?;
    if first > 1 {
        return Err(LabelCause::First(first));
    }
    if let Some(missing) = (first..first + count).find(|number| !names.contains_key(number)) {
        return Err(LabelCause::Missing(missing));
    }
    Ok(names.into_values().collect())
}

/// A class in JSON: its name, or its `WordNet` id and name.
fn json_name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Array(parts) => {
            let parts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
            Some(parts?.join(" "))
        }
        Value::Object(entries) => {
            ["name", "label", "class"].iter().find_map(|key| json_name(entries.get(*key)?))
        }
        _ => None,
    }
}

fn json(value: &Value) -> Names {
    match value {
        Value::Array(list) => {
            let name = |(index, value)| json_name(value).ok_or(LabelCause::Entry(index));
            list.iter().enumerate().map(name).collect()
        }
        Value::Object(entries) => {
            // The configuration of a network, with much else in it.
            let inner = ["id2label", "names", "labels", "classes", "categories"];
            if let Some(inner) = inner.iter().find_map(|key| entries.get(*key)) {
                return json(inner);
            }
            let entry = |(key, value): (&String, &Value)| {
                let by_number = key.parse().ok().zip(json_name(value));
                let number = || Some((usize::try_from(value.as_u64()?).ok()?, key.clone()));
                by_number.or_else(number).ok_or_else(|| LabelCause::Key(printable(key)))
            };
            in_order(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
        _ => Err(LabelCause::Kind),
    }
}

/// `{0: 'tench, Tinca tinca', 1: "goldfish"}`.
fn python(text: &str) -> Option<Vec<(usize, String)>> {
    let mut rest = text.strip_prefix('{')?.trim_start();
    let mut entries = vec![];
    while !rest.starts_with('}') {
        let (number, after) = rest.split_once(':')?;
        let after = after.trim_start();
        let mark = after.chars().next().filter(|mark| ['"', '\''].contains(mark))?;
        let end = after[1..].find(mark)? + 1;
        entries.push((number.trim().parse().ok()?, after[1..end].to_owned()));
        rest = after[end + 1..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        if entries.len() > MOST {
            return None;
        }
    }
    Some(entries)
}

/// `names:` with a list or with numbers, or these alone.
fn yaml(lines: &[&str]) -> Option<Names> {
    let key = lines.iter().position(|line| line.starts_with("names:"));
    let block: Vec<&str> = match key {
        Some(at) => {
            let inline = lines[at].trim_start_matches("names:").trim();
            if let Some(list) = inline.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                return Some(Ok(list.split(',').map(unquoted).collect()));
            }
            let is_in = |line: &&&str| line.starts_with([' ', '\t', '-']) || line.trim().is_empty();
            lines[at + 1..].iter().take_while(is_in).copied().collect()
        }
        None => lines.to_vec(),
    };
    let block: Vec<&str> = block
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let items: Option<Vec<String>> = block.iter().map(|line| line.strip_prefix("- ").map(unquoted)).collect();
    let numbered = || -> Option<Vec<(usize, String)>> {
        let entry = |line: &&str| {
            let (number, name) = line.split_once(": ")?;
            Some((number.trim().parse().ok()?, unquoted(name)))
        };
        block.iter().map(entry).collect()
    };
    if block.is_empty() {
        return key.map(|_| Err(LabelCause::NothingInNames));
    }
    match items.map(Ok).or_else(|| numbered().map(in_order)) {
        None => key.map(|_| Err(LabelCause::KindOfNames)),
        found => found,
    }
}

/// A table whose head names the column of the names, or of numbers and names without a head.
fn table(lines: &[&str], separator: char) -> Option<Names> {
    const NUMBERS: [&str; 7] = ["id", "index", "idx", "class_id", "class_index", "label_id", "number"];
    const NAMES: [&str; 7] =
        ["name", "label", "class", "class_name", "classname", "label_name", "display_name"];
    let rows: Vec<Vec<String>> = lines.iter().map(|line| cells(line, separator)).collect();
    let columns = rows.first()?.len();
    if columns < 2 || rows.iter().any(|row| row.len() != columns) {
        return None;
    }
    let column = |known: &[&str]| {
        rows[0].iter().position(|head| known.iter().any(|known| head.eq_ignore_ascii_case(known)))
    };
    let at = |number: usize, name: usize, rows: &[Vec<String>]| -> Option<Vec<(usize, String)>> {
        rows.iter().map(|row| Some((row[number].parse().ok()?, row[name].clone()))).collect()
    };
    match (column(&NUMBERS), column(&NAMES)) {
        (Some(number), Some(name)) => {
            let entries = at(number, name, &rows[1..]);
            Some(entries.ok_or(LabelCause::Row).and_then(in_order))
        }
        (None, Some(name)) => Some(Ok(rows[1..].iter().map(|row| row[name].clone()).collect())),
        _ if columns == 2 => {
            let entries = at(0, 1, &rows).or_else(|| at(1, 0, &rows))?;
            Some(in_order(entries))
        }
        _ => None,
    }
}

/// The cells of a row; within quotation marks a separator is text.
fn cells(line: &str, separator: char) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (vec![], String::new(), false);
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => cells.push(std::mem::take(&mut cell)),
            _ => cell.push(character),
        }
    }
    cells.push(cell);
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// `0 cat`, `1: dog`: when every line has a number and they count from 0, or from 1.
fn numbered(lines: &[&str]) -> Option<Vec<(usize, String)>> {
    let entry = |line: &&str| {
        let line = line.trim();
        let digits = line.find(|character: char| !character.is_ascii_digit())?;
        let name = line[digits..].trim_start_matches([':', '.', ')', '=']);
        // What follows a number without a gap belongs to the name: `4x4`, `7-Eleven`.
        let has_gap = name.len() < line.len() - digits || name.starts_with([' ', '\t', '_']);
        let name = name.trim_matches([' ', '\t', '_']);
        (has_gap && !name.is_empty()).then_some((line[..digits].parse().ok()?, name.to_owned()))
    };
    let entries: Vec<(usize, String)> = lines.iter().map(entry).collect::<Option<_>>()?;
    let first = entries.iter().map(|(number, _)| *number).min()?;
    let is_count = first <= 1 && entries.iter().map(|(number, _)| *number).max()? - first < entries.len();
    (is_count && entries.len() > 1).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> (LabelFormat, Vec<String>) {
        let read = LabelFile::parse("labels", text.as_bytes()).unwrap();
        let names = (0..read.labels.len()).map(|class| read.labels.name(class).unwrap().to_owned()).collect();
        (read.format, names)
    }

    #[test]
    fn files_of_other_programs_give_their_names() {
        let three = ["cat", "dog", "bird"];
        for (text, format) in [
            ("cat\ndog\nbird\n", LabelFormat::Lines),
            ("0 cat\n1 dog\n2 bird\n", LabelFormat::NumberedLines),
            ("1: cat\n2: dog\n3: bird", LabelFormat::Yaml),
            ("1. cat\n2. dog\n3. bird", LabelFormat::NumberedLines),
            ("2 bird\n0 cat\n1 dog\n", LabelFormat::NumberedLines),
            ("cat;dog;bird\n", LabelFormat::OneLine(';')),
            ("cat, dog, bird", LabelFormat::OneLine(',')),
            ("id,name\n0,cat\n1,dog\n2,bird\n", LabelFormat::Table(',')),
            ("index;label\r\n0;cat\r\n1;dog\r\n2;bird\r\n", LabelFormat::Table(';')),
            ("name,colour\ncat,grey\ndog,brown\nbird,blue\n", LabelFormat::Table(',')),
            ("0,cat\n1,dog\n2,\"bird\"\n", LabelFormat::Table(',')),
            ("cat\t0\ndog\t1\nbird\t2\n", LabelFormat::Table('\t')),
            ("[\"cat\", \"dog\", \"bird\"]", LabelFormat::Json),
            ("{\"0\": \"cat\", \"1\": \"dog\", \"2\": \"bird\"}", LabelFormat::Json),
            ("{\"cat\": 0, \"dog\": 1, \"bird\": 2}", LabelFormat::Json),
            ("{\"id2label\": {\"10\": \"x\", \"0\": \"cat\"}, \"a\": 1}", LabelFormat::Json),
            ("{0: 'cat',\n 1: \"dog\",\n 2: 'bird'}", LabelFormat::Python),
            ("names:\n  0: cat\n  1: dog\n  2: bird\n", LabelFormat::Yaml),
            ("nc: 3\nnames: [cat, 'dog', \"bird\"]\n", LabelFormat::Yaml),
            ("path: a\nnames:\n- cat\n- dog\n- bird\nval: b\n", LabelFormat::Yaml),
            ("- cat\n- dog\n- bird\n", LabelFormat::Yaml),
        ] {
            if text.contains("\"10\"") {
                let error = LabelFile::parse("labels", text.as_bytes()).unwrap_err().to_string();
                assert!(error.starts_with("labels: understood as JSON, but number 1 is missing"), "{error}");
                continue;
            }
            assert_eq!(names(text), (format, three.map(str::to_owned).to_vec()), "{text:?}");
        }
    }

    #[test]
    fn imagenets_class_index_keeps_its_ids() {
        let text = "{\"0\": [\"n02123045\", \"tabby\"],\n\"1\": [\"n02084071\", \"dog\"]}";
        let read = LabelFile::parse("labels", text.as_bytes()).unwrap();
        assert_eq!((read.labels.name(0), read.labels.find("n02084071")), (Some("tabby"), vec![1]));
    }

    #[test]
    fn names_that_only_look_like_something_else_stay_as_they_are() {
        for text in [
            "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
            "1 euro\n2 euro\n5 euro\n",
            "4x4\n7-Eleven\n",
            "red, yellow\ngreen\n",
            "10 pence\n20 pence\n",
        ] {
            assert_eq!(
                LabelFile::parse("labels", text.as_bytes()).unwrap().format,
                LabelFormat::Lines,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_understood() {
        for (text, expected) in [
            ("{\"0\": \"a\", \"2\": \"b\"}", "understood as JSON, but number 1 is missing"),
            ("{\"a\": 1.5}", "understood as JSON, but `a` is neither number nor name"),
            ("{\"0\": \"a\",", "understood as JSON, but EOF while parsing"),
            ("id,name\n0,cat\nx,dog\n", "understood as a table with `,`, but not every row has a number"),
            ("names:\nval: b\n", "understood as YAML, but there is nothing in `names`"),
            ("[\"a\", \"\"]", "understood as JSON, but class 1 has no name"),
        ] {
            let error = LabelFile::parse("labels", text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("labels: {expected}")), "{text}: {error}");
            assert!(error.ends_with("expected one class name a line, in the network's order"), "{error}");
        }
    }

    #[test]
    fn the_number_of_names_is_that_of_the_classes() {
        let read = || LabelFile::parse("labels", b"background\ncat\ndog\nbird\n").unwrap();
        assert_eq!(read().for_classes(4, "net").unwrap(), (read().labels, None));
        let (labels, note) = read().for_classes(3, "net").unwrap();
        assert_eq!((labels.len(), labels.name(0)), (3, Some("cat")));
        assert_eq!(note.unwrap(), "labels: `background` was left out: net has 3 classes without it");
        let error = read().for_classes(5, "net").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "labels: 4 names (`background` to `bird`, understood as one name a line), but net has 5"
            ) && error.ends_with("if this one has, add it"),
            "{error}"
        );
        let error = read().for_classes(2, "net").unwrap_err().to_string();
        assert!(error.ends_with("one name for each class is expected, in their order"), "{error}");
    }
}
