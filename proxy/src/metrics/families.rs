//! The macro behind the list of metrics, and how each type of metric is registered.

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// What one line of the list says.
#[derive(Clone, Copy)]
pub(super) struct Declaration<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub labels: &'a [&'a str],
    pub buckets: &'a [f64],
}

/// A type of metric that can stand on the list.
pub(super) trait Family: Collector + Clone + Sized + 'static {
    fn declare(declaration: Declaration<'_>) -> Result<Self, Error>;

    fn register(registry: &Registry, declaration: Declaration<'_>) -> Result<Self, Error> {
        let family = Self::declare(declaration)?;
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }
}

macro_rules! family {
    ($($type:ty: |$options:ident: $options_type:ty, $declaration:ident| $build:expr;)+) => {
        $(impl Family for $type {
            fn declare($declaration: Declaration<'_>) -> Result<Self, Error> {
                let $options = <$options_type>::new($declaration.name, $declaration.help);
                $build
            }
        })+
    };
}

family! {
    IntCounter: |options: Opts, declaration| IntCounter::with_opts(options);
    IntGauge: |options: Opts, declaration| IntGauge::with_opts(options);
    Gauge: |options: Opts, declaration| Gauge::with_opts(options);
    Histogram: |options: HistogramOpts, declaration|
        Histogram::with_opts(options.buckets(declaration.buckets.to_vec()));
    IntCounterVec: |options: Opts, declaration| IntCounterVec::new(options, declaration.labels);
    GaugeVec: |options: Opts, declaration| GaugeVec::new(options, declaration.labels);
    IntGaugeVec: |options: Opts, declaration| IntGaugeVec::new(options, declaration.labels);
    HistogramVec: |options: HistogramOpts, declaration|
        HistogramVec::new(options.buckets(declaration.buckets.to_vec()), declaration.labels);
}

/// Declares `Families`, one field to a line of the list. The doc comment is the metric's help text. What has labels stays
/// private to the room: elsewhere only resolved handles are bumped, so that no label value can come from traffic.
macro_rules! families {
    ($(
        #[doc = $help:literal]
        $visibility:vis $field:ident: $type:ty = $name:literal, [$($label:literal),*] $(, $buckets:ident)?;
    )+) => {
        /// Every metric of the list.
        #[derive(Debug)]
        pub struct Families {
            $(#[doc = $help] $visibility $field: $type,)+
        }

        impl Families {
            fn register(registry: &Registry) -> Result<Self, Error> {
                Ok(Self {
                    $($field: families::Family::register(registry, families::Declaration {
                        name: $name,
                        help: $help.trim(),
                        labels: &[$($label),*],
                        buckets: families!(@buckets $($buckets)?),
                    })?,)+
                })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

pub(super) use families;
