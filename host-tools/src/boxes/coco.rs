//! Labels of boxes as COCO writes them: one JSON file with images, annotations and categories.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use resight_base::files::FileError;
use resight_model_file::Labels;
use resight_runtime::Bounds;
use serde::Deserialize;

/// Why labels cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CocoError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
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
}

/// A box that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Its class, counted from 0.
    pub class: usize,
    /// Where it is, in pixels.
    pub bounds: Bounds,
    /// Whether it is a crowd: whatever is found in it is neither right nor wrong.
    pub is_crowd: bool,
}

/// A picture and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPicture {
    /// Its file.
    pub path: PathBuf,
    /// What is in it.
    pub truths: Vec<Truth>,
}

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: PathBuf,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    /// Left, top, width, height.
    bbox: [f32; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// Reads the labels of the pictures in `folder`, in the order of the file. Categories are classes by
/// their names, whatever their case.
///
/// # Errors
/// See [`CocoError`].
pub fn read(file: &Path, folder: &Path, labels: &Labels) -> Result<Vec<LabelledPicture>, CocoError> {
    let bytes = fs::read(file).map_err(|error| FileError::system(file, "read", error))?;
    let json: File =
        serde_json::from_slice(&bytes).map_err(|cause| CocoError::Json { file: file.into(), cause })?;
    let mut classes = HashMap::new();
    for category in &json.categories {
        let same = |class: &usize| {
            labels.name(*class).is_some_and(|name| name.trim().eq_ignore_ascii_case(category.name.trim()))
        };
        let class = (0..labels.len()).find(same);
        // A category that nothing is of is no harm.
        let is_used = json.annotations.iter().any(|annotation| annotation.category_id == category.id);
        match class {
            Some(class) => {
                classes.insert(category.id, class);
            }
            None if is_used => {
                return Err(CocoError::Category { file: file.into(), category: category.name.clone() });
            }
            None => {}
        }
    }
    let places: HashMap<u64, usize> =
        json.images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
    let picture = |image: &Image| LabelledPicture { path: folder.join(&image.file_name), truths: vec![] };
    let mut pictures: Vec<LabelledPicture> = json.images.iter().map(picture).collect();
    for (number, annotation) in json.annotations.iter().enumerate() {
        let dangling = |what: &'static str, id: u64| CocoError::Dangling {
            file: file.into(),
            annotation: number,
            what,
            id,
        };
        let Annotation { image_id, category_id, bbox: [left, top, width, height], iscrowd } = *annotation;
        let place = *places.get(&image_id).ok_or_else(|| dangling("image", image_id))?;
        let class = *classes.get(&category_id).ok_or_else(|| dangling("category", category_id))?;
        let bounds = Bounds { left, top, right: left + width, bottom: top + height };
        pictures[place].truths.push(Truth { class, bounds, is_crowd: iscrowd != 0 });
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::parse("", b"cat\ndog\n").unwrap()
    }

    fn written(text: &str) -> Result<Vec<LabelledPicture>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.json");
        fs::write(&file, text).unwrap();
        let read = read(&file, Path::new("pictures"), &labels());
        read.map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
    }

    #[test]
    fn boxes_are_read_by_the_names_of_their_categories() {
        let read = written(
            r#"{"images": [{"id": 7, "file_name": "a.png", "width": 9, "height": 9}, {"id": 3, "file_name": "b.png"}],
                "categories": [{"id": 5, "name": "Dog"}, {"id": 9, "name": "unicorn"}],
                "annotations": [{"id": 1, "image_id": 3, "category_id": 5, "bbox": [1, 2, 3.5, 4], "area": 14},
                                {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 1, 1], "iscrowd": 1}]}"#,
        )
        .unwrap();
        assert_eq!((read.len(), read[0].truths.len()), (2, 0));
        assert_eq!(read[1].path, Path::new("pictures/b.png"));
        let bounds = Bounds { left: 1.0, top: 2.0, right: 4.5, bottom: 6.0 };
        assert_eq!(read[1].truths[0], Truth { class: 1, bounds, is_crowd: false });
        assert!(read[1].truths[1].is_crowd);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let annotated = |image: u64, category: u64, name: &str| {
            written(&format!(
                r#"{{"images": [{{"id": 1, "file_name": "a.png"}}], "categories": [{{"id": 1, "name": "{name}"}}],
                    "annotations": [{{"image_id": {image}, "category_id": {category}, "bbox": [0, 0, 1, 1]}}]}}"#
            ))
            .unwrap_err()
        };
        assert_eq!(
            annotated(2, 1, "cat"),
            "FILE: annotation 0 names the image 2, which the file does not have"
        );
        assert_eq!(
            annotated(1, 4, "cat"),
            "FILE: annotation 0 names the category 4, which the file does not have"
        );
        let expected = "FILE: the network has no class `cow`; name its classes as the categories, in `--labels` of \
                        `resight quantize`";
        assert_eq!(annotated(1, 1, "cow"), expected);
        let error = written("[]").unwrap_err();
        assert!(
            error.starts_with("FILE: not COCO's JSON with `images`, `annotations` and `categories`: "),
            "{error}"
        );
    }
}
