//! Metrics with labels that remember the text of their labels.
//!
//! `Registry::gather` copies name and value of every label of every series, sorts the copies and throws them away: two
//! thirds of what a scrape took. Label values do not change, so each series is written down once, when it is made, in
//! the order in which the page shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec as LibraryHistogramVec, IntCounter, IntGauge, Opts,
};

use super::families::{Declaration, Family};
use super::text::{Page, Shown};

/// Counters of whole numbers.
pub(super) type IntCounterVec = Labelled<prometheus::IntCounterVec>;
/// Gauges of whole numbers.
pub(super) type IntGaugeVec = Labelled<prometheus::IntGaugeVec>;
/// Gauges.
pub(super) type GaugeVec = Labelled<prometheus::GaugeVec>;
/// Histograms.
pub(super) type HistogramVec = Labelled<LibraryHistogramVec>;

/// A type of the library that holds many series under one name.
pub(super) trait Many: Collector + Clone + 'static {
    /// One series.
    type One: Shown + Clone + Send + Sync;

    fn declare(declaration: Declaration<'_>) -> Result<Self, Error>;
    fn one(&self, values: &[&str]) -> Self::One;
    fn remove(&self, values: &[&str]) -> Result<(), Error>;
}

macro_rules! many {
    ($($type:ty: $one:ty, |$declaration:ident| $options:expr;)+) => {
        $(impl Many for $type {
            type One = $one;

            fn declare($declaration: Declaration<'_>) -> Result<Self, Error> {
                Self::new($options, $declaration.labels)
            }

            fn one(&self, values: &[&str]) -> $one {
                self.with_label_values(values)
            }

            fn remove(&self, values: &[&str]) -> Result<(), Error> {
                self.remove_label_values(values)
            }
        })+
    };
}

many! {
    prometheus::IntCounterVec: IntCounter, |declaration| Opts::new(declaration.name, declaration.help);
    prometheus::IntGaugeVec: IntGauge, |declaration| Opts::new(declaration.name, declaration.help);
    prometheus::GaugeVec: Gauge, |declaration| Opts::new(declaration.name, declaration.help);
    LibraryHistogramVec: Histogram, |declaration| {
        HistogramOpts::new(declaration.name, declaration.help).buckets(declaration.buckets.to_vec())
    };
}

/// Series by their label values, in the order of the labels' names; each with the text of its labels.
type Series<One> = BTreeMap<Vec<String>, (String, One)>;

/// What the library holds, and every series of it with the text of its labels. As many texts as there are series.
#[derive(Clone)]
pub(super) struct Labelled<V: Many> {
    library: V,
    /// Places of the labels in the order of their names.
    order: Arc<[(usize, String)]>,
    series: Arc<Mutex<Series<V::One>>>,
}

impl<V: Many> fmt::Debug for Labelled<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled").field("order", &self.order).finish_non_exhaustive()
    }
}

impl<V: Many> Labelled<V> {
    /// The series with these values, in the order of the declaration; made where there is none.
    pub(super) fn with_label_values<S: AsRef<str>>(&self, values: &[S]) -> V::One {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let one = self.library.one(&values);
        let mut series = self.series.lock();
        series.entry(self.key(&values)).or_insert_with(|| (self.text(&values), one.clone()));
        one
    }

    /// Ends a series.
    ///
    /// # Errors
    /// There is none with these values.
    pub(super) fn remove_label_values(&self, values: &[&str]) -> Result<(), Error> {
        self.series.lock().remove(&self.key(values));
        self.library.remove(values)
    }

    fn ordered<'a>(&'a self, values: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.order.iter().filter_map(|(place, name)| Some((name.as_str(), *values.get(*place)?)))
    }

    fn key(&self, values: &[&str]) -> Vec<String> {
        self.ordered(values).map(|(_, value)| value.to_owned()).collect()
    }

    fn text(&self, values: &[&str]) -> String {
        let labels: Vec<_> =
            self.ordered(values).map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        labels.join(",")
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

impl<V: Many> Collector for Labelled<V> {
    fn desc(&self) -> Vec<&Desc> {
        self.library.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.library.collect()
    }
}

impl<V: Many> Family for Labelled<V> {
    fn declare(declaration: Declaration<'_>) -> Result<Self, Error> {
        let mut order: Vec<_> = declaration.labels.iter().map(|&name| name.to_owned()).enumerate().collect();
        order.sort_by(|(_, one), (_, other)| one.cmp(other));
        Ok(Self { library: V::declare(declaration)?, order: order.into(), series: Arc::default() })
    }
}

impl<V: Many> Shown for Labelled<V> {
    const KIND: &'static str = V::One::KIND;

    fn is_there(&self) -> bool {
        !self.series.lock().is_empty()
    }

    fn show(&self, name: &str, _: &str, page: &mut Page) {
        for (labels, one) in self.series.lock().values() {
            one.show(name, labels, page);
        }
    }
}
