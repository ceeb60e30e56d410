//! The macro behind the list of metrics, and how each type of metric is registered.

use prometheus::core::Collector;
use prometheus::{Error, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};

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

            /// Writes everything, in the order of the names.
            fn show(&self, page: &mut text::Page) {
                let mut all: Vec<(&str, fn(&Self, &mut text::Page))> =
                    vec![$(($name, |all, page| page.family($name, $help.trim(), &all.$field))),+];
                all.sort_unstable_by_key(|(name, _)| *name);
                all.iter().for_each(|(_, show)| show(self, page));
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

pub(super) use families;
