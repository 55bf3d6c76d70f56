//! Labels as YOLO writes them: a text file for each picture, a line for each box.

use std::fs;
use std::path::{Path, PathBuf};

use resight_base::files::FileError;
use resight_imaging::{ImageFolder, decode};
use resight_model_file::Labels;
use resight_runtime::Bounds;

use super::error::AnnotationError;
use super::truth::{LabelledPicture, Truth, TruthKind, class, files};

/// The names of classes, a line each, where the numbers in the labels are not those of the network.
const NAMES: &str = "classes.txt";

/// Reads the labels of the pictures in `folder`, `class x y width height` in shares of the picture, in
/// the order of the pictures' names. A picture without a file has nothing in it.
pub(super) fn read(
    annotations: &Path,
    folder: &Path,
    labels: &Labels,
) -> Result<Vec<LabelledPicture>, AnnotationError> {
    let classes = Classes::read(annotations, labels)?;
    let pictures = ImageFolder::read(folder)?.files;
    let stem = |path: &Path| path.with_extension("");
    let of_picture = |path: &Path| stem(path.strip_prefix(folder).unwrap_or(path));
    let texts = files(annotations, "txt")?;
    let known: std::collections::HashSet<PathBuf> = pictures.iter().map(|path| of_picture(path)).collect();
    for text in texts.iter().filter(|text| !is_list(text)) {
        if !known.contains(&stem(text)) {
            return Err(AnnotationError::NoPicture { file: annotations.join(text), folder: folder.into() });
        }
    }
    let there: std::collections::HashSet<&PathBuf> = texts.iter().collect();
    let picture = |path: PathBuf| -> Result<LabelledPicture, AnnotationError> {
        let text = of_picture(&path).with_extension("txt");
        let truths =
            if there.contains(&text) { truths(&annotations.join(text), &path, &classes)? } else { vec![] };
        Ok(LabelledPicture { path, truths })
    };
    pictures.into_iter().map(picture).collect()
}

/// Whether a text file is a list, not the labels of a picture.
fn is_list(text: &Path) -> bool {
    let lists = [NAMES, "train.txt", "val.txt", "test.txt", "labels.txt"];
    text.parent() == Some(Path::new("")) && lists.iter().any(|list| text.as_os_str() == *list)
}

/// What the numbers in the labels mean.
struct Classes {
    /// The network's class of each number.
    of_numbers: Vec<usize>,
    /// Where that is said.
    source: String,
}

impl Classes {
    fn read(annotations: &Path, labels: &Labels) -> Result<Self, AnnotationError> {
        let file = annotations.join(NAMES);
        if !file.is_file() {
            return Ok(Self { of_numbers: (0..labels.len()).collect(), source: "the network".into() });
        }
        let text = fs::read_to_string(&file).map_err(|error| FileError::system(&file, "read", error))?;
        let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
        let class = |name: &str| {
            class(labels, name)
                .ok_or_else(|| AnnotationError::Category { file: file.clone(), category: name.to_owned() })
        };
        let of_numbers = names.map(class).collect::<Result<_, _>>()?;
        Ok(Self { of_numbers, source: file.display().to_string() })
    }
}

fn truths(file: &Path, picture: &Path, classes: &Classes) -> Result<Vec<Truth>, AnnotationError> {
    let text = fs::read_to_string(file).map_err(|error| FileError::system(file, "read", error))?;
    let lines: Vec<(usize, &str)> =
        text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()).collect();
    if lines.is_empty() {
        return Ok(vec![]);
    }
    let image = decode(picture)?;
    let size = [image.width() as f32, image.height() as f32];
    let truth = |(index, text): (usize, &str)| -> Result<Truth, AnnotationError> {
        let line = index + 1;
        let wrong = || AnnotationError::Line { file: file.into(), line, text: text.trim().to_owned() };
        let mut words = text.split_whitespace();
        let class: usize = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
        let shares: Option<Vec<f32>> = words.map(|word| word.parse().ok()).collect();
        let shares = shares.filter(|shares| shares.iter().all(|share| (0.0..=1.0).contains(share)));
        let &[x, y, width, height] = shares.as_deref().ok_or_else(wrong)? else { return Err(wrong()) };
        let no_class = || AnnotationError::Class {
            file: file.into(),
            line,
            class,
            source_of_names: classes.source.clone(),
            count: classes.of_numbers.len(),
        };
        let class = *classes.of_numbers.get(class).ok_or_else(no_class)?;
        let bounds = Bounds {
            left: (x - width / 2.0) * size[0],
            top: (y - height / 2.0) * size[1],
            right: (x + width / 2.0) * size[0],
            bottom: (y + height / 2.0) * size[1],
        };
        Ok(Truth { class, bounds, kind: TruthKind::One })
    };
    lines.into_iter().map(truth).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn read(text: &str, names: Option<&str>) -> (TempDir, Result<Vec<LabelledPicture>, AnnotationError>) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("labels/one")).unwrap();
        fs::create_dir_all(at("pictures/one")).unwrap();
        fs::write(at("labels/one/a.txt"), text).unwrap();
        if let Some(names) = names {
            fs::write(at("labels/classes.txt"), names).unwrap();
        }
        for name in ["pictures/one/a.png", "pictures/b.png"] {
            image::RgbImage::new(40, 20).save(at(name)).unwrap();
        }
        let labels = Labels::parse("", b"cat\ndog\n").unwrap();
        let read = super::read(&at("labels"), &at("pictures"), &labels);
        (folder, read)
    }

    #[test]
    fn boxes_are_shares_of_the_picture() {
        let of = |names| {
            let read = read("1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.2 0.4\n", names).1.unwrap();
            assert_eq!(read.len(), 2);
            assert!(read[0].path.ends_with("pictures/b.png") && read[0].truths.is_empty());
            assert!(read[1].path.ends_with("pictures/one/a.png"));
            read[1].truths.clone()
        };
        let truths = of(None);
        let bounds = Bounds { left: 15.0, top: 5.0, right: 25.0, bottom: 15.0 };
        assert_eq!(truths[0], Truth { class: 1, bounds, kind: TruthKind::One });
        assert_eq!(truths[1].class, 0);
        // The numbers are those of the file of names, where there is one.
        let classes: Vec<usize> = of(Some("Dog\ncat\n")).iter().map(|truth| truth.class).collect();
        assert_eq!(classes, [0, 1]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refusal = |text: &str, names| {
            let (folder, read) = read(text, names);
            read.unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "")
        };
        let wrong = |line: usize, text: &str| {
            format!(
                "labels/one/a.txt: line {line}: `{text}` is not `class x y width height`, a number and four shares of \
                 the picture from 0 to 1"
            )
        };
        for text in ["0 0.5 0.5 0.2", "0 0.5 0.5 0.2 0.2 0.9", "cat 0.5 0.5 0.2 0.2", "0 0.5 12 0.2 0.2"] {
            assert_eq!(refusal(&format!("0 0.5 0.5 1 1\n{text}"), None), wrong(2, text));
        }
        assert_eq!(
            refusal("2 0.5 0.5 0.1 0.1", None),
            "labels/one/a.txt: line 1: there is no class 2; the network has 2"
        );
        assert_eq!(
            refusal("1 0.5 0.5 0.1 0.1", Some("cat\n")),
            "labels/one/a.txt: line 1: there is no class 1; labels/classes.txt has 1"
        );
        assert_eq!(
            refusal("", Some("cow\n")),
            "labels/classes.txt: the network has no class `cow`; name its classes as the categories, in `--labels` \
             of `resight quantize`"
        );
    }
}
