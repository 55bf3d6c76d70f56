//! The JSON schema of a configuration, for editors.

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{TABLES, keys};
use super::key::{Expected, Key, Table};

/// Where the schema's own description is.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Keys that take a whole number besides a text.
const NUMBERED: [(&str, &str); 2] = [("line", "line"), ("input", "line")];

/// Tables that each camera of several has for itself.
const OF_CAMERAS: [&str; 4] = ["source", "image", "region", "pace"];

/// The JSON type of an example.
fn kind(example: &str) -> &'static str {
    let text = format!("v = {example}");
    let parsed = DeTable::parse(&text).ok();
    let value = parsed.as_ref().and_then(|table| table.get_ref().get("v").map(Spanned::get_ref));
    match value {
        Some(DeValue::String(_)) => "string",
        Some(DeValue::Boolean(_)) => "boolean",
        Some(DeValue::Integer(_)) => "integer",
        Some(DeValue::Float(_)) => "number",
        _ => "array",
    }
}

fn property(table: &Table, key: &Key) -> Value {
    let mut property = Map::new();
    property.insert("description".into(), format!("{} Expected: {}", key.help, key.expected).trim().into());
    match key.expected {
        Expected::OneOf(texts) => drop(property.insert("enum".into(), json!(texts))),
        _ if NUMBERED.contains(&(table.name(), key.name)) => {
            property.insert("type".into(), json!(["string", "integer"]));
        }
        _ => drop(property.insert("type".into(), kind(key.example).into())),
    }
    property.into()
}

/// A table without the tables in it.
fn properties(table: &Table) -> Map<String, Value> {
    keys(table).map(|key| (key.name.to_owned(), property(table, key))).collect()
}

fn closed(properties: &Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// One whose keys are the user's own.
fn free(kind: &str) -> Value {
    let values = if kind.is_empty() { json!({}) } else { json!({ "type": kind }) };
    json!({ "type": "object", "additionalProperties": values })
}

/// A table with the tables in it.
fn whole(table: &Table) -> Value {
    if let Some(kind) = table.free {
        return free(kind);
    }
    let mut properties = properties(table);
    for inner in TABLES {
        if let Some((outer, name)) = inner.name().split_once('.')
            && outer == table.name()
        {
            properties.insert(name.to_owned(), whole(inner));
        }
    }
    if table.name() == "camera" {
        let own = |table: &&&Table| OF_CAMERAS.contains(&table.name());
        properties.extend(TABLES.iter().filter(own).map(|table| (table.name().to_owned(), whole(table))));
    }
    let closed = closed(&properties);
    if table.is_several() { json!({ "type": "array", "items": closed }) } else { closed }
}

/// The schema.
pub(crate) fn schema() -> Value {
    let at_the_top = TABLES.into_iter().filter(|table| !table.name().contains('.'));
    let top: Map<String, Value> = at_the_top.map(|table| (table.name().to_owned(), whole(table))).collect();
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
    use super::*;

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
