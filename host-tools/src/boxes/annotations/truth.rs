//! What is there, and what all ways to write it down have in common.

use std::path::{Path, PathBuf};

use resight_model_file::Labels;
use resight_runtime::Bounds;

use super::error::AnnotationError;

/// A box that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Its class, counted from 0.
    pub class: usize,
    /// Where it is, in pixels.
    pub bounds: Bounds,
    /// How it counts.
    pub kind: TruthKind,
}

/// How a box that is there counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruthKind {
    /// As one thing.
    #[default]
    One,
    /// Not at all, and what is found there neither: Pascal VOC's `difficult`.
    Difficult,
    /// It is many things: whatever is found in it is neither right nor wrong.
    Crowd,
}

/// A picture and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPicture {
    /// Its file.
    pub path: PathBuf,
    /// What is in it.
    pub truths: Vec<Truth>,
}

/// The class of a name, whatever its case.
pub(super) fn class(labels: &Labels, name: &str) -> Option<usize> {
    let same =
        |class: &usize| labels.name(*class).is_some_and(|own| own.trim().eq_ignore_ascii_case(name.trim()));
    (0..labels.len()).find(same)
}

/// The files of an ending in a folder and in those in it, relative to it, sorted.
pub(super) fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, AnnotationError> {
    let (mut found, mut folders) = (vec![], vec![(PathBuf::new(), 0)]);
    while let Some((relative, depth)) = folders.pop() {
        let at = folder.join(&relative);
        let cannot_read = |error| resight_base::files::FileError::system(&at, "read", error);
        for entry in std::fs::read_dir(&at).map_err(cannot_read)? {
            let entry = entry.map_err(cannot_read)?;
            let path = relative.join(entry.file_name());
            // Links are not followed: they may lead in a circle.
            let kind = entry.file_type().map_err(cannot_read)?;
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
            } else if path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Most folders within folders.
const MAX_DEPTH: usize = 8;
