//! The page of all metrics, written from the registry, so that it says what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use checkgate_config::golden;
use checkgate_detectors::{campaign, contract, query};
use prometheus::proto::{MetricFamily, MetricType};

use super::{MODELS_MAX, Metrics, unit};

/// Stands for any configured model.
const MODEL: &str = "MODEL";

const INTRODUCTION: &str = "# Metrics

This page is generated from the code; change the comments in `proxy/src/metrics.rs`, and write it anew with
`UPDATE_GOLDEN=1 cargo test -p checkgate metrics::`. [observability.md](observability.md) says how to read them.

Every metric is on `/metrics` of the admin listener, and is exported by OTLP under the same name where a collector is
named. Units are those of UCUM: `s` seconds, `By` bytes, `1` a plain number. A histogram has the series `_bucket`, `_sum`
and `_count` for each combination of its labels.

No label value comes from traffic: each label has the values listed below it, and `model` those of the configuration.
";

fn metrics(models: &[&str]) -> Vec<MetricFamily> {
    let detectors: Vec<_> =
        query::all().map(|spec| spec.name).chain([contract::NAME, campaign::NAME]).collect();
    let models: Vec<String> = models.iter().map(|&name| name.to_owned()).collect();
    Metrics::new(&models, &detectors).unwrap().gather()
}

/// Label values of one family, by label.
fn labels(family: &MetricFamily) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::<String, BTreeSet<String>>::new();
    for label in family.get_metric().iter().flat_map(|sample| sample.get_label()) {
        labels.entry(label.name().to_owned()).or_default().insert(label.value().to_owned());
    }
    labels
}

fn kind(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    }
}

/// Series that stand on the page of a scrape.
fn series(families: &[MetricFamily]) -> usize {
    let of = |family: &MetricFamily| {
        let lines = |sample: &prometheus::proto::Metric| match family.get_field_type() {
            // Its buckets, the one without a bound, sum and count.
            MetricType::HISTOGRAM => sample.get_histogram().get_bucket().len() + 3,
            _ => 1,
        };
        family.get_metric().iter().map(lines).sum::<usize>()
    };
    families.iter().map(of).sum()
}

fn page() -> String {
    let families = metrics(&[MODEL]);
    let fixed = series(&metrics(&[]));
    let mut page = INTRODUCTION.to_owned();
    let each = series(&families) - fixed;
    writeln!(page, "There are {fixed} series, and {each} for each configured model, of which there are at most {MODELS_MAX}.").unwrap();
    page.push_str("\n| Metric | Type | Unit | Labels | What |\n|---|---|---|---|---|\n");
    let mut sets = BTreeMap::<(String, Vec<String>), Vec<&str>>::new();
    for family in &families {
        let labels = labels(family);
        let names: Vec<_> = labels.keys().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        let (name, unit) = (family.name(), unit(family.name()));
        writeln!(page, "| `{name}` | {} | {unit} | {names} | {} |", kind(family), family.help()).unwrap();
        for (label, values) in labels {
            sets.entry((label, values.into_iter().collect())).or_default().push(name);
        }
    }
    page.push_str("\n## Values of labels\n\n| Label | Of | Values |\n|---|---|---|\n");
    for ((label, values), of) in &sets {
        let listed = || values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
        let (of, values) = match label.as_str() {
            "model" => {
                assert_eq!(*values, [MODEL, "discovered", "none"]);
                let many = format!("`discovered`, `none`, and the configured models, at most {MODELS_MAX}");
                ("all that have it".to_owned(), many)
            }
            "version" => (format!("`{}`", of.join("`, `")), "the program's own".to_owned()),
            _ => (format!("`{}`", of.join("`, `")), listed()),
        };
        writeln!(page, "| `{label}` | {of} | {values} |").unwrap();
    }
    page
}

#[test]
fn the_committed_page_of_metrics_is_the_codes() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    golden::equals_committed(std::path::Path::new(file), &page()).unwrap();
}

#[test]
fn what_a_model_adds_is_a_fixed_number_of_series() {
    let counts: Vec<_> =
        [&[][..], &["a"], &["a", "b"]].iter().map(|models| series(&metrics(models))).collect();
    assert_eq!(counts[1] - counts[0], counts[2] - counts[1], "{counts:?}");
}
