//! What the documents promise is there.

use std::fs;
use std::path::Path;

/// docs/service.md names a test for each fault; they must exist.
#[test]
fn every_fault_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources: String = ["tests/service", "tests/board/guest", "firmware"]
        .iter()
        .flat_map(|folder| texts(&root.join(folder)))
        .collect();
    let table = fs::read_to_string(root.join("docs/service.md")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip_while(|line| !line.starts_with("## What happens when"))
        .filter(|line| line.starts_with("| ") && !line.starts_with("| fault |"))
        .map(|line| line.trim_matches('|').split('|').collect())
        .collect();
    assert!(rows.len() > 20, "{}", rows.len());
    for row in rows {
        let names: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row:?} has no test");
        for name in names {
            let words = if name.contains('/') { format!("scenario {name} ") } else { format!("fn {name}(") };
            assert!(sources.contains(&words), "there is no test {name}");
        }
    }
}

/// The texts of the files of a folder and of those in it.
fn texts(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else {
            // Pictures are no text.
            found.extend(fs::read_to_string(&path));
        }
    }
    found
}
