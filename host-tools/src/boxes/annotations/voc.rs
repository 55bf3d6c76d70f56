//! Labels as Pascal VOC writes them: an XML file for each picture.

use std::fs;
use std::path::{Path, PathBuf};

use resight_base::files::FileError;
use resight_model_file::Labels;
use resight_runtime::Bounds;
use roxmltree::{Document, Node};

use super::error::AnnotationError;
use super::truth::{LabelledPicture, Truth, TruthKind, class, files};

/// Endings of pictures, where a file of labels does not name its own.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Reads the labels of the pictures in `folder`, an XML file each, in the order of their names.
pub(super) fn read(
    annotations: &Path,
    folder: &Path,
    labels: &Labels,
) -> Result<Vec<LabelledPicture>, AnnotationError> {
    files(annotations, "xml")?.iter().map(|file| picture(annotations, file, folder, labels)).collect()
}

fn picture(
    annotations: &Path,
    relative: &Path,
    folder: &Path,
    labels: &Labels,
) -> Result<LabelledPicture, AnnotationError> {
    let file = annotations.join(relative);
    let text = fs::read_to_string(&file).map_err(|error| FileError::system(&file, "read", error))?;
    let document =
        Document::parse(&text).map_err(|cause| AnnotationError::Xml { file: file.clone(), cause })?;
    let root = document.root_element();
    let named = text_of(root, "filename").map(|name| relative.with_file_name(name));
    let path = found(folder, named.as_deref(), relative);
    let path =
        path.ok_or_else(|| AnnotationError::NoPicture { file: file.clone(), folder: folder.into() })?;
    let objects = root.children().filter(|node| node.has_tag_name("object"));
    let truths = objects.map(|object| truth(&file, object, labels)).collect::<Result<_, _>>()?;
    Ok(LabelledPicture { path, truths })
}

/// The picture: as the file names it, or of the same name.
fn found(folder: &Path, named: Option<&Path>, relative: &Path) -> Option<PathBuf> {
    let same = ENDINGS.iter().map(|ending| relative.with_extension(ending));
    let names = named.map(Path::to_owned).into_iter().chain(same);
    names.map(|name| folder.join(name)).find(|path| path.is_file())
}

fn truth(file: &Path, object: Node<'_, '_>, labels: &Labels) -> Result<Truth, AnnotationError> {
    let missing = |node: Node<'_, '_>, missing: &'static str| AnnotationError::Element {
        file: file.into(),
        line: node.document().text_pos_at(node.range().start).row,
        element: node.tag_name().name().to_owned(),
        missing,
    };
    let name = text_of(object, "name").ok_or_else(|| missing(object, "name"))?;
    let class = class(labels, name)
        .ok_or_else(|| AnnotationError::Category { file: file.into(), category: name.to_owned() })?;
    let edges = object.children().find(|node| node.has_tag_name("bndbox"));
    let edges = edges.ok_or_else(|| missing(object, "bndbox"))?;
    let edge = |name: &'static str| -> Result<f32, AnnotationError> {
        let value = text_of(edges, name).and_then(|text| text.parse().ok());
        value.filter(|value: &f32| value.is_finite()).ok_or_else(|| missing(edges, name))
    };
    let is_difficult = text_of(object, "difficult").is_some_and(|text| text == "1");
    // Pixels are counted from 1, and the last is one of the box's.
    let bounds = Bounds {
        left: edge("xmin")? - 1.0,
        top: edge("ymin")? - 1.0,
        right: edge("xmax")?,
        bottom: edge("ymax")?,
    };
    let kind = if is_difficult { TruthKind::Difficult } else { TruthKind::One };
    Ok(Truth { class, bounds, kind })
}

/// The text of a node's child.
fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.has_tag_name(name))?;
    child.text().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const PICTURE: &str = "<annotation><filename>b.jpg</filename><size><width>9</width></size>
        <object><name>Dog</name><difficult>0</difficult>
          <bndbox><xmin>2</xmin><ymin>3</ymin><xmax>5</xmax><ymax>7.5</ymax></bndbox>
          <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
        </object>
        <object><name>cat</name><difficult>1</difficult>
          <bndbox><xmax>5</xmax><xmin>1</xmin><ymax>7</ymax><ymin>1</ymin></bndbox></object></annotation>";

    fn read(text: &str) -> (TempDir, Result<Vec<LabelledPicture>, AnnotationError>) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("labels/one")).unwrap();
        fs::create_dir_all(at("pictures/one")).unwrap();
        fs::write(at("labels/one/a.xml"), text).unwrap();
        fs::write(at("pictures/one/b.jpg"), b"not read").unwrap();
        let labels = Labels::parse("", b"cat\ndog\n").unwrap();
        let read = super::read(&at("labels"), &at("pictures"), &labels);
        (folder, read)
    }

    #[test]
    fn boxes_are_read_from_pixels_that_are_counted_from_one() {
        let (folder, read) = read(PICTURE);
        let read = read.unwrap();
        assert_eq!((read.len(), &read[0].path), (1, &folder.path().join("pictures/one/b.jpg")));
        let bounds = Bounds { left: 1.0, top: 2.0, right: 5.0, bottom: 7.5 };
        let other = Bounds { left: 0.0, top: 0.0, right: 5.0, bottom: 7.0 };
        assert_eq!(
            read[0].truths,
            [
                Truth { class: 1, bounds, kind: TruthKind::One },
                Truth { class: 0, bounds: other, kind: TruthKind::Difficult },
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refusal = |from: &str, to: &str| {
            let (folder, read) = read(&PICTURE.replace(from, to));
            read.unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "")
        };
        let table = [
            (
                refusal("Dog", "cow"),
                "labels/one/a.xml: the network has no class `cow`; name its classes as the categories, in `--labels` of `resight quantize`",
            ),
            (refusal("b.jpg", "c.jpg"), "labels/one/a.xml: the picture that it is of is not in pictures"),
            (
                refusal("<xmin>2</xmin>", "<xmin>two</xmin>"),
                "labels/one/a.xml: line 3: bndbox has no xmin, which Pascal VOC's labels have",
            ),
            (
                refusal("<name>Dog</name>", ""),
                "labels/one/a.xml: line 2: object has no name, which Pascal VOC's labels have",
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
        let error = refusal("</annotation>", "");
        assert!(error.starts_with("labels/one/a.xml: ") && error.contains("root node"), "{error}");
    }
}
