//! Any body: every decoder reads whole rows within its caps, with each cell where its span says, or says why not.

#![no_main]

use checkgate::workbench::fuzz::{COLUMNS_MAX, ROWS_MAX, decoded};
use checkgate_detectors::facts::Features;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for (name, value) in
        [("x-none", ""), ("content-type", "text/csv"), ("inference-header-content-length", "40")]
    {
        let headers = (HeaderName::from_static(name), HeaderValue::from_static(value));
        let read = decoded(&HeaderMap::from_iter([headers]), body);
        read.iter().flatten().for_each(|features| assert_consistent(features, body));
    }
});

fn assert_consistent(features: &Features, body: &[u8]) {
    assert!(features.rows() <= ROWS_MAX, "more rows than the cap");
    assert!(features.width <= COLUMNS_MAX, "more columns than the cap");
    assert_eq!(features.cells.len(), features.rows() * features.width, "rows are whole");
    assert!(features.names.len() <= features.width, "more names than columns");
    assert!(
        features.spans.is_empty() || features.spans.len() == features.cells.len(),
        "spans are one to a cell"
    );
    assert!(
        features.spans.iter().all(|span| body.get(span.start..span.end).is_some()),
        "spans are in the body"
    );
}
