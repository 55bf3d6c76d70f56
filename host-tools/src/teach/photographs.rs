//! Which photographs show what, and which of them belong together.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use resight_base::files::read_bounded;
use resight_base::text::{lines, printable};
use resight_imaging::{ImageFolder, check_folder};
use resight_model_file::Labels;
use resight_teach::UNKNOWN;

use crate::images::{MAX_TEXT, file_and_class};

/// Seconds between photographs of one occasion.
const OCCASION: u64 = 30;

/// A photograph and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaughtPhotograph {
    /// The file.
    pub path: PathBuf,
    /// Its class.
    pub class: usize,
}

/// The photographs that a network is taught with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photographs {
    /// The classes, in the order of their names.
    pub names: Vec<String>,
    /// By class, then by path.
    pub files: Vec<TaughtPhotograph>,
    /// What was passed over.
    pub notes: Vec<String>,
}

/// Which photographs belong together, besides those that are nearly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// None.
    #[default]
    Nothing,
    /// Those of a folder.
    Folder,
    /// Those whose names are the same but for a number at the end.
    Prefix,
    /// Those of a class that were taken within half a minute of each other, by EXIF or else by the
    /// file's time.
    Time,
}

impl GroupBy {
    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Folder => "folder",
            Self::Prefix => "prefix",
            Self::Time => "time",
        }
    }
}

impl FromStr for GroupBy {
    type Err = UnknownGrouping;

    fn from_str(name: &str) -> Result<Self, UnknownGrouping> {
        let all = [Self::Nothing, Self::Folder, Self::Prefix, Self::Time];
        let found = all.into_iter().find(|by| by.name() == name);
        found.ok_or(UnknownGrouping)
    }
}

/// A way of grouping that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one of nothing, folder, prefix, time is expected")]
pub struct UnknownGrouping;

impl Photographs {
    /// Reads a folder with a folder for each class; or one with `labels.txt`, lines of `file class`, or
    /// with one CSV file of both.
    ///
    /// # Errors
    /// Fewer than two classes, a class without photographs or whose name cannot be a label, a line that
    /// names no file.
    pub fn read(folder: &Path, unknown: bool) -> Result<Self> {
        check_folder(folder)?;
        let list = folder.join("labels.txt");
        let entries = fs::read_dir(folder).with_context(|| format!("{}: cannot read", folder.display()))?;
        let entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        let is_table = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "csv");
        let tables: Vec<&PathBuf> = entries.iter().filter(is_table).collect();
        let (by_class, notes) = if list.exists() {
            (listed(folder, &list, ' ')?, vec![])
        } else if let [table] = tables[..] {
            (listed(folder, table, ',')?, vec![])
        } else {
            in_folders(folder, &entries)?
        };
        let shown = folder.display();
        if let [(only, _)] = by_class.iter().collect::<Vec<_>>()[..] {
            bail!(
                "{shown}: there is one class, `{}`: a network that tells things apart needs two, for example a \
                 folder with photographs of the same place without it",
                printable(only)
            );
        }
        let mut photographs = Self { names: vec![], files: vec![], notes };
        let mut folded = HashMap::new();
        for (name, files) in by_class {
            let label = label_of(&shown.to_string(), &name)?;
            if unknown && label.eq_ignore_ascii_case(UNKNOWN) {
                bail!(
                    "{shown}/{name}: the class of what was not taught is called `{UNKNOWN}`: rename the folder, or \
                     leave that class out with --no-unknown"
                );
            }
            if let Some(other) = folded.insert(label.to_lowercase(), name.clone()) {
                bail!(
                    "{shown}: the classes `{other}` and `{name}` would have one name: rename one of the folders"
                );
            }
            let class = photographs.names.len();
            photographs.files.extend(files.into_iter().map(|path| TaughtPhotograph { path, class }));
            photographs.names.push(label);
        }
        Ok(photographs)
    }

    /// The classes as labels, with one for what was not taught.
    ///
    /// # Errors
    /// Names that are not understood as they were meant, which [`read`](Self::read) refuses.
    pub fn labels(&self, unknown: bool) -> Result<Labels> {
        let names = self.names.iter().map(String::as_str).chain(unknown.then_some(UNKNOWN));
        let text: String = names.map(|name| format!("{name}\n")).collect();
        Ok(Labels::parse("the classes", text.as_bytes())?)
    }

    /// A number for each photograph, the same for those that belong together.
    pub fn groups(&self, by: GroupBy) -> Vec<usize> {
        let mut numbers = HashMap::new();
        let mut number = |key: String| {
            let next = numbers.len();
            *numbers.entry(key).or_insert(next)
        };
        match by {
            GroupBy::Nothing => (0..self.files.len()).collect(),
            GroupBy::Folder => self
                .files
                .iter()
                .map(|file| number(file.path.parent().unwrap_or(Path::new("")).display().to_string()))
                .collect(),
            GroupBy::Prefix => self
                .files
                .iter()
                .map(|file| {
                    let name = file.path.with_extension("").display().to_string();
                    let digits = |c: char| c.is_ascii_digit();
                    let shorter = name.trim_end_matches(digits).trim_end_matches(['-', '_', ' ', '.', '(']);
                    number(shorter.to_owned())
                })
                .collect(),
            GroupBy::Time => self.occasions(),
        }
    }

    fn occasions(&self) -> Vec<usize> {
        let times: Vec<u64> = self.files.iter().map(|file| taken(&file.path)).collect();
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_by_key(|&index| (self.files[index].class, times[index], index));
        let mut groups = vec![0; order.len()];
        let mut group = 0;
        for pair in order.windows(2) {
            let [before, next] = [pair[0], pair[1]];
            let same_class = self.files[before].class == self.files[next].class;
            if !(same_class && times[next] - times[before] <= OCCASION) {
                group += 1;
            }
            groups[next] = group;
        }
        groups
    }
}

/// Classes with their photographs, in the order of their names, and what was passed over.
type ByClass = BTreeMap<String, Vec<PathBuf>>;

fn in_folders(folder: &Path, entries: &[PathBuf]) -> Result<(ByClass, Vec<String>)> {
    let shown = folder.display();
    let mut by_class = ByClass::new();
    let mut notes = vec![];
    let is_hidden = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with('.') || name == "__MACOSX" || name == "@eaDir"
    };
    for path in entries.iter().filter(|path| path.is_dir() && !is_hidden(path)) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            bail!("{}: the folder's name is not UTF-8: rename it", path.display());
        };
        let found = ImageFolder::read(path).with_context(|| {
            format!("the class `{}` has no photographs: add some, or remove the folder", printable(name))
        })?;
        notes.extend(found.passed_over().into_iter().map(|what| format!("{name}: passed over {what}")));
        by_class.insert(name.to_owned(), found.files);
    }
    ensure!(
        !by_class.is_empty(),
        "{shown}: there are no folders in it: a folder for each class is expected, or a labels.txt with lines \
         `file class`, or one CSV file with columns of both"
    );
    Ok((by_class, notes))
}

fn listed(folder: &Path, list: &Path, separator: char) -> Result<ByClass> {
    let file = list.display().to_string();
    let text = read_bounded(list, MAX_TEXT, "over 16 MiB: this is no list of labelled images")?;
    let mut by_class = ByClass::new();
    let mut seen = HashMap::new();
    for (index, line) in lines(&file, &text)?.into_iter().enumerate() {
        let at = || format!("{file}: line {}", index + 1);
        if line.is_empty() {
            continue;
        }
        let found = file_and_class(folder, &line, separator);
        let head = separator == ',' && index == 0;
        let Some((name, class)) = found else {
            ensure!(head, "{}: `{}` is not `file class`", at(), printable(&line));
            continue;
        };
        let path = folder.join(&name);
        if head && !path.exists() {
            continue;
        }
        let inside = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside && !name.is_empty(), "{}: `{}` is not a file in this folder", at(), printable(&name));
        ensure!(path.is_file(), "{}: the photograph {} is missing", at(), printable(&name));
        if let Some(other) = seen.insert(name.clone(), index + 1) {
            bail!("{}: {} stands in line {other} already", at(), printable(&name));
        }
        by_class.entry(class).or_default().push(path);
    }
    ensure!(!by_class.is_empty(), "{file}: no photographs in it: lines `file class` are expected");
    for files in by_class.values_mut() {
        files.sort();
    }
    Ok(by_class)
}

/// The name as a label, which is a line of text.
fn label_of(folder: &str, name: &str) -> Result<String> {
    let refuse = |cause: &str| {
        format!(
            "{folder}/{}: {cause}: rename the folder; rules and events call the class so",
            printable(name)
        )
    };
    ensure!(!name.chars().any(char::is_control), refuse("a name with a line break or a control character"));
    ensure!(name.len() <= 100, refuse("a name of over 100 bytes"));
    let labels = Labels::parse(folder, name.as_bytes()).ok().filter(|labels| labels.len() == 1);
    let label = labels.and_then(|labels| labels.name(0).map(str::to_owned));
    label.filter(|label| !label.is_empty()).with_context(|| refuse("this cannot be the name of a class"))
}

/// When a photograph was taken, in seconds: by EXIF, or else by the file's time.
fn taken(path: &Path) -> u64 {
    let beginning = fs::File::open(path).and_then(|file| {
        let mut bytes = vec![];
        std::io::Read::read_to_end(&mut std::io::Read::take(file, 128 << 10), &mut bytes)?;
        Ok(bytes)
    });
    if let Some(seconds) = beginning.ok().and_then(|bytes| exif_time(&bytes)) {
        return seconds;
    }
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs())
}

/// The first `YYYY:MM:DD HH:MM:SS` of a file's beginning, which EXIF consists of: the same scale for
/// all photographs is all that is needed, so days are counted as if each month had 31.
fn exif_time(bytes: &[u8]) -> Option<u64> {
    const PATTERN: &[u8; 19] = b"dddd:dd:dd dd:dd:dd";
    let fits =
        |window: &&[u8]| {
            window.iter().zip(PATTERN).all(|(&byte, &pattern)| {
                if pattern == b'd' { byte.is_ascii_digit() } else { byte == pattern }
            })
        };
    let text = bytes.windows(PATTERN.len()).find(fits)?;
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    };
    let days = (number(0, 4) * 12 + number(5, 7)) * 31 + number(8, 10);
    Some(((days * 24 + number(11, 13)) * 60 + number(14, 16)) * 60 + number(17, 19))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        folder
    }

    #[test]
    fn folders_are_classes() {
        let folder = folder(&["red_ball/a.jpg", "red_ball/deep/b.png", "cube/x.webp", "cube/notes.txt"]);
        let read = Photographs::read(folder.path(), true).unwrap();
        assert_eq!(read.names, ["cube", "red ball"]);
        let classes: Vec<usize> = read.files.iter().map(|file| file.class).collect();
        assert_eq!(classes, [0, 1, 1]);
        assert_eq!(read.notes, ["cube: passed over 1 file that is no picture"]);
        assert_eq!(read.labels(true).unwrap().name(2), Some("unknown"));
        assert_eq!(read.groups(GroupBy::Folder), [0, 1, 2]);
    }

    #[test]
    fn names_with_numbers_at_the_end_are_grouped() {
        let folder = folder(&["a/one_1.jpg", "a/one_12.jpg", "a/two-1.jpg", "b/one_1.jpg"]);
        let read = Photographs::read(folder.path(), true).unwrap();
        assert_eq!(read.groups(GroupBy::Prefix), [0, 0, 1, 2]);
    }

    #[test]
    fn a_list_says_the_classes() {
        let folder = folder(&["p/1.jpg", "p/2.jpg", "p/3 4.jpg"]);
        fs::write(folder.path().join("labels.txt"), "p/1.jpg cat\np/3 4.jpg black dog\np/2.jpg cat\n")
            .unwrap();
        let read = Photographs::read(folder.path(), true).unwrap();
        assert_eq!(read.names, ["black dog", "cat"]);
        assert_eq!(read.files.len(), 3);
        fs::write(folder.path().join("labels.txt"), "p/1.jpg cat\np/9.jpg dog\n").unwrap();
        let error = Photographs::read(folder.path(), true).unwrap_err().to_string();
        assert!(error.ends_with("labels.txt: line 2: the photograph p/9.jpg is missing"), "{error}");
    }

    #[test]
    fn what_cannot_be_taught_is_refused_with_the_folder_and_the_remedy() {
        let cases: [(&[&str], &str); 6] = [
            (&["only/a.jpg"], "there is one class, `only`"),
            (&["a.jpg"], "there are no folders in it: a folder for each class is expected"),
            (&["a/x.jpg", "b/readme.txt"], "the class `b` has no photographs"),
            (&["a/x.jpg", "Unknown/y.jpg"], "rename the folder, or leave that class out with --no-unknown"),
            (&["a_b/x.jpg", "a b/y.jpg"], "would have one name"),
            (&["a/x.jpg", "b\nc/y.jpg"], "a line break"),
        ];
        for (files, expected) in cases {
            let error = format!("{:#}", Photographs::read(folder(files).path(), true).unwrap_err());
            assert!(error.contains(expected), "{files:?}: {error}");
        }
        let commas = folder(&["salt, pepper/x.jpg", "b/y.jpg"]);
        assert_eq!(Photographs::read(commas.path(), true).unwrap().names, ["b", "salt, pepper"]);
    }

    #[test]
    fn the_time_is_that_of_exif() {
        let at = |text: &str| exif_time(format!("abc{text}def").as_bytes());
        assert_eq!(at("2026:01:31 23:59:50").unwrap() + 15, at("2026:02:01 00:00:05").unwrap());
        assert_eq!(at("2026-01-31 23:59:50"), None);
    }
}
