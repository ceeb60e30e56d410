//! A scrape, for whoever takes its time.

use std::sync::Arc;

use checkgate_detectors::drift::room::{FeatureStanding, Standing};
use checkgate_detectors::query;
use checkgate_detectors::reference::Trust;

use crate::metrics::Metrics;
use crate::telemetry;

/// Metrics of an instance with so many models.
pub struct Scrape(Arc<Metrics>);

impl Scrape {
    /// With `models` configured models, every detector, and a named reference of `features` features for each model;
    /// nothing where that many cannot be.
    #[must_use]
    pub fn of(models: u16, features: u16) -> Option<Self> {
        let names: Vec<_> = (0..models).map(|number| format!("model-{number}")).collect();
        let detectors: Vec<_> = query::all().map(|spec| spec.name).collect();
        let metrics = Metrics::new(&names, &detectors).ok()?;
        let feature = |number: u16| {
            let index = 0.123_456_789 / f64::from(number + 1);
            FeatureStanding {
                name: format!("input[{number}]"),
                effect: index - 0.01,
                index,
                expected: 0.01,
                evidence: 0.3,
                gap: None,
            }
        };
        let features = (0..features).map(feature).collect();
        let standing = Standing { trust: Some(Trust::Trusted), features, ..Standing::default() };
        for model in 0..models {
            metrics.model(Some(model)).drift.show(&[&standing]);
        }
        Some(Self(metrics))
    }

    /// The page of a scrape.
    #[must_use]
    pub fn page(&self) -> String {
        self.0.encode()
    }

    /// Series that one gathering for an export finds.
    #[must_use]
    pub fn gathered(&self) -> usize {
        self.0.gather().iter().map(|family| family.get_metric().len()).sum()
    }

    /// Bytes of the messages of one export.
    #[must_use]
    pub fn exported_bytes(&self) -> usize {
        telemetry::export_bytes(&self.0)
    }
}
