//! The JSON Schema (draft 2020-12) of the configuration file, from the types, with the parts' own schemas in it; and
//! the reference page that is written from it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use crate::reference::reference_page;

use crate::defaults::{self, DEFAULTS};
use crate::parts::{Part, Parts};
use crate::raw::Raw;
use crate::units;

/// The schema of the configuration file for a binary with these parts.
#[must_use]
pub fn json_schema(parts: &Parts<'_>) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Raw>().to_value();
    set(&mut schema, "title", json!("checkgate configuration"));
    without_null(&mut schema);
    for known in DEFAULTS {
        add_default(&mut schema, known);
    }
    add_part_schemas(&mut schema, parts);
    unwrap_descriptions(&mut schema);
    // Some other crate of a binary may make serde_json keep insertion order; the text must not depend on that.
    schema.sort_all_objects();
    schema
}

/// The schema as the text that is committed beside the code.
#[must_use]
pub fn json_schema_text(parts: &Parts<'_>) -> String {
    format!("{:#}\n", json_schema(parts))
}

/// Writes `value` under `key` of a mapping; anything else is left alone.
fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(key.to_owned(), value);
    }
}

/// Doc comments are wrapped for the source file; an editor or a page wraps them anew. Empty lines stay.
fn unwrap_descriptions(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(unwrap_descriptions),
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "description" => {
                        let paragraphs: Vec<String> =
                            text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
                        *text = paragraphs.join("\n\n");
                    }
                    other => unwrap_descriptions(other),
                }
            }
        }
        _ => {}
    }
}

/// Every setting may be left out, but none is meant to be written as `null`: editors then propose real values only.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(object) => {
            object.values_mut().for_each(without_null);
            drop_null_type(object);
            drop_null_choice(object);
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
        }
        _ => {}
    }
}

fn drop_null_type(object: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = object.get_mut("type") else { return };
    types.retain(|one| one != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        object.insert("type".into(), only);
    }
}

fn drop_null_choice(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|one| one != "null"));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        object.extend(only);
    }
}

/// Writes a default, with the range where the value is a plain number, at the property of its dotted path.
fn add_default(schema: &mut Value, known: &defaults::Known) {
    let Some(pointer) = property_pointer(schema, known.key) else { return };
    let Some(property) = schema.pointer_mut(&pointer) else { return };
    set(property, "default", defaults::scalar(known.default));
    let Some((least, greatest)) = known.range else { return };
    let (least, greatest) = (defaults::scalar(least), defaults::scalar(greatest));
    if least.is_number() && greatest.is_number() && units::quantity(&least).is_some() {
        set(property, "minimum", least);
        set(property, "maximum", greatest);
    }
}

/// JSON Pointer to the property of a dotted path, through the definitions that stand between.
fn property_pointer(schema: &Value, dotted: &str) -> Option<String> {
    let mut pointer = String::new();
    for key in dotted.split('.') {
        let list = key.strip_suffix("[]");
        pointer = format!("{}/properties/{}", mapping_pointer(schema, pointer)?, list.unwrap_or(key));
        if list.is_some() {
            pointer.push_str("/items");
        }
    }
    schema.pointer(&pointer).map(|_| pointer)
}

/// From the schema at `pointer` to the mapping that it stands for: through references, and past the forms that are no
/// mapping.
fn mapping_pointer(schema: &Value, mut pointer: String) -> Option<String> {
    loop {
        let here = schema.pointer(&pointer)?;
        let choices = here.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let reference = std::iter::once(here).chain(choices).find_map(|one| one.get("$ref")?.as_str());
        match reference {
            Some(reference) => pointer = reference.trim_start_matches('#').to_owned(),
            None => return Some(pointer),
        }
    }
}

fn add_part_schemas(schema: &mut Value, parts: &Parts<'_>) {
    let detectors = detectors_schema(schema, parts.detectors);
    let protocol = protocol_schema(schema, parts.protocols);
    let contract = part_schema(schema, &parts.contract);
    add_sink_schemas(schema, parts.sinks);

    let drift = part_schema(schema, &parts.drift);
    for owner in ["/properties", "/$defs/RawModel/properties"] {
        if let Some(property) = schema.pointer_mut(&format!("{owner}/detectors")) {
            merge(property, &detectors);
        }
    }
    if let Some(definitions) = schema.pointer_mut("/$defs") {
        set(definitions, "RawProtocol", protocol);
    }
    for (name, part) in [("RawContract", contract), ("RawDriftSettings", drift)] {
        if let Some(definition) = schema.pointer_mut(&format!("/$defs/{name}")) {
            let own = definition.clone();
            *definition = part;
            merge(definition, &own);
        }
    }
    if let Some(Value::Object(definitions)) = schema.pointer_mut("/$defs") {
        definitions.remove("RawDetector");
    }
}

/// A sink is a mapping of its common keys and one part.
fn add_sink_schemas(root: &mut Value, parts: &[Part]) {
    let properties: Map<String, Value> = parts
        .iter()
        .map(|part| {
            let mut own = part_schema(root, part);
            set(&mut own, "description", json!(part.summary));
            (part.name.to_owned(), own)
        })
        .collect();
    let one_of: Vec<Value> = parts.iter().map(|part| json!({ "required": [part.name] })).collect();
    if let Some(definition) = root.pointer_mut("/$defs/RawSink") {
        merge(
            definition,
            &json!({ "properties": properties, "additionalProperties": false, "oneOf": one_of }),
        );
    }
}

fn detectors_schema(root: &mut Value, parts: &[Part]) -> Value {
    let properties: Map<String, Value> = parts
        .iter()
        .map(|part| {
            let parameters = part_schema(root, part);
            let forms = json!([{"enum": ["on", "off", true, false]}, parameters]);
            (part.name.to_owned(), json!({"description": part.summary, "oneOf": forms}))
        })
        .collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn protocol_schema(root: &mut Value, parts: &[Part]) -> Value {
    let names: Vec<Value> =
        parts.iter().map(|part| json!({"const": part.name, "description": part.summary})).collect();
    let properties: Map<String, Value> =
        parts.iter().map(|part| (part.name.to_owned(), part_schema(root, part))).collect();
    let with_parameters = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "minProperties": 1, "maxProperties": 1,
    });
    json!({"oneOf": [{"oneOf": names}, with_parameters]})
}

/// A part's schema, its definitions moved to the root under names that cannot meet another part's.
fn part_schema(root: &mut Value, part: &Part) -> Value {
    let mut schema = Schema::to_value((part.schema)());
    without_null(&mut schema);
    let definitions = match &mut schema {
        Value::Object(object) => {
            object.remove("$schema");
            object.remove("title");
            object.remove("$defs")
        }
        _ => None,
    };
    rename_references(&mut schema, part.name);
    if let (Some(Value::Object(definitions)), Some(Value::Object(all))) = (definitions, root.get_mut("$defs"))
    {
        for (name, mut definition) in definitions {
            rename_references(&mut definition, part.name);
            all.insert(format!("{}.{name}", part.name), definition);
        }
    }
    schema
}

fn rename_references(schema: &mut Value, part: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, part)),
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        *reference = reference.replacen("#/$defs/", &format!("#/$defs/{part}."), 1);
                    }
                    other => rename_references(other, part),
                }
            }
        }
        _ => {}
    }
}

fn merge(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more.clone(),
    }
}
