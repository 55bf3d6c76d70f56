//! Folders of images to calibrate on and to evaluate with.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use resight_base::files::{FileError, read_bounded};
use resight_base::text::{hex, lines, printable};
use resight_imaging::{ImageFolder, ImagingError, check_folder};
use resight_model_file::{Labels, sha256_of_file};
use sha2::{Digest, Sha256};

/// Largest list of labelled images, in bytes.
pub(crate) const MAX_TEXT: u64 = 16 << 20;

/// An image of a labelled folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// The file.
    pub path: PathBuf,
    /// The class that is right for it.
    pub class: usize,
}

/// A class as a folder of images calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedClass {
    /// In the folder: a name, a `WordNet` id or a number.
    pub written: String,
    /// The class; `None` if the network has no such one.
    pub class: Option<usize>,
    /// Its images.
    pub images: usize,
}

/// Images with their classes, and how these were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelledImages {
    /// The images of the classes that the network has.
    pub images: Vec<LabelledImage>,
    /// What says which class each has: a file, or the folders.
    pub source: String,
    /// The classes that are written by name, in the order in which they were found; empty where all are
    /// numbers.
    pub matched: Vec<MatchedClass>,
}

/// What a network knows of its classes.
#[derive(Debug, Clone, Copy)]
pub struct Classes<'a> {
    /// How many.
    pub count: usize,
    /// Their names, where the network has any.
    pub labels: Option<&'a Labels>,
}

impl Classes<'_> {
    /// The class that a name, `WordNet` id or number means; `None` for none or several.
    pub(crate) fn find(self, written: &str) -> Option<usize> {
        if let Ok(number) = written.parse::<usize>() {
            return (number < self.count).then_some(number);
        }
        let labels = self.labels?;
        let plain = written.replace(['-', '*'], " ");
        let (as_written, plain) = (labels.find(&written.replace('*', " ")), labels.find(&plain));
        match (as_written.as_slice(), plain.as_slice()) {
            ([class], _) | ([], [class]) => Some(*class),
            _ => None,
        }
    }
}

/// Reads a folder of labelled images for a network: its `labels.txt` with lines `file class`, its only
/// CSV file with columns of files and classes, or its folders, one for each class. A class is a number,
/// a name or a `WordNet` id; folders without any of them are the classes in the order of their names if
/// there are as many as the network has.
///
/// # Errors
/// No such file and no such folders; a line without a class, with one that the network does not have, or
/// with a file that is missing, outside the folder or named before; no class that the network has.
pub fn labelled_images(folder: &Path, classes: Classes<'_>) -> Result<LabelledImages, ImagingError> {
    check_folder(folder)?;
    let list = folder.join("labels.txt");
    if list.exists() {
        return listed(folder, &list, ' ', classes);
    }
    let entries = fs::read_dir(folder).map_err(|error| FileError::system(folder, "read", error))?;
    let entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let is_table = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "csv");
    if let [table] = entries.iter().filter(is_table).collect::<Vec<_>>()[..] {
        return listed(folder, table, ',', classes);
    }
    let is_class = |path: &PathBuf| {
        path.is_dir() && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let mut folders: Vec<PathBuf> = entries.into_iter().filter(is_class).collect();
    folders.sort();
    if folders.is_empty() {
        let cause = "no labels: expected labels.txt with lines `file class`, one CSV file with columns file and \
                     class, or a folder for each class";
        return Err(FileError::content(&folder.display().to_string(), cause).into());
    }
    in_folders(folder, &folders, classes)
}

/// A folder for each class, as torchvision's `ImageFolder` has it.
fn in_folders(
    folder: &Path,
    folders: &[PathBuf],
    classes: Classes<'_>,
) -> Result<LabelledImages, ImagingError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found =
        LabelledImages { source: "the names of its folders".to_owned(), ..LabelledImages::default() };
    let known = folders.iter().any(|path| classes.find(&name(path)).is_some());
    let by_order = !known && folders.len() == classes.count;
    if by_order {
        "the order of its folders' names".clone_into(&mut found.source);
    }
    for (index, path) in folders.iter().enumerate() {
        let written = name(path);
        let class = if by_order { Some(index) } else { classes.find(&written) };
        let files = ImageFolder::read(path).map(|folder| folder.files).unwrap_or_default();
        found.matched.push(MatchedClass { written, class, images: files.len() });
        if let Some(class) = class {
            found.images.extend(files.into_iter().map(|path| LabelledImage { path, class }));
        }
    }
    if found.images.is_empty() {
        let names: Vec<String> = folders.iter().take(5).map(|path| format!("`{}`", name(path))).collect();
        let remedy = match classes.labels {
            Some(labels) => format!(
                "call them as the network's classes, such as `{}`, or by number",
                labels.name(0).unwrap_or_default()
            ),
            None => format!(
                "this network has no names of classes: call them 0 to {}, or have a folder for each of its {} \
                 classes",
                classes.count.saturating_sub(1),
                classes.count
            ),
        };
        let cause = format!(
            "none of its folders ({}{}) is a class of the network with pictures in it; {remedy}, or list its \
             pictures in a labels.txt of lines `FILE CLASS`",
            names.join(", "),
            if folders.len() > 5 { ", …" } else { "" }
        );
        return Err(FileError::content(&folder.display().to_string(), cause).into());
    }
    Ok(found)
}

/// A file with a line for each image: file and class, with a separator between them.
fn listed(
    folder: &Path,
    list: &Path,
    separator: char,
    classes: Classes<'_>,
) -> Result<LabelledImages, ImagingError> {
    let file = list.display().to_string();
    let mut found = LabelledImages { source: file.clone(), ..LabelledImages::default() };
    let mut seen = HashMap::new();
    let text = read_bounded(list, MAX_TEXT, "over 16 MiB: this is no list of labelled images")?;
    for (index, line) in lines(&file, &text)?.into_iter().enumerate() {
        let wrong = |cause: String| ImagingError::from(FileError::line(&file, index + 1, cause));
        if line.is_empty() {
            continue;
        }
        let Some((name, written)) = file_and_class(folder, &line, separator) else {
            if separator == ',' && index == 0 {
                // The head of a table.
                continue;
            }
            return Err(wrong(format!("`{}` is not `file class`", printable(&line))));
        };
        if separator == ',' && index == 0 && !folder.join(&name).exists() {
            continue;
        }
        let class = classes.find(&written).ok_or_else(|| wrong(unknown(&written, classes)))?;
        let inside = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(wrong(format!("`{}` is not a file in this folder", printable(&name))));
        }
        if let Some(other) = seen.insert(name.clone(), index + 1) {
            return Err(wrong(format!("{} stands in line {other} already", printable(&name))));
        }
        let path = folder.join(&name);
        if !path.is_file() {
            return Err(wrong(format!("the image {} is missing", printable(&name))));
        }
        if written.parse::<usize>().is_err() {
            match found.matched.iter_mut().find(|matched| matched.written == written) {
                Some(matched) => matched.images += 1,
                None => found.matched.push(MatchedClass { written, class: Some(class), images: 1 }),
            }
        }
        found.images.push(LabelledImage { path, class });
    }
    if found.images.is_empty() {
        return Err(FileError::content(&file, "no images in it: lines `file class` are expected").into());
    }
    Ok(found)
}

/// File and class of a line. Both may have spaces in them: the file is the longest beginning of the
/// line that exists, or else all but the last word.
pub(crate) fn file_and_class(folder: &Path, line: &str, separator: char) -> Option<(String, String)> {
    let is_separator = |c: char| if separator == ',' { c == ',' } else { c == ' ' || c == '\t' };
    let clean = |text: &str| text.trim().trim_matches('"').trim().to_owned();
    let places: Vec<usize> = line.match_indices(is_separator).map(|(at, _)| at).collect();
    let existing = places.iter().rev().find(|at| folder.join(clean(&line[..**at])).is_file());
    let at = existing.or(places.last())?;
    let (name, class) = (clean(&line[..*at]), clean(&line[at + 1..]));
    (!class.is_empty()).then_some((name, class))
}

pub(crate) fn unknown(written: &str, classes: Classes<'_>) -> String {
    let last = classes.count.saturating_sub(1);
    if written.parse::<u64>().is_ok() {
        return format!("class {written}, but the network has classes 0 to {last}");
    }
    match classes.labels {
        Some(labels) => format!(
            "`{}` is no class of the network; expected a name such as `{}`, or a number from 0 to {last}",
            printable(written),
            labels.name(0).unwrap_or_default()
        ),
        None => format!(
            "the class `{}` is not a number, and the network has no names; expected 0 to {last}",
            printable(written)
        ),
    }
}

/// The digest of a calibration set: the sha256 over one line `sha256  name` for each file (the
/// name without its folder), in the order of the names. `sha256sum * | sha256sum` in the
/// folder gives the same.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_of_image_files(paths: &[PathBuf]) -> Result<String, FileError> {
    let mut lines = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        lines.push((name, sha256_of_file(path)?));
    }
    lines.sort();
    let mut digest = Sha256::new();
    for (name, sha256) in lines {
        digest.update(format!("{sha256}  {name}\n"));
    }
    Ok(hex(&digest.finalize()))
}
