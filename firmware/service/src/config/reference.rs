//! All keys of a configuration as a document: from what the check expects of each, and from what the
//! commented default says of it. Neither is written a second time.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::schema::{catalogue, shown_in_order};

/// What the document begins with.
const HEAD: &str = "# Configuration

Every key of `resightd`'s configuration, as `resightd config --reference` prints it. `resightd config --default` is a
file to begin with, `resightd config --schema` tells editors the same, and `resightd check FILE` names every mistake
with its line.
";

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The document.
pub(crate) fn reference() -> String {
    let keys = catalogue();
    let (mut text, mut section, mut told) = (HEAD.to_owned(), String::new(), HashSet::new());
    for ((of, key), shown) in shown_in_order() {
        let Some((_, known)) = keys.iter().find(|((name, other), _)| *name == of && *other == key) else {
            continue;
        };
        if !told.insert((of.clone(), key.clone())) {
            continue;
        }
        // Writing to a string cannot fail.
        if of != section {
            let _ = write!(text, "\n## `{of}`\n\n| key | example | expected | |\n|---|---|---|---|\n");
            section = of;
        }
        // One that goes on in the next line.
        let example = if shown.value.ends_with(',') { format!("{} …]", shown.value) } else { shown.value };
        let [example, expected, help] = [&example, &known.expected, &shown.help].map(|text| cell(text));
        let _ = writeln!(text, "| `{key}` | `{example}` | {expected} | {help} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_docs_is_this_one_and_has_every_key_once() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let reference = reference();
        let rows = reference.lines().filter(|line| line.starts_with("| `")).count();
        // `controls` is a table of the user's own keys.
        assert_eq!(rows + 1, catalogue().len());
        let document = std::fs::read_to_string(path).unwrap();
        assert!(document == reference, "write it anew: resightd config --reference > docs/configuration.md");
    }
}
