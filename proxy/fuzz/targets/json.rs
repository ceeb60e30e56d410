//! Any text: what a strict parser of JSON reads is read here too, and values stand in the text in their order.

#![no_main]

use checkgate::workbench::fuzz::json_leaves;
use checkgate_detectors::facts::NotInspected;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

fuzz_target!(|text: &str| {
    match json_leaves(text) {
        Ok(leaves) => assert_in_order(text, &leaves),
        Err(NotInspected::TooDeep) => (),
        Err(_) => assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "JSON that is not read"),
    }
});

fn assert_in_order(text: &str, leaves: &[String]) {
    let mut rest = text;
    for leaf in leaves {
        assert!(!leaf.is_empty(), "every value has a text");
        let at = rest.find(leaf.as_str()).expect("the next value stands behind the one before");
        rest = &rest[at + leaf.len()..];
    }
}
