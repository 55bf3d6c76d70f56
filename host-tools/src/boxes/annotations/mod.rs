//! What is in pictures, as people label it: COCO's JSON, Pascal VOC's XML, YOLO's text.

mod coco;
mod error;
mod truth;
mod voc;
mod yolo;

use std::path::Path;

use resight_model_file::Labels;

pub use self::error::AnnotationError;
use self::truth::files;
pub use self::truth::{LabelledPicture, Truth, TruthKind};

/// How labels of boxes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationFormat {
    /// One JSON file with all pictures.
    Coco,
    /// A folder with an XML file for each picture.
    Voc,
    /// A folder with a text file for each picture.
    Yolo,
}

impl AnnotationFormat {
    /// How the labels at a path are written; `None` of a folder that has neither XML nor text files.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn of(path: &Path) -> Result<Option<Self>, AnnotationError> {
        if !path.is_dir() {
            return Ok(Some(Self::Coco));
        }
        let has = |ending: &str| files(path, ending).map(|files| !files.is_empty());
        Ok(match (has("xml")?, has("txt")?) {
            (true, _) => Some(Self::Voc),
            (false, true) => Some(Self::Yolo),
            (false, false) => None,
        })
    }
}

/// Reads the labels of the pictures in `folder`, in the order of the file or of the pictures' names.
/// Classes are known by their names, whatever their case.
///
/// # Errors
/// See [`AnnotationError`].
pub fn read(
    annotations: &Path,
    folder: &Path,
    labels: &Labels,
) -> Result<Vec<LabelledPicture>, AnnotationError> {
    match AnnotationFormat::of(annotations)? {
        Some(AnnotationFormat::Coco) => coco::read(annotations, folder, labels),
        Some(AnnotationFormat::Voc) => voc::read(annotations, folder, labels),
        Some(AnnotationFormat::Yolo) => yolo::read(annotations, folder, labels),
        None => Err(AnnotationError::NoLabels(annotations.into())),
    }
}
