//! The registry in both expositions.

use std::collections::BTreeMap;

use checkgate_detectors::facts::NotInspected;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};

use super::metrics;
use crate::decode::Part;
use crate::metrics::labels::CodeClass;
use crate::telemetry::numbers::{Reading, all, messages};

/// Values by name and sorted labels, as Prometheus names a series.
type Series = BTreeMap<(String, Vec<(String, String)>), f64>;

/// What Prometheus' text says.
fn scraped(text: &str) -> Series {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        ((name.to_owned(), labels), value.parse().unwrap())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// The same series of the exported metrics: a histogram is spread out as Prometheus does it.
fn exported(metrics: &[Metric]) -> Series {
    let mut series = Series::new();
    for metric in metrics {
        match metric.data.as_ref().unwrap() {
            metric::Data::Gauge(gauge) => numbers(&metric.name, &gauge.data_points, &mut series),
            metric::Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{}", metric.name);
                numbers(&metric.name, &sum.data_points, &mut series);
            }
            metric::Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let labels = labels(&point.attributes);
                    let mut below = 0;
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{}", metric.name);
                    let bounds = point.explicit_bounds.iter().map(f64::to_string).chain(["+Inf".into()]);
                    for (bound, count) in bounds.zip(&point.bucket_counts) {
                        below += count;
                        let mut with_bound = labels.clone();
                        with_bound.push(("le".into(), bound));
                        with_bound.sort();
                        series.insert((format!("{}_bucket", metric.name), with_bound), below as f64);
                    }
                    series.insert((format!("{}_sum", metric.name), labels.clone()), point.sum.unwrap());
                    series.insert((format!("{}_count", metric.name), labels), point.count as f64);
                }
            }
            other => panic!("{} is {other:?}", metric.name),
        }
    }
    series
}

fn numbers(
    name: &str,
    points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint],
    series: &mut Series,
) {
    for point in points {
        let Some(number_data_point::Value::AsDouble(value)) = point.value else {
            panic!("{name} is no double")
        };
        assert!(series.insert((name.to_owned(), labels(&point.attributes)), value).is_none(), "{name} twice");
    }
}

fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut labels: Vec<_> = attributes
        .iter()
        .map(|attribute| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(value) => (attribute.key.clone(), value.clone()),
            other => panic!("{} is {other:?}", attribute.key),
        })
        .collect();
    labels.sort();
    labels
}

#[test]
fn a_scrape_and_an_export_of_one_moment_say_the_same() {
    let metrics = metrics();
    for id in 0..2 {
        let model = metrics.model(Some(id));
        model.requests.inc_by(CodeClass::Success, 7 + u64::from(id));
        model.request_duration.observe(0.0007);
        model.request_duration.observe(0.3);
        model.request_duration.observe(1e9);
        model.not_inspected(Part::Answer, NotInspected::Shape);
    }
    metrics.lane_lag.observe(0.0001);
    metrics.clock_ahead.set(-0.25);
    let reading = Reading { since: 5, now: 9 };
    let (scraped, exported) = (scraped(&metrics.encode()), exported(&all(&metrics.gather(), reading)));
    assert!(scraped.len() > 500, "only {} series", scraped.len());
    for (series, value) in &scraped {
        assert_eq!(exported.get(series), Some(value), "{series:?}");
    }
    assert_eq!(exported.len(), scraped.len(), "the export has series that no scrape shows");
}

#[test]
fn every_metric_has_help_unit_and_times() {
    let metrics = metrics();
    for metric in all(&metrics.gather(), Reading { since: 5, now: 9 }) {
        assert!(metric.description.ends_with('.'), "{} has no help", metric.name);
        let unit = if metric.name.contains("_seconds") {
            "s"
        } else if metric.name.contains("_bytes") {
            "By"
        } else {
            "1"
        };
        assert_eq!(metric.unit, unit, "{}", metric.name);
        if let Some(metric::Data::Sum(sum)) = &metric.data {
            assert!(sum.data_points.iter().all(|point| point.start_time_unix_nano == 5), "{}", metric.name);
            assert!(sum.data_points.iter().all(|point| point.time_unix_nano == 9), "{}", metric.name);
        }
    }
}

#[test]
fn messages_hold_so_many_points_and_together_all_of_them() {
    let metrics = metrics();
    let whole = all(&metrics.gather(), Reading { since: 5, now: 9 });
    let series = exported(&whole);
    for points_max in [1, 7, 100, 1_000_000] {
        let messages = messages(whole.clone(), points_max);
        let mut together = Series::new();
        for message in &messages {
            let points: usize = message
                .iter()
                .map(|metric| match metric.data.as_ref().unwrap() {
                    metric::Data::Gauge(gauge) => gauge.data_points.len(),
                    metric::Data::Sum(sum) => sum.data_points.len(),
                    metric::Data::Histogram(histogram) => histogram.data_points.len(),
                    other => panic!("{other:?}"),
                })
                .sum();
            assert!((1..=points_max).contains(&points), "{points} of at most {points_max}");
            together.extend(exported(message));
        }
        assert_eq!(together, series, "in messages of {points_max}");
    }
}
