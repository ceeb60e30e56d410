//! Any text as a configuration: it is read, or every problem has a message.

#![no_main]

use checkgate_config::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Document::parse(text, "fuzz.yaml") {
        Ok(document) => assert!(document.raw().is_ok(), "what was parsed has the shape of settings"),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a problem");
            assert!(
                problems.iter().all(|problem| !problem.to_string().is_empty()),
                "a problem without a message"
            );
        }
    }
});
