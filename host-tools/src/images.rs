//! Folders of images to calibrate on and to evaluate with.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use resight_base::files::{FileError, read_bounded};
use resight_base::text::{hex, lines, printable};
use resight_imaging::{ImagingError, check_folder};
use resight_model_file::sha256_of_file;
use sha2::{Digest, Sha256};

/// Largest list of labelled images, in bytes.
const MAX_TEXT: u64 = 16 << 20;

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
pub fn labelled_images(folder: &Path, classes: usize) -> Result<Vec<LabelledImage>, ImagingError> {
    check_folder(folder)?;
    let path = folder.join("labels.txt");
    let file = path.display().to_string();
    if !path.exists() {
        let cause = "missing: a folder of labelled images needs it, with lines `file class`";
        return Err(FileError::content(&file, cause).into());
    }
    let mut images = Vec::new();
    let mut seen = HashMap::new();
    for (index, line) in
        lines(&file, &read_bounded(&path, MAX_TEXT, "over 16 MiB: this is no list of labels")?)?
            .into_iter()
            .enumerate()
    {
        let wrong = |cause: String| ImagingError::from(FileError::line(&file, index + 1, cause));
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
        return Err(FileError::content(&file, "no images in it: lines `file class` are expected").into());
    }
    Ok(images)
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
