//! What must hold of the shipped examples whatever the parts are. The binary tries each of them, and each mistake of
//! `invalid/`, with its real parts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail loudly, as tests do")]

use std::path::Path;

use checkgate_config::Document;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text_of(example: &str) -> String {
    std::fs::read_to_string(folder("examples").join(example)).expect("the example exists")
}

#[test]
fn every_example_names_its_schema_in_the_first_line() {
    for entry in std::fs::read_dir(folder("examples")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let first = text.lines().next().unwrap_or_default();
            assert_eq!(
                first,
                "# yaml-language-server: $schema=../checkgate.schema.json",
                "{:?}",
                entry.path()
            );
        }
    }
}

#[test]
fn a_document_that_passes_can_be_shown_as_it_was_typed() {
    let document = Document::parse(&text_of("pricing-contract.yaml"), "checkgate.yaml").unwrap();
    assert_eq!(document.raw().unwrap().models.unwrap().len(), 1);
}
