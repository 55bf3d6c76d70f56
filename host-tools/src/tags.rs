//! Folders of images that may show several classes each, or none.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use resight_base::files::{FileError, read_bounded};
use resight_base::text::{lines, printable};
use resight_imaging::{ImagingError, check_folder};

use crate::images::{Classes, LabelledImages, labelled_images, unknown};

/// Largest list of images, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// What stands between classes of one image.
const BETWEEN: [char; 3] = [';', ',', '|'];

/// An image with the classes that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedImage {
    /// The file.
    pub path: PathBuf,
    /// The classes that are right for it, each once, in their order.
    pub classes: Vec<usize>,
}

/// Images with the classes that they show, and how these were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaggedImages {
    /// The images.
    pub images: Vec<TaggedImage>,
    /// What is to be said of where their classes come from.
    pub notes: Vec<String>,
}

impl From<LabelledImages> for TaggedImages {
    fn from(labelled: LabelledImages) -> Self {
        let images = labelled.images.into_iter();
        let images = images.map(|image| TaggedImage { path: image.path, classes: vec![image.class] });
        Self { images: images.collect(), notes: vec![] }
    }
}

/// Reads a folder of images for a network whose classes do not exclude each other:
/// - `labels.txt` with lines `file class;class`, or `file` alone for one that shows nothing;
/// - its only CSV file, with a head: files in the first column, and either their classes in the
///   second or a column of 0 and 1 for each class that the head names;
/// - or a folder for each class, whose images then show that class and no other.
///
/// # Errors
/// No such file and no such folders; a line that cannot be understood, with a class that the network
/// does not have, or with a file that is missing, outside the folder or named before.
pub fn tagged_images(folder: &Path, classes: Classes<'_>) -> Result<TaggedImages, ImagingError> {
    check_folder(folder)?;
    let list = folder.join("labels.txt");
    if list.exists() {
        return List::read(folder, &list)?.lines(classes);
    }
    let entries = fs::read_dir(folder).map_err(|error| FileError::system(folder, "read", error))?;
    let tables: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .collect();
    if let [table] = &tables[..] {
        return List::read(folder, table)?.table(classes);
    }
    let mut found = TaggedImages::from(labelled_images(folder, classes)?);
    found.notes.push(
        "each picture counts as showing the class of its folder and no other; `labels.txt` with lines \
         `file class;class` or a CSV file with a column for each class says more"
            .to_owned(),
    );
    Ok(found)
}

/// A file that lists images.
struct List<'a> {
    folder: &'a Path,
    file: String,
    lines: Vec<String>,
    seen: HashMap<String, usize>,
    found: TaggedImages,
}

impl<'a> List<'a> {
    fn read(folder: &'a Path, list: &Path) -> Result<Self, ImagingError> {
        let file = list.display().to_string();
        let text = read_bounded(list, MAX_TEXT, "over 16 MiB: this is no list of images")?;
        let lines = lines(&file, &text)?;
        Ok(Self { folder, file, lines, seen: HashMap::new(), found: TaggedImages::default() })
    }

    fn wrong(&self, index: usize, cause: String) -> ImagingError {
        FileError::line(&self.file, index + 1, cause).into()
    }

    /// Adds an image.
    fn add(&mut self, index: usize, name: &str, mut classes: Vec<usize>) -> Result<(), ImagingError> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(self.wrong(index, format!("`{}` is not a file in this folder", printable(name))));
        }
        if let Some(other) = self.seen.insert(name.to_owned(), index + 1) {
            return Err(self.wrong(index, format!("{} stands in line {other} already", printable(name))));
        }
        let path = self.folder.join(name);
        if !path.is_file() {
            return Err(self.wrong(index, format!("the image {} is missing", printable(name))));
        }
        classes.sort_unstable();
        classes.dedup();
        self.found.images.push(TaggedImage { path, classes });
        Ok(())
    }

    /// The classes of a text, `cat;dog`.
    fn classes(&self, index: usize, text: &str, classes: Classes<'_>) -> Result<Vec<usize>, ImagingError> {
        let written = text.split(BETWEEN).map(clean).filter(|written| !written.is_empty());
        let find =
            |written: &str| classes.find(written).ok_or_else(|| self.wrong(index, unknown(written, classes)));
        // A name may have a comma in it.
        match classes.find(clean(text)) {
            Some(class) => Ok(vec![class]),
            None => written.map(find).collect(),
        }
    }

    fn lines(mut self, classes: Classes<'_>) -> Result<TaggedImages, ImagingError> {
        for (index, line) in std::mem::take(&mut self.lines).iter().enumerate() {
            if line.is_empty() {
                continue;
            }
            let (name, written) = self.file_and_rest(line, &[' ', '\t']);
            let found = self.classes(index, written, classes)?;
            self.add(index, name, found)?;
        }
        self.finish()
    }

    /// The file is the longest beginning of the line that exists, or the first word.
    fn file_and_rest<'l>(&self, line: &'l str, separators: &[char]) -> (&'l str, &'l str) {
        let line = line.trim();
        let ends: Vec<usize> = line.match_indices(separators).map(|(at, _)| at).chain([line.len()]).collect();
        let existing = ends.iter().rev().find(|end| self.folder.join(clean(&line[..**end])).is_file());
        let end = existing.or(ends.first()).copied().unwrap_or(line.len());
        (clean(&line[..end]), line[end..].trim_start_matches(separators))
    }

    fn table(mut self, classes: Classes<'_>) -> Result<TaggedImages, ImagingError> {
        let lines = std::mem::take(&mut self.lines);
        let Some(head) = lines.first() else { return self.finish() };
        let columns: Vec<&str> = head.split([',', ';']).skip(1).map(clean).collect();
        let columns: Vec<Option<usize>> = columns.iter().map(|column| classes.find(column)).collect();
        // Columns of classes need a head that names them; else all behind the file is classes.
        let by_columns = !self.folder.join(clean(head.split([',', ';']).next().unwrap_or(""))).is_file()
            && columns.iter().any(Option::is_some);
        if by_columns && columns.iter().any(Option::is_none) {
            let unknown: Vec<&str> = head.split([',', ';']).skip(1).map(clean).collect();
            let unknown = columns.iter().zip(unknown).filter(|(class, _)| class.is_none());
            let names: Vec<String> = unknown.map(|(_, name)| format!("`{}`", printable(name))).collect();
            self.found.notes.push(format!(
                "columns that are no class of the network are passed over: {}",
                names.join(", ")
            ));
        }
        for (index, line) in lines.iter().enumerate() {
            let (name, rest) = self.file_and_rest(line, &[',', ';']);
            if line.is_empty() || (index == 0 && !self.folder.join(name).is_file()) {
                continue;
            }
            let found = if by_columns {
                self.cells(index, rest, &columns)?
            } else {
                self.classes(index, &rest.replace('"', ""), classes)?
            };
            self.add(index, name, found)?;
        }
        self.finish()
    }

    /// The classes of a row of 0 and 1.
    fn cells(&self, index: usize, text: &str, columns: &[Option<usize>]) -> Result<Vec<usize>, ImagingError> {
        let cells: Vec<&str> = text.split([',', ';']).map(clean).collect();
        if cells.len() != columns.len() {
            let cause = format!("{} columns behind the file, the head names {}", cells.len(), columns.len());
            return Err(self.wrong(index, cause));
        }
        let mut found = vec![];
        for (cell, class) in cells.iter().zip(columns) {
            let Some(class) = class else { continue };
            match *cell {
                "1" | "1.0" | "true" | "True" | "yes" => found.push(*class),
                "0" | "0.0" | "false" | "False" | "no" | "" => {}
                other => {
                    return Err(self.wrong(index, format!("`{}` is neither 0 nor 1", printable(other))));
                }
            }
        }
        Ok(found)
    }

    fn finish(mut self) -> Result<TaggedImages, ImagingError> {
        if self.found.images.is_empty() {
            let cause = "no images in it: lines `file class;class` are expected";
            return Err(FileError::content(&self.file, cause).into());
        }
        let shown: usize = self.found.images.iter().map(|image| image.classes.len()).sum();
        let note =
            format!("{} pictures that show {shown} classes, by {}", self.found.images.len(), self.file);
        self.found.notes.insert(0, note);
        Ok(self.found)
    }
}

/// Without spaces and quotation marks around it.
fn clean(text: &str) -> &str {
    text.trim().trim_matches('"').trim()
}
