//! The names of classes, and folders of labelled images.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::error::{NetworkError, printable};

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
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }

    /// Parses one class per line: either `n01440764 tench` (a `WordNet` id, then names) on all
    /// lines or plain names. Underscores become spaces. Line ends of Windows, a byte order
    /// mark and blank lines at the end are tolerated; `file` is for messages.
    ///
    /// # Errors
    /// No class at all, text that is not UTF-8 or has control characters, a blank line
    /// between others (the classes after it would shift), ids on some lines only, an id that
    /// occurs twice, an id without a name.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, NetworkError> {
        let mut lines = text_lines(file, text)?;
        for line in &mut lines {
            *line = line.replace(['_', '\t'], " ").trim().to_string();
        }
        if lines.is_empty() {
            return Err(content(file, "no labels in it: one class per line is expected"));
        }
        let with_ids = split_id(&lines[0]).is_some();
        let mut labels = Vec::with_capacity(lines.len());
        let mut seen = HashMap::new();
        for (index, line) in lines.iter().enumerate() {
            let wrong = |cause: String| NetworkError::Line { file: file.to_string(), line: index + 1, cause };
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

/// An image of a labelled folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// The file.
    pub path: PathBuf,
    /// The class that is right for it.
    pub class: usize,
}

/// Reads `labels.txt` of a folder of images: `file class` per line, for a network of `classes`
/// classes. The images are in the order of the lines.
///
/// # Errors
/// No folder, no `labels.txt`, no line in it; a line without a class, with a class that is no
/// number or not below `classes`, with a file that is missing, outside the folder or named
/// before.
pub fn labelled_images(folder: &Path, classes: usize) -> Result<Vec<LabelledImage>, NetworkError> {
    check_folder(folder)?;
    let path = folder.join("labels.txt");
    let file = path.display().to_string();
    if !path.exists() {
        return Err(content(&file, "missing: a folder of labelled images needs it, with lines `file class`"));
    }
    let mut images = Vec::new();
    let mut seen = HashMap::new();
    for (index, line) in text_lines(&file, &read_text(&path)?)?.into_iter().enumerate() {
        let wrong = |cause: String| NetworkError::Line { file: file.clone(), line: index + 1, cause };
        if line.is_empty() {
            continue;
        }
        let Some((name, class)) = line.rsplit_once([' ', '\t']) else {
            return Err(wrong(format!("`{}` is not `file class`", printable(&line))));
        };
        let name = name.trim_end();
        let class = class
            .parse::<usize>()
            .map_err(|_| wrong(format!("the class `{}` is not a number", printable(class))))?;
        if class >= classes {
            return Err(wrong(format!(
                "class {class}, but the network has classes 0 to {}",
                classes.saturating_sub(1)
            )));
        }
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(wrong(format!("`{}` is not a file in this folder", printable(name))));
        }
        if let Some(other) = seen.insert(name.to_string(), index + 1) {
            return Err(wrong(format!("{} stands in line {other} already", printable(name))));
        }
        let path = folder.join(name);
        if !path.is_file() {
            return Err(wrong(format!("the image {} is missing", printable(name))));
        }
        images.push(LabelledImage { path, class });
    }
    if images.is_empty() {
        return Err(content(&file, "no images in it: lines `file class` are expected"));
    }
    Ok(images)
}

/// The PNG and JPEG files of a folder, by their extension, in the order of their names.
///
/// # Errors
/// No folder, one that cannot be read, or one without images.
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, NetworkError> {
    check_folder(folder)?;
    let cannot_read = |error| NetworkError::file(folder, "read", error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        let is_image = path.extension().is_some_and(|extension| {
            ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        });
        if is_image && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(content(
            &folder.display().to_string(),
            "no .png, .jpg or .jpeg files in this folder; folders in it are not searched",
        ));
    }
    files.sort();
    Ok(files)
}

fn check_folder(folder: &Path) -> Result<(), NetworkError> {
    let metadata = fs::metadata(folder).map_err(|error| NetworkError::file(folder, "read", error))?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(content(&folder.display().to_string(), "not a folder; a folder of images is expected"))
}

fn content(file: &str, cause: &str) -> NetworkError {
    NetworkError::Content { file: file.to_string(), cause: cause.to_string() }
}

fn read_text(path: &Path) -> Result<Vec<u8>, NetworkError> {
    let cannot_read = |error| NetworkError::file(path, "read", error);
    // Before opening: a named pipe would block for ever.
    if !fs::metadata(path).map_err(cannot_read)?.is_file() {
        return Err(content(&path.display().to_string(), "not a regular file"));
    }
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(cannot_read)?;
    file.take(MAX_TEXT + 1).read_to_end(&mut text).map_err(cannot_read)?;
    if text.len() as u64 > MAX_TEXT {
        return Err(content(&path.display().to_string(), "over 16 MiB: this is no list of labels"));
    }
    Ok(text)
}

/// The lines of a text, trimmed, without the blank ones at the end.
fn text_lines(file: &str, text: &[u8]) -> Result<Vec<String>, NetworkError> {
    let mut lines = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |cause: &str| NetworkError::Line {
            file: file.to_string(),
            line: index + 1,
            cause: cause.to_string(),
        };
        let line = str::from_utf8(line).map_err(|_| wrong("not UTF-8 text"))?;
        // A byte order mark; files put together from others have several.
        let line = line.replace('\u{feff}', "");
        let line = line.trim();
        if line.chars().any(|character| character.is_control() && character != '\t') {
            return Err(wrong("control characters: this is no text file"));
        }
        lines.push(line.to_string());
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines)
}
