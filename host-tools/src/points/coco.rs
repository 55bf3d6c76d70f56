//! Labels of points as COCO writes them: `keypoints` of annotations, in the order of the category.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use resight_base::files::FileError;
use resight_runtime::Bounds;
use serde::Deserialize;

/// Why labels of points cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PointLabelError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is none of COCO's with points.
    #[error("{file}: not COCO's JSON with `images` and `annotations` that have `bbox`: {cause}", file = file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What serde says.
        cause: serde_json::Error,
    },
    /// An annotation has another number of points than the network.
    #[error("{file}: annotation {annotation} has {found} numbers in `keypoints`, expected {expected}: x, y and visibility of each point of the network", file = file.display())]
    Count {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 0.
        annotation: usize,
        /// How many numbers there are.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
    /// An annotation of an image that is not there.
    #[error("{file}: annotation {annotation} names the image {id}, which the file does not have", file = file.display())]
    Dangling {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 0.
        annotation: usize,
        /// The image's number.
        id: u64,
    },
    /// Nothing has points.
    #[error("{file}: no annotation has a labelled point", file = .0.display())]
    Nothing(PathBuf),
}

/// A thing whose points are labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledThing {
    /// The picture's file.
    pub picture: PathBuf,
    /// The box round it, in pixels.
    pub bounds: Bounds,
    /// What it covers, in pixels.
    pub area: f64,
    /// The place of each point from the upper left corner, `[downwards, to the right]`, in pixels, of those
    /// that are labelled.
    pub points: Vec<Option<[f64; 2]>>,
}

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: PathBuf,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    #[serde(default)]
    keypoints: Vec<f64>,
    /// Left, top, width, height.
    bbox: [f32; 4],
    #[serde(default)]
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

/// Points of a person in COCO.
const COCO_POINTS: usize = 17;

/// Reads the things with `count` points each, in the order of the file. Crowds, and things without any
/// labelled point, are left aside. COCO's 17 points of a person are taken for a network of 18 as well: the
/// neck between its shoulders is added by whoever trains such a network.
///
/// # Errors
/// See [`PointLabelError`].
pub fn read(file: &Path, folder: &Path, count: usize) -> Result<Vec<LabelledThing>, PointLabelError> {
    let bytes = fs::read(file).map_err(|error| FileError::system(file, "read", error))?;
    let json: File =
        serde_json::from_slice(&bytes).map_err(|cause| PointLabelError::Json { file: file.into(), cause })?;
    let pictures: HashMap<u64, &Path> =
        json.images.iter().map(|image| (image.id, image.file_name.as_path())).collect();
    let mut things = vec![];
    for (number, annotation) in json.annotations.iter().enumerate() {
        let Annotation { image_id, keypoints, bbox: [left, top, width, height], area, iscrowd } = annotation;
        if *iscrowd != 0 || keypoints.is_empty() {
            continue;
        }
        let is_without_neck = count == COCO_POINTS + 1 && keypoints.len() == 3 * COCO_POINTS;
        if keypoints.len() != 3 * count && !is_without_neck {
            let (found, expected) = (keypoints.len(), 3 * count);
            return Err(PointLabelError::Count { file: file.into(), annotation: number, found, expected });
        }
        let dangling = || PointLabelError::Dangling { file: file.into(), annotation: number, id: *image_id };
        let picture = folder.join(pictures.get(image_id).ok_or_else(dangling)?);
        // The last number is whether it is labelled: 0 not, 1 hidden, 2 seen.
        let point = |point: &[f64]| (point[2] > 0.0).then_some([point[1], point[0]]);
        let points: Vec<Option<[f64; 2]>> = keypoints.chunks_exact(3).map(point).collect();
        if points.iter().all(Option::is_none) {
            continue;
        }
        let bounds = Bounds { left: *left, top: *top, right: left + width, bottom: top + height };
        let area = area.unwrap_or(f64::from(*width) * f64::from(*height));
        things.push(LabelledThing { picture, bounds, area, points });
    }
    if things.is_empty() { Err(PointLabelError::Nothing(file.into())) } else { Ok(things) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Vec<LabelledThing>, PointLabelError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("points.json");
        fs::write(&file, text).unwrap();
        read(&file, Path::new("pictures"), 2)
    }

    fn annotated(annotations: &str) -> Result<Vec<LabelledThing>, PointLabelError> {
        written(&format!(
            r#"{{"images": [{{"id": 4, "file_name": "a.png"}}], "annotations": [{annotations}]}}"#
        ))
    }

    #[test]
    fn labelled_points_are_read() {
        let read = annotated(
            r#"{"image_id": 4, "bbox": [1, 2, 10, 20], "keypoints": [3, 4, 2, 0, 0, 0], "area": 50},
               {"image_id": 4, "bbox": [0, 0, 2, 3], "keypoints": [1, 1, 1, 2, 2, 2]},
               {"image_id": 4, "bbox": [0, 0, 2, 3], "keypoints": [0, 0, 0, 0, 0, 0]},
               {"image_id": 4, "bbox": [0, 0, 2, 3], "keypoints": [1, 1, 2, 1, 1, 2], "iscrowd": 1},
               {"image_id": 4, "bbox": [0, 0, 2, 3]}"#,
        )
        .unwrap();
        assert_eq!(read.len(), 2);
        let bounds = Bounds { left: 1.0, top: 2.0, right: 11.0, bottom: 22.0 };
        let points = vec![Some([4.0, 3.0]), None];
        let picture = PathBuf::from("pictures/a.png");
        assert_eq!(read[0], LabelledThing { picture, bounds, area: 50.0, points });
        assert_eq!((read[1].area, read[1].points[1]), (6.0, Some([2.0, 2.0])));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (annotations, expected) in [
            (
                r#"{"image_id": 4, "bbox": [1, 2, 10, 20], "keypoints": [3, 4, 2]}"#,
                "annotation 0 has 3 numbers in `keypoints`, expected 6: x, y and visibility of each point of the network",
            ),
            (
                r#"{"image_id": 9, "bbox": [1, 2, 10, 20], "keypoints": [3, 4, 2, 0, 0, 0]}"#,
                "annotation 0 names the image 9, which the file does not have",
            ),
            ("", "no annotation has a labelled point"),
        ] {
            let error = annotated(annotations).unwrap_err().to_string();
            assert!(error.ends_with(&format!("/points.json: {expected}")), "{error}");
        }
        let error = written("[]").unwrap_err().to_string();
        let expected = "/points.json: not COCO's JSON with `images` and `annotations`";
        assert!(error.contains(expected), "{error}");
    }
}
