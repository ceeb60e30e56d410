//! What must hold for all metrics at once.

use std::collections::{BTreeMap, BTreeSet};

use checkgate_detectors::engine::Gauges;
use checkgate_detectors::facts::NotInspected;
use prometheus::proto::{MetricFamily, MetricType};

use super::*;
use crate::decode::Part;
use crate::metrics::labels::CodeClass;

mod dashboards;

fn metrics() -> Arc<Metrics> {
    let metrics =
        Metrics::new(&["prices".to_owned(), "digits".to_owned()], &["one_field_sweep", "contract"]).unwrap();
    drop(metrics.sink("siem"));
    metrics
}

fn declared() -> Vec<MetricFamily> {
    metrics().registry.gather()
}

/// Samples, that is lines that are no comment.
fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn names_and_helps_follow_the_conventions() {
    for family in declared() {
        let name = family.name();
        assert!(name.starts_with("checkgate_"), "{name} lacks the prefix");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name} has other characters");
        assert!(family.help().ends_with('.'), "the help of {name} is no sentence: {:?}", family.help());
        let is_counter = family.get_field_type() == MetricType::COUNTER;
        assert_eq!(
            name.ends_with("_total"),
            is_counter,
            "{name}: _total is for counters and for all of them"
        );
        for unit in ["_ms", "_millis", "_minutes", "_kb", "_kib", "_mb", "_percent"] {
            assert!(!format!("{name}_").contains(&format!("{unit}_")), "{name} is not in a base unit");
        }
        for reserved in ["_count", "_sum", "_bucket", "_info_total"] {
            assert!(!name.ends_with(reserved), "{name} ends in {reserved}, which histograms use");
        }
    }
}

#[test]
fn every_metric_exists_before_the_first_request() {
    let text = metrics().encode();
    let declared = declaration_names();
    for name in &declared {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no series at the start");
    }
    assert_eq!(text.matches("# HELP ").count(), declared.len());
    for line in [
        r#"checkgate_not_inspected_total{model="prices",part="answer",reason="duplicate_key"} 0"#,
        r#"checkgate_findings_total{detector="one_field_sweep",model="none"} 0"#,
        r#"checkgate_would_block_total{model="discovered",reason="kill_switch"} 0"#,
        r#"checkgate_upstream_errors_total{kind="timeout",model="digits"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is missing");
    }
}

#[test]
fn the_page_is_what_the_library_makes_of_the_registry() {
    let metrics = Metrics::new(&["prices".to_owned(), "a \"b\"\\".to_owned()], &["one_field_sweep"]).unwrap();
    let by_library = || prometheus::TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    assert_eq!(metrics.encode(), by_library());
    drop(metrics.sink("siem"));
    metrics.add_model(7, "added");
    metrics.model(Some(0)).request_duration.observe(0.3);
    metrics.model(Some(7)).requests.inc(CodeClass::of(200));
    metrics.clock_ahead.set(-1.5e-7);
    metrics.lanes_stuck.set(-2);
    assert_eq!(metrics.encode(), by_library());
    assert!(metrics.encode().contains(r#"model="a \"b\"\\""#), "labels are escaped");
}

/// The names on the list in `metrics.rs`, read from its source: what is declared, registered or not.
fn declaration_names() -> Vec<String> {
    let names: Vec<String> = include_str!("../metrics.rs")
        .lines()
        .filter_map(|line| line.split_once("= \"checkgate_"))
        .filter_map(|(_, rest)| Some(format!("checkgate_{}", rest.split_once('"')?.0)))
        .collect();
    assert!(names.len() > 40, "the list was not found");
    names
}

/// Name, labels and value of a sample, as the text format (version 0.0.4) has it: in a label's value a backslash, a quote
/// and a line feed are escaped, and nothing else is.
pub(crate) fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (name, mut rest) = line.split_once('{').unwrap_or_else(|| line.split_once(' ').unwrap());
    let mut labels = BTreeMap::new();
    while let Some((label, value)) = rest.split_once("=\"").filter(|_| line.contains('{')) {
        let (mut said, mut letters) = (String::new(), value.chars());
        loop {
            match letters.next().expect("a quote ends a label's value") {
                '"' => break,
                '\\' => said.push(match letters.next() {
                    Some('n') => '\n',
                    Some(letter @ ('"' | '\\')) => letter,
                    other => panic!("{other:?} is no escape: {line:?}"),
                }),
                letter => said.push(letter),
            }
        }
        assert!(labels.insert(label.to_owned(), said).is_none(), "{label} stands twice: {line:?}");
        rest = letters.as_str();
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                rest = rest.strip_prefix("} ").expect("labels end");
                break;
            }
        }
    }
    let value = rest.parse().unwrap_or_else(|_| panic!("no number ends {line:?}"));
    (name.to_owned(), labels, value)
}

#[test]
fn every_naughty_string_comes_back_as_a_models_label() {
    let names: BTreeSet<&str> = naughty_strings::BLNS.iter().copied().collect();
    let configured: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let text = Metrics::new(&configured, &["one_field_sweep"]).unwrap().encode();
    let mut seen = BTreeSet::new();
    for line in text.split_terminator('\n').filter(|line| !line.starts_with('#')) {
        let (name, mut labels, _) = sample(line);
        assert!(name.starts_with("checkgate_"), "{line:?}");
        seen.extend(labels.remove("model"));
    }
    let missing: Vec<_> = names.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "these do not come back: {missing:?}");
    assert!(
        seen.len() <= names.len() + 2,
        "and nothing else stands there, but for what is discovered and none"
    );
}

#[test]
fn a_million_model_numbers_add_no_series() {
    let metrics = metrics();
    let before = series(&metrics.encode());
    for index in 0..1_000_000_u32 {
        let model = metrics.model((index % 7 != 0).then_some(index.wrapping_mul(2_654_435_761) as u16));
        model.requests.inc(CodeClass::of(index as u16));
        model.not_inspected(Part::Question, NotInspected::Shape);
    }
    metrics.quarantined("nobody_knows_me");
    assert_eq!(series(&metrics.encode()), before);
}

#[test]
fn engines_that_share_a_label_add_up() {
    let metrics = metrics();
    let discovered = metrics.model(None);
    let (empty, one) = (Gauges::default(), Gauges { clients: 5, clients_evicted: 2, ..Gauges::default() });
    let fewer = Gauges { clients: 3, clients_evicted: 4, ..Gauges::default() };
    discovered.sizes(&empty, &one);
    discovered.sizes(&empty, &one);
    discovered.sizes(&one, &fewer);
    let text = metrics.encode();
    assert!(text.contains(r#"checkgate_clients{model="discovered"} 8"#), "5 + 3 clients");
    assert!(text.contains(r#"checkgate_clients_evicted_total{model="discovered"} 6"#), "4 + 2 evictions");
}

/// Metrics that deserve no panel, each for a reason.
const WITHOUT_PANEL: [&str; 0] = [];

/// Every `checkgate_` name in the expressions of all dashboards, by file.
fn names_on_dashboards() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards");
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let dashboard: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            collect(&dashboard, &path.display().to_string(), &mut names);
        }
    }
    names
}

fn collect(value: &serde_json::Value, file: &str, names: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, field)| match field.as_str() {
            Some(text) if key == "expr" || key == "query" => {
                names.extend(metric_names(text).map(|name| (name, file.to_owned())));
            }
            _ => collect(field, file, names),
        }),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, file, names)),
        _ => {}
    }
}

fn metric_names(expression: &str) -> impl Iterator<Item = String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("checkgate_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).into()
        })
}

#[test]
fn dashboards_and_code_name_the_same_metrics() {
    let declared = declaration_names();
    let shown = names_on_dashboards();
    for (name, file) in &shown {
        assert!(declared.contains(name), "{file} shows {name}, which no code declares");
    }
    for name in &declared {
        let excepted = WITHOUT_PANEL.contains(&name.as_str());
        assert_ne!(
            shown.contains_key(name),
            excepted,
            "{name}: on a panel or on the list of exceptions, not both"
        );
    }
}

/// The rules for Prometheus, with the names of files.
fn rules() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/prometheus");
    let read = |name: &str| (name.to_owned(), std::fs::read_to_string(format!("{folder}/{name}")).unwrap());
    ["recording.yaml", "alerts.yaml"].map(read).to_vec()
}

#[test]
fn rules_name_metrics_that_there_are() {
    let declared = declaration_names();
    for (file, text) in rules() {
        // A name with a colon is the rules' own, and so is a bare word that no metric begins with.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let named: Vec<String> = words.filter(|word| !word.contains(':')).flat_map(metric_names).collect();
        assert!(!named.is_empty(), "{file} names no metric");
        for name in named {
            assert!(declared.contains(&name), "{file} names {name}, which no code declares");
        }
    }
}

#[test]
fn every_alert_has_its_page() {
    let runbook =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observability.md")).unwrap();
    let (_, alerts) = rules().pop().unwrap();
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 17, "{names:?}");
    for name in &names {
        assert!(runbook.contains(&format!("\n### {name}\n")), "docs/observability.md says nothing of {name}");
        let link = format!("observability.md#{}", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} does not lead to its page");
    }
    let pages = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect::<Vec<_>>();
    assert_eq!(pages, names, "a page without an alert, or another order");
}

#[test]
fn features_are_labels_only_where_an_operator_named_the_reference_and_go_with_it() {
    use checkgate_detectors::drift::rolling::Gap;
    use checkgate_detectors::drift::room::{FeatureStanding, Standing};
    use checkgate_detectors::drift::state::Condition;
    use checkgate_detectors::facts::Time;
    use checkgate_detectors::reference::Trust;
    let metrics = Metrics::new(&["prices".to_owned()], &[]).unwrap();
    let drift = &metrics.model(Some(0)).drift;
    let feature = |name: &str, effect| FeatureStanding {
        name: name.into(),
        effect,
        index: effect + 0.01,
        expected: 0.01,
        evidence: 0.5,
        gap: Some(Gap { distance: effect / 2.0, expected: 0.01 }),
    };
    let learned = Standing {
        trust: Some(Trust::Provisional),
        condition: Condition::Drifting { since: Time(1) },
        reference_until: Some(Time(1_750_000_000_500_000)),
        false_alarms_a_week: 0.5,
        rows: 10,
        features: vec![feature("from_traffic", 0.3), feature("too", 0.1)],
        ..Standing::default()
    };
    drift.shift(None, Some(&learned));
    drift.show(&[&learned]);
    let text = metrics.encode();
    assert!(
        text.contains(r#"checkgate_drift_feature_effect{feature="largest",model="prices"} 0.3"#),
        "{text}"
    );
    assert!(text.contains(r#"checkgate_drift_state{model="prices",state="drifting"} 1"#));
    for line in [
        r#"checkgate_drift_feature_stability_index{feature="largest",model="prices"} 0.31"#,
        r#"checkgate_drift_feature_stability_index_expected{feature="largest",model="prices"} 0.01"#,
        r#"checkgate_drift_false_alarms_granted{model="prices"} 0.5"#,
        r#"checkgate_drift_reference_timestamp_seconds{model="prices"} 1750000000.5"#,
    ] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
    assert!(!text.contains("from_traffic"), "a learned name is no label");
    let named =
        Standing { trust: Some(Trust::Trusted), condition: Condition::Stable, rows: 4, ..learned.clone() };
    drift.shift(Some(&learned), Some(&named));
    drift.show(&[&named]);
    let text = metrics.encode();
    assert!(text.contains(r#"checkgate_drift_feature_effect{feature="too",model="prices"} 0.1"#), "{text}");
    assert!(
        text.contains(r#"checkgate_drift_reference_gap_ratio{feature="too",model="prices"} 0.05"#),
        "{text}"
    );
    assert!(text.contains(r#"checkgate_drift_state{model="prices",state="drifting"} 0"#));
    let other = Standing { features: vec![feature("other", 0.0)], ..named.clone() };
    drift.show(&[&other]);
    assert!(!metrics.encode().contains(r#"feature="too""#), "what is no longer watched has no series");
}

/// The texts of a document under any of `keys`.
fn texts_under(value: &serde_json::Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => texts_under(field, keys, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| texts_under(item, keys, found)),
        _ => {}
    }
}

#[test]
fn datadog_is_told_of_every_metric_and_its_dashboards_name_no_other() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/datadog");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let declared: Vec<_> = declaration_names();
    let bare = |name: &str| {
        let name = name.trim_start_matches("checkgate_");
        name.strip_suffix("_total").unwrap_or(name).to_owned()
    };
    let conf = read("openmetrics.d/conf.yaml");
    let listed: Vec<_> = conf.lines().filter_map(|line| line.strip_prefix("      - ")).collect();
    assert_eq!(listed, declared.iter().map(|name| bare(name)).collect::<Vec<_>>(), "openmetrics.d/conf.yaml");
    let mut queries = Vec::new();
    for name in ["checkgate-overview.json", "checkgate-drift.json", "checkgate-attacks.json"] {
        texts_under(&serde_json::from_str(&read(name)).unwrap(), &["query"], &mut queries);
    }
    assert!(queries.len() > 100, "{queries:?}");
    for query in queries {
        let name = query.split("checkgate.").nth(1).and_then(|rest| rest.split('{').next()).unwrap();
        let (base, of) = name.rsplit_once('.').unwrap_or((name, ""));
        let is = |family: &str| declared.iter().any(|known| known == family);
        let known = match of {
            // Counters, and what a histogram counted.
            "count" => is(&format!("checkgate_{base}_total")) || is(&format!("checkgate_{base}")),
            "sum" | "bucket" => is(&format!("checkgate_{base}")),
            _ => is(&format!("checkgate_{name}")),
        };
        assert!(known, "{query} names a metric that no code declares");
    }
}
