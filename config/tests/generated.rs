//! What is generated from the types: the schema and the reference page.

mod support;

use checkgate_config::defaults::DEFAULTS;
use checkgate_config::schema::{json_schema, reference_page};
use serde_json::Value;
use support::PARTS;

/// Every `$ref` inside of `schema`.
fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(reference) if key == "$ref" => vec![reference.clone()],
                other => references(other),
            })
            .collect(),
        _ => vec![],
    }
}

#[test]
fn every_reference_in_the_schema_leads_somewhere() {
    let schema = json_schema(&PARTS);
    let references = references(&schema);
    assert!(references.len() > 10, "the schema is made of definitions");
    for reference in references {
        assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn the_schema_knows_the_parts_and_refuses_other_names() {
    let schema = json_schema(&PARTS);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for owner in [&schema["properties"], &schema["$defs"]["RawModel"]["properties"]] {
        let detectors = &owner["detectors"];
        assert_eq!(detectors["additionalProperties"], false, "an editor must mark unknown detectors");
        for part in PARTS.detectors {
            assert!(detectors["properties"].get(part.name).is_some(), "{} is missing", part.name);
        }
    }
    let contract = &schema["$defs"]["RawContract"]["properties"];
    for key in ["rules", "allow_non_finite", "block_after", "on_violation", "on_error"] {
        assert!(contract.get(key).is_some(), "the contract's key {key} is missing");
    }
}

#[test]
fn the_schema_states_every_default() {
    let text = json_schema(&PARTS).to_string();
    let stated = text.matches("\"default\":").count();
    assert!(stated >= DEFAULTS.len(), "{stated} defaults are stated, {} are known", DEFAULTS.len());
}

#[test]
fn the_page_tells_every_setting_with_its_default() {
    let page = reference_page(&PARTS);
    for known in DEFAULTS {
        let key = known.key.rsplit('.').next().unwrap_or_default();
        let row = page.lines().find(|line| {
            line.starts_with(&format!("| `{key}` |")) && line.contains(&format!("| `{}` |", known.default))
        });
        assert!(row.is_some(), "{} has no row with its default", known.key);
    }
    let without_meaning: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| `") && line.ends_with("|  |")).collect();
    assert!(without_meaning.is_empty(), "settings without a meaning: {without_meaning:#?}");
}
