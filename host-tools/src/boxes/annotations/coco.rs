//! Labels of boxes as COCO writes them: one JSON file with images, annotations and categories.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use resight_base::files::FileError;
use resight_model_file::Labels;
use resight_runtime::Bounds;
use serde::Deserialize;

use super::error::AnnotationError;
use super::truth::{LabelledPicture, Truth, TruthKind, class};

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

/// Reads the labels of the pictures in `folder`, in the order of the file.
pub(super) fn read(
    file: &Path,
    folder: &Path,
    labels: &Labels,
) -> Result<Vec<LabelledPicture>, AnnotationError> {
    let bytes = fs::read(file).map_err(|error| FileError::system(file, "read", error))?;
    let json: File =
        serde_json::from_slice(&bytes).map_err(|cause| AnnotationError::Json { file: file.into(), cause })?;
    let mut classes = HashMap::new();
    for category in &json.categories {
        // A category that nothing is of is no harm.
        let is_used = json.annotations.iter().any(|annotation| annotation.category_id == category.id);
        match class(labels, &category.name) {
            Some(class) => {
                classes.insert(category.id, class);
            }
            None if is_used => {
                return Err(AnnotationError::Category { file: file.into(), category: category.name.clone() });
            }
            None => {}
        }
    }
    let places: HashMap<u64, usize> =
        json.images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
    let picture = |image: &Image| LabelledPicture { path: folder.join(&image.file_name), truths: vec![] };
    let mut pictures: Vec<LabelledPicture> = json.images.iter().map(picture).collect();
    for (number, annotation) in json.annotations.iter().enumerate() {
        let dangling = |what: &'static str, id: u64| AnnotationError::Dangling {
            file: file.into(),
            annotation: number,
            what,
            id,
        };
        let Annotation { image_id, category_id, bbox: [left, top, width, height], iscrowd } = *annotation;
        let place = *places.get(&image_id).ok_or_else(|| dangling("image", image_id))?;
        let class = *classes.get(&category_id).ok_or_else(|| dangling("category", category_id))?;
        let bounds = Bounds { left, top, right: left + width, bottom: top + height };
        let kind = if iscrowd == 0 { TruthKind::One } else { TruthKind::Crowd };
        pictures[place].truths.push(Truth { class, bounds, kind });
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::parse("", b"cat\ndog\n").unwrap()
    }

    fn written(text: &str) -> Result<Vec<LabelledPicture>, AnnotationError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.json");
        fs::write(&file, text).unwrap();
        read(&file, Path::new("pictures"), &labels())
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
        assert_eq!(read[1].truths[0], Truth { class: 1, bounds, kind: TruthKind::One });
        assert_eq!(read[1].truths[1].kind, TruthKind::Crowd);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let annotated = |image: u64, category: u64, name: &str| {
            written(&format!(
                r#"{{"images": [{{"id": 1, "file_name": "a.png"}}], "categories": [{{"id": 1, "name": "{name}"}}],
                    "annotations": [{{"image_id": {image}, "category_id": {category}, "bbox": [0, 0, 1, 1]}}]}}"#
            ))
            .unwrap_err()
            .to_string()
        };
        for (error, expected) in [
            (annotated(2, 1, "cat"), "annotation 0 names the image 2, which the file does not have"),
            (annotated(1, 4, "cat"), "annotation 0 names the category 4, which the file does not have"),
            (
                annotated(1, 1, "cow"),
                "the network has no class `cow`; name its classes as the categories, in `--labels` of \
                 `resight quantize`",
            ),
        ] {
            assert!(error.ends_with(&format!("/labels.json: {expected}")), "{error}");
        }
        let error = written("[]").unwrap_err().to_string();
        let expected = "/labels.json: not COCO's JSON with `images`, `annotations` and `categories`: ";
        assert!(error.contains(expected), "{error}");
    }
}
