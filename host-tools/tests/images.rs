//! Folders of images to calibrate on and to evaluate with.

use std::fs;
use std::path::{Path, PathBuf};

use resight::images::{Classes, LabelledImages, sha256_of_image_files};
use resight_imaging::ImagingError;
use resight_model_file::Labels;

/// For a network without names.
fn labelled_images(folder: &Path, count: usize) -> Result<LabelledImages, ImagingError> {
    resight::images::labelled_images(folder, Classes { count, labels: None })
}

/// A folder with two images and this `labels.txt`.
fn folder(labels: Option<&[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.png", "a b.JPG", "notes.md"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    if let Some(labels) = labels {
        fs::write(folder.path().join("labels.txt"), labels).unwrap();
    }
    folder
}

#[test]
fn labelled_folders_are_read_in_order() {
    let folder = folder(Some(b"\xef\xbb\xbfb.png 3\r\na b.JPG\t 0\n\n"));
    let images = labelled_images(folder.path(), 4).unwrap();
    let found: Vec<_> = images.images.iter().map(|image| (image.path.clone(), image.class)).collect();
    assert_eq!(found, [(folder.path().join("b.png"), 3), (folder.path().join("a b.JPG"), 0)]);
}

#[test]
fn mislabelled_folders_are_refused_with_file_and_line() {
    for (labels, expected) in [
        (Some(b"".as_slice()), "labels.txt: no images"),
        (Some(b"\n\n"), "labels.txt: no images"),
        (Some(b"b.png\n"), "labels.txt, line 1: `b.png` is not `file class`"),
        (Some(b"b.png cat\n"), "labels.txt, line 1: the class `cat` is not a number"),
        (Some(b"b.png -1\n"), "labels.txt, line 1: the class `-1` is not a number"),
        (Some(b"b.png 1.0\n"), "labels.txt, line 1: the class `1.0` is not a number"),
        (Some(b"b.png 99999999999999999999999\n"), "is not a number"),
        (
            Some(b"a b.JPG 1\n\nb.png 10\n"),
            "labels.txt, line 3: class 10, but the network has classes 0 to 9",
        ),
        (Some(b"b.png 1\nc.png 2\n"), "labels.txt, line 2: the image c.png is missing"),
        (Some(b"b.png 1\na b.JPG 1\nb.png 2\n"), "labels.txt, line 3: b.png stands in line 1 already"),
        (Some(b"../b.png 1\n"), "labels.txt, line 1: `../b.png` is not a file in this folder"),
        (Some(b"/etc/passwd 1\n"), "labels.txt, line 1: `/etc/passwd` is not a file in this folder"),
        (Some(b". 1\n"), "labels.txt, line 1: `.` is not a file in this folder"),
        (Some(b"\xff 1\n"), "labels.txt, line 1: not UTF-8"),
        (None, "no labels: expected labels.txt with lines `file class`, one CSV file"),
    ] {
        let folder = folder(labels);
        let message = labelled_images(folder.path(), 10).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains(folder.path().to_str().unwrap()) && !message.contains('\n'), "{message}");
    }
    let folder = folder(None);
    assert!(
        labelled_images(&folder.path().join("none"), 10).unwrap_err().to_string().contains("cannot read")
    );
    let file = folder.path().join("b.png");
    assert!(labelled_images(&file, 10).unwrap_err().to_string().contains("not a folder"));
    fs::create_dir(folder.path().join("labels.txt")).unwrap();
    assert!(labelled_images(folder.path(), 10).unwrap_err().to_string().contains("not a regular file"));
}

/// Names of three classes.
fn labels() -> Labels {
    Labels::parse("l", b"n01440764 tench, Tinca tinca\nn02123045 tabby_cat\nn02084071 dog\n").unwrap()
}

#[test]
fn a_folder_for_each_class_is_understood_by_name_id_or_number() {
    let labels = labels();
    let classes = Classes { count: 3, labels: Some(&labels) };
    let folder = tempfile::tempdir().unwrap();
    for name in
        ["Tabby_cat/a.jpg", "n02084071/b.jpg", "n02084071/in/c.png", "0/d.jpg", "horse/e.jpg", ".x/f.jpg"]
    {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let found = resight::images::labelled_images(folder.path(), classes).unwrap();
    let of = |class: usize| found.images.iter().filter(|image| image.class == class).count();
    assert_eq!([of(0), of(1), of(2)], [1, 1, 2]);
    let horse = found.matched.iter().find(|matched| matched.written == "horse").unwrap();
    assert_eq!((horse.class, horse.images, found.matched.len()), (None, 1, 4));
    // Without names: as many folders as classes are the classes in their order.
    let found = labelled_images(folder.path(), 4).unwrap();
    assert_eq!(found.images.len(), 1, "a number is a number");
    fs::rename(folder.path().join("0"), folder.path().join("ant")).unwrap();
    let found = labelled_images(folder.path(), 4).unwrap();
    assert_eq!((found.source.as_str(), found.images.len()), ("the order of its folders' names", 5));
    let error = labelled_images(folder.path(), 9).unwrap_err().to_string();
    assert!(
        error.contains("none of its folders (`Tabby_cat`, `ant`, `horse`, `n02084071`) is a class"),
        "{error}"
    );
    assert!(error.contains("this network has no names of classes"), "{error}");
}

#[test]
fn a_table_gives_files_and_classes() {
    let labels = labels();
    let classes = Classes { count: 3, labels: Some(&labels) };
    let folder = folder(None);
    fs::write(folder.path().join("truth.csv"), "file,class\nb.png,\"tabby cat\"\na b.JPG,0\n").unwrap();
    let found = resight::images::labelled_images(folder.path(), classes).unwrap();
    let found: Vec<_> = found.images.iter().map(|image| (image.path.clone(), image.class)).collect();
    assert_eq!(found, [(folder.path().join("b.png"), 1), (folder.path().join("a b.JPG"), 0)]);
    fs::write(folder.path().join("labels.txt"), "b.png tabby cat\na b.JPG horse\n").unwrap();
    let error = resight::images::labelled_images(folder.path(), classes).unwrap_err().to_string();
    assert!(
        error.contains("line 2: `horse` is no class of the network; expected a name such as `tench"),
        "{error}"
    );
}

#[test]
fn pictures_may_show_several_classes_or_none() {
    let labels = labels();
    let classes = Classes { count: 3, labels: Some(&labels) };
    let tagged = |folder: &Path| {
        let found = resight::tags::tagged_images(folder, classes);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        found.map(|found| {
            found.images.into_iter().map(|image| (name(&image.path), image.classes)).collect::<Vec<_>>()
        })
    };
    let right = vec![("b.png".to_owned(), vec![0, 2]), ("a b.JPG".to_owned(), vec![])];
    for text in [
        "b.png dog;tench\na b.JPG\n",
        "b.png 2,0\n\na b.JPG \n",
        "b.png n02084071 | tench, Tinca tinca|dog\na b.JPG\n",
    ] {
        let folder = folder(Some(text.as_bytes()));
        assert_eq!(tagged(folder.path()).unwrap(), right, "{text}");
    }
    let folder = folder(None);
    for text in [
        "file,classes\nb.png,dog;tench\na b.JPG,\n",
        "file,tench,tabby cat,dog\nb.png,1,0,1\na b.JPG,0,0,0\n",
        "file;dog;weather;tench\nb.png;1;7;1.0\n\"a b.JPG\";0;8;0\n",
        "b.png,\"dog,tench\"\na b.JPG,\"\"\n",
    ] {
        fs::write(folder.path().join("truth.csv"), text).unwrap();
        assert_eq!(tagged(folder.path()).unwrap(), right, "{text}");
    }
    for (text, expected) in [
        ("file,dog\nb.png,2\n", "line 2: `2` is neither 0 nor 1"),
        ("file,dog,tench\nb.png,1\n", "line 2: 1 columns behind the file, the head names 2"),
        ("file,classes\nb.png,horse\n", "line 2: `horse` is no class of the network"),
        ("file,classes\nb.png,dog\nb.png,dog\n", "line 3: b.png stands in line 2 already"),
        ("file,classes\nb.png,dog\nc.png,dog\n", "line 3: the image c.png is missing"),
        ("file,classes\n", "no images in it"),
    ] {
        fs::write(folder.path().join("truth.csv"), text).unwrap();
        let error = tagged(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_digest_of_a_folder_is_that_of_sha256sum() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["b.png", "a.png"].iter().map(|name| folder.path().join(name)).collect();
    fs::write(&paths[0], "second").unwrap();
    fs::write(&paths[1], "first").unwrap();
    // (cd folder; sha256sum * | sha256sum)
    let expected = "b8d6bb5ab073a71b5650439b775a1bc76e1b79c6c632b00c49fc9fc9d715d27d";
    assert_eq!(sha256_of_image_files(&paths).unwrap(), expected);
    let error = sha256_of_image_files(&[folder.path().join("c.png")]).unwrap_err().to_string();
    assert!(error.contains("c.png: cannot read"), "{error}");
}
