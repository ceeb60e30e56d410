//! The reference page of all settings, written from the schema, so that it says what the code does.

use serde_json::Value;

use crate::defaults::{DEFAULTS, Known};
use crate::parts::{Part, Parts};
use crate::schema::json_schema;

/// Sections of the page: the mapping that a section is about, and its definition in the schema.
const SECTIONS: &[(&str, &str)] = &[
    ("tls", "RawTls"),
    ("tls.certificates[]", "RawCertificate"),
    ("admin", "RawAdmin"),
    ("admin.tokens[]", "RawAdminToken"),
    ("admin.certificates[]", "RawCertificateName"),
    ("inbound[]", "RawInbound"),
    ("inbound[].fields", "RawInboundFields"),
    ("authz", "RawAuthz"),
    ("log", "RawLog"),
    ("telemetry", "RawTelemetry"),
    ("telemetry.SIGNAL", "RawSignal"),
    ("clients", "RawClients"),
    ("clients.identity", "RawHeader"),
    ("clients.identity.token", "RawToken"),
    ("brake", "RawBrake"),
    ("decisions", "RawDecisions"),
    ("decisions.widest_prefix", "RawWidestPrefix"),
    ("tenants[]", "RawTenant"),
    ("maintenance[]", "RawMaintenance"),
    ("ledger", "RawLedger"),
    ("sinks[]", "RawSink"),
    ("sinks[].only", "RawOnly"),
    ("sinks[].batch", "RawBatch"),
    ("sinks[].spool", "RawSpool"),
    ("crowdsec", "RawCrowdsec"),
    ("crowdsec.serve", "RawLapiServer"),
    ("crowdsec.serve.bouncers[]", "RawBouncer"),
    ("crowdsec.pull[]", "RawLapiSource"),
    ("limits", "RawLimits"),
    ("timeouts", "RawTimeouts"),
    ("upstream", "RawUpstreamSettings"),
    ("upstream.servers[]", "RawWeightedServer"),
    ("upstream.tls", "RawUpstreamTls"),
    ("upstream.health", "RawHealthCheck"),
    ("upstream.ejection", "RawEjection"),
    ("models[]", "RawModel"),
    ("policy", "RawPolicy"),
    ("policy.tiers.TIER", "RawTierPolicy"),
    ("policy.rules[]", "RawRule"),
    ("policy.rules[].when", "RawWhen"),
    ("contract", "RawContract"),
    ("contract.rules[]", "contract.Rule"),
    ("drift", "RawDriftSettings"),
    ("drift.versions.VERSION", "RawDriftVersion"),
    ("drift.rules[]", "drift.GaugeRule"),
    ("drift.early", "drift.Early"),
    ("drift.paging", "drift.Paging"),
];

/// Keys that stand first in their section: what a newcomer needs before anything else.
const FIRST: &[&str] = &["name", "path", "upstream", "listen", "servers", "url", "certificate", "key", "tls"];

const INTRODUCTION: &str = "# Configuration

This page is generated from the code; change the comments there. `checkgate check -c FILE` says what is wrong with a
file, `checkgate schema` prints the JSON Schema that editors complete from, and `config/examples/` holds files to start
from.

Relative paths count from the folder of the file. A *size* is a number of bytes, or a number with B, KiB, MiB, GiB, TiB,
kB, MB, GB or TB. A *time* is a number with ms, s, m, h or d. A dash means that there is no default.
";

/// The page, in Markdown, for a binary with these parts.
#[must_use]
pub fn reference_page(parts: &Parts<'_>) -> String {
    let schema = json_schema(parts);
    let mut page = String::from(INTRODUCTION);
    section(&mut page, "Top level", &schema, &schema, "");
    for (name, definition) in SECTIONS {
        if let Some(mapping) = schema.pointer(&format!("/$defs/{definition}")) {
            section(&mut page, &format!("`{name}`"), &schema, mapping, name);
        }
    }
    part_sections(&mut page, "Detectors", "detectors", parts.detectors);
    part_sections(&mut page, "Protocols", "protocol", parts.protocols);
    part_sections(&mut page, "Sinks", "sinks[]", parts.sinks);
    page
}

fn part_sections(page: &mut String, title: &str, key: &str, parts: &[Part]) {
    page.push_str(&format!("\n## {title}\n"));
    for part in parts {
        page.push_str(&format!("\n### `{key}.{}`\n\n{}\n", part.name, sentence(part.summary)));
        let own = (part.schema)();
        let rows = rows(own.as_value(), own.as_value(), &(part.defaults)());
        // A part without parameters of its own has nothing to list.
        if !rows.is_empty() {
            table(page, &rows);
        }
    }
}

fn section(page: &mut String, title: &str, root: &Value, mapping: &Value, name: &str) {
    page.push_str(&format!("\n## {title}\n"));
    if let (false, Some(text)) = (name.is_empty(), mapping.get("description").and_then(Value::as_str)) {
        page.push_str(&format!("\n{text}\n"));
    }
    let known = |key: &str| DEFAULTS.iter().position(|known| known.key == dotted(name, key));
    let mut rows = rows(root, mapping, &Value::Null);
    rows.sort_by_key(|row| (rank(FIRST.iter().position(|first| *first == row.key)), rank(known(&row.key))));
    for row in &mut rows {
        if let Some(known) = known(&row.key).and_then(|position| DEFAULTS.get(position)) {
            row.state(known);
        }
    }
    table(page, &rows);
}

fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// What is not on a list stands behind what is.
fn rank(position: Option<usize>) -> usize {
    position.unwrap_or(usize::MAX)
}

/// One line of a table.
struct Row {
    key: String,
    kind: String,
    default: Option<String>,
    meaning: String,
}

impl Row {
    /// The default and the range, in the words of the table of defaults.
    fn state(&mut self, known: &Known) {
        self.default = Some(known.default.to_owned());
        if let Some((least, greatest)) = known.range {
            self.kind = format!("{}, {least} to {greatest}", self.kind);
        }
    }
}

/// The properties of `mapping`, by name. A default that the schema does not state is looked up in `defaults`.
fn rows(root: &Value, mapping: &Value, defaults: &Value) -> Vec<Row> {
    let Some(properties) = mapping.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut rows: Vec<Row> = properties
        .iter()
        .map(|(key, property)| Row {
            key: key.clone(),
            kind: kind(root, property),
            default: defaults.get(key).or(property.get("default")).and_then(in_words),
            meaning: property.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
        .collect();
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows
}

fn in_words(default: &Value) -> Option<String> {
    match default {
        Value::Null => None,
        // An empty value stands for what has no default.
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(items) if items.is_empty() => None,
        Value::Object(keys) if keys.is_empty() => None,
        other => Some(other.to_string()),
    }
}

fn table(page: &mut String, rows: &[Row]) {
    page.push_str("\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
    for row in rows {
        let default = row.default.as_ref().map_or_else(|| "-".to_owned(), |default| format!("`{default}`"));
        let meaning = row.meaning.replace('\n', " ");
        let cells = [format!("`{}`", row.key), row.kind.clone(), default, meaning];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

/// What may be written for a schema, in a few words.
fn kind(root: &Value, schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return referenced(root, reference);
    }
    if let Some(only) = schema.get("const") {
        return format!("`{}`", only.as_str().unwrap_or_default());
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(" or ");
    }
    if schema.get("properties").is_some() {
        return plain_kind(root, schema);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
            let mut kinds: Vec<String> = choices.iter().map(|one| kind(root, one)).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
    }
    plain_kind(root, schema)
}

fn referenced(root: &Value, reference: &str) -> String {
    match reference.trim_start_matches("#/$defs/") {
        "ByteSize" => "size".into(),
        "Period" => "time".into(),
        _ => match root.pointer(reference.trim_start_matches('#')) {
            Some(definition) => kind(root, definition),
            None => "value".into(),
        },
    }
}

fn plain_kind(root: &Value, schema: &Value) -> String {
    let kinds = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let words: Vec<String> = kinds
        .into_iter()
        .filter(|kind| *kind != "null")
        .map(|kind| match kind {
            "array" => format!(
                "list of: {}",
                schema.get("items").map_or_else(String::new, |item| self::kind(root, item))
            ),
            "object" => "mapping".into(),
            "string" => "text".into(),
            "boolean" => "true or false".into(),
            "integer" => "whole number".into(),
            other => other.to_owned(),
        })
        .collect();
    words.join(" or ")
}

fn sentence(summary: &str) -> String {
    let mut letters = summary.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}
