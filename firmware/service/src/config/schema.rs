//! The JSON schema of a configuration, for editors: from what the check expects of each key, and from
//! what the commented default says of it. Neither is written a second time.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::DEFAULT;
use super::reader::{Known, Reader, Section};

/// Where the schema's own description is.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Parts of configurations that have every key read that there is. Which ones are read depends on these
/// values alone; a test compares them with the default.
const WHOLE: &str = "[model]\n[image]\n[safety]\n[pace]\n[[region]]\n[output]\nhttp = \"127.0.0.1:1\"\n\
    [output.snapshots]\n[output.mqtt]\n[[rule]]\nmode = \"pulse\"\n";
const KINDS: [&str; 10] = [
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

/// Keys that take a whole number besides the text of the default.
const NUMBERED: [(&str, &str); 2] = [("line", "line"), ("input", "line")];

/// Tables of which there may be several.
const SEVERAL: [&str; 5] = ["region", "line", "input", "rule", "camera"];

/// Tables that each camera of several has for itself.
const OF_CAMERAS: [&str; 4] = ["source", "image", "region", "pace"];

/// Tables whose keys are the user's own, with what their values are.
const FREE: [(&str, &str); 2] = [("groups", "array"), ("source.controls", "")];

/// What a key is, as the commented default shows it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Shown {
    /// The comment before it.
    pub(super) help: String,
    /// Its example.
    pub(super) value: String,
    /// The JSON type of that.
    kind: &'static str,
}

/// Every key that the check knows, once, by section and name.
pub(super) fn catalogue() -> BTreeMap<(String, &'static str), Known> {
    let mut keys = BTreeMap::new();
    for text in [WHOLE].into_iter().chain(KINDS) {
        let mut reader = Reader::new(text);
        reader.catalogue = Some(vec![]);
        let table = reader.whole();
        reader.config(Section::of(&table), Path::new(""));
        for known in reader.catalogue.unwrap_or_default() {
            keys.entry((known.section.clone(), known.key)).or_insert(known);
        }
    }
    keys
}

/// The keys of the commented default, those that are commented out too.
fn shown() -> BTreeMap<(String, String), Shown> {
    // Of one that is there for several kinds, the first says most.
    shown_in_order().into_iter().rev().collect()
}

/// The same in its order.
pub(super) fn shown_in_order() -> Vec<((String, String), Shown)> {
    let (mut section, mut help, mut found) = (String::new(), vec![], vec![]);
    // Keys without a comment between them share the one before.
    let mut after_key = false;
    for line in DEFAULT.lines() {
        let plain = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim_matches(['[', ']']).clone_into(&mut section);
            help.clear();
        } else if let Some((key, value)) = plain.split_once(" = ").filter(|(key, _)| is_key(key)) {
            let shown = Shown { help: help.join(" "), value: value.to_owned(), kind: kind(value) };
            found.push(((section.clone(), key.to_owned()), shown));
            after_key = true;
            continue;
        } else if let Some(comment) = line.strip_prefix("# ") {
            // What goes on from the line before is no comment.
            if comment.starts_with(' ') {
                continue;
            }
            if after_key {
                help.clear();
            }
            help.push(comment.trim());
        } else {
            help.clear();
        }
        after_key = false;
    }
    found
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The JSON type of a value's text.
fn kind(value: &str) -> &'static str {
    let text = format!("v = {value}");
    let parsed = DeTable::parse(&text).ok();
    let value = parsed.as_ref().and_then(|table| table.get_ref().get("v").map(Spanned::get_ref));
    match value {
        Some(DeValue::String(_)) => "string",
        Some(DeValue::Boolean(_)) => "boolean",
        Some(DeValue::Integer(_)) => "integer",
        Some(DeValue::Float(_)) => "number",
        // One that goes on in the next line.
        _ => "array",
    }
}

/// The words of `"a", "b" or "c"`, if that is all that is expected.
fn choices(expected: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = expected.split('"').collect();
    let between = parts.iter().step_by(2);
    let only = parts.len() > 3 && between.copied().all(|text| ["", ", ", " or "].contains(&text));
    only.then(|| parts.iter().skip(1).step_by(2).copied().collect())
}

fn property(known: &Known, shown: Option<&Shown>) -> Value {
    let mut property = Map::new();
    let help = shown.map_or("", |shown| shown.help.as_str());
    let description = match help {
        "" => format!("Expected: {}", known.expected),
        help => format!("{help} Expected: {}", known.expected),
    };
    property.insert("description".into(), description.into());
    let kind = shown.map_or("", |shown| shown.kind);
    let is_numbered = NUMBERED.contains(&(known.section.as_str(), known.key));
    match choices(&known.expected) {
        Some(words) => drop(property.insert("enum".into(), words.into())),
        None if is_numbered => drop(property.insert("type".into(), json!(["string", "integer"]))),
        None if kind.is_empty() => {}
        None => drop(property.insert("type".into(), kind.into())),
    }
    property.into()
}

fn table(properties: &Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// The schema.
pub(crate) fn schema() -> Value {
    let (keys, shown) = (catalogue(), shown());
    let mut sections: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for ((section, key), known) in &keys {
        let property = property(known, shown.get(&(section.clone(), (*key).to_owned())));
        sections.entry(section.as_str()).or_default().insert((*key).to_owned(), property);
    }
    // Tables in tables first, so that they are there when the outer one is put together.
    let mut top = Map::new();
    let nested: Vec<&str> = sections.keys().copied().filter(|name| name.contains('.')).collect();
    for name in nested {
        let Some((outer, inner)) = name.split_once('.') else { continue };
        let Some(properties) = sections.remove(name) else { continue };
        sections.entry(outer).or_default().insert(inner.to_owned(), table(&properties));
    }
    for (name, kind) in FREE {
        let values = if kind.is_empty() { json!({}) } else { json!({ "type": kind }) };
        let free = json!({ "type": "object", "additionalProperties": values });
        match name.split_once('.') {
            Some((outer, inner)) => drop(sections.entry(outer).or_default().insert(inner.to_owned(), free)),
            None => drop(top.insert(name.to_owned(), free)),
        }
    }
    let as_value = |name: &str, properties: &Map<String, Value>| {
        let table = table(properties);
        if SEVERAL.contains(&name) { json!({ "type": "array", "items": table }) } else { table }
    };
    for name in OF_CAMERAS {
        let Some(value) = sections.get(name).map(|properties| as_value(name, properties)) else { continue };
        sections.entry("camera").or_default().insert(name.to_owned(), value);
    }
    top.extend(sections.iter().map(|(name, properties)| ((*name).to_owned(), as_value(name, properties))));
    json!({
        "$schema": DRAFT,
        "title": "Configuration of resightd",
        "type": "object",
        "properties": top,
        "required": ["model"],
        "oneOf": [{ "required": ["source"] }, { "required": ["camera"] }],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_that_is_checked_is_in_the_default_and_no_other() {
        let checked: BTreeSet<(String, String)> =
            catalogue().into_keys().map(|(section, key)| (section, key.to_owned())).collect();
        let shown: BTreeSet<(String, String)> = shown()
            .into_keys()
            .filter(|(section, _)| !FREE.iter().any(|(free, _)| free == section))
            .collect();
        let checked: BTreeSet<_> = checked
            .into_iter()
            .filter(|(section, key)| (section.as_str(), key.as_str()) != ("source", "controls"))
            .collect();
        let missing: Vec<_> = checked.difference(&shown).collect();
        let unknown: Vec<_> = shown.difference(&checked).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
    }

    #[test]
    fn the_schema_says_types_choices_and_what_keys_are_for() {
        let schema = schema();
        let of = |path: &str| schema.pointer(&format!("/properties/{path}")).cloned().unwrap_or_default();
        assert_eq!(of("model/properties/file/type"), "string");
        assert_eq!(of("safety/properties/stale_ms/type"), "integer");
        assert_eq!(of("safety/properties/dry_run/type"), "boolean");
        assert_eq!(of("pace/properties/rate/type"), "number");
        assert_eq!(of("line/items/properties/backend/enum"), json!(["virtual", "gpio", "rppal"]));
        assert_eq!(of("line/items/properties/line/type"), json!(["string", "integer"]));
        assert_eq!(of("rule/items/properties/mode/enum"), json!(["level", "pulse", "toggle"]));
        assert_eq!(of("output/properties/mqtt/properties/keep_alive_s/type"), "integer");
        assert_eq!(of("source/properties/command/type"), "array");
        assert_eq!(of("groups/additionalProperties/type"), "array");
        let of_camera = |path: &str| of(&format!("camera/items/properties/{path}"));
        assert_eq!((of_camera("name/type"), of_camera("stale_ms/type")), (json!("string"), json!("integer")));
        assert_eq!(of_camera("source"), of("source"));
        assert_eq!(of_camera("region/items/properties/area/type"), "array");
        assert_eq!(of_camera("image/properties/rotate/type"), "integer");
        let help = of("safety/properties/stale_ms/description");
        assert_eq!(
            help,
            "All lines go to their safe levels when no frame was classified for so long. Expected: milliseconds, a \
             whole number from 1 to 86400000"
        );
        assert_eq!(schema["additionalProperties"], false);
    }
}
