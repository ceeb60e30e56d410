//! The page of a scrape, in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use prometheus::core::Metric;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// What stands on the page.
pub(super) trait Shown {
    /// Its type, in the words of the format.
    const KIND: &'static str;

    /// Whether it has any series.
    fn is_there(&self) -> bool {
        true
    }

    /// Writes its series; `labels` are written as they stand, without braces.
    fn show(&self, name: &str, labels: &str, page: &mut Page);
}

impl Page {
    /// A page of about so many bytes.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Everything under one name.
    pub(super) fn family<S: Shown>(&mut self, name: &str, help: &str, shown: &S) {
        if !shown.is_there() {
            return;
        }
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        for part in ["# HELP ", name, " ", &help, "\n# TYPE ", name, " ", S::KIND, "\n"] {
            self.0.push_str(part);
        }
        shown.show(name, "", self);
    }

    /// The text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn sample(&mut self, name: &[&str], labels: &[&str], value: impl Display) {
        name.iter().for_each(|part| self.0.push_str(part));
        if labels.iter().any(|part| !part.is_empty()) {
            self.0.push('{');
            labels.iter().for_each(|part| self.0.push_str(part));
            self.0.push('}');
        }
        // Writing to a text cannot fail.
        writeln!(self.0, " {value}").ok();
    }
}

macro_rules! one_number {
    ($($type:ty: $kind:literal;)+) => {
        $(impl Shown for $type {
            const KIND: &'static str = $kind;

            fn show(&self, name: &str, labels: &str, page: &mut Page) {
                page.sample(&[name], &[labels], self.get());
            }
        })+
    };
}

one_number! {
    IntCounter: "counter";
    IntGauge: "gauge";
    Gauge: "gauge";
}

impl Shown for Histogram {
    const KIND: &'static str = "histogram";

    fn show(&self, name: &str, labels: &str, page: &mut Page) {
        let metric = self.metric();
        let histogram = metric.get_histogram();
        let and = if labels.is_empty() { "" } else { "," };
        for bucket in histogram.get_bucket() {
            let bound = bucket.upper_bound().to_string();
            page.sample(&[name, "_bucket"], &[labels, and, "le=\"", &bound, "\""], bucket.cumulative_count());
        }
        let count = histogram.get_sample_count();
        page.sample(&[name, "_bucket"], &[labels, and, "le=\"+Inf\""], count);
        page.sample(&[name, "_sum"], &[labels], histogram.get_sample_sum());
        page.sample(&[name, "_count"], &[labels], count);
    }
}
