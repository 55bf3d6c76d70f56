//! The commented default, and the reference: all tables with their keys, in one order.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::key::{Key, Table};
use super::{image, input, line, model, output, pace, region, rule, source, tracking, viewpoint};

/// All tables, in the order of the default.
pub(super) const TABLES: [&Table; 16] = [
    &model::MODEL,
    &source::SOURCE,
    &source::CONTROLS,
    &image::IMAGE,
    &region::REGION,
    &viewpoint::CAMERA,
    &model::SAFETY,
    &pace::PACE,
    &tracking::TRACKING,
    &output::OUTPUT,
    &output::SNAPSHOTS,
    &output::MQTT,
    &rule::GROUPS,
    &line::LINE,
    &input::INPUT,
    &rule::RULE,
];

/// What the default begins with.
const DEFAULT_HEAD: &str = "\
# Configuration of resightd. Check it with `resightd check FILE`.
# Relative paths start from the folder of this file. `systemctl reload` (SIGHUP) applies changes.
# Editors know its keys by a schema: `resightd config --schema > resightd.schema.json`, and as the
# first line here `#:schema ./resightd.schema.json`.
";

/// What the reference begins with.
const REFERENCE_HEAD: &str = "# Configuration

Every key of `resightd`'s configuration, as `resightd config --reference` prints it. `resightd config --default` is a
file to begin with, `resightd config --schema` tells editors the same, and `resightd check FILE` names every mistake
with its line.
";

/// Longest line of a comment.
const WIDTH: usize = 110;

/// Writes a text as comments.
fn comment(document: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() >= WIDTH {
            document.push_str(&line);
            document.push('\n');
            line.clear();
        }
        line.push_str(if line.is_empty() { "# " } else { " " });
        line.push_str(word);
    }
    if !line.is_empty() {
        document.push_str(&line);
        document.push('\n');
    }
}

/// A commented configuration to begin with: what `resightd config --default` prints.
pub(crate) fn default() -> String {
    let mut document = DEFAULT_HEAD.to_owned();
    for table in TABLES {
        document.push('\n');
        comment(&mut document, table.help);
        // Writing to a string cannot fail.
        let _ = writeln!(document, "{}{}", if table.is_set { "" } else { "# " }, table.header);
        for key in table.keys {
            comment(&mut document, key.help);
            let mark = if table.is_set && key.is_set { "" } else { "# " };
            let example = key.example.replace('\n', &format!("\n{mark}"));
            let _ = writeln!(document, "{mark}{} = {example}", key.name);
        }
    }
    document
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The keys of a table, each once.
pub(super) fn keys(table: &Table) -> impl Iterator<Item = &Key> {
    let mut told = HashSet::new();
    table.keys.iter().filter(move |key| told.insert(key.name))
}

/// All keys as a document in Markdown.
pub(crate) fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    for table in TABLES.into_iter().filter(|table| table.free.is_none()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## `{}`\n\n", table.name());
        if !table.help.is_empty() {
            let _ = write!(text, "{}\n\n", table.help);
        }
        text.push_str("| key | example | expected | |\n|---|---|---|---|\n");
        for key in keys(table) {
            let [example, expected, help] = [key.example, &key.expected.to_string(), key.help].map(cell);
            let _ = writeln!(text, "| `{}` | `{example}` | {expected} | {help} |", key.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::reader::{Reader, Section};
    use crate::config::{Config, ConfigError};

    /// Parts of configurations that have every key asked for that there is. Which ones are asked for
    /// depends on these values alone.
    const PARTS: [&str; 11] = [
        "[model]\n[image]\n[safety]\n[pace]\n[tracking]\n[[region]]\n[output]\nhttp = \"127.0.0.1:1\"\n[output.snapshots]\n\
            [output.mqtt]\n[[rule]]\nmode = \"pulse\"\n",
        "[source]\nkind = \"raw\"\n",
        "[source]\nkind = \"images\"\n",
        "[source]\nkind = \"camera\"\n",
        "[source]\nkind = \"command\"\nstream = \"raw\"\n",
        "[[line]]\nbackend = \"virtual\"\n",
        "[[line]]\nbackend = \"gpio\"\n",
        "[[line]]\nbackend = \"rppal\"\n",
        "[[input]]\nbackend = \"gpio\"\n",
        "[[input]]\nbackend = \"file\"\n",
        "[[camera]]\n",
    ];

    #[test]
    fn every_key_that_is_asked_for_is_told_of_and_no_other() {
        let mut asked = BTreeSet::new();
        for part in PARTS {
            let mut reader = Reader::new(part);
            let table = reader.whole();
            reader.config(Section::of(&table), Path::new(""));
            asked.extend(reader.asked);
        }
        // A table of the user's own keys.
        asked.remove("source.controls");
        let is_told = |table: &&&Table| table.free.is_none();
        let told: BTreeSet<String> = TABLES
            .iter()
            .filter(is_told)
            .flat_map(|table| table.keys.iter().map(|key| format!("{}.{}", table.name(), key.name)))
            .collect();
        assert_eq!(asked, told);
    }

    #[test]
    fn the_default_passes_its_own_check() -> Result<(), ConfigError> {
        let config = Config::parse(&default(), Path::new("/etc/resight"))
            .map_err(|mistakes| ConfigError::Mistakes { file: "default".into(), mistakes })?;
        assert!(!config.rules.is_empty() && !config.lines.is_empty());
        assert_eq!(config.model, Path::new("/etc/resight/model.resight.tar"));
        Ok(())
    }

    /// What is in comments is right, too: each table by itself, with all its keys.
    #[test]
    fn every_example_is_a_value() {
        for table in TABLES {
            for key in table.keys {
                let text = format!("{} = {}", key.name, key.example);
                assert!(toml::de::DeTable::parse(&text).is_ok(), "{}: {text}", table.header);
            }
        }
    }

    #[test]
    fn lines_of_comments_are_short_and_lose_no_word() {
        let default = default();
        assert!(default.lines().filter(|line| line.starts_with("# ")).all(|line| line.len() <= 200));
        let plain: String =
            default.lines().map(|line| line.trim_start_matches("# ").to_owned() + " ").collect();
        for table in TABLES {
            assert!(table.keys.iter().all(|key| plain.contains(key.help)), "{}", table.header);
        }
    }

    #[test]
    fn the_document_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let document = std::fs::read_to_string(path).unwrap();
        assert!(
            document == reference(),
            "write it anew: resightd config --reference > docs/configuration.md"
        );
    }
}
