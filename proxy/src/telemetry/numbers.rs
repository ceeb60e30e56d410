//! The registry of metrics as OTLP messages: what a scrape shows, and nothing else.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric,
    number_data_point,
};
use prometheus::proto::{self, MetricFamily, MetricType};

use super::resource::text;
use crate::metrics::unit;

/// What counters count since, and the moment of the reading, as nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Since when.
    pub since: u64,
    /// Until when.
    pub now: u64,
}

/// All metrics. Names, help texts and labels are those of the registry, and so are values: every number is a double,
/// as in Prometheus' text.
pub fn all(families: &[MetricFamily], reading: Reading) -> Vec<Metric> {
    families.iter().map(|family| one(family, reading)).collect()
}

/// The same metrics in messages of at most `points_max` data points each: receivers bound what they take at once.
pub fn messages(metrics: Vec<Metric>, points_max: usize) -> Vec<Vec<Metric>> {
    let (mut messages, mut message, mut room) = (Vec::new(), Vec::new(), points_max);
    for mut metric in metrics {
        while points(&metric) > room {
            let rest = split_off(&mut metric, room);
            if points(&metric) > 0 {
                message.push(metric);
            }
            messages.push(std::mem::take(&mut message));
            (metric, room) = (rest, points_max);
        }
        room -= points(&metric);
        message.push(metric);
    }
    messages.push(message);
    messages
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(metric::Data::Sum(sum)) => sum.data_points.len(),
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(metric::Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    }
}

/// Leaves the first `count` data points in `metric` and gives the same metric with the others.
fn split_off(metric: &mut Metric, count: usize) -> Metric {
    let mut rest = metric.clone();
    match (&mut metric.data, &mut rest.data) {
        (Some(metric::Data::Sum(first)), Some(metric::Data::Sum(rest))) => {
            rest.data_points.drain(..count);
            first.data_points.truncate(count);
        }
        (Some(metric::Data::Gauge(first)), Some(metric::Data::Gauge(rest))) => {
            rest.data_points.drain(..count);
            first.data_points.truncate(count);
        }
        (Some(metric::Data::Histogram(first)), Some(metric::Data::Histogram(rest))) => {
            rest.data_points.drain(..count);
            first.data_points.truncate(count);
        }
        _ => {}
    }
    rest
}

fn one(family: &MetricFamily, reading: Reading) -> Metric {
    let samples = family.get_metric();
    let numbers = |value: fn(&proto::Metric) -> f64| -> Vec<NumberDataPoint> {
        samples.iter().map(|sample| number(sample, value(sample), reading)).collect()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => metric::Data::Sum(Sum {
            data_points: numbers(|sample| sample.get_counter().get_value()),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => metric::Data::Histogram(Histogram {
            data_points: samples.iter().map(|sample| histogram(sample, reading)).collect(),
            aggregation_temporality: cumulative,
        }),
        _ => metric::Data::Gauge(Gauge { data_points: numbers(|sample| sample.get_gauge().get_value()) }),
    };
    Metric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        unit: unit(family.name()).to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn labels(sample: &proto::Metric) -> Vec<KeyValue> {
    sample.get_label().iter().map(|label| text(label.name(), label.value())).collect()
}

fn number(sample: &proto::Metric, value: f64, reading: Reading) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: reading.since,
        time_unix_nano: reading.now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// Buckets of OTLP count what lies between two bounds, those of Prometheus all that lies below one.
fn histogram(sample: &proto::Metric, reading: Reading) -> HistogramDataPoint {
    let histogram = sample.get_histogram();
    let below: Vec<_> =
        histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()).collect();
    let mut bucket_counts = Vec::with_capacity(below.len() + 1);
    let mut before = 0;
    for count in below.iter().map(|bucket| bucket.cumulative_count()).chain([histogram.get_sample_count()]) {
        bucket_counts.push(count.saturating_sub(before));
        before = count;
    }
    HistogramDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: reading.since,
        time_unix_nano: reading.now,
        count: histogram.get_sample_count(),
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds: below.iter().map(|bucket| bucket.upper_bound()).collect(),
        ..HistogramDataPoint::default()
    }
}
