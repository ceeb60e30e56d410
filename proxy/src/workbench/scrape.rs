//! A scrape, for whoever takes its time.

use std::sync::Arc;

use checkgate_detectors::query;

use crate::metrics::Metrics;
use crate::telemetry;

/// Metrics of an instance with so many models.
pub struct Scrape(Arc<Metrics>);

impl Scrape {
    /// With `models` configured models and every detector; nothing where that many cannot be.
    #[must_use]
    pub fn of(models: u16) -> Option<Self> {
        let names: Vec<_> = (0..models).map(|number| format!("model-{number}")).collect();
        let detectors: Vec<_> = query::all().map(|spec| spec.name).collect();
        Metrics::new(&names, &detectors).ok().map(Self)
    }

    /// The page of a scrape.
    #[must_use]
    pub fn page(&self) -> String {
        self.0.encode()
    }

    /// Bytes of the messages of one export.
    #[must_use]
    pub fn exported_bytes(&self) -> usize {
        telemetry::export_bytes(&self.0)
    }
}
