//! Folders of image files.

use std::fs;

use resight_imaging::image_files;

#[test]
fn image_files_are_listed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.png", "a b.JPG", "notes.md", "labels.txt"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    fs::create_dir(folder.path().join("folder.png")).unwrap();
    let files = image_files(folder.path()).unwrap();
    assert_eq!(files, [folder.path().join("a b.JPG"), folder.path().join("b.png")]);
    let empty = tempfile::tempdir().unwrap();
    assert!(image_files(empty.path()).unwrap_err().to_string().contains("no .png, .jpg or .jpeg files"));
    assert!(image_files(&files[0]).unwrap_err().to_string().contains("not a folder"));
    assert!(image_files(&empty.path().join("none")).unwrap_err().to_string().contains("cannot read"));
}
