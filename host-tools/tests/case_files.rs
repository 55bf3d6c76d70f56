//! The labels and photographs of `cases` in `RESIGHT_SHARED`, which people stumbled over.

use std::path::PathBuf;

use resight::label_files::LabelFile;
use resight::readable::ReadableImages;
use resight_imaging::{ImageFolder, decode};

/// A folder of cases; the test is skipped, and says so, without it.
fn cases(name: &str) -> Option<PathBuf> {
    let folder = resight_fixtures::shared()?.join("cases").join(name);
    if !folder.is_dir() {
        resight_fixtures::skipped("RESIGHT_SHARED holds no such folder of cases");
        return None;
    }
    Some(folder)
}

#[test]
fn labels_of_other_programs_are_three_names() {
    let Some(folder) = cases("labels") else { return };
    for (file, names) in [
        ("json_dict.txt", ["tabby", "dog", "bird"]),
        ("indexed.txt", ["Black", "White", "Red"]),
        ("semi.txt", ["cat", "dog", "bird"]),
        ("csv.txt", ["cat", "dog", "bird"]),
        ("yaml.txt", ["cat", "dog", "bird"]),
        ("bg.txt", ["cat", "dog", "bird"]),
    ] {
        let read = LabelFile::read(&folder.join(file)).unwrap();
        let (labels, note) = read.for_classes(3, "the network").unwrap();
        let found: Vec<_> = (0..3).filter_map(|class| labels.name(class)).collect();
        assert_eq!(found, names, "{file}");
        assert_eq!(note.is_some(), file == "bg.txt");
    }
}

#[test]
fn photographs_are_what_viewers_show_or_are_refused() {
    let Some(folder) = cases("photographs") else { return };
    let decoded = |name: &str| decode(&folder.join(name));
    let turned = decoded("rot6.jpg").unwrap();
    assert_eq!(turned, image::imageops::rotate90(&decoded("plain.jpg").unwrap()));
    let shown = decoded("turned.jpg").unwrap();
    assert_eq!(turned.dimensions(), shown.dimensions());
    let differences = turned.iter().zip(shown.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)));
    assert!(differences.sum::<u64>() / (turned.len() as u64) < 4, "coded anew, but the same picture");
    decoded("lost_a_whole.jpg").unwrap();
    for name in ["lost_b_gap.jpg", "lost_c_gap_half.jpg"] {
        let error = decoded(name).unwrap_err().to_string();
        assert!(error.contains("not all there"), "{name}: {error}");
    }
}

#[test]
fn folders_are_looked_through_and_what_is_no_picture_is_counted() {
    let Some(folder) = cases("photographs") else { return };
    for (name, files, droppings, others) in
        [("appledouble", 3, 1, 0), ("subdir", 4, 0, 1), ("webp_as_jpg", 4, 0, 0)]
    {
        let found = ImageFolder::read(&folder.join(name)).unwrap();
        assert_eq!((found.files.len(), found.droppings, found.others), (files, droppings, others), "{name}");
        let readable = ReadableImages::check(&found.files, true, &|_, _, _| ()).unwrap();
        assert_eq!(readable.files, found.files);
    }
}
