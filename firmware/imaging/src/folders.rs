//! Folders of pictures, as people have them: with folders in them, and with what systems leave there.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use resight_base::files::FileError;

use crate::error::ImagingError;

/// Extensions of files that are read. What is in a file counts when it is decoded.
const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp"];

/// Extensions of pictures that cannot be read, and what they are.
const FOREIGN: [(&str, &str); 10] = [
    ("heic", "HEIC"),
    ("heif", "HEIC"),
    ("avif", "AVIF"),
    ("gif", "GIF"),
    ("bmp", "BMP"),
    ("tif", "TIFF"),
    ("tiff", "TIFF"),
    ("dng", "raw"),
    ("cr2", "raw"),
    ("nef", "raw"),
];

/// Folders that systems make beside pictures.
const DROPPINGS: [&str; 3] = ["__MACOSX", "@eaDir", "lost+found"];

/// Folders in folders.
const DEEPEST: usize = 16;

/// Whether a file's name is that of a picture that can be read, and not of what macOS and others leave
/// beside one (`._a.jpg`).
pub fn is_image_name(path: &Path) -> bool {
    !is_dropping(path) && extension(path).is_some_and(|extension| IMAGES.contains(&extension.as_str()))
}

fn is_dropping(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') || DROPPINGS.contains(&name.as_ref())
    })
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// What is in a folder and the folders in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFolder {
    /// The pictures, in the order of their paths.
    pub files: Vec<PathBuf>,
    /// Files and folders that systems leave, such as `._a.jpg` and `.DS_Store`.
    pub droppings: usize,
    /// Pictures that cannot be read, by their kind.
    pub foreign: BTreeMap<&'static str, usize>,
    /// Other files.
    pub others: usize,
}

impl ImageFolder {
    /// Looks through a folder.
    ///
    /// # Errors
    /// No folder, one that cannot be read, or one without pictures, with what is there instead.
    pub fn read(folder: &Path) -> Result<Self, ImagingError> {
        let mut found = Self::look(folder)?;
        if found.files.is_empty() {
            let there = found.passed_over();
            let there = if there.is_empty() { String::new() } else { format!(" but {}", there.join(", ")) };
            let cause =
                format!("no .png, .jpg, .jpeg or .webp files in this folder and the folders in it{there}");
            return Err(FileError::content(&folder.display().to_string(), cause).into());
        }
        found.files.sort();
        Ok(found)
    }

    fn look(folder: &Path) -> Result<Self, ImagingError> {
        check_folder(folder)?;
        let mut found = Self::default();
        let mut folders = vec![(folder.to_owned(), 0)];
        // Links may lead in a circle.
        let mut seen = HashSet::new();
        while let Some((folder, depth)) = folders.pop() {
            let cannot_read = |error| FileError::system(&folder, "read", error);
            if !seen.insert(fs::canonicalize(&folder).map_err(cannot_read)?) {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(cannot_read)? {
                let path = entry.map_err(cannot_read)?.path();
                if is_dropping(&path) {
                    found.droppings += 1;
                } else if path.is_dir() {
                    if depth < DEEPEST {
                        folders.push((path, depth + 1));
                    }
                } else if is_image_name(&path) && path.is_file() {
                    found.files.push(path);
                } else {
                    let extension = extension(&path).unwrap_or_default();
                    match FOREIGN.iter().find(|(known, _)| *known == extension) {
                        Some((_, kind)) => *found.foreign.entry(kind).or_default() += 1,
                        None => found.others += 1,
                    }
                }
            }
        }
        Ok(found)
    }

    /// What was passed over: a few words for each kind.
    pub fn passed_over(&self) -> Vec<String> {
        let files = |count: usize| if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        let foreign = self.foreign.iter().map(|(kind, count)| {
            let remedy = match *kind {
                "HEIC" | "AVIF" => ", which `magick IMAGE IMAGE.jpg` converts",
                _ => "",
            };
            format!("{} of the kind {kind}{remedy}", files(*count))
        });
        let droppings = (self.droppings > 0)
            .then(|| format!("{} that systems leave, such as ._x.jpg", files(self.droppings)));
        let others = (self.others > 0).then(|| {
            format!(
                "{} that {}",
                files(self.others),
                if self.others == 1 { "is no picture" } else { "are no pictures" }
            )
        });
        foreign.chain(droppings).chain(others).collect()
    }
}

/// Checks that `folder` is one, as a folder of images must be.
///
/// # Errors
/// It is not there, or it is something else.
pub fn check_folder(folder: &Path) -> Result<(), ImagingError> {
    let metadata = fs::metadata(folder).map_err(|error| FileError::system(folder, "read", error))?;
    if metadata.is_dir() {
        return Ok(());
    }
    let cause = "not a folder; a folder of images is expected";
    Err(FileError::content(&folder.display().to_string(), cause).into())
}

/// The PNG, JPEG and WebP files of a folder and of the folders in it, by their extension, in the order
/// of their paths.
///
/// # Errors
/// As [`ImageFolder::read`].
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, ImagingError> {
    ImageFolder::read(folder).map(|found| found.files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_in_folders_and_what_systems_leave_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for inner in ["class1/deep", "__MACOSX", ".thumbnails"] {
            fs::create_dir_all(path(inner)).unwrap();
        }
        for name in [
            "b.JPG",
            "a.png",
            "class1/x.webp",
            "class1/deep/y.jpeg",
            "._a.png",
            "__MACOSX/z.jpg",
            "p.HEIC",
            "q.heic",
            "r.avif",
            "readme.txt",
            ".thumbnails/t.jpg",
            "without",
        ] {
            fs::write(path(name), b"").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), path("class1/circle")).unwrap();
        let found = ImageFolder::read(folder.path()).unwrap();
        assert_eq!(found.files, ["a.png", "b.JPG", "class1/deep/y.jpeg", "class1/x.webp"].map(path));
        assert_eq!((found.droppings, found.others), (3, 2));
        assert_eq!(
            found.passed_over(),
            [
                "1 file of the kind AVIF, which `magick IMAGE IMAGE.jpg` converts",
                "2 files of the kind HEIC, which `magick IMAGE IMAGE.jpg` converts",
                "3 files that systems leave, such as ._x.jpg",
                "2 files that are no pictures",
            ]
        );
    }

    #[test]
    fn a_folder_without_pictures_is_refused_with_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.heic"), b"").unwrap();
        let error = ImageFolder::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("no .png, .jpg, .jpeg or .webp files")
                && error.contains("1 file of the kind HEIC")
        );
        let file = folder.path().join("a.heic");
        assert!(
            ImageFolder::read(&file).unwrap_err().to_string().ends_with("a folder of images is expected")
        );
    }
}
