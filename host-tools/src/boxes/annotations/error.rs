//! Why labels cannot be used.

use std::path::PathBuf;

use resight_base::files::FileError;
use resight_imaging::ImagingError;

/// Why labels cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationError {
    /// A file or folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A picture cannot be read.
    #[error(transparent)]
    Picture(#[from] ImagingError),
    /// The folder has no labels of a kind that is known.
    #[error("{folder}: neither .xml files (Pascal VOC) nor .txt files (YOLO) are in it, and no JSON file of COCO's is named", folder = .0.display())]
    NoLabels(PathBuf),
    /// The file is none of COCO's.
    #[error("{file}: not COCO's JSON with `images`, `annotations` and `categories`: {cause}", file = file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What serde says.
        cause: serde_json::Error,
    },
    /// A category that the network does not know.
    #[error("{file}: the network has no class `{category}`; name its classes as the categories, in `--labels` of `resight quantize`", file = file.display())]
    Category {
        /// The file.
        file: PathBuf,
        /// The category's name.
        category: String,
    },
    /// An annotation of an image or a category that is not there.
    #[error("{file}: annotation {annotation} names the {what} {id}, which the file does not have", file = file.display())]
    Dangling {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 0.
        annotation: usize,
        /// `image` or `category`.
        what: &'static str,
        /// Its number.
        id: u64,
    },
    /// The file is no XML.
    #[error("{file}: {cause}", file = file.display())]
    Xml {
        /// The file.
        file: PathBuf,
        /// What the parser says, with the place.
        cause: roxmltree::Error,
    },
    /// Something that an XML file must have is missing, or is no number.
    #[error("{file}: line {line}: {element} has no {missing}, which Pascal VOC's labels have", file = file.display())]
    Element {
        /// The file.
        file: PathBuf,
        /// The line of the element, from 1.
        line: u32,
        /// The element.
        element: String,
        /// What it does not have.
        missing: &'static str,
    },
    /// A line of a text file is no box.
    #[error("{file}: line {line}: `{text}` is not `class x y width height`, a number and four shares of the picture from 0 to 1", file = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A number of a class that there is not.
    #[error("{file}: line {line}: there is no class {class}; {source_of_names} has {count}", file = file.display())]
    Class {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The class.
        class: usize,
        /// Where the names of classes are from.
        source_of_names: String,
        /// How many there are.
        count: usize,
    },
    /// Labels of a picture that is not there.
    #[error("{file}: the picture that it is of is not in {folder}", file = file.display(), folder = folder.display())]
    NoPicture {
        /// The file with the labels.
        file: PathBuf,
        /// The folder with the pictures.
        folder: PathBuf,
    },
}
